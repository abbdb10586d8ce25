// SPDX-License-Identifier: MIT OR Apache-2.0
//! `step`: the whole loop between what was sensed and what is to be done, as one function of state and input.
//!
//! The agent, the simulator and `replay` call it. It never looks at a clock and iterates in a fixed order, so the same inputs from
//! the same state give the same actions and records.

use crate::device::BdiName;
use crate::event::{Action, Applied, Input, Machine, Pattern, Record, Tick, What};
use crate::guard::Pressure;
use crate::known::Known;
use crate::policy::Policy;
use crate::region::AdviceOrder;
use crate::settings::Settings;
use crate::units::Nanos;
use crate::watched::Watched;
use crate::window::Mark;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that one input leaves for the next. Serialised into the journal's checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub settings: Settings,
    pub dry_run: bool,
    devices: BTreeMap<BdiName, Watched>,
    pressure: Pressure,
    refaults: Option<(Nanos, u64)>,
    next_trial: u64,
    stopping: bool,
    #[serde(default)]
    paused: bool,
    /// What is known of devices that are not there, by identity.
    #[serde(default)]
    known: BTreeMap<String, BTreeMap<Pattern, Known>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    pub actions: Vec<Action>,
    pub records: Vec<Record>,
    /// For the processes of workloads.
    pub advice: Vec<AdviceOrder>,
}

/// What the stages of one device may see of the rest while they work.
pub(crate) struct Surroundings<'a> {
    pub settings: &'a Settings,
    pub policy: &'a dyn Policy,
    pub pressure: Pressure,
    pub dry_run: bool,
    pub may_start: bool,
    pub paused: bool,
    pub now: Nanos,
    pub others: &'a [(BdiName, Mark)],
    /// `workingset_refault_file` of the machine, cumulative pages.
    pub refaults: u64,
    /// Devices on trial and the disks under them.
    pub on_trial: &'a [(BdiName, Vec<String>)],
}

impl State {
    pub fn new(settings: Settings, dry_run: bool) -> State {
        State {
            settings,
            dry_run,
            devices: BTreeMap::new(),
            pressure: Pressure::default(),
            refaults: None,
            next_trial: 1,
            stopping: false,
            paused: false,
            known: BTreeMap::new(),
        }
    }

    /// Begins with what earlier runs have learned, by identity of the device. What is not sound is left out.
    pub fn with_known(mut self, known: BTreeMap<String, BTreeMap<Pattern, Known>>) -> State {
        self.known = known;
        self.known.values_mut().for_each(|patterns| patterns.retain(|_, known| known.is_sound()));
        self
    }

    /// What trials have taught, by identity of the device: for [`State::with_known`] of the next run.
    pub fn known(&self) -> BTreeMap<String, BTreeMap<Pattern, Known>> {
        let here = self.devices.values().filter(|w| w.is_worth_knowing());
        let mut known = self.known.clone();
        known.extend(here.map(|w| (w.device.identity.clone(), w.known.clone())));
        known
    }

    /// A trial is running: ticks should come at the trial's pace.
    pub fn on_trial(&self) -> bool {
        self.devices.values().any(Watched::on_trial)
    }

    pub fn devices(&self) -> impl Iterator<Item = &Watched> {
        self.devices.values()
    }

    /// Between [`Input::Pause`] and [`Input::Resume`].
    pub fn paused(&self) -> bool {
        self.paused
    }

    fn pressure_of(&mut self, now: Nanos, machine: &Machine) {
        if let Some((at, before)) = self.refaults.filter(|(at, _)| now.since(*at) >= Nanos::from_millis(950)) {
            let rate = machine.refaults.saturating_sub(before) as f64 / now.since(at).as_secs_f64();
            self.pressure.refaults_per_s = rate;
            self.refaults = Some((now, machine.refaults));
        }
        self.refaults = self.refaults.or(Some((now, machine.refaults)));
        self.pressure.memory_available = machine.memory_available;
        self.pressure.memory_pressure = machine.memory_pressure;
    }
}

/// Takes one input, changes the state, gives the actions to carry out in order and the records to keep.
pub fn step(state: &mut State, policy: &dyn Policy, input: &Input) -> Output {
    let mut out = Output::default();
    match input {
        Input::Appeared { now, device, hands_off } => {
            let mut watched = Watched::new(device.clone(), *hands_off);
            watched.known = state.known.remove(&device.identity).unwrap_or_default();
            out.records.push(watched.record(*now, What::Appeared { original: device.original }));
            state.devices.insert(device.bdi.clone(), watched);
        }
        Input::Gone { now, bdi } => {
            if let Some(mut watched) = state.devices.remove(bdi) {
                watched.gone(*now, &state.settings, &mut out);
                if watched.is_worth_knowing() {
                    state.known.insert(watched.device.identity, watched.known);
                }
            }
        }
        Input::Tick(tick) => step_tick(state, policy, tick, &mut out),
        Input::Regions { now, bdi, regions } => with(state, bdi, |w, settings| w.take_regions(*now, regions, settings)),
        Input::Applied { now, applied } => {
            with(state, &applied.bdi, |w, settings| w.applied(*now, applied, settings, &mut out))
        }
        Input::Failed { now, bdi, wanted, error } => {
            with(state, bdi, |w, settings| w.failed(*now, *wanted, error, settings, &mut out));
        }
        Input::TakeBack { now, bdi } => with(state, bdi, |w, _| w.take_back(*now, &mut out)),
        Input::Stop { now } => {
            state.stopping = true;
            for watched in state.devices.values_mut() {
                watched.stop("keepahead is leaving", *now, &state.settings, &mut out);
            }
        }
        Input::Pause { now } => {
            state.paused = true;
            for watched in state.devices.values_mut() {
                watched.stop("paused by a person", *now, &state.settings, &mut out);
            }
        }
        Input::Resume { .. } => state.paused = false,
        Input::Settings { now, settings } => {
            for watched in state.devices.values_mut() {
                watched.stop("the configuration was read anew", *now, &state.settings, &mut out);
            }
            state.settings = *settings.clone();
        }
        Input::Pin { now, bdi, value } => with(state, bdi, |w, settings| w.pin(*now, *value, settings, &mut out)),
        Input::Unpin { now, bdi } => with(state, bdi, |w, _| w.unpin(*now, &mut out)),
    }
    out
}

fn with(state: &mut State, bdi: &BdiName, f: impl FnOnce(&mut Watched, &Settings)) {
    if let Some(watched) = state.devices.get_mut(bdi) {
        f(watched, &state.settings);
    }
}

fn step_tick(state: &mut State, policy: &dyn Policy, tick: &Tick, out: &mut Output) {
    state.pressure_of(tick.now, &tick.machine);
    let marks: Vec<(BdiName, Mark)> =
        tick.devices.iter().map(|d| (d.bdi.clone(), Mark { at: tick.now, counters: d.sample.counters })).collect();
    for device in &tick.devices {
        let on_trial: Vec<_> = state
            .devices
            .iter()
            .filter(|(bdi, w)| **bdi != device.bdi && w.on_trial())
            .map(|(bdi, w)| (bdi.clone(), w.device.disks.clone()))
            .collect();
        let others: Vec<_> = marks.iter().filter(|(bdi, _)| *bdi != device.bdi).cloned().collect();
        let Some(watched) = state.devices.get_mut(&device.bdi) else { continue };
        let around = Surroundings {
            settings: &state.settings,
            policy,
            pressure: state.pressure,
            dry_run: state.dry_run,
            may_start: !state.stopping && !state.paused,
            paused: state.paused,
            now: tick.now,
            others: &others,
            refaults: tick.machine.refaults,
            on_trial: &on_trial,
        };
        watched.tick(device, &around, &mut state.next_trial, out);
    }
}

/// Whether the kernel made something else of a write than was asked for.
pub(crate) fn refused(applied: &Applied) -> bool {
    applied.read_back != applied.wanted
}
