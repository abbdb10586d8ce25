// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run at one size: takes a spec, gives the features that the agent's own loop would have decided on, second by second and with the
//! sensor's noise, and what that size was worth.

use super::{LADDER, TrainingError, World};
use crate::report::{Figures, Report};
use crate::spec::{Control, Spec};
use crate::world::{self, Watch, WorldError};
use keepahead_core::event::Pattern;
use keepahead_core::features::Features;
use keepahead_core::policy::{Context, Decision, Policy};
use keepahead_core::settings::Settings;
use keepahead_core::units::Kib;
use keepahead_policies::dataset::{Label, Row};
use keepahead_policies::features;
use std::cell::RefCell;

/// The cache is cold at the start; figures count from here on.
const WARM_UP_S: f64 = 4.0;
/// The agent decides each second over a window of three: every second decision shares one second with the last one.
const EVERY: usize = 2;
/// MiB in pages.
const PAGES_PER_MIB: f64 = 256.0;

/// What one size gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub seen: Vec<Features>,
    pub label: Label,
}

/// What the rows of a run have in common.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub workload: String,
    pub family: String,
    pub device: String,
    pub kernel: String,
    pub memory_mib: u32,
    pub run: u32,
    pub pattern: Pattern,
}

/// Looks on and never proposes: the features come from the same windows as in a decision.
#[derive(Default)]
struct Onlooker(RefCell<Vec<Features>>);

impl Policy for Onlooker {
    fn name(&self) -> &'static str {
        "onlooker"
    }

    fn decide(&self, context: &Context) -> Decision {
        self.0.borrow_mut().push(*context.features);
        Decision::Abstain { pattern: Pattern::Mixed, reason: "only looking".into() }
    }
}

pub(super) fn world(world: &World, kib: u32, watch: &dyn Watch) -> Result<Option<Outcome>, TrainingError> {
    let named = |error| TrainingError::Scenario { workload: world.workload.clone(), error: Box::new(error) };
    let spec = world.scenario.spec().map_err(named)?;
    outcome(spec, kib, WARM_UP_S, watch).map_err(|error| TrainingError::World { workload: world.workload.clone(), kib, error })
}

/// Runs `spec` with all disks at `kib`; features of every second decision, figures after `warm_up_s`. `None` where nothing was
/// demanded by then, or `watch` stopped it.
///
/// # Errors
/// Every [`WorldError`].
pub fn outcome(mut spec: Spec, kib: u32, warm_up_s: f64, watch: &dyn Watch) -> Result<Option<Outcome>, WorldError> {
    for disk in &mut spec.disks {
        disk.read_ahead = Kib(kib);
    }
    let (onlooker, settings) = (Onlooker::default(), Settings::default());
    let least = settings.min_demand_pages_per_s;
    let report = world::run(spec, &Control::Keepahead { policy: &onlooker, settings }, watch)?;
    if report.partial {
        return Ok(None);
    }
    // A run without a warm-up is short: no decision to spare.
    let early = usize::from(warm_up_s > 0.0);
    let seen = onlooker.0.into_inner().into_iter().skip(early).step_by(EVERY).filter(|f| !f.is_idle(least)).collect();
    Ok(label(&report, kib, warm_up_s).map(|label| Outcome { seen, label }))
}

fn label(report: &Report, kib: u32, warm_up_s: f64) -> Option<Label> {
    let seconds = report.disks.iter().flat_map(|disk| &disk.seconds).filter(|second| second.at > warm_up_s + 0.5);
    let mut figures = seconds.fold(Figures::default(), |sum, second| sum.plus(&second.figures));
    // Disks share the time.
    figures.seconds /= report.disks.len().max(1) as f64;
    Some(Label {
        kib,
        stall_ns_per_mib: figures.stall_per_page()? * PAGES_PER_MIB,
        hit_ratio: figures.counters.hit_ratio()?,
        pollution_mib_per_s: figures.pollution(),
        throughput_mib_per_s: figures.throughput() / f64::from(1 << 20),
    })
}

/// The rows of one run from its outcomes over the ladder; none where a size has none, because labels go together.
pub(super) fn rows(about: &About, outcomes: &[Option<Outcome>]) -> Vec<Row> {
    let Some(outcomes) = outcomes.iter().map(Option::as_ref).collect::<Option<Vec<&Outcome>>>() else { return Vec::new() };
    let labels: Vec<Label> = outcomes.iter().map(|outcome| outcome.label).collect();
    let row = |kib: u32, seen: &Features| Row {
        workload: about.workload.clone(),
        family: about.family.clone(),
        device: about.device.clone(),
        kernel: about.kernel.clone(),
        memory_mib: about.memory_mib,
        run: about.run,
        pattern: about.pattern,
        kib,
        features: features::vector(seen, Kib(kib)).to_vec(),
        labels: labels.clone(),
    };
    LADDER.iter().zip(outcomes).flat_map(|(kib, outcome)| outcome.seen.iter().map(|seen| row(*kib, seen))).collect()
}
