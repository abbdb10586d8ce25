// SPDX-License-Identifier: MIT OR Apache-2.0
//! From figures to a profile and back: takes measured points, gives the profile that explains them, and what the profile's model does
//! in the same situations, so that a bad fit shows.

use super::{CalibrateError, Point, Spot, Target};
use keepahead_core::units::Nanos;
use keepahead_sim::device::{BucketLimits, Latency, Profile};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A rate below this share of what the median latency allows means that something makes requests wait now and then: a throttle.
const STALLED: f64 = 0.7;
/// Two rates are the same where they differ by less: raw devices swing that much from second to second.
const SAME: f64 = 0.15;

/// The profile that explains the points. Needs those of [`PLAN`](super::PLAN).
pub fn fit(target: &Target, points: &[Point]) -> Result<Profile, CalibrateError> {
    let small = |p: &&Point| p.spot.bytes == 4096;
    let large = |p: &&Point| p.spot.bytes >= 512 << 10;
    let alone = |random| points.iter().filter(small).find(|p| p.spot.depth == 1 && p.spot.random == random);
    let (Some(random), Some(sequential)) = (alone(true), alone(false)) else { return Err(incomplete()) };
    let deepest = points.iter().filter(small).max_by_key(|p| p.spot.depth).ok_or_else(incomplete)?;
    let most_iops = plateau(points.iter().filter(small).map(|p| p.rate));
    let most_mb = plateau(points.iter().filter(large).map(Point::mb_per_s));
    let request_mb = points.iter().filter_map(|p| rate_within(p, random)).fold(0.0, f64::max);
    let request_mb = if request_mb > 0.0 { request_mb } else { most_mb };
    // Where single requests are faster than all together, something paces them.
    let paced = points.iter().filter(large).any(stalls) || request_mb > most_mb * (1.0 + SAME);
    let bandwidth_mb = if paced { most_mb.max(request_mb) } else { most_mb };
    let request_mb = request_mb.min(bandwidth_mb);
    let saturated = stalls(random) || deepest.rate < STALLED * deepest.spot.depth as f64 / random.quantile(0.5);
    let channels =
        if saturated { (most_iops * random.quantile(0.5)).ceil().max(1.0) as u32 } else { deepest.spot.depth as u32 };
    let transfer = 4096.0 / (request_mb * 1e6);
    let differ = (sequential.quantile(0.5) / random.quantile(0.5) - 1.0).abs() > SAME;
    let profile = Profile {
        channels,
        bandwidth_mb,
        request_mb: Some(request_mb),
        max_sectors_kb: target.max_sectors_kb / 4 * 4,
        optimal_io_bytes: target.optimal_io_bytes,
        plug_us: 0.0,
        latency: latency(if differ { sequential } else { random }, transfer),
        random_latency: differ.then(|| latency(random, transfer)),
        rotational: None,
        throttle: None,
        iops: saturated.then_some(BucketLimits { baseline: most_iops, burst: None, credit: 0.0 }),
        iops_unit_kb: 0,
        bytes: paced.then_some(BucketLimits { baseline: most_mb * 1e6, burst: None, credit: 0.0 }),
        first_touch: None,
    };
    profile.check()?;
    Ok(profile)
}

/// What the highest rates have in common: their mean. The highest alone is too high by the burst that a throttle lets through first.
fn plateau(rates: impl Iterator<Item = f64> + Clone) -> f64 {
    let highest = rates.clone().fold(0.0, f64::max);
    let (sum, n) = rates.filter(|rate| *rate > highest * (1.0 - SAME)).fold((0.0, 0), |(sum, n), rate| (sum + rate, n + 1));
    sum / f64::from(n.max(1))
}

/// Whether now and then a read waited far longer than most.
fn stalls(point: &Point) -> bool {
    point.rate * point.quantile(0.5) < STALLED * point.spot.depth as f64
}

/// MB/s within a request: by how much a larger random read alone takes longer than the smallest; `None` where that drowns in noise.
fn rate_within(point: &Point, smallest: &Point) -> Option<f64> {
    let Spot { depth, bytes, random } = point.spot;
    let longer = point.quantile(0.5) - smallest.quantile(0.5);
    let tells = depth == 1 && random && bytes > smallest.spot.bytes && longer > 0.05 * smallest.quantile(0.5);
    tells.then(|| (bytes - smallest.spot.bytes) as f64 / longer / 1e6)
}

fn incomplete() -> CalibrateError {
    keepahead_sim::device::ProfileError::Form("a point of the plan is missing".into()).into()
}

/// Quantiles of a point's latencies, less the time that its bytes take. A stall at a throttle's limit is no latency: where there are
/// stalls, what is beyond the 95th percentile is left to the limit.
fn latency(point: &Point, transfer: f64) -> Latency {
    let all = [0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999];
    let few = &all[..if stalls(point) { 5 } else { 7 }];
    // µs with one decimal: the rest is noise.
    let us = |p: f64| ((point.quantile(p) - transfer).max(1e-6) * 1e7).round() / 10.0;
    Latency { quantiles: few.iter().map(|p| [*p, us(*p)]).collect(), ..Latency::default() }
}

/// Reads a second of the profile's model in a situation, over five seconds of virtual time.
pub fn compare(profile: &Profile, target: &Target, spot: Spot) -> Result<f64, CalibrateError> {
    const END: Nanos = Nanos::from_secs(5);
    let mut disk = profile.clone().build(1)?;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut readers = BinaryHeap::from(vec![Reverse(Nanos(0)); spot.depth]);
    let (mut next, mut done, mut pieces) = (0, 0u64, Vec::new());
    let places = (target.bytes / spot.bytes).max(1);
    while let Some(Reverse(now)) = readers.pop() {
        if now >= END {
            break;
        }
        let place = if spot.random { rng.gen_range(0..places) } else { next % places };
        next += 1;
        pieces.clear();
        disk.read(now, place * spot.bytes, spot.bytes, &mut pieces);
        let at = pieces.iter().map(|p| p.done).max().unwrap_or(now);
        done += u64::from(at <= END);
        readers.push(Reverse(at));
    }
    Ok(done as f64 / END.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::PLAN;

    /// What a measurement of the profile's own model would give, latencies only at depth 1 (where the fit reads them).
    fn measured(profile: &Profile, target: &Target) -> Vec<Point> {
        let one = |spot: &Spot| {
            let mut disk = profile.clone().build(2).unwrap();
            let rate = compare(profile, target, *spot).unwrap();
            let (mut now, mut latencies, mut pieces) = (Nanos(0), Vec::new(), Vec::new());
            for n in 0..2000u64 {
                let place = if spot.random { n * 7919 % 4000 } else { n };
                pieces.clear();
                disk.read(now, place * spot.bytes, spot.bytes, &mut pieces);
                let done = pieces.iter().map(|p| p.done).max().unwrap();
                latencies.push(done.since(now).as_secs_f64() * if spot.depth > 1 { spot.depth as f64 } else { 1.0 });
                now = done;
            }
            latencies.sort_by(f64::total_cmp);
            Point { spot: *spot, rate, latencies }
        };
        PLAN.iter().map(one).collect()
    }

    #[test]
    fn the_fit_of_a_known_device_is_that_device() {
        let throttled = "profile = 'loop'\nthrottle = { iops = 3000, bytes_per_s = 150000000 }";
        for text in ["profile = 'nvme'", "profile = 'sata-ssd'", "profile = 'gp3'", "profile = 'loop'", throttled] {
            let known = Profile::from_table(text.parse().unwrap()).unwrap();
            let mut target = Target::of_size(4 << 30);
            target.max_sectors_kb = known.max_sectors_kb;
            let points = measured(&known, &target);
            let fitted = fit(&target, &points).unwrap();
            for point in &points {
                let model = compare(&fitted, &target, point.spot).unwrap();
                let error = model / point.rate - 1.0;
                assert!(error.abs() < 0.15, "{text}: {:?}: {:.0}, model {model:.0}/s: {fitted:?}", point.spot, point.rate);
            }
        }
    }
}
