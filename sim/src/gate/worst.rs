// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worst moment: takes two runs of one scenario, gives the smallest ratio of keepahead's score to the default's over any stretch
//! of ten seconds, at the same virtual time.
//!
//! Ten seconds, because a trial alternates the values in blocks of half a second to two: shorter stretches would measure a single
//! block, which the abort already bounds, longer ones would hide a harmful value that was kept.

use crate::compare::Criterion;
use crate::report::{Figures, Report, Second};

/// Length of a stretch, seconds.
pub const STRETCH_S: usize = 10;
/// Stretches in which the default delivers less than this share of its mean are pauses of the workload: a ratio of two handfuls of
/// pages says nothing.
const PAUSE: f64 = 0.01;

/// Over all disks, each against itself, while both runs last. By throughput, or by stall where arrival is paced, as regret is.
/// `None` where no stretch has work in it.
pub fn worst_moment(criterion: Criterion, own: &Report, default: &Report) -> Option<f64> {
    let of_disks = own.disks.iter().zip(&default.disks).filter_map(|(own, default)| {
        let least = default.figures.throughput() * PAUSE;
        let ratios = stretches(&own.seconds).zip(stretches(&default.seconds)).filter_map(|(own, default)| {
            let works = default.work_bytes > 0 && default.throughput() >= least;
            works.then(|| criterion.score(&own) / criterion.score(&default))
        });
        ratios.reduce(f64::min)
    });
    of_disks.reduce(f64::min)
}

fn stretches(seconds: &[Second]) -> impl Iterator<Item = Figures> {
    seconds.windows(STRETCH_S).map(|stretch| stretch.iter().fold(Figures::default(), |sum, s| sum.plus(&s.figures)))
}
