// SPDX-License-Identifier: MIT OR Apache-2.0
//! One device under the loop: its window, what was tried on it, and whether it is watched, on trial, or in a person's hands.

use crate::device::Device;
use crate::event::{Action, Applied, Arm, DeviceTick, Hold, Outcome, Pattern, Proposal, Record, SetReason, Verdict, What};
use crate::features::{Features, evidence};
use crate::guard::{CoolDown, admit, limit_step};
use crate::known::Known;
use crate::policy::{Context, Decision, Tried};
use crate::recall::{Present, recall};
use crate::region::{Advice, Change, Regions};
use crate::sample::Completeness;
use crate::settings::Settings;
use crate::standing::Standing;
use crate::step::{Output, Surroundings, refused};
use crate::trial::{Next, Trial};
use crate::units::{Kib, Nanos};
use crate::window::{Mark, Slots, Window};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Times that a value is written again after the kernel recomputed it or a write failed, before it is left as it is.
const REWRITE_MOST: u32 = 3;

/// Longest hold for streams that keep a larger window than the present value gives.
const LEFT_OVER_MOST: Nanos = Nanos::from_secs(15);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Mode {
    Watching,
    Trial(Box<Trial>),
    /// Somebody else wrote the knob: theirs until keepahead is told to take it back (SIGUSR1 to the agent).
    HandsOff,
    /// A person fixed the value; `before` comes back with the end of the pin.
    Pinned {
        before: Kib,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    pub device: Device,
    /// What the knob should read.
    expected: Kib,
    /// What it may read too: a write failed, and may have arrived all the same.
    or_else: Option<Kib>,
    /// What the knob should read outside trials: the original, or the last value that was kept.
    home: Kib,
    pub(crate) mode: Mode,
    slots: Slots,
    pattern: Option<Pattern>,
    /// A new pattern must be seen twice to count.
    pattern_next: Option<Pattern>,
    tried: BTreeMap<Kib, Tried>,
    /// Outlives `tried`: a pattern may return.
    #[serde(default)]
    pub(crate) known: BTreeMap<Pattern, Known>,
    pub(crate) cool: CoolDown,
    /// What the last kept value has replaced; `None` where somebody else chose the value.
    #[serde(default)]
    standing: Option<Standing>,
    rewritten: u32,
    /// After a larger value was taken back: the mean window before it, pages. Streams that still run with larger ones say nothing
    /// of the present value.
    left_over: Option<(f64, Nanos)>,
    /// Parts of a workload's mappings that may be advised apart.
    #[serde(default)]
    pub(crate) regions: Regions,
    /// What was last said, so that nothing is said twice.
    said: Option<Said>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Said {
    Hold(Hold),
    Proposed(Kib),
}

impl Watched {
    pub(crate) fn new(device: Device, hands_off: bool) -> Watched {
        Watched {
            expected: device.original,
            or_else: None,
            home: device.original,
            device,
            mode: if hands_off { Mode::HandsOff } else { Mode::Watching },
            slots: Slots::default(),
            pattern: None,
            pattern_next: None,
            tried: BTreeMap::new(),
            known: BTreeMap::new(),
            cool: CoolDown::default(),
            standing: None,
            rewritten: 0,
            left_over: None,
            regions: Regions::default(),
            said: None,
        }
    }

    pub fn on_trial(&self) -> bool {
        matches!(self.mode, Mode::Trial(_))
    }

    /// On trial, or demanded from: its open files are worth a look.
    pub fn is_busy(&self) -> bool {
        self.on_trial() || self.pattern.is_some_and(|p| p != Pattern::Idle)
    }

    /// Regions of its mappings are known.
    pub fn has_regions(&self) -> bool {
        !self.regions.is_empty()
    }

    pub fn hands_off(&self) -> bool {
        self.mode == Mode::HandsOff
    }

    pub fn pinned(&self) -> bool {
        matches!(self.mode, Mode::Pinned { .. })
    }

    /// What was last said of why nothing is done.
    pub fn held(&self) -> Option<&Hold> {
        match &self.said {
            Some(Said::Hold(hold)) => Some(hold),
            _ => None,
        }
    }

    /// The value that the knob has as far as is known.
    pub fn current(&self) -> Kib {
        self.expected
    }

    pub fn pattern(&self) -> Option<Pattern> {
        self.pattern
    }

    pub(crate) fn record(&self, at: Nanos, what: What) -> Record {
        Record { at, bdi: self.device.bdi.clone(), label: self.device.label.clone(), what }
    }

    /// Puts the value of a trial's arm in force.
    fn turn_to(&mut self, arm: Arm, change: Option<Change>, value: Kib, why: SetReason, now: Nanos, out: &mut Output) {
        match change {
            Some(change) => self.advise(change.region, change.of(arm), "on trial", now, out),
            None => self.set(value, why, out),
        }
    }

    fn set(&mut self, to: Kib, why: SetReason, out: &mut Output) {
        let from = self.expected;
        if from != to {
            self.expected = to;
            self.or_else = Some(from);
            out.actions.push(Action::Set { bdi: self.device.bdi.clone(), from, to, why });
        }
    }

    pub(crate) fn tick(&mut self, tick: &DeviceTick, around: &Surroundings, next_trial: &mut u64, out: &mut Output) {
        if self.hands_off() {
            // Whatever they make of it: a take-back or a pin begins from there.
            self.expected = tick.knob.unwrap_or(self.expected);
            self.home = self.expected;
            self.standing = None;
            return self.hold(around.now, Hold::HandsOff, out);
        }
        if !self.knob_is_ours(tick, around, out) {
            return;
        }
        self.device.limits = tick.limits;
        let mark = Mark { at: around.now, counters: tick.sample.counters };
        if self.on_trial() {
            return self.tick_trial(mark, around, out);
        }
        if self.current() != self.home && self.rewritten < REWRITE_MOST {
            // A write failed and left a trial's value behind.
            self.rewritten += 1;
            return self.set(self.home, SetReason::Revert, out);
        }
        self.slots.push(around.now, &tick.sample, around.settings.window_slots);
        if self.pinned() {
            return self.hold(around.now, Hold::Pinned { value: self.home }, out);
        }
        if around.paused {
            return self.hold(around.now, Hold::Paused, out);
        }
        match self.slots.window(around.settings.window_slots, tick.sample.completeness) {
            None => self.hold(around.now, Hold::Gathering, out),
            Some(window) => self.decide(&window, mark, around, next_trial, out),
        }
    }

    /// `false` where the knob does not read what it should: then this tick is spent on that.
    fn knob_is_ours(&mut self, tick: &DeviceTick, around: &Surroundings, out: &mut Output) -> bool {
        let Some(found) = tick.knob else { return true };
        if self.or_else.take() == Some(found) {
            self.expected = found;
        }
        let expected = self.expected;
        if found == expected {
            return true;
        }
        let limits_changed = tick.limits != self.device.limits;
        self.device.limits = tick.limits;
        let by_kernel = tick.writer.is_none() && limits_changed && found > expected;
        let at = around.now;
        if by_kernel && self.rewritten < REWRITE_MOST {
            out.records.push(self.record(at, What::KernelRaised { expected, found, limits: tick.limits }));
            // A trial's candidate is proven by nothing yet: what comes back is the value before it.
            let proven = if let Mode::Trial(trial) = &self.mode { trial.from } else { expected };
            self.end_trial_void("the kernel recomputed the value", at, around.settings, out);
            self.expected = found;
            self.slots.clear();
            if proven == self.device.original {
                self.device.original = found;
                self.home = found;
                self.standing = None;
            } else {
                self.rewritten += 1;
                self.set(proven, SetReason::Reapply, out);
            }
        } else {
            self.end_trial_void("somebody else wrote the knob", at, around.settings, out);
            self.expected = found;
            self.home = found;
            self.mode = Mode::HandsOff;
            out.records.push(self.record(at, What::HandsOff { expected, found, writer: tick.writer.clone() }));
        }
        false
    }

    /// Ends a running trial without a write.
    fn end_trial_void(&mut self, reason: &str, at: Nanos, settings: &Settings, out: &mut Output) {
        if let Mode::Trial(trial) = std::mem::replace(&mut self.mode, Mode::Watching) {
            let verdict = trial.verdict(Outcome::Void, reason.into(), &settings.trial);
            if let Some(change) = trial.change {
                self.regions.ended(change, false, trial.before(), at);
                self.advise(change.region, Advice::Normal, "trial", at, out);
            }
            self.ends_check(at, settings);
            out.records.push(self.record(at, What::TrialEnded { trial: trial.id, from: trial.from, to: trial.to, verdict }));
        }
    }

    fn tick_trial(&mut self, mark: Mark, around: &Surroundings, out: &mut Output) {
        if let Some(lost) = self.region_trial(&mark, around) {
            return if lost {
                self.end_trial_void("the process does not take the advice", around.now, around.settings, out)
            };
        }
        let Mode::Trial(trial) = &mut self.mode else { return };
        let turn = trial.tick(mark, around.others, &around.settings.trial);
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

    fn end_trial(&mut self, verdict: Verdict, at: Nanos, settings: &Settings, out: &mut Output) {
        let Mode::Trial(trial) = std::mem::replace(&mut self.mode, Mode::Watching) else { return };
        self.slots.clear();
        self.said = None;
        if let Some(change) = trial.change {
            return self.end_region_trial(&trial, change, verdict, at, settings, out);
        }
        if verdict.outcome != Outcome::Kept && trial.to > trial.from {
            self.left_over = Some((trial.window_before().max(trial.from.pages() as f64), at + LEFT_OVER_MOST));
        }
        self.known.entry(trial.proposal.pattern).or_default().learn(trial.from, &trial.proposal, &verdict);
        let ratio = verdict.stall_ratio.map(|r| r.mean);
        let check = self.ends_check(at, settings);
        match verdict.outcome {
            Outcome::Kept => {
                if check {
                    // What was learnt on the way to the value that has become wrong is as old as that value.
                    self.tried.clear();
                }
                self.standing = Some(Standing::new(trial.from, trial.proposal.pattern, at, settings.check_share));
                self.tried.insert(trial.from, Tried { outcome: Outcome::Reverted, stall_ratio: ratio.map(|r| 1.0 / r) });
                self.cool.reset(at);
                self.rewritten = 0;
                self.home = trial.to;
                self.set(trial.to, SetReason::Trial, out);
            }
            Outcome::Reverted | Outcome::Aborted => {
                self.tried.insert(trial.to, Tried { outcome: verdict.outcome, stall_ratio: ratio });
                // A check is paid for already, and that the kept value is still right is no failure.
                if !check {
                    self.cool.reverted(at, settings);
                }
                self.set(trial.from, SetReason::Revert, out);
            }
            Outcome::Void => {
                self.cool.paused(at, settings);
                self.set(trial.from, SetReason::Revert, out);
            }
        }
        out.records.push(self.record(at, What::TrialEnded { trial: trial.id, from: trial.from, to: trial.to, verdict }));
    }

    fn decide(&mut self, window: &Window, mark: Mark, around: &Surroundings, next_trial: &mut u64, out: &mut Output) {
        let features = Features::of(&window.span);
        if self.is_left_over(&features, around.now) {
            return self.hold(around.now, Hold::LeftOver, out);
        }
        let (mut decision, before) = (self.ask(&features, around), self.pattern);
        if self.pattern_changed(decision.pattern(), around.now) {
            return;
        }
        if self.pattern != before {
            // Asked with what was tried in the old pattern.
            decision = self.ask(&features, around);
        }
        if self.tend_regions(window, mark, around, next_trial, out) {
            return;
        }
        let hold = match decision {
            Decision::Propose(proposal) => {
                return match self.admit(proposal, window, &features, around) {
                    Err(hold) => self.hold(around.now, hold, out),
                    Ok(proposal) if around.dry_run => self.suggest(proposal, window, around.now, out),
                    Ok(proposal) => self.begin_trial(proposal, None, window, mark, around, next_trial, out),
                };
            }
            Decision::Abstain { pattern: Pattern::Idle, .. } => return self.hold(around.now, Hold::NoDemand, out),
            Decision::Abstain { pattern, reason } => Hold::Abstained { pattern, reason },
            Decision::Settled { pattern } => Hold::Settled { pattern },
        };
        self.hold(around.now, hold, out);
        if let Some(check) = self.due_check(window, &features, around) {
            self.begin_trial(check, None, window, mark, around, next_trial, out);
        }
    }

    /// The kept value against the one it replaced, where that is due and nothing forbids a trial.
    fn due_check(&mut self, window: &Window, features: &Features, around: &Surroundings) -> Option<Proposal> {
        let standing = self.standing.filter(|s| s.due(around.now) && !around.dry_run && around.may_start)?;
        let wanted = standing.proposal(self.pattern?, self.current(), around.now);
        let replaced = wanted.read_ahead;
        // A bound may have moved since: another value than the replaced one is no check.
        let check = self.admit(wanted, window, features, around).ok().filter(|p| p.read_ahead == replaced)?;
        self.standing.as_mut()?.begin(around.now);
        Some(check)
    }

    fn ends_check(&mut self, at: Nanos, settings: &Settings) -> bool {
        self.standing.as_mut().is_some_and(|standing| standing.end(at, settings.check_share))
    }

    fn is_left_over(&mut self, features: &Features, now: Nanos) -> bool {
        self.left_over = self.left_over.filter(|(window, until)| now < *until && features.window > 1.25 * window);
        self.left_over.is_some()
    }

    /// The policy's decision, or the memory's.
    fn ask(&self, features: &Features, around: &Surroundings) -> Decision {
        let context = self.context(features, around.settings);
        let present = Present { kept_for: self.standing.and_then(|s| s.pattern), original: self.device.original };
        recall(around.policy.decide(&context), &context, present)
    }

    pub(crate) fn context<'a>(&'a self, features: &'a Features, settings: &Settings) -> Context<'a> {
        Context {
            features,
            current: self.current(),
            tried: &self.tried,
            known: &self.known,
            floor: settings.floor,
            ceiling: settings.ceiling,
            min_demand: settings.min_demand_pages_per_s,
            min_stall_share: settings.min_stall_share,
        }
    }

    /// Seen twice in a row, a new pattern makes what was tried in the old one void. `true` while it has been seen once only.
    fn pattern_changed(&mut self, pattern: Pattern, now: Nanos) -> bool {
        if pattern == Pattern::Idle || self.pattern.is_none_or(|p| p == pattern) {
            self.pattern_next = None;
            if pattern != Pattern::Idle {
                self.pattern = Some(pattern);
            }
            return false;
        }
        if self.standing.is_some() {
            if self.pattern_next.is_none() {
                self.pattern_next = Some(pattern);
                // A value proven for one pattern is at stake, and this window lies across the change: what it shows is neither
                // pattern. The next one is all of the new.
                self.slots.clear();
                return true;
            }
        } else if self.pattern_next != Some(pattern) {
            self.pattern_next = Some(pattern);
            return true;
        }
        self.pattern_next = None;
        self.pattern = Some(pattern);
        self.tried.clear();
        self.cool.reset(now);
        false
    }

    fn admit(
        &mut self,
        mut proposal: Proposal,
        window: &Window,
        features: &Features,
        around: &Surroundings,
    ) -> Result<Proposal, Hold> {
        let wanted = match window.completeness {
            // No trial will prove it: one step at a time.
            Completeness::Coarse => limit_step(proposal.read_ahead, self.current(), around.settings),
            _ => proposal.read_ahead,
        };
        proposal.read_ahead = admit(wanted, self.current(), features, &around.pressure, around.settings)?;
        if !around.dry_run {
            self.may_try(window, around)?;
        }
        Ok(proposal)
    }

    /// Whether nothing but the candidate's own merits is against a trial.
    pub(crate) fn may_try(&mut self, window: &Window, around: &Surroundings) -> Result<(), Hold> {
        if window.completeness != Completeness::Full {
            return Err(Hold::Sensor { missing: "hits, misses, stall or eviction are not all seen".into() });
        }
        if let Some((with, _)) = around.on_trial.iter().find(|(_, disks)| disks.iter().any(|d| self.device.disks.contains(d))) {
            return Err(Hold::SharedDisk { with: with.clone() });
        }
        self.cool.ready(around.now, around.settings)
    }

    fn suggest(&mut self, proposal: Proposal, window: &Window, now: Nanos, out: &mut Output) {
        let to = proposal.read_ahead;
        if self.said != Some(Said::Proposed(to)) {
            self.said = Some(Said::Proposed(to));
            let evidence = evidence(&window.span);
            out.records.push(self.record(now, What::Proposed { from: self.current(), to, proposal, evidence }));
        }
    }

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
        let what = What::TrialStarted { trial: id, from, to, proposal: proposal.clone(), evidence };
        out.records.push(self.record(around.now, what));
        let trial = Trial::begin(id, from, proposal, self.slots.spans(), mark).of_region(change);
        self.mode = Mode::Trial(Box::new(trial));
        self.turn_to(Arm::New, change, to, SetReason::Trial, around.now, out);
    }

    pub(crate) fn hold(&mut self, now: Nanos, hold: Hold, out: &mut Output) {
        if self.said != Some(Said::Hold(hold.clone())) {
            self.said = Some(Said::Hold(hold.clone()));
            out.records.push(self.record(now, What::Held { reason: hold }));
        }
    }

    pub(crate) fn applied(&mut self, now: Nanos, applied: &Applied, settings: &Settings, out: &mut Output) {
        out.records.push(self.record(now, What::Applied { applied: applied.clone() }));
        self.or_else = None;
        if refused(applied) {
            self.expected = applied.read_back;
            if let Mode::Trial(trial) = &self.mode {
                let reason = format!("the kernel made {} of {}", applied.read_back, applied.wanted);
                let verdict = trial.verdict(Outcome::Reverted, reason, &settings.trial);
                self.end_trial(verdict, now, settings, out);
            }
        }
    }

    pub(crate) fn failed(&mut self, now: Nanos, wanted: Kib, error: &str, settings: &Settings, out: &mut Output) {
        out.records.push(self.record(now, What::Failed { wanted, error: error.into() }));
        // The knob reads what it read before, or what was wanted; any third value is somebody else's.
        if let Some(before) = self.or_else.replace(wanted) {
            self.expected = before;
        }
        self.end_trial_void("the knob could not be written", now, settings, out);
        self.cool.reverted(now, settings);
        self.slots.clear();
    }

    pub(crate) fn take_back(&mut self, now: Nanos, out: &mut Output) {
        if self.hands_off() {
            self.mode = Mode::Watching;
            self.device.original = self.current();
            self.home = self.current();
            self.slots.clear();
            self.said = None;
            out.records.push(self.record(now, What::TakenBack { value: self.current() }));
        }
    }

    /// A pin renewed keeps the value from before the first. Hands-off ends: the person who pins answers for the device.
    pub(crate) fn pin(&mut self, now: Nanos, value: Kib, settings: &Settings, out: &mut Output) {
        // Without a write: two in one step could both fail, and what the knob then reads would be taken for a stranger's.
        self.end_trial_void("a person fixed the value", now, settings, out);
        let before = match self.mode {
            Mode::Pinned { before } => before,
            Mode::HandsOff => {
                self.device.original = self.current();
                self.home
            }
            _ => self.home,
        };
        out.records.push(self.record(now, What::Pinned { from: self.current(), value }));
        (self.mode, self.home, self.rewritten, self.said) = (Mode::Pinned { before }, value, 0, None);
        self.standing = None;
        self.slots.clear();
        self.set(value, SetReason::Pinned, out);
    }

    pub(crate) fn unpin(&mut self, now: Nanos, out: &mut Output) {
        let Mode::Pinned { before } = self.mode else { return };
        out.records.push(self.record(now, What::Unpinned { from: self.current(), back_to: before }));
        (self.mode, self.home, self.said) = (Mode::Watching, before, None);
        self.slots.clear();
        self.set(before, SetReason::Revert, out);
    }

    pub(crate) fn gone(&mut self, now: Nanos, settings: &Settings, out: &mut Output) {
        self.end_trial_void("the device is gone", now, settings, out);
        out.records.push(self.record(now, What::Gone));
    }

    pub(crate) fn stop(&mut self, reason: &str, now: Nanos, settings: &Settings, out: &mut Output) {
        if let Mode::Trial(trial) = &self.mode {
            let verdict = trial.verdict(Outcome::Void, reason.into(), &settings.trial);
            self.end_trial(verdict, now, settings, out);
        }
    }
}
