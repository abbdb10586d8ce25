// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine in virtual time, just real enough to drive `step`: devices answer to `read_ahead_kb` by a response function, honest or
//! not, and the knob can be written by others, recomputed by the kernel, fail, or vanish. Checks the promises that must always hold.

use keepahead_core::device::{BdiName, Device, DeviceKind, QueueLimits};
use keepahead_core::event::{
    Action, Applied, DeviceTick, Input, Machine, OpenFiles, Outcome, Record, SetReason, Tick, What, Writer,
};
use keepahead_core::policy::Policy;
use keepahead_core::sample::{Completeness, Counters, Sample};
use keepahead_core::settings::Settings;
use keepahead_core::step::{State, step};
use keepahead_core::units::{Kib, Nanos};
use keepahead_policies::rules::Rules;
use std::collections::BTreeMap;

/// Slot of the jumps between random places in a file of 10 GiB, more than the memory here: 2^19 pages and more.
const FAR: usize = 19;

/// What a workload does on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    Idle,
    /// Throughput grows with the window until the bandwidth is reached: `iops`, MB/s.
    Sequential {
        iops: f64,
        bandwidth: f64,
    },
    /// The same of files that take so many seconds each: a stream keeps the largest window that it ever had until its file ends. What its windows
    /// evict goes as the cache turns over, within some seconds, and is read three times as slowly.
    Files {
        iops: f64,
        bandwidth: f64,
        lasts: f64,
    },
    /// Every fault reads the window.
    RandomMmap {
        iops: f64,
        bandwidth: f64,
    },
    RandomRead {
        iops: f64,
    },
    /// A log at a pace of its own, pages a second, on a device that is busy otherwise for a fifth of each second: only a window that lasts
    /// longer than that hides it. The stream keeps the largest window it ever had.
    Log {
        pages: f64,
    },
}

pub struct Fake {
    pub device: Device,
    pub knob: Kib,
    pub load: Load,
    /// Multiplies the cost of each page: (value, seconds since start, a random number in 0..1) to a factor.
    pub response: Box<dyn Fn(Kib, f64, f64) -> f64>,
    pub limits: QueueLimits,
    /// Windows above this evict each other: half of what they read is read for nothing, at twenty times the wait.
    pub evicts_above: Option<Kib>,
    pub fail_writes: bool,
    pub writer: Option<Writer>,
    counters: Counters,
    /// Of a log or file: its window, and what of it is still to be read, pages.
    window: f64,
    file: u64,
    doomed: f64,
    ahead: f64,
    /// What a later restore may expect here: originals and kept values.
    pub legal: Vec<Kib>,
    hands_off: bool,
    last_revert: Option<Nanos>,
    pub kept: u32,
    pub ended: u32,
    harm_since: Option<Nanos>,
    pub longest_harm: Nanos,
}

pub struct World {
    pub policy: Box<dyn Policy>,
    pub now: Nanos,
    pub devices: BTreeMap<BdiName, Fake>,
    pub state: State,
    pub records: Vec<Record>,
    pub memory_available: u64,
    /// `some avg10`, percent.
    pub memory_pressure: Option<f64>,
    pub trials: BTreeMap<BdiName, Vec<Nanos>>,
    /// Outside of trials.
    pub tick: Nanos,
    seed: u64,
}

pub fn device(name: &str, disk: &str, original: u32) -> Device {
    Device {
        bdi: BdiName(name.into()),
        node: None,
        label: name.into(),
        kind: DeviceKind::Disk,
        identity: format!("path:{name}"),
        disks: vec![disk.into()],
        original: Kib(original),
        limits: QueueLimits::default(),
    }
}

impl World {
    pub fn new(settings: Settings, seed: u64) -> World {
        World {
            policy: Box::new(Rules),
            now: Nanos::from_secs(100),
            devices: BTreeMap::new(),
            state: State::new(settings, false),
            records: Vec::new(),
            memory_available: 8 << 30,
            memory_pressure: None,
            trials: BTreeMap::new(),
            tick: Nanos::from_secs(1),
            seed: seed.wrapping_mul(2).wrapping_add(1),
        }
    }

    pub fn add(&mut self, device: Device, load: Load, response: impl Fn(Kib, f64, f64) -> f64 + 'static) {
        let fake = Fake {
            knob: device.original,
            limits: device.limits,
            legal: vec![device.original],
            device: device.clone(),
            load,
            response: Box::new(response),
            evicts_above: None,
            fail_writes: false,
            writer: None,
            counters: Counters::default(),
            window: 0.0,
            file: 0,
            doomed: 0.0,
            ahead: 0.0,
            hands_off: false,
            last_revert: None,
            kept: 0,
            ended: 0,
            harm_since: None,
            longest_harm: Nanos(0),
        };
        self.devices.insert(device.bdi.clone(), fake);
        self.feed(Input::Appeared { now: self.now, device, hands_off: false });
    }

    pub fn random(&mut self) -> f64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn run(&mut self, seconds: f64) {
        let end = self.now + Nanos((seconds * 1e9) as u64);
        while self.now < end {
            let pace = if self.state.on_trial() { Nanos::from_millis(100) } else { self.tick };
            self.advance(pace);
        }
    }

    fn advance(&mut self, span: Nanos) {
        self.now = self.now + span;
        let machine = Machine { memory_available: self.memory_available, memory_pressure: self.memory_pressure, refaults: 0 };
        let mut ticks = Vec::new();
        let names: Vec<BdiName> = self.devices.keys().cloned().collect();
        for name in names {
            let noise = self.random();
            let now = self.now;
            let fake = self.devices.get_mut(&name).unwrap();
            fake.live(span, now.as_secs_f64() - 100.0, noise);
            ticks.push(DeviceTick {
                bdi: name,
                knob: Some(fake.knob),
                limits: fake.limits,
                writer: fake.writer.take(),
                sample: Sample { counters: fake.counters, completeness: Completeness::Full },
            });
        }
        self.feed(Input::Tick(Tick { now: self.now, machine, devices: ticks }));
    }

    pub fn feed(&mut self, input: Input) {
        let known = self.state.known();
        let output = step(&mut self.state, &*self.policy, &input);
        let taught = output.records.iter().any(|r| r.what.teaches());
        assert!(taught || self.state.known() == known, "what was learned is not kept: {:?}", output.records);
        for record in &output.records {
            self.check_record(record);
        }
        self.records.extend(output.records);
        for Action::Set { bdi, from, to, why } in output.actions {
            let answer = self.carry_out(&bdi, from, to, why);
            self.feed(answer);
        }
        let on_trial: Vec<_> = self.state.devices().filter(|d| d.on_trial()).collect();
        for (i, a) in on_trial.iter().enumerate() {
            assert!(on_trial[..i].iter().all(|b| a.device.disks != b.device.disks), "two trials on one disk");
        }
    }

    fn carry_out(&mut self, bdi: &BdiName, from: Kib, to: Kib, why: SetReason) -> Input {
        let (now, settings) = (self.now, self.state.settings.clone());
        let pinned = self.state.devices().any(|d| d.device.bdi == *bdi && d.pinned());
        assert!(!pinned || why != SetReason::Revert, "what a person fixed is no old value: it is promised first");
        let fake = self.devices.get_mut(bdi).expect("an action for a device that is gone");
        assert!(!fake.hands_off, "wrote {to} after hands-off");
        assert!(to.0 > 0);
        let in_bounds = to.0.is_power_of_two() && to >= settings.floor && to <= settings.ceiling;
        assert!(in_bounds || fake.legal.contains(&to), "{to} is out of bounds ({why:?})");
        if fake.fail_writes {
            return Input::Failed { now, bdi: bdi.clone(), wanted: to, error: "Input/output error".into() };
        }
        assert_eq!(from, fake.knob, "the actuator refuses: another value is there");
        fake.knob = to;
        Input::Applied {
            now,
            applied: Applied { bdi: bdi.clone(), old: from, wanted: to, read_back: to, files: OpenFiles::default() },
        }
    }

    fn check_record(&mut self, record: &Record) {
        let settings = self.state.settings.clone();
        let Some(fake) = self.devices.get_mut(&record.bdi) else { return };
        match &record.what {
            What::TrialStarted { .. } => {
                let starts = self.trials.entry(record.bdi.clone()).or_default();
                starts.push(record.at);
                let hour = starts.iter().filter(|s| record.at.since(**s) < Nanos::from_secs(3600)).count();
                assert!(hour <= settings.trials_per_hour as usize, "{hour} trials in an hour");
                if let Some(reverted) = fake.last_revert {
                    assert!(record.at.since(reverted) >= Nanos::from_millis(900), "no cool-down after a revert");
                }
            }
            What::TrialEnded { to, verdict, .. } => {
                fake.ended += 1;
                if verdict.outcome == Outcome::Kept {
                    fake.kept += 1;
                    fake.legal.push(*to);
                } else {
                    fake.last_revert = Some(record.at);
                }
            }
            What::HandsOff { .. } => fake.hands_off = true,
            What::TakenBack { value } => {
                fake.hands_off = false;
                fake.legal = vec![*value];
            }
            What::Pinned { from, value } => {
                fake.hands_off = false;
                fake.legal.extend([*from, *value]);
            }
            What::KernelRaised { found, .. } => fake.legal.push(*found),
            _ => {}
        }
    }

    /// The agent leaves: whatever is in the knob must be an original, a kept value, or another writer's.
    pub fn stop(&mut self) {
        self.feed(Input::Stop { now: self.now });
        for fake in self.devices.values() {
            let fine = fake.hands_off || fake.fail_writes || fake.legal.contains(&fake.knob);
            assert!(fine, "{} left at {}, legal: {:?}", fake.device.label, fake.knob, fake.legal);
        }
    }
}

impl Fake {
    /// A log is read again, from memory.
    #[allow(dead_code)] // Not in every test that has this world.
    pub fn is_cached(&mut self) {
        (self.window, self.ahead) = (f64::MAX, f64::MAX);
    }

    /// A closed loop of one task for `span`.
    fn live(&mut self, span: Nanos, seconds: f64, noise: f64) {
        let (dt, mut pages) = (span.as_secs_f64(), self.knob.pages().max(1) as f64);
        if let Load::Files { lasts, .. } = self.load {
            let file = (seconds / lasts) as u64;
            self.window = if file == self.file { self.window.max(pages) } else { pages };
            (self.file, pages) = (file, self.window);
        }
        let evicts = self.evicts_above.is_some_and(|most| pages > most.pages() as f64);
        let slower = if matches!(self.load, Load::Files { .. }) { 3.0 } else { 20.0 };
        let factor = (self.response)(self.knob, seconds, noise) * if evicts { slower } else { 1.0 };
        self.watch_harm(factor, span);
        let c = &mut self.counters;
        // Rounds at random, so that rates come out right over many ticks.
        let count = |x: f64| (x.max(0.0) + noise) as u64;
        match self.load {
            Load::Idle => {}
            Load::Sequential { iops, bandwidth } | Load::Files { iops, bandwidth, .. } => {
                let wait = (1.0 / iops).max(pages * 4096.0 / (bandwidth * 1e6)) * factor;
                let windows = dt / (wait + pages * 1e-6);
                c.read_pages += count(windows * pages);
                c.read_requests += count(windows * pages / 32.0);
                c.seq_requests += count(windows * pages / 32.0);
                c.read_late += count(windows);
                c.read_stall_ns += count(windows * wait * 1e9);
                c.spec_added += count(windows * pages);
                c.spec_used += count(windows * pages);
                let evicted = if evicts { windows * pages } else { 0.0 };
                if matches!(self.load, Load::Files { .. }) {
                    self.doomed += 2.0 * evicted;
                    let gone = self.doomed * dt.min(1.0);
                    self.doomed -= gone;
                    c.spec_evicted += gone as u64;
                } else if evicts {
                    c.spec_evicted += count(evicted);
                }
                c.windows += count(windows);
                c.window_pages += count(windows * pages);
            }
            Load::RandomMmap { iops, bandwidth } => {
                let wait = (1.0 / iops).max(pages * 4096.0 / (bandwidth * 1e6)) * factor;
                let faults = dt / (wait + 3e-6);
                c.faults += count(faults);
                c.mmap_pages += count(faults);
                c.mmap_miss += count(faults * 0.7);
                c.mmap_stall_ns += count(faults * wait * 1e9);
                c.mmap_think_ns += count(faults * 3e3);
                c.mmap_run_hist[0] += count(faults);
                c.jump_hist[FAR] += count(faults);
                c.spec_added += count(faults * (pages - 1.0));
                c.windows += count(faults);
                c.window_pages += count(faults * pages);
            }
            Load::Log { pages: pace } => {
                self.window = self.window.max(pages);
                self.ahead -= pace * dt;
                while self.ahead < 0.0 {
                    self.ahead += self.window;
                    c.windows += 1;
                    c.window_pages += self.window as u64;
                    c.spec_added += self.window as u64;
                    c.spec_used += self.window as u64;
                }
                c.read_pages += (pace * dt) as u64;
                c.read_requests += (pace * dt / 4.0) as u64;
                c.seq_requests += (pace * dt / 4.0) as u64;
                if self.window < 0.2 * pace {
                    c.read_late += count(100.0 * dt);
                    c.read_stall_ns += (0.1 * dt * factor * 1e9) as u64;
                }
            }
            Load::RandomRead { iops } => {
                let reads = dt * iops / factor;
                c.read_pages += count(reads);
                c.read_requests += count(reads);
                c.read_miss += count(reads);
                c.read_stall_ns += count(dt * 1e9 * 0.98);
                c.read_run_hist[0] += count(reads);
                c.jump_hist[FAR] += count(reads);
            }
        }
    }

    fn watch_harm(&mut self, factor: f64, span: Nanos) {
        let harmful = factor > 8.0 && !self.legal.contains(&self.knob);
        self.harm_since = harmful.then(|| self.harm_since.unwrap_or(Nanos(0)) + span);
        self.longest_harm = self.longest_harm.max(self.harm_since.unwrap_or_default());
    }
}
