// SPDX-License-Identifier: MIT OR Apache-2.0
//! A trial from its first write to what follows from its verdict.

use super::{Mode, Watched};
use crate::event::{Arm, Outcome, Pattern, Proposal, SetReason, Verdict, What};
use crate::features::{Features, evidence};
use crate::policy::Tried;
use crate::region::{Advice, Change};
use crate::settings::Settings;
use crate::standing::Standing;
use crate::step::{Output, Surroundings};
use crate::trial::{Next, Trial};
use crate::units::{Kib, Nanos};
use crate::window::{Mark, Window};

/// Width of a stall ratio's interval from which it says nothing: 0.99 between 0.75 and 1.30 is not "nothing changes" (`strided-columns`,
/// whose next smaller step halves the stall).
const DOUBT_MOST: f64 = 0.3;

impl Watched {
    #[allow(clippy::too_many_arguments)] // What a trial begins from, each of another kind.
    pub(crate) fn begin_trial(
        &mut self,
        proposal: Proposal,
        change: Option<Change>,
        window: &Window,
        mark: Mark,
        around: &Surroundings,
        next: &mut u64,
        out: &mut Output,
    ) {
        if !around.may_start {
            return;
        }
        let (id, from, to) = (*next, self.current(), proposal.read_ahead);
        *next += 1;
        self.cool.started(around.now);
        self.said = None;
        let evidence = evidence(&window.span);
        let what = What::TrialStarted {
            trial: id,
            from,
            to,
            proposal: proposal.clone(),
            evidence,
            policy: around.policy.name().into(),
        };
        out.records.push(self.record(around.now, what));
        let trial = Trial::begin(id, from, proposal, self.slots.spans(), mark).of_region(change);
        self.mode = Mode::Trial(Box::new(trial));
        self.turn_to(Arm::New, change, to, SetReason::Trial, around.now, out);
    }

    pub(super) fn tick_trial(&mut self, mark: Mark, around: &Surroundings, out: &mut Output) {
        if let Some(lost) = self.region_trial(&mark, around) {
            return if lost {
                self.end_trial_void("the process does not take the advice", around.now, around.settings, out)
            };
        }
        let Mode::Trial(trial) = &mut self.mode else { return };
        let proven = self.known.get(&trial.proposal.pattern).and_then(|known| known.proven);
        let settings = &around.settings.trial;
        let turn = match trial.change.is_none() && proven == Some(trial.to) {
            true => trial.tick(mark, around.others, &settings.of_proven()),
            false => trial.tick(mark, around.others, settings),
        };
        let (id, arm, change) = (trial.id, trial.arm, trial.change);
        if let Some(block) = turn.block {
            out.records.push(self.record(around.now, What::BlockEnded { trial: id, block }));
        }
        match turn.next {
            Next::Wait => {}
            Next::Switch(value) => self.turn_to(arm, change, value, SetReason::Trial, around.now, out),
            Next::End(verdict) => self.end_trial(verdict, around.now, around.settings, out),
        }
    }

    pub(super) fn end_trial(&mut self, verdict: Verdict, at: Nanos, settings: &Settings, out: &mut Output) {
        let Mode::Trial(trial) = std::mem::replace(&mut self.mode, Mode::Watching) else { return };
        self.slots.clear();
        self.said = None;
        if let Some(change) = trial.change {
            return self.end_region_trial(&trial, change, verdict, at, settings, out);
        }
        if verdict.outcome != Outcome::Kept && trial.to > trial.from {
            self.may_leave_over(trial.window_before().max(trial.from.pages() as f64), at);
        }
        self.known.entry(trial.proposal.pattern).or_default().learn(trial.from, &trial.proposal, &verdict);
        let ratio = verdict.stall_ratio.filter(|r| r.high - r.low <= DOUBT_MOST).map(|r| r.mean);
        let check = self.ends_check(at, settings);
        if trial.changed && self.standing.is_some() {
            // That is the first sight of another pattern; a slot that shows which it is will do. Where no value is at stake there is no hurry.
            self.pattern_next = self.pattern_next.or(Some(Pattern::Idle));
        }
        // A check is paid for already, and that the kept value is still right is no failure.
        if !(check && matches!(verdict.outcome, Outcome::Reverted | Outcome::Aborted)) {
            self.cool.ended(verdict.outcome, trial.hurt_at_once(), at, settings);
        }
        match verdict.outcome {
            Outcome::Kept => {
                if check {
                    // What was learnt on the way to the value that has become wrong is as old as that value.
                    self.tried.clear();
                    self.tried_before.clear();
                }
                let proven = trial.whole(Arm::New).map(|span| Features::of(&span)).unwrap_or_default();
                self.home = trial.to;
                self.recall_tried(trial.proposal.pattern);
                let standing = Standing::new(trial.from, trial.proposal.pattern, at, settings.check_share);
                self.standing = Some(standing.proven_with(proven.evicted, proven.window));
                self.tried.insert(trial.from, Tried { outcome: Outcome::Reverted, stall_ratio: ratio.map(|r| 1.0 / r) });
                self.rewritten = 0;
                self.slots.carry(&trial.blocks_of(Arm::New), settings.window_slots);
                self.set(trial.to, SetReason::Trial, out);
            }
            Outcome::Reverted | Outcome::Aborted => {
                let again = verdict.undecided && !self.tried.contains_key(&trial.to);
                let outcome = if again { Outcome::Void } else { verdict.outcome };
                self.tried.insert(trial.to, Tried { outcome, stall_ratio: ratio });
                self.set(trial.from, SetReason::Revert, out);
            }
            Outcome::Void => self.set(trial.from, SetReason::Revert, out),
        }
        out.records.push(self.record(at, What::TrialEnded { trial: trial.id, from: trial.from, to: trial.to, verdict }));
    }

    /// Ends a running trial without a write.
    pub(super) fn end_trial_void(&mut self, reason: &str, at: Nanos, settings: &Settings, out: &mut Output) {
        // Nothing else ends with it: not a pin, nor hands off.
        if self.on_trial()
            && let Mode::Trial(trial) = std::mem::replace(&mut self.mode, Mode::Watching)
        {
            let verdict = trial.verdict(Outcome::Void, reason.into(), &settings.trial);
            if let Some(change) = trial.change {
                self.regions.ended(change, None, trial.before(), at);
                self.advise(change.region, Advice::Normal, "trial", at, out);
            }
            self.ends_check(at, settings);
            out.records.push(self.record(at, What::TrialEnded { trial: trial.id, from: trial.from, to: trial.to, verdict }));
        }
    }

    pub(crate) fn stop(&mut self, reason: &str, now: Nanos, settings: &Settings, out: &mut Output) {
        if let Mode::Trial(trial) = &self.mode {
            let verdict = trial.verdict(Outcome::Void, reason.into(), &settings.trial);
            self.end_trial(verdict, now, settings, out);
        }
    }

    /// Puts the value of a trial's arm in force.
    pub(super) fn turn_to(
        &mut self,
        arm: Arm,
        change: Option<Change>,
        value: Kib,
        why: SetReason,
        now: Nanos,
        out: &mut Output,
    ) {
        match change {
            Some(change) => self.advise(change.region, change.of(arm), "on trial", now, out),
            None => self.set(value, why, out),
        }
    }

    pub(super) fn ends_check(&mut self, at: Nanos, settings: &Settings) -> bool {
        self.standing.as_mut().is_some_and(|standing| standing.end(at, settings.check_share))
    }
}
