// SPDX-License-Identifier: MIT OR Apache-2.0
//! The learned policy: names the pattern, predicts every size, proposes the one with the largest expected gain minus risk.
//!
//! It is never less careful than the rules: the same bounds, nothing that was tried, no trial where nobody waits, and wherever the
//! model knows nothing (unknown vector, little confidence, drift, no clear gain) the rules decide.

use crate::classify::Seen;
use crate::features::vector;
use crate::model::{Model, ModelError};
use crate::predict::Prediction;
use crate::rules::{
    NOTHING_AHEAD, Rules, SINGLE, SMALLEST, classify, cuts_runs, is_paced, is_too_small, reads_nothing_ahead, thrashes,
};
use crate::tenants::{Tenant, tenants};
use keepahead_core::event::{Pattern, Proposal};
use keepahead_core::features::Features;
use keepahead_core::known::Known;
use keepahead_core::policy::{Context, Decision, Policy};
use keepahead_core::units::Kib;

/// Confidence below which the rules decide: at one wrong name in three the predictions are not worth a trial.
const SURE: f64 = 0.65;
/// Confidence from which a second is enough, where others are seen a whole window.
const PLAIN: f64 = 0.9;
/// Expected gain minus risk that is worth a trial: the smallest gain that a trial keeps (`min_gain`).
const WORTH: f64 = 0.05;
/// A harm that may be counts half of a gain that is expected: a trial ends it within two blocks.
const RISK: f64 = 0.5;
/// Largest raise by prediction alone, as a factor: what lies further away is predicted from less. It does not bound the harm of a
/// trial: where the old value has next to no stall, the worst one on left-out runs is tens of thousands of times that, under the rules
/// too. What bounds it is that a trial ends at the first harmful block.
const RAISE: u32 = 8;
/// The same of long runs, which use all that is read for them: the first step of 64 worlds and the scenarios ends nearer to the best value
/// (`log-tail-14` 6.6 to 4.6 times its stall, `hdd-streams` 1.21 to 1.13).
const RAISE_SCAN: u32 = 64;
/// Share of what is read ahead that is left unused, up to which all of it is used.
const USED_UP: f64 = 0.1;
/// The same above which less than a quarter is used: the rules then go further down at once than their step of four.
const MOST: f64 = 0.75;
/// How far from the present value, as a factor, what trials have shown raises hope. One that harmed at a quarter says little of eight times the
/// value, and the line through it says that it gains there (short runs of 64 KiB were tried at 2 MiB before the 512 KiB that were best).
const HOPE: u32 = 4;
/// What a doubling must gain for the memory that it takes.
const DOUBLING: f64 = 0.01;

const SHIPPED: &[u8] = include_bytes!("../model/learned.model");

/// Name and version, as written to the journal.
pub const NAME: &str = "learned-1";

#[derive(Clone, Debug)]
pub struct Learned {
    model: Model,
}

/// What the model makes of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub seen: Seen,
    /// Every size, ascending, corrected by what trials on the device have shown; empty for an unknown vector.
    pub predictions: Vec<Prediction>,
    /// Where reads and faults are two patterns, for whoever is to judge what is proposed for both together.
    pub tenants: Option<[Tenant; 2]>,
}

impl View {
    /// What is seen now, in a reader's terms.
    fn observed(&self, pattern: Pattern, context: &Context) -> String {
        let f = context.features;
        format!(
            "{} (confidence {:.2}): runs of {}, stall {:.2} ms/MiB at {}",
            self.words(pattern, f),
            self.seen.confidence,
            size(f.run() * 4.0),
            f.stall_ms_per_mib,
            context.current,
        )
    }

    /// Stall at the chosen size and at the two best beside it.
    fn predicted(&self, to: &Prediction, context: &Context) -> String {
        let mut shown: Vec<&Prediction> =
            self.predictions.iter().filter(|p| p.kib != to.kib && context.may_try(p.kib)).collect();
        shown.sort_by(|a, b| a.log2_ratio.total_cmp(&b.log2_ratio));
        shown.truncate(2);
        shown.push(to);
        shown.sort_by_key(|p| p.kib);
        let one = |p: &&Prediction| format!("{:.2} at {}", context.features.stall_ms_per_mib * p.ratio(), p.kib.0);
        format!("predicted ms/MiB: {}", shown.iter().map(one).collect::<Vec<_>>().join(", "))
    }

    fn words(&self, pattern: Pattern, f: &Features) -> String {
        match &self.tenants {
            Some([reads, faults]) => format!("two patterns, {reads} and {faults}"),
            None => words(pattern, f),
        }
    }
}

impl Learned {
    /// The model that ships with this version; its card is `policies/model/learned.md`.
    ///
    /// # Errors
    /// Never for a model that passed the tests.
    pub fn shipped() -> Result<Learned, ModelError> {
        Learned::from_bytes(SHIPPED)
    }

    /// From a model file. Where it is refused, [`Rules`] is the policy to go on with.
    pub fn from_bytes(file: &[u8]) -> Result<Learned, ModelError> {
        Ok(Learned { model: Model::from_bytes(file)? })
    }

    pub fn new(model: Model) -> Learned {
        Learned { model }
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    pub fn view(&self, context: &Context) -> View {
        let x = vector(context.features, context.current);
        let seen = self.model.classifier.classify(&x);
        let tenants = self.tenants(context.features, context.current);
        let Some(pattern) = seen.pattern else { return View { seen, predictions: Vec::new(), tenants } };
        let mut predictions = self.model.predictor.predict(&x, pattern, seen.cluster, context.current);
        if let Some(known) = context.known.get(&pattern) {
            predictions.iter_mut().for_each(|p| correct(p, known, pattern, context.current));
        }
        View { seen, predictions, tenants }
    }

    /// The patterns of reads and of faults, where they are two.
    pub fn tenants(&self, f: &Features, current: Kib) -> Option<[Tenant; 2]> {
        tenants(f, |part| {
            let seen = self.model.classifier.classify(&vector(part, current));
            seen.pattern.filter(|_| seen.confidence >= SURE)
        })
    }

    fn decide_known(&self, pattern: Pattern, view: &View, context: &Context) -> Decision {
        let f = context.features;
        let sure = view.seen.confidence;
        if pattern == Pattern::RandomRead {
            // Not if the rules see a gain: streams that one task reads in turn look like random reads at first, and a trial tells
            // which it is. Taken by itself the name cost ten times the stall there.
            if let Decision::Propose(p) = Rules.decide(context)
                && (context.whole || plain(p.pattern, f))
            {
                let reason = format!("random read(2)? (confidence {sure:.2}), but the rules: {}", p.reason);
                // One name for both: what the rules call it changes with each window, and a change of pattern takes time.
                return Decision::Propose(Proposal { reason, pattern, ..p });
            }
            let reason = format!("random read(2) (confidence {sure:.2}) does not depend on read_ahead_kb");
            return Decision::Abstain { pattern, reason };
        }
        if f.stall_share < context.min_stall_share {
            let reason =
                format!("{} (confidence {sure:.2}), but hardly anybody waits: nothing to gain", view.words(pattern, f));
            return Decision::Abstain { pattern, reason };
        }
        if reads_nothing_ahead(f) {
            return Decision::Abstain { pattern, reason: NOTHING_AHEAD.into() };
        }
        // For faults on more than a page there is nothing below (RocksDB's lookups waited twice as long at 4 KiB as at 16, where the model saw a
        // gain), unless reads beside them get what is saved.
        let least = if f.mapped_demand > 0.5 && !single_pages(pattern, f) { SMALLEST } else { Kib(0) };
        let may_try = |p: &&Prediction| context.may_try(p.kib) && p.kib >= least;
        let open: Vec<&Prediction> = view.predictions.iter().filter(may_try).collect();
        let raise = if pattern == Pattern::Sequential { RAISE_SCAN } else { RAISE };
        let near = |p: &&&Prediction| p.kib.0 <= context.current.0.saturating_mul(raise);
        let rules_first = why_rules_first(pattern, f, context.current).is_some();
        let may_gain = |p: &Prediction| 1.0 - p.low.exp2() >= WORTH;
        let best = open.iter().filter(near).max_by(|a, b| score(a, context.current).total_cmp(&score(b, context.current)));
        let best = best.filter(|p| !rules_first && score(p, context.current) >= WORTH);
        if let Some(best) = best {
            // On a scan's way to the bandwidth the model sees a small gain at each size; the rules' larger step is there in one trial. And sizes that differ by
            // less than is worth a trial are the same to it: for runs of 32 pages 256 KiB was tried before 512, and got less than 128 on the testbed.
            let worth = score(best, context.current);
            let same = |p: &Prediction| worth - score(p, context.current) < WORTH && (context.whole || plain(pattern, f));
            let larger = |p: &&&Prediction| {
                let may_step = pattern == Pattern::Sequential || pattern == Pattern::ShortRuns && same(p);
                may_step && p.kib > best.kib && may_gain(p)
            };
            let step = open.iter().filter(near).filter(larger).find(|p| Some(p.kib) == rules_step(context));
            let lowest = open.iter().min_by(|a, b| a.log2_ratio.total_cmp(&b.log2_ratio)).filter(|p| p.kib != best.kib);
            let why = match (step, lowest) {
                (Some(_), _) => ", as far as the rules step".into(),
                (None, Some(lowest)) if !near(&lowest) => format!(", because no trial goes further than x{raise}"),
                (None, Some(_)) => ", the best gain for its risk and memory".into(),
                (None, None) => String::new(),
            };
            return Decision::Propose(propose(step.unwrap_or(best), &why, pattern, view, context));
        }
        if !context.whole && !plain(pattern, f) {
            return Decision::Abstain { pattern, reason: "a second does not show what is left unused".into() };
        }
        match with_pattern(Rules.decide(context), pattern) {
            // Even at its best it would not be kept.
            Decision::Propose(p)
                if !rules_first && !open.is_empty() && !open.iter().any(|o| o.kib == p.read_ahead && may_gain(o)) =>
            {
                Decision::Settled { pattern }
            }
            Decision::Propose(p) => {
                let of_model = open.iter().find(|o| o.kib == p.read_ahead);
                let predicted = match (of_model, why_rules_first(pattern, f, context.current)) {
                    (Some(o), Some(why)) => {
                        let (predicted, expected) = (view.predicted(o, context), p.expected_stall_ratio);
                        format!("{predicted}; the rules choose, because {why}, and expect stall x{expected:.2}")
                    }
                    (Some(o), None) => format!("{}: no clear gain to the model, but the rules", view.predicted(o, context)),
                    (None, _) => "the rules".into(),
                };
                let reason = format!("{}; {predicted}: {}", view.observed(pattern, context), p.reason);
                let expected_stall_ratio = of_model.map_or(p.expected_stall_ratio, |o| o.ratio());
                Decision::Propose(Proposal { expected_stall_ratio, confidence: sure, reason, ..p })
            }
            decision => decision,
        }
    }
}

/// A value that the model chooses.
fn propose(to: &Prediction, why: &str, pattern: Pattern, view: &View, context: &Context) -> Proposal {
    let reason = format!("{}; {}; try {}{why}", view.observed(pattern, context), view.predicted(to, context), to.kib.0);
    let (expected_stall_ratio, confidence) = (to.ratio(), view.seen.confidence);
    Proposal { read_ahead: to.kib, pattern, expected_stall_ratio, confidence, reason }
}

impl Policy for Learned {
    fn name(&self) -> &'static str {
        NAME
    }

    fn slots_needed(&self, whole: u32) -> u32 {
        whole.min(1)
    }

    fn decide(&self, context: &Context) -> Decision {
        if context.features.is_idle(context.min_demand) {
            return Rules.decide(context);
        }
        let view = self.view(context);
        let (doubt, pattern) = match view.seen.pattern {
            None => ("nothing like it in training".to_string(), None),
            Some(p) if view.seen.confidence < SURE => (format!("{p}? (confidence {:.2})", view.seen.confidence), None),
            Some(p) if context.known.get(&p).is_some_and(Known::drifted) => {
                (format!("{p}, but predictions were wrong here lately"), Some(p))
            }
            Some(p) if context.whole || view.seen.confidence >= PLAIN => return self.decide_known(p, &view, context),
            Some(p) => (String::new(), Some(p)),
        };
        if !context.whole {
            let pattern = pattern.unwrap_or(Pattern::Mixed);
            return Decision::Abstain { pattern, reason: "where the rules decide, they see a whole window".into() };
        }
        let decision = Rules.decide(context);
        let decision = if let Some(pattern) = pattern { with_pattern(decision, pattern) } else { decision };
        match decision {
            Decision::Propose(p) => Decision::Propose(Proposal { reason: format!("{doubt}; the rules: {}", p.reason), ..p }),
            decision => decision,
        }
    }
}

/// Where it matters in which order values are tried, and the model, which sees one value against another, cannot know: why the rules have the
/// first word.
fn why_rules_first(pattern: Pattern, f: &Features, current: Kib) -> Option<&'static str> {
    let why = match pattern {
        // By the rules' name too: they see no thrashing in other patterns.
        Pattern::Sequential if thrashes(f) && classify(f, 0.0) == pattern => "what is read ahead is evicted before it is used",
        Pattern::RandomMmap if is_too_small(f, current) => {
            "more than a page is asked for at one place, and a window of a page makes a wait of each"
        }
        Pattern::Sequential if is_paced(f) => {
            "a reader at a pace of its own waits the same at several sizes before it waits less"
        }
        Pattern::ShortRuns if cuts_runs(f, current) => "a window that cuts runs in two looks wasted, and is too small",
        _ if single_pages(pattern, f) => {
            "values on the way down leave neighbours in the cache, which hide what single pages gain"
        }
        Pattern::RandomMmap | Pattern::ShortRuns if lookups(f) => {
            "most of what is read ahead is left unused, and what values on the way down leave in the cache hides the gain"
        }
        _ => return None,
    };
    Some(why)
}

fn single_pages(pattern: Pattern, f: &Features) -> bool {
    matches!(pattern, Pattern::RandomMmap | Pattern::ShortRuns) && f.mmap_share > 0.5 && f.mmap_run < SINGLE
}

/// Whether all that is asked for at one place fits in the smallest window, and most of the present one is for nothing. From 128 KiB, RocksDB's
/// mixgraph and readrandom went to 16 by way of 32 and 64 and took 33 and 13 seconds for it; the rules go there at once (`candidates` in `rules.rs`).
/// (Not for runs of six pages: its `seekrandom` is best at 64.)
fn lookups(f: &Features) -> bool {
    f.mapped_demand > 0.5 && f.mmap_share > 0.5 && f.mmap_run <= SMALLEST.pages() as f64 && f.unused > MOST
}

fn rules_step(context: &Context) -> Option<Kib> {
    match Rules.decide(context) {
        Decision::Propose(p) => Some(p.read_ahead),
        _ => None,
    }
}

/// Where the rules may propose from a second: what they go by is seen in it.
fn plain(pattern: Pattern, f: &Features) -> bool {
    match pattern {
        Pattern::Sequential => f.unused <= 0.5 && !thrashes(f),
        Pattern::RandomMmap => true,
        // Its last windows are still ahead of their readers: a second that shows none left unused shows use.
        _ => single_pages(pattern, f) || f.unused <= USED_UP,
    }
}

/// Expected gain minus risk, as shares of the present stall.
fn score(p: &Prediction, present: Kib) -> f64 {
    let doublings = (f64::from(p.kib.0.max(1)) / f64::from(present.0.max(1))).log2();
    1.0 - p.ratio() - RISK * (p.high.exp2() - 1.0).max(0.0) - DOUBLING * doublings.max(0.0)
}

/// What trials here have shown moves the prediction, and narrows the interval as they become many.
fn correct(p: &mut Prediction, known: &Known, pattern: Pattern, present: Kib) {
    let narrow = 1.0 / (1.0 + f64::from(known.trials.min(16)) / 2.0).sqrt();
    let (below, above) = (p.log2_ratio - p.low, p.high - p.log2_ratio);
    // That a larger window did not help a scan is no hope for a smaller one, nor the reverse for single pages: there the model must see a gain
    // by itself. (512 to 4 KiB was tried for a scan whose 2048 and 4096 had gained less than expected.)
    let least = match pattern {
        Pattern::Sequential if p.kib < present => p.log2_ratio.min(0.0),
        Pattern::RandomMmap if p.kib > present => p.log2_ratio.min(0.0),
        _ => f64::NEG_INFINITY,
    };
    let nearest = p.kib.clamp(Kib(present.0 / HOPE), Kib(present.0.saturating_mul(HOPE)));
    let correction = known.correction(present, p.kib).max(known.correction(present, nearest).min(0.0));
    p.log2_ratio = (p.log2_ratio + correction).max(least);
    (p.low, p.high) = (p.log2_ratio - below * narrow, p.log2_ratio + above * narrow);
}

fn with_pattern(decision: Decision, pattern: Pattern) -> Decision {
    match decision {
        Decision::Propose(p) => Decision::Propose(Proposal { pattern, ..p }),
        Decision::Abstain { reason, .. } => Decision::Abstain { pattern, reason },
        Decision::Settled { .. } => Decision::Settled { pattern },
    }
}

fn words(pattern: Pattern, f: &Features) -> String {
    match pattern {
        Pattern::Sequential if f.mmap_share > 0.5 => "sequential faults".into(),
        Pattern::Sequential => "sequential reads".into(),
        Pattern::RandomMmap => "random faults".into(),
        Pattern::ShortRuns if f.mmap_share > 0.5 => "short runs of faults".into(),
        Pattern::ShortRuns => "short runs of reads".into(),
        pattern => format!("{pattern} access"),
    }
}

/// KiB below a MiB, else MiB.
fn size(kib: f64) -> String {
    if kib < 1024.0 { format!("{kib:.0} KiB") } else { format!("{:.0} MiB", kib / 1024.0) }
}
