// SPDX-License-Identifier: MIT OR Apache-2.0
//! A watched workload and the advice for its regions: the same trials, with `madvise` of one region as the setting instead of the
//! window. Takes what [`crate::region`] proposes, gives orders and records.

use crate::event::{Hold, Outcome, Pattern, Proposal, Record, Verdict, What};
use crate::features::Features;
use crate::region::{Advice, AdviceOrder, Change, Delivery, RegionTick};
use crate::settings::Settings;
use crate::step::{Output, Surroundings};
use crate::trial::Trial;
use crate::units::Nanos;
use crate::watched::{Mode, Watched};
use crate::window::{Mark, Span, Window};

impl Watched {
    pub(crate) fn take_regions(&mut self, now: Nanos, regions: &[RegionTick], settings: &Settings) {
        self.regions.take(now, regions, settings.window_slots);
    }

    pub(crate) fn advise(&mut self, region: u32, advice: Advice, why: &str, now: Nanos, out: &mut Output) {
        if self.regions.order(region, advice, now) {
            out.advice.push(AdviceOrder { bdi: self.device.bdi.clone(), region, advice, why: why.into() });
        }
    }

    /// Takes advice back outside of a trial, and says why.
    fn withdraw(&mut self, unfit: Vec<(u32, String)>, now: Nanos, out: &mut Output) {
        for (region, why) in unfit {
            out.records.push(self.advised(region, Advice::Normal, why.clone(), now));
            self.advise(region, Advice::Normal, &why, now, out);
        }
    }

    fn advised(&self, region: u32, advice: Advice, why: String, now: Nanos) -> Record {
        self.record(now, What::RegionAdvised { region, advice, why })
    }

    /// Before a tick of a region's trial: `None` where the trial may look at it; else whether the process is lost to it.
    pub(crate) fn region_trial(&mut self, mark: &Mark, around: &Surroundings) -> Option<bool> {
        let Mode::Trial(trial) = &self.mode else { return None };
        let (change, arm) = (trial.change?, trial.arm);
        let delivery = self.regions.delivery(change.region, around.now);
        let arm = (delivery == Delivery::InForce).then_some(arm);
        self.regions.meter(arm, around.refaults, mark.counters.demanded());
        if arm.is_some() { None } else { Some(delivery == Delivery::Lost) }
    }

    pub(crate) fn end_region_trial(
        &mut self,
        trial: &Trial,
        change: Change,
        mut verdict: Verdict,
        at: Nanos,
        settings: &Settings,
        out: &mut Output,
    ) {
        if verdict.outcome == Outcome::Kept
            && let Some(reason) = self.regions.lost_recency()
        {
            (verdict.outcome, verdict.reason) = (Outcome::Reverted, format!("{}, but {reason}", verdict.reason));
        }
        let kept = verdict.outcome == Outcome::Kept;
        self.regions.ended(change, Some(&verdict), trial.before(), at);
        self.cool.ended(verdict.outcome, trial.hurt_at_once(), at, settings);
        let (bdi, region, advice) = (self.device.bdi.clone(), change.region, if kept { change.to } else { Advice::Normal });
        // Given again where it is in force already: the reason is another one now.
        self.regions.order(region, advice, at);
        out.advice.push(AdviceOrder { bdi, region, advice, why: format!("trial {}: {}", trial.id, verdict.reason) });
        verdict.reason = format!("region {} {}: {}", change.region, change.to.word(), verdict.reason);
        out.records.push(self.record(at, What::TrialEnded { trial: trial.id, from: trial.from, to: trial.to, verdict }));
    }

    /// Looks at the regions of a workload that is not on trial. `true` where they have this tick.
    pub(crate) fn tend_regions(
        &mut self,
        window: &Window,
        mark: Mark,
        around: &Surroundings,
        next_trial: &mut u64,
        out: &mut Output,
    ) -> bool {
        if self.regions.is_empty() {
            return false;
        }
        let (now, settings) = (around.now, around.settings);
        let name = |f: &Features| around.policy.decide(&self.context(f, settings)).pattern();
        let others = window.span.counters.since(&self.regions.demand(settings.window_slots));
        let rest = name(&Features::of(&Span { seconds: window.span.seconds, counters: others }));
        let mut regions = std::mem::take(&mut self.regions);
        let mut unfit = regions.classify(settings.window_slots, |f| around.policy.decide(&self.context(f, settings)).pattern());
        unfit.extend(regions.judge(mark, settings.trial.stall_margin));
        self.regions = regions;
        self.withdraw(unfit, now, out);
        if let Some(until) = self.regions.on_probation() {
            self.hold(now, Hold::CoolingDown { until }, out);
            return true;
        }
        let Some((change, pattern, reason)) = self.regions.propose(rest) else { return false };
        // Compared with the seconds before alone: they must not be those in which the disk worked for another's trial.
        let clean = |at: Nanos| now.since(at).as_secs_f64() > window.span.seconds;
        let dirty = change.to == Advice::Sequential && !self.beside_trial.is_none_or(clean);
        match self.may_try(window, around) {
            Ok(()) if dirty => self.hold(now, Hold::Gathering, out),
            Err(hold) => self.hold(now, hold, out),
            Ok(()) => {
                self.regions.begin(change.region, settings.window_slots);
                let proposal = self.as_proposal(pattern, reason);
                self.begin_trial(proposal, Some(change), window, mark, around, next_trial, out);
            }
        }
        true
    }

    fn as_proposal(&self, pattern: Pattern, reason: String) -> Proposal {
        Proposal { read_ahead: self.current(), pattern, expected_stall_ratio: 0.9, confidence: 0.5, reason }
    }
}
