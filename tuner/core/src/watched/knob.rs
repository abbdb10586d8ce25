// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose the knob is: what it reads against what it should, a person's pin, hands off, and what became of a write.

use super::{Again, Mode, REWRITE_MOST, Watched};
use crate::event::{Applied, DeviceTick, Outcome, SetReason, What};
use crate::settings::Settings;
use crate::step::{Output, Surroundings, refused};
use crate::units::{Kib, Nanos};

/// Longest wait, s, before a write that failed is done again: a full disk, on which it could not be journaled, may stay full for a day.
const AGAIN_MOST_S: u64 = 60;

impl Watched {
    /// `false` where the knob does not read what it should: then this tick is spent on that.
    pub(super) fn knob_is_ours(&mut self, tick: &DeviceTick, around: &Surroundings, out: &mut Output) -> bool {
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
            // A person's pin is his word also where it is the original.
            if proven == self.device.original && !self.pinned() {
                self.device.original = found;
                self.home = found;
                self.standing = None;
            } else {
                self.rewritten += 1;
                self.set(proven, SetReason::Reapply, out);
            }
        } else {
            self.end_trial_void("somebody else wrote the knob", at, around.settings, out);
            self.mode = Mode::HandsOff;
            self.is_theirs(found);
            out.records.push(self.record(at, What::HandsOff { expected, found, writer: tick.writer.clone() }));
        }
        false
    }

    /// What somebody else wrote is what was there before anything that may come: windows of open files on this device are given over it and
    /// give it back.
    pub(super) fn is_theirs(&mut self, found: Kib) {
        (self.expected, self.home, self.device.original) = (found, found, found);
        self.standing = None;
    }

    pub(crate) fn applied(&mut self, now: Nanos, applied: &Applied, settings: &Settings, out: &mut Output) {
        out.records.push(self.record(now, What::Applied { applied: applied.clone() }));
        self.or_else = None;
        self.again = if refused(applied) { Again { refused: self.again.refused + 1, ..self.again } } else { Again::default() };
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
        self.again.failed += 1;
        self.again.at = now + Nanos::from_secs((1 << self.again.failed.min(16)).min(AGAIN_MOST_S));
        self.end_trial_void("the knob could not be written", now, settings, out);
        self.cool.reverted(now, settings);
        self.slots.clear();
    }

    /// A write failed and left a trial's value behind, or a pin's was not done. Nothing else is done until it is.
    pub(super) fn write_again(&mut self, now: Nanos, out: &mut Output) {
        if now >= self.again.at {
            let why = if self.pinned() { SetReason::Pinned } else { SetReason::Revert };
            self.set(self.home, why, out);
        }
    }

    pub(crate) fn take_back(&mut self, now: Nanos, out: &mut Output) {
        if self.hands_off() {
            self.mode = Mode::Watching;
            self.slots.clear();
            self.said = None;
            out.records.push(self.record(now, What::TakenBack { value: self.current() }));
        }
    }

    /// A pin renewed keeps the value from before the first. Hands-off ends: the person who pins answers for the device.
    pub(crate) fn pin(&mut self, now: Nanos, value: Kib, settings: &Settings, out: &mut Output) {
        // Without a write: two in one step could both fail, and what the knob then reads would be taken for a stranger's.
        self.end_trial_void("a person fixed the value", now, settings, out);
        let (before, standing) = match self.mode {
            Mode::Pinned { before, standing } => (before, standing),
            _ => (self.home, self.standing.take()),
        };
        out.records.push(self.record(now, What::Pinned { from: self.current(), value }));
        (self.mode, self.home, self.said) = (Mode::Pinned { before, standing }, value, None);
        (self.rewritten, self.again) = (0, Again::default());
        self.slots.clear();
        self.set(value, SetReason::Pinned, out);
    }

    pub(crate) fn unpin(&mut self, now: Nanos, out: &mut Output) {
        let Mode::Pinned { before, standing } = self.mode else { return };
        out.records.push(self.record(now, What::Unpinned { from: self.current(), back_to: before }));
        // What was kept is checked, and gives way, as before.
        (self.mode, self.home, self.standing, self.said) = (Mode::Watching, before, standing, None);
        self.again = Again::default();
        self.slots.clear();
        self.set(before, SetReason::Revert, out);
    }
}
