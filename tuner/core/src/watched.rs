// SPDX-License-Identifier: MIT OR Apache-2.0
//! One device under the loop: its window, what was tried on it, and whether it is watched, on trial, or in a person's hands.

mod deciding;
mod knob;
mod regions;
mod trying;

use crate::device::{BdiName, Device, process_of};
use crate::event::{Action, DeviceTick, Hold, Pattern, Record, SetReason, What};
use crate::guard::CoolDown;
use crate::known::Known;
use crate::policy::Tried;
use crate::region::Regions;
use crate::settings::Settings;
use crate::standing::Standing;
use crate::step::{Output, Surroundings};
use crate::trial::Trial;
use crate::units::{Kib, Nanos};
use crate::window::{Mark, Slots};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Times that a value is written again after the kernel recomputed it, or made something else of it, before it is left as it is.
const REWRITE_MOST: u32 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Mode {
    Watching,
    Trial(Box<Trial>),
    /// Somebody else wrote the knob: theirs until keepahead is told to take it back, or a value is pinned.
    HandsOff,
    /// A person fixed the value; `before` comes back with the end of the pin.
    Pinned {
        before: Kib,
        #[serde(default)]
        standing: Option<Standing>,
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
    #[serde(default)]
    pattern_since: Nanos,
    /// Seen once, and not yet confirmed.
    pattern_next: Option<Pattern>,
    /// A pattern that the latest slot alone has shown, for which another value than the present one is proven.
    #[serde(default)]
    returning: Option<Pattern>,
    /// Latest slots in a row that have each shown another pattern than the one of the kept value.
    #[serde(default)]
    turned: u32,
    tried: BTreeMap<Kib, Tried>,
    /// What was tried beside which value when a pattern went.
    #[serde(default)]
    tried_before: BTreeMap<Pattern, (Kib, BTreeMap<Kib, Tried>)>,
    /// Outlives `tried`: a pattern may return.
    #[serde(default)]
    pub(crate) known: BTreeMap<Pattern, Known>,
    pub(crate) cool: CoolDown,
    /// What the last kept value has replaced; `None` where somebody else chose the value.
    #[serde(default)]
    standing: Option<Standing>,
    rewritten: u32,
    #[serde(default)]
    again: Again,
    /// After a larger value was taken back: the mean window before it, pages. Streams that still run with larger ones say nothing
    /// of the present value.
    left_over: Option<(f64, Nanos)>,
    /// When a larger value was taken back, or windows were last seen that are larger than the kept value's.
    #[serde(default)]
    oversized: Option<Nanos>,
    /// Parts of a workload's mappings that may be advised apart.
    #[serde(default)]
    pub(crate) regions: Regions,
    /// When another's trial was last seen on the same disk.
    #[serde(default)]
    beside_trial: Option<Nanos>,
    /// What was last said, so that nothing is said twice.
    said: Option<Said>,
}

/// Writing what was not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Again {
    /// Writes in a row that failed.
    failed: u32,
    /// Of which the kernel made something else.
    refused: u32,
    at: Nanos,
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
            pattern_since: Nanos(0),
            pattern_next: None,
            returning: None,
            turned: 0,
            tried: BTreeMap::new(),
            tried_before: BTreeMap::new(),
            known: BTreeMap::new(),
            cool: CoolDown::default(),
            standing: None,
            rewritten: 0,
            again: Again::default(),
            left_over: None,
            oversized: None,
            regions: Regions::default(),
            beside_trial: None,
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

    /// Something was learned, and of what may come back.
    pub(crate) fn is_worth_knowing(&self) -> bool {
        !self.known.is_empty() && process_of(&self.device.identity).is_none()
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

    /// What the knob should read outside trials, where a trial has proven it or a person has pinned it.
    pub fn chosen(&self) -> Option<Kib> {
        (self.pinned() || self.home != self.device.original).then_some(self.home)
    }

    pub fn pattern(&self) -> Option<Pattern> {
        self.pattern
    }

    pub(crate) fn record(&self, at: Nanos, what: What) -> Record {
        Record { at, bdi: self.device.bdi.clone(), label: self.device.label.clone(), what }
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
            self.is_theirs(tick.knob.unwrap_or(self.expected));
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
        if self.current() != self.home && self.again.refused < REWRITE_MOST {
            return self.write_again(around.now, out);
        }
        if self.is_out_of_bounds(around, out) {
            return;
        }
        if self.shared_trial(around).is_some() {
            self.beside_trial = Some(around.now);
        }
        let slot_ended = self.slots.push(around.now, &tick.sample, around.settings.window_slots);
        if self.pinned() {
            return self.hold(around.now, Hold::Pinned { value: self.home }, out);
        }
        if around.paused {
            return self.hold(around.now, Hold::Paused, out);
        }
        if !slot_ended {
            return;
        }
        let slot = self.slots.latest(tick.sample.completeness);
        let shown = slot.as_ref().and_then(|slot| self.shown(slot, around));
        if self.has_returned(shown.as_ref(), around.now)
            && let Some(slot) = slot
        {
            return self.decide(&slot, mark, around, next_trial, out);
        }
        self.count_turned(shown.as_ref());
        let (most, completeness) = (around.settings.window_slots, tick.sample.completeness);
        if self.pattern_next.is_none() && self.turned > 0 {
            if self.turned < most {
                // The window may lie across a change. Nothing is said: most often the next second shows that there is none.
                return;
            }
            // A window of the new pattern alone.
            self.pattern_next = Some(Pattern::Idle);
        }
        if let Some(window) = self.slots.window(most, completeness) {
            return self.decide(&window, mark, around, next_trial, out);
        }
        match self.slots.so_far(around.policy.slots_needed(most), completeness) {
            // Regions and their probation have the first word, in whole windows.
            Some(window) if self.regions.is_empty() => self.decide_early(&window, mark, around, next_trial, out),
            _ => self.hold(around.now, Hold::Gathering, out),
        }
    }

    /// Who is on trial on a disk of this one.
    pub(crate) fn shared_trial<'a>(&self, around: &'a Surroundings) -> Option<&'a BdiName> {
        around.on_trial.iter().find(|(_, disks)| disks.iter().any(|d| self.device.disks.contains(d))).map(|(bdi, _)| bdi)
    }

    pub(crate) fn hold(&mut self, now: Nanos, hold: Hold, out: &mut Output) {
        let again = self.held().is_some_and(|said| said.is_as(&hold));
        self.said = Some(Said::Hold(hold.clone()));
        if !again {
            out.records.push(self.record(now, What::Held { reason: hold }));
        }
    }

    pub(crate) fn gone(&mut self, now: Nanos, settings: &Settings, out: &mut Output) {
        self.end_trial_void("the device is gone", now, settings, out);
        out.records.push(self.record(now, What::Gone));
    }
}
