// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who sets the knob: nobody, an oracle by phase, or keepahead's own `step`, fed with what the sensor would have seen and ticking at
//! the agent's pace.

use super::ledger::Ledger;
use crate::kernel::Kernel;
use crate::report::Report;
use crate::spec::Control;
use keepahead_core::device::{BdiName, Device, DeviceKind, QueueLimits};
use keepahead_core::event::{
    Action, Applied, DeviceTick, Input, Machine, OpenFiles, Outcome, Record, SetReason, Tick, What, Writer,
};
use keepahead_core::policy::Policy;
use keepahead_core::sample::{Completeness, Counters, Sample};
use keepahead_core::step::{State, step};
use keepahead_core::units::Nanos;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256StarStar;

/// The agent's paces (`agent.tick_ms`, `agent.trial_tick_ms`).
const TICK: Nanos = Nanos::from_secs(1);
const TRIAL_TICK: Nanos = Nanos::from_millis(100);

/// What the sensor samples and scales up: these carry its noise.
const WEIGHTED: [&str; 11] = [
    "read_requests",
    "read_pages",
    "spec_added",
    "spec_used",
    "spec_used_late",
    "spec_evicted",
    "spec_dropped",
    "seq_requests",
    "read_cuts",
    "read_cut_pages",
    "events",
];

struct Watched {
    bdi: BdiName,
    limits: QueueLimits,
    writer: Option<Writer>,
    sees: bool,
    /// As the sensor reported it last, and the counters that it stands for.
    reported: Counters,
    basis: Counters,
}

struct Agent<'a> {
    state: State,
    policy: &'a dyn Policy,
    watched: Vec<Watched>,
    records: Vec<Record>,
    next: Nanos,
    noise: f64,
    random: Xoshiro256StarStar,
    pressure: Option<f64>,
}

pub(super) struct Driver<'a> {
    control: &'a Control<'a>,
    agent: Option<Agent<'a>>,
}

impl<'a> Driver<'a> {
    pub fn new(control: &'a Control, labels: &[String], kernel: &Kernel, seed: u64, noise: f64) -> Driver<'a> {
        let Control::Keepahead { policy, settings } = control else { return Driver { control, agent: None } };
        let mut agent = Agent {
            state: State::new(settings.clone(), false),
            policy: *policy,
            watched: Vec::new(),
            records: Vec::new(),
            next: Nanos(0),
            noise,
            random: Xoshiro256StarStar::seed_from_u64(!seed),
            pressure: None,
        };
        for (index, (label, disk)) in labels.iter().zip(&kernel.disks).enumerate() {
            let limits = disk.disk.limits();
            let device = Device {
                bdi: BdiName(format!("259:{index}")),
                node: None,
                label: label.clone(),
                kind: DeviceKind::Disk,
                identity: format!("path:{label}"),
                disks: vec![label.clone()],
                original: disk.read_ahead,
                limits,
            };
            agent.watched.push(Watched {
                bdi: device.bdi.clone(),
                limits,
                writer: None,
                sees: true,
                reported: Counters::default(),
                basis: Counters::default(),
            });
            let out = step(&mut agent.state, agent.policy, &Input::Appeared { now: Nanos(0), device, hands_off: false });
            agent.records.extend(out.records);
        }
        Driver { control, agent: Some(agent) }
    }

    pub fn next_tick(&self) -> Nanos {
        self.agent.as_ref().map_or(Nanos(u64::MAX), |a| a.next)
    }

    pub fn tick(&mut self, now: Nanos, kernel: &mut Kernel, ledger: &mut Ledger) {
        let Some(agent) = &mut self.agent else { return };
        let tick = agent.observe(now, kernel);
        agent.feed(Input::Tick(tick), now, kernel, ledger);
        agent.next = now + if agent.state.on_trial() { TRIAL_TICK } else { TICK };
    }

    /// A phase begins: the oracle knows what is best for it.
    pub fn phase(&mut self, now: Nanos, phase: u32, kernel: &mut Kernel, ledger: &mut Ledger) {
        let Control::PerPhase(values) = self.control else { return };
        let Some(&value) = values.get(phase as usize) else { return };
        for disk in 0..kernel.disks.len() {
            if kernel.disks[disk].read_ahead != value {
                kernel.set_read_ahead(disk, value, true);
                ledger.changed(now, disk, value, "oracle");
            }
        }
    }

    pub fn admin_wrote(&mut self, disk: usize) {
        if let Some(agent) = &mut self.agent {
            agent.watched[disk].writer = Some(Writer { pid: 4242, comm: "administrator".into() });
        }
    }

    pub fn limits_changed(&mut self, disk: usize, limits: QueueLimits) {
        if let Some(agent) = &mut self.agent {
            agent.watched[disk].limits = limits;
        }
    }

    pub fn sensor(&mut self, disk: usize, sees: bool) {
        if let Some(agent) = &mut self.agent {
            agent.watched[disk].sees = sees;
        }
    }

    pub fn pressure(&mut self, percent: f64) {
        if let Some(agent) = &mut self.agent {
            agent.pressure = Some(percent);
        }
    }

    pub fn close(self, report: &mut Report) {
        report.control = match self.control {
            Control::Default => "default".into(),
            Control::Static(value) => format!("static {value}"),
            Control::PerPhase(_) => "per-phase oracle".into(),
            Control::Keepahead { policy, .. } => policy.name().into(),
        };
        let Some(agent) = self.agent else { return };
        for record in &agent.records {
            if let What::TrialEnded { verdict, .. } = &record.what {
                let kept = verdict.outcome == Outcome::Kept;
                report.kept += u32::from(kept);
                report.reverted += u32::from(!kept);
            }
        }
        report.records = agent.records;
    }
}

impl Agent<'_> {
    fn observe(&mut self, now: Nanos, kernel: &Kernel) -> Tick {
        let mut devices = Vec::new();
        for index in 0..self.watched.len() {
            let noisy = self.sense(index, &kernel.disks[index].seen);
            let watched = &mut self.watched[index];
            devices.push(DeviceTick {
                bdi: watched.bdi.clone(),
                knob: Some(kernel.disks[index].read_ahead),
                limits: watched.limits,
                writer: watched.writer.take(),
                sample: Sample {
                    counters: noisy,
                    completeness: if watched.sees { Completeness::Full } else { Completeness::Partial },
                },
            });
        }
        let limit: u64 = (0..kernel.memory.groups()).map(|g| kernel.memory.limit_pages(g) * 4096).sum();
        let machine = Machine { memory_available: limit, memory_pressure: self.pressure, refaults: kernel.memory.refaults() };
        Tick { now, machine, devices }
    }

    /// What the sensor says of a disk: what it saw since the last tick, its sampled counts scaled up with the error of sampling.
    fn sense(&mut self, index: usize, seen: &Counters) -> Counters {
        let watched = &mut self.watched[index];
        if !watched.sees {
            return watched.reported;
        }
        let mut words = seen.since(&watched.basis).words();
        watched.basis = *seen;
        if self.noise > 0.0 {
            let mut error: f64 = 0.0;
            for (word, name) in words.iter_mut().zip(keepahead_core::sample::SCALARS) {
                if WEIGHTED.contains(name) {
                    // Cut runs and their pages are counted from the same requests.
                    if *name != "read_cut_pages" {
                        error = StandardNormal.sample(&mut self.random);
                    }
                    *word = (*word as f64 * (1.0 + self.noise * error).max(0.0)).round() as u64;
                }
            }
        }
        watched.reported = watched.reported.plus(&Counters::from_words(&words));
        watched.reported
    }

    fn feed(&mut self, input: Input, now: Nanos, kernel: &mut Kernel, ledger: &mut Ledger) {
        let out = step(&mut self.state, self.policy, &input);
        self.records.extend(out.records);
        for Action::Set { bdi, from: _, to, why } in out.actions {
            let Some(disk) = self.watched.iter().position(|w| w.bdi == bdi) else { continue };
            let old = kernel.disks[disk].read_ahead;
            let refreshed = kernel.set_read_ahead(disk, to, true);
            let by = match why {
                SetReason::Trial => "trial",
                SetReason::Revert => "revert",
                SetReason::Reapply => "reapply",
                SetReason::Pinned => "pin",
            };
            ledger.changed(now, disk, to, by);
            let files = OpenFiles { current: refreshed, refreshed, ..OpenFiles::default() };
            let applied = Applied { bdi, old, wanted: to, read_back: to, files };
            self.feed(Input::Applied { now, applied }, now, kernel, ledger);
        }
    }
}
