// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions of a workload's mappings: takes what each demanded and what the whole workload did, gives the advice that is worth a trial
//! for one of them, and says when advice that was kept must go again.
//!
//! A file has one readahead window; a region needs advice of its own only where something else in the same workload is read in another
//! way, because else the window does all that advice could, and keeps recency: since Linux 6.4 pages under `MADV_RANDOM` and
//! `MADV_SEQUENTIAL` are not marked as used (`vma_has_recency`, `include/linux/mm_inline.h`) and leave the cache sooner
//! (docs/decisions/0008). For pages read once that is a gain. So the trial is one of the whole workload, judged by all its hits and
//! stall; what is evicted too soon comes back as refaults, and as stall some seconds later, which the probation looks for.

pub use crate::advice::{Advice, AdviceOrder, Change, RegionTick};
use crate::event::{Arm, Outcome, Pattern, Verdict};
use crate::features::Features;
use crate::matched::compare;
use crate::sample::{Completeness, Counters, Sample};
use crate::trial::ONE_WAY_GAIN;
use crate::units::Nanos;
use crate::window::{Mark, Slots, Span};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A process that has not taken an order for this long will not.
const ANSWER_MOST: Nanos = Nanos::from_secs(5);
/// After a keep: until then the cache takes its new shape, and from then to the end it is measured. 256 MiB at 25 MB/s turn over in 10 s.
const SETTLING: Nanos = Nanos::from_secs(10);
const PROBATION: Nanos = Nanos::from_secs(20);
/// After a trial of sequential advice that has left the answer open, and four times as long after the second. It is judged against the seconds
/// before it, so a disturbance in them, or in the trial, hides its gain (in one run of six on a busy machine), or feigns one: so never more.
const REPEAT: Nanos = Nanos::from_secs(15);
const TRIALS_MOST: u32 = 3;
/// Refaults per demanded page, new over old, above which recency was lost that is needed; and how many a trial must see for that.
const REFAULTS: f64 = 1.25;
const REFAULTS_SEEN: u64 = 256;

/// Whether an order has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    InForce,
    UnderWay,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Region {
    ordered: Advice,
    at: Nanos,
    in_force: Option<Advice>,
    refused: bool,
    slots: Slots,
    pattern: Option<Pattern>,
    /// A new pattern must be seen twice to count.
    next: Option<Pattern>,
    tried: BTreeSet<Advice>,
    /// Where a trial of sequential advice has left open whether it helps.
    #[serde(default)]
    repeat: Option<Repeat>,
    /// At the last tick, and before the last trial.
    counters: Mark,
    before: Span,
    probation: Option<Probation>,
}

/// When to try again, after so many trials.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Repeat {
    at: Nanos,
    after: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Probation {
    since: Nanos,
    /// The workload before the trial, and the region itself.
    before: [Span; 2],
    settled: Option<[Mark; 2]>,
}

/// Refaults of the machine and demanded pages of the workload while an arm was in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Evicted {
    refaults: u64,
    demanded: u64,
}

/// The regions of one workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Regions {
    all: BTreeMap<u32, Region>,
    old: Evicted,
    new: Evicted,
    last: Option<(Arm, Evicted)>,
}

impl Regions {
    /// Takes all regions that there are now. `most`: slots of the window.
    pub fn take(&mut self, now: Nanos, ticks: &[RegionTick], most: u32) {
        self.all.retain(|number, _| ticks.iter().any(|t| t.region == *number));
        for tick in ticks {
            let region = self.all.entry(tick.region).or_insert_with(|| Region::new(now));
            region.in_force = tick.in_force;
            region.refused |= tick.refused;
            region.counters = Mark { at: now, counters: tick.counters };
            region.slots.push(now, &Sample { counters: tick.counters, completeness: Completeness::Full }, most);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Notes an order; `false` where it stands already or there is nobody to give it to.
    pub fn order(&mut self, number: u32, advice: Advice, now: Nanos) -> bool {
        let Some(region) = self.all.get_mut(&number).filter(|r| r.ordered != advice) else { return false };
        (region.ordered, region.at, region.in_force) = (advice, now, None);
        true
    }

    pub fn delivery(&self, number: u32, now: Nanos) -> Delivery {
        match self.all.get(&number) {
            None => Delivery::Lost,
            Some(r) if r.refused => Delivery::Lost,
            Some(r) if r.in_force == Some(r.ordered) => Delivery::InForce,
            Some(r) if now.since(r.at) >= ANSWER_MOST => Delivery::Lost,
            Some(_) => Delivery::UnderWay,
        }
    }

    /// Names the pattern of each region over the last window. Regions whose advice no longer fits what they do are given back.
    pub fn classify(&mut self, most: u32, name: impl Fn(&Features) -> Pattern) -> Vec<(u32, String)> {
        let mut unfit = Vec::new();
        for (number, region) in &mut self.all {
            let Some(window) = region.slots.window(most, Completeness::Full) else { continue };
            if !region.sees(name(&Features::of(&window.span))) {
                continue;
            }
            region.tried.clear();
            region.repeat = None;
            if let (true, Some(pattern)) = (region.ordered != Advice::Normal, region.pattern) {
                region.probation = None;
                unfit.push((*number, format!("what is read there now is {pattern}")));
            }
        }
        unfit
    }

    /// The advice to try next. `rest`: how the workload reads what is in no region.
    pub fn propose(&self, rest: Pattern) -> Option<(Change, Pattern, String)> {
        let mut wanted: Vec<_> = self.all.iter().filter_map(|(number, r)| Some((*number, r, r.wants()?))).collect();
        // Pages of a scan that leave early may be all that the others lack.
        wanted.sort_by_key(|(_, r, advice)| (r.repeat.is_some_and(|repeat| repeat.after > 1), *advice != Advice::Sequential));
        // Under random advice their pages would leave early too, and nothing could show any more what the scan's do to them.
        if self.all.values().any(|r| !r.refused && r.repeat.is_some_and(|repeat| repeat.after == 1)) {
            wanted.retain(|(_, _, advice)| *advice == Advice::Sequential);
        }
        wanted.into_iter().find_map(|(region, r, to)| {
            let own = r.pattern?;
            let others = self.all.iter().filter(|(n, _)| **n != region).filter_map(|(_, r)| r.pattern).chain([rest]);
            let other = others.into_iter().find(|p| *p != own && *p != Pattern::Idle)?;
            let reason = format!("region {region} {}: it is read in another way ({own}) than the rest ({other})", to.word());
            Some((Change { region, to }, own, reason))
        })
    }

    /// Counts what all regions together did in the last window.
    pub fn demand(&self, most: u32) -> Counters {
        let spans = self.all.values().filter_map(|r| r.slots.window(most, Completeness::Full));
        spans.fold(Counters::default(), |sum, window| sum.plus(&window.span.counters))
    }

    /// A trial of a region begins. `most`: slots of the window.
    pub fn begin(&mut self, number: u32, most: u32) {
        (self.old, self.new, self.last) = Default::default();
        if let Some(region) = self.all.get_mut(&number) {
            region.before = region.slots.window(most, Completeness::Full).map(|w| w.span).unwrap_or_default();
        }
    }

    /// One tick of a trial while `arm` is in force; `None`: neither is. `refaults`, `demanded`: cumulative.
    pub fn meter(&mut self, arm: Option<Arm>, refaults: u64, demanded: u64) {
        let now = Evicted { refaults, demanded };
        if let (Some(arm), Some((before, then))) = (arm, self.last)
            && arm == before
        {
            let sum = if arm == Arm::New { &mut self.new } else { &mut self.old };
            sum.refaults += now.refaults.saturating_sub(then.refaults);
            sum.demanded += now.demanded.saturating_sub(then.demanded);
        }
        self.last = arm.map(|arm| (arm, now));
    }

    /// Why a gain is none: what is evicted under the new advice is needed again.
    pub fn lost_recency(&self) -> Option<String> {
        let per_page = |e: &Evicted| e.refaults as f64 / e.demanded.max(1) as f64;
        let (old, new) = (per_page(&self.old), per_page(&self.new));
        (self.old.demanded > 0 && self.new.refaults >= REFAULTS_SEEN && new > REFAULTS * old)
            .then(|| format!("refaults rose from {old:.2} to {new:.2} a demanded page: what leaves early is needed again"))
    }

    /// A trial has ended; without a verdict where the process does not take part: it is not asked again.
    pub fn ended(&mut self, change: Change, verdict: Option<&Verdict>, before: Span, now: Nanos) {
        let Some(region) = self.all.get_mut(&change.region) else { return };
        region.tried.insert(change.to);
        let kept = verdict.is_some_and(|v| v.outcome == Outcome::Kept);
        let before = [before, region.before];
        region.probation = kept.then_some(Probation { since: now, before, settled: None });
        // Where all that would be believed is excluded, that is an answer.
        let open = |v: &Verdict| !kept && v.stall_ratio.is_none_or(|ratio| ratio.low < ONE_WAY_GAIN);
        let after = region.repeat.map_or(1, |repeat| repeat.after + 1);
        let repeats = change.to == Advice::Sequential && after < TRIALS_MOST && verdict.is_some_and(open);
        let pause = Nanos(REPEAT.0 << (2 * (after - 1)));
        region.repeat = repeats.then_some(Repeat { at: now + pause, after });
    }

    /// Until when kept advice is on probation, if any is.
    pub fn on_probation(&self) -> Option<Nanos> {
        self.all.values().filter_map(|r| r.probation.as_ref()).map(|p| p.since + PROBATION).max()
    }

    /// Ends probations: regions whose workload waits more than before the trial by more than `margin` (a ratio). Random advice is for
    /// the region itself, which must not wait more either: what the rest gained would be paid for with its hot pages.
    pub fn judge(&mut self, mark: Mark, margin: f64) -> Vec<(u32, String)> {
        let mut worse = Vec::new();
        for (number, region) in &mut self.all {
            let Some(probation) = &mut region.probation else { continue };
            if mark.at.since(probation.since) < SETTLING {
                continue;
            }
            let Some(settled) = probation.settled else {
                // Late where the loop was paused: nothing has been seen of it until now.
                probation.since = mark.at - SETTLING;
                probation.settled = Some([mark, region.counters]);
                continue;
            };
            if mark.at.since(probation.since) < PROBATION {
                continue;
            }
            let ratio =
                |n: usize, now: &Mark| compare(&settled[n].until(now), &probation.before[n]).map_or(1.0, |c| c.log_stall.exp());
            let (whole, own) = (ratio(0, &mark), ratio(1, &region.counters));
            let seconds = PROBATION.0 / 1_000_000_000;
            if whole > margin {
                worse.push((*number, format!("after {seconds} s the workload's stall is {whole:.2} times that before")));
            } else if own > margin && region.ordered == Advice::Random {
                worse.push((*number, format!("after {seconds} s its own stall is {own:.2} times that before")));
            }
            region.probation = None;
        }
        worse
    }
}

impl Region {
    fn new(now: Nanos) -> Region {
        Region {
            ordered: Advice::Normal,
            at: now,
            in_force: Some(Advice::Normal),
            refused: false,
            slots: Slots::default(),
            pattern: None,
            next: None,
            tried: BTreeSet::new(),
            repeat: None,
            counters: Mark { at: now, counters: Counters::default() },
            before: Span::default(),
            probation: None,
        }
    }

    /// `true` where the region has turned to another pattern. A region at rest stays what it was.
    fn sees(&mut self, pattern: Pattern) -> bool {
        if pattern == Pattern::Idle || self.pattern == Some(pattern) {
            self.next = None;
            return false;
        }
        if self.pattern.is_some() && self.next != Some(pattern) {
            self.next = Some(pattern);
            return false;
        }
        self.next = None;
        self.pattern.replace(pattern).is_some()
    }

    fn wants(&self) -> Option<Advice> {
        let wanted = match self.pattern? {
            Pattern::RandomMmap => Advice::Random,
            Pattern::Sequential => Advice::Sequential,
            _ => return None,
        };
        let repeat = wanted == Advice::Sequential && self.repeat.is_some_and(|repeat| self.counters.at >= repeat.at);
        (self.ordered == Advice::Normal && !self.refused && (repeat || !self.tried.contains(&wanted))).then_some(wanted)
    }
}

#[cfg(test)]
#[path = "region/tests.rs"]
mod tests;
