// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent: turns the world into inputs of `step`, carries out its actions, keeps and prints its records, and puts every value
//! back when it leaves. It decides nothing.
//!
//! One thread: between ticks it sleeps in `poll(2)`, woken by the clock, by a signal, or by somebody who writes a knob.

mod act;
mod leave;
mod observe;
mod orders;
mod reload;
pub mod report;
mod ruled;
mod signals;
mod windows;

use crate::actuator::ruled::{Ruled, WorkloadRule};
use crate::actuator::{Hotplug, Plugged, Roots, knob::Knob, watch::Watch};
use crate::cli::output;
use crate::cli::{Exit, Format, Refused};
use crate::config::Config;
use crate::control::AgentEnd;
use crate::journal::{AgentLock, AllKnown, Journal, Outstanding, boot_id, recover};
use crate::sensor::{self, FileUse, Overflow, Sense};
use act::Hands;
pub use act::{LiveKnobs, open_actuator, run_info};
use anyhow::Context;
use keepahead_core::device::{BdiName, Device, DeviceKind};
use keepahead_core::event::{Action, Input, Machine, Record, What, Writer};
use keepahead_core::policy::Policy;
use keepahead_core::sample::Counters;
use keepahead_core::settings::PolicyName;
use keepahead_core::step::{State, step};
use keepahead_core::units::{Kib, Nanos};
use keepahead_policies::rules::Rules;
pub(crate) use leave::panic_if_asked;
use signals::{Signals, Wake};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where the machine-wide lock is: one agent a machine, whatever its state directory.
pub const LOCK: &str = "/run/keepahead.lock";

/// Files shown beside a proposal.
const FILES_SHOWN: usize = 3;

/// What `keepahead run` was asked to do.
pub struct Plan {
    pub config: Config,
    /// Where that was read, for a reload; `None`: the default place.
    pub config_file: Option<PathBuf>,
    pub state_dir: PathBuf,
    pub dry_run: bool,
    /// Names of devices; empty: all that the configuration selects.
    pub only: Vec<String>,
    pub duration: Option<Duration>,
    pub format: Format,
}

/// A running agent.
struct Agent {
    plan: Plan,
    start: Nanos,
    state: State,
    policy: Box<dyn Policy>,
    sensor: Box<dyn Sense>,
    roots: Roots,
    hotplug: Hotplug,
    knob: Knob,
    watch: Option<Watch>,
    /// Who wrote which knob since the last tick.
    writers: BTreeMap<BdiName, Writer>,
    last_seen: BTreeMap<BdiName, Counters>,
    last_machine: Machine,
    /// Journal and actuator; `None` in a dry run, which writes nothing anywhere.
    hands: Option<Hands>,
    overflow: Overflow,
    /// When every device was last read, and not only those on trial.
    last_full: Nanos,
    /// Where the state is pinned up for the control socket, and orders come from.
    board: Option<AgentEnd>,
    /// Workloads whose open files have a window of their own.
    owners: windows::Owners,
    /// Programs that cannot be changed, where the configuration has rules for them.
    ruled: Option<Ruled>,
}

/// Runs until the duration is over, a signal comes, or something breaks; originals are back when it returns.
pub fn run(plan: Plan) -> anyhow::Result<Exit> {
    // A dry run disturbs nobody.
    let _locks = if plan.dry_run { None } else { Some(locks(&plan.state_dir)?) };
    let signals = Signals::block().context("signals could not be caught")?;
    let mut agent = Agent::open(plan)?;
    leave::on_panic(&agent.plan);
    let control = agent.open_control();
    let ended = agent.tune(&signals);
    // First nobody asks any more, then the originals come back, whatever else fails.
    drop(control);
    let windows = agent.end_windows();
    let left = agent.leave();
    ended.and(windows.and(left))
}

/// Where the last agent on this machine keeps its state, if not there.
pub fn other_state_dir(state_dir: &Path) -> Option<PathBuf> {
    AgentLock::state_dir(Path::new(LOCK)).filter(|last| std::path::absolute(state_dir).is_ok_and(|own| own != *last))
}

/// What an agent with this state directory has left on devices of this machine, with the values that are there.
pub fn left_behind(state_dir: &Path) -> Vec<(Outstanding, Kib)> {
    recover::left_behind(state_dir, Path::new("/sys"), &boot_id(Path::new("/proc")))
}

/// The machine's lock, and the state directory's for those who look there.
fn locks(state_dir: &Path) -> anyhow::Result<[AgentLock; 2]> {
    let mut machine = AgentLock::take(Path::new(LOCK))?;
    std::fs::create_dir_all(state_dir)
        .with_context(|| format!("state directory {} could not be made; choose another --state-dir", state_dir.display()))?;
    let own = AgentLock::take(&Journal::lock_path(state_dir))?;
    if let Some(last) = other_state_dir(state_dir) {
        for (left, value) in left_behind(&last) {
            tracing::warn!(
                "{}: {value}, where {} was, is what the last agent on this machine has left, and passes for the original now: stop, and \
                 `keepahead restore --state-dir {}` first",
                left.label,
                left.original,
                last.display()
            );
        }
    }
    machine.keeps_state_in(state_dir).with_context(|| format!("lock file {LOCK}"))?;
    Ok([machine, own])
}

/// CLOCK_MONOTONIC, the clock of all records.
fn now() -> Nanos {
    let ts = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    Nanos(ts.tv_sec() as u64 * 1_000_000_000 + ts.tv_nsec() as u64)
}

impl Agent {
    fn open(mut plan: Plan) -> anyhow::Result<Agent> {
        let roots = Roots::default();
        let policy = load_policy(&mut plan.config);
        let (sensor, why_coarse) = sensor::open(true, &sensor::Places::default());
        if let Some(why) = why_coarse {
            if !plan.dry_run {
                let message = format!(
                    "{why}\nWithout the kernel probes no change can be shown to help, so none is made. \
                     `keepahead run --dry-run` works with coarse figures; `keepahead doctor` says what is missing"
                );
                return Err(Refused::new(Exit::Missing, message).into());
            }
            eprintln!("keepahead: {why}\nkeepahead: coarse suggestions from /proc/diskstats only; no hits, no misses");
        }
        let mut hands = if plan.dry_run { None } else { Some(Hands::open(&plan, &roots)?) };
        let known = match &mut hands {
            Some(hands) => hands.known(),
            None => Journal::known_in(&plan.state_dir).unwrap_or_else(|e| {
                tracing::warn!("what earlier runs have learned cannot be read: {e}");
                AllKnown::new()
            }),
        };
        let state = State::new(plan.config.settings.clone(), plan.dry_run).with_known(known);
        let ruled = load_rules(&plan.config.workloads, &roots);
        let hotplug = Hotplug::new(roots.clone())?;
        let watch = hands.as_ref().and_then(|_| watch_knobs(&roots));
        Ok(Agent {
            plan,
            start: now(),
            state,
            policy,
            sensor,
            knob: Knob::new(&roots.sys),
            roots,
            hotplug,
            watch,
            writers: BTreeMap::new(),
            last_seen: BTreeMap::new(),
            last_machine: Machine::default(),
            hands,
            overflow: Overflow::default(),
            last_full: Nanos(0),
            board: None,
            owners: windows::Owners::new(),
            ruled,
        })
    }

    fn selects(&self, device: &Device) -> bool {
        let named = |name: &String| [&device.bdi.0, &device.label, &device.identity].contains(&name);
        self.plan.config.devices.selects(device) && (self.plan.only.is_empty() || self.plan.only.iter().any(named))
    }

    fn tune(&mut self, signals: &Signals) -> anyhow::Result<Exit> {
        self.announce()?;
        let end = self.plan.duration.map(|d| self.start + Nanos::from(d));
        let mut next = now();
        loop {
            let deadline = end.map_or(next, |end| end.min(next));
            let orders = self.board.as_ref().map(AgentEnd::wake_fd);
            match signals.wait_until(deadline, self.watch.as_ref(), orders)? {
                Wake::Leave(name) => {
                    tracing::info!("leaving: {name}");
                    return Ok(Exit::Ok);
                }
                Wake::TakeBack => _ = self.take_back(None)?,
                Wake::Reload => match self.reload()? {
                    Ok(reply) => tracing::info!("SIGHUP: the configuration was read anew: {reply}"),
                    Err(e) => tracing::error!("SIGHUP: the old configuration goes on: {e}"),
                },
                Wake::Order => self.carry_out_orders()?,
                Wake::Knob if self.note_writers() => next = now(),
                Wake::Knob | Wake::Time => {}
            }
            let at = now();
            if end.is_some_and(|end| at >= end) {
                return Ok(Exit::Ok);
            }
            if at >= next {
                self.tick(at)?;
                let pace = if self.state.on_trial() { self.plan.config.agent.trial_tick } else { self.plan.config.agent.tick };
                // A late tick is not made up for: the next one is a pace from now.
                next = at.max(now() - pace) + pace;
            }
        }
    }

    /// `true` where somebody else wrote a knob.
    fn note_writers(&mut self) -> bool {
        let writers = self.watch.as_mut().map(Watch::drain).unwrap_or_default();
        let any = !writers.is_empty();
        self.writers.extend(writers);
        any
    }

    /// What is there at the start.
    fn announce(&mut self) -> anyhow::Result<()> {
        let present = Plugged { appeared: self.hotplug.present().tunable.clone(), gone: Vec::new() };
        self.plugged(present)?;
        if let Some(missing) = self.sensor.missing() {
            tracing::warn!("sensing is incomplete: {missing}");
        }
        if self.state.devices().next().is_none() {
            if !self.plan.only.is_empty() {
                // The command line has seen one of them a moment ago.
                let message = format!(
                    "{}: gone, or no longer tunable; `keepahead devices` names those that are there",
                    self.plan.only.join(", ")
                );
                return Err(Refused::new(Exit::Failure, message).into());
            }
            tracing::warn!(
                "no device to tune is there (yet): `keepahead devices` says which are tunable, [devices] of the configuration which of these are selected"
            );
        }
        Ok(())
    }

    fn changes_of_devices(&mut self) -> anyhow::Result<()> {
        let changes = match self.hotplug.poll() {
            Ok(changes) => changes,
            Err(e) => {
                tracing::warn!("devices could not be listed: {e}");
                return Ok(());
            }
        };
        self.plugged(changes)
    }

    fn plugged(&mut self, changes: Plugged) -> anyhow::Result<()> {
        let at = now();
        for bdi in changes.gone {
            if let Some(watch) = &mut self.watch {
                watch.remove(&bdi);
            }
            if let Some(hands) = &mut self.hands {
                hands.gone(&bdi);
            }
            self.feed(Input::Gone { now: at, bdi })?;
        }
        for mut device in changes.appeared {
            // The one before it may just have been given its original back.
            device.original = self.knob.read(&device.bdi).unwrap_or(device.original);
            if !self.selects(&device) {
                continue;
            }
            let mut hands_off = false;
            if let Some(hands) = &mut self.hands {
                hands.appeared(&device);
                hands_off = hands.is_left_to_others(&device);
            }
            if let Some(watch) = &mut self.watch
                && let Err(e) = watch.add(&device.bdi)
            {
                tracing::warn!("{}: who else writes its knob will not be named: {e}", device.label);
            }
            self.feed(Input::Appeared { now: at, device, hands_off })?;
        }
        self.publish();
        Ok(())
    }

    /// Each device that was left to somebody else (or `only` this one) is tuned again. How many.
    fn take_back(&mut self, only: Option<&BdiName>) -> anyhow::Result<usize> {
        let at = now();
        let left = self.state.devices().filter(|d| d.hands_off()).map(|d| &d.device.bdi);
        let taken: Vec<_> = left.filter(|bdi| only.is_none_or(|only| only == *bdi)).cloned().collect();
        for bdi in &taken {
            self.feed(Input::TakeBack { now: at, bdi: bdi.clone() })?;
        }
        Ok(taken.len())
    }

    fn tick(&mut self, at: Nanos) -> anyhow::Result<()> {
        let full = at.since(self.last_full) >= Nanos::from_millis(900);
        if full {
            self.last_full = at;
            self.changes_of_devices()?;
            self.look_after_files();
            self.look_after_workloads()?;
            self.look_after_rules()?;
            self.report_overflow();
        }
        self.note_writers();
        let (regions, tick) = self.observe(at, full)?;
        for region in regions {
            self.feed(region)?;
        }
        self.feed(Input::Tick(tick))?;
        if full {
            self.publish();
        }
        Ok(())
    }

    /// Open files: what is left over from the last change, and who has advised himself meanwhile.
    fn look_after_files(&mut self) {
        let Some(hands) = &mut self.hands else { return };
        hands.catch_up();
        let busy: Vec<BdiName> = self.state.devices().filter(|d| d.is_busy()).map(|d| d.device.bdi.clone()).collect();
        if !busy.is_empty() {
            hands.look_at_files(&busy);
        }
    }

    /// One input through `step`, its actions carried out, their outcomes fed back, until nothing is left to do. An error: not all could be
    /// printed; it was done all the same.
    fn feed(&mut self, input: Input) -> anyhow::Result<()> {
        if let Input::Gone { bdi, .. } = &input {
            self.last_seen.remove(bdi);
        }
        let mut printed = Ok(());
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if let Some(hands) = &mut self.hands {
                hands.note_input(&self.state, &input);
            }
            let output = step(&mut self.state, &*self.policy, &input);
            if let Some(hands) = &mut self.hands {
                hands.note_records(&self.state, &output.records);
                if output.records.iter().any(|r| r.what.teaches()) {
                    hands.remember(self.state.known());
                }
            }
            self.note_windows(&output.records);
            self.pass_on(output.advice);
            for record in &output.records {
                printed = printed.and(self.say(record));
            }
            for Action::Set { bdi, from, to, why } in output.actions {
                let device = self.state.devices().find(|d| d.device.bdi == bdi).map(|d| d.device.clone());
                match (&mut self.hands, device) {
                    (Some(_), Some(device)) if device.kind == DeviceKind::OpenFiles => {
                        inputs.push_back(self.set_window(&device, from, to, why));
                    }
                    (Some(hands), Some(device)) => inputs.push_back(hands.set(&device, from, to, why)),
                    _ => {}
                }
            }
        }
        printed
    }

    fn say(&mut self, record: &Record) -> anyhow::Result<()> {
        let files = self.heaviest(record);
        if let Some(board) = &mut self.board {
            board.note(report::json(record, SystemTime::now()));
        }
        match self.plan.format {
            Format::Json => {
                let mut line = report::json(record, SystemTime::now());
                if !files.is_empty() {
                    line["files"] = files.iter().map(report::file_json).collect();
                }
                output::json_line(&line)
            }
            Format::Text => {
                let mut line = format!("{} {}\n", report::clock(record.at, self.start), report::text(record));
                for file in &files {
                    line += &format!("    {}\n", report::file_text(file));
                }
                if let Some(lines) = self.by_hand(record) {
                    line += &lines;
                }
                output::text(&line)
            }
        }
    }

    /// Beside a proposal, the files that demand most: whose change it is.
    fn heaviest(&mut self, record: &Record) -> Vec<FileUse> {
        if !matches!(record.what, What::Proposed { .. } | What::TrialStarted { .. }) {
            return Vec::new();
        }
        self.sensor.files(&record.bdi, FILES_SHOWN).unwrap_or_else(|e| {
            tracing::warn!("files: {e}");
            Vec::new()
        })
    }

    /// Bounded maps that were too small: what they lost is said when it grows.
    fn report_overflow(&mut self) {
        let now = self.sensor.overflow();
        if now.slots > self.overflow.slots {
            tracing::warn!("{} events of devices beyond the sensor's slots were not counted", now.slots);
        }
        if now.pending > self.overflow.pending {
            tracing::warn!("{} chunks of speculative pages found no room: accuracy and waste are incomplete", now.pending);
        }
        self.overflow = now;
    }

    /// In a dry run, the lines that apply a suggestion by hand.
    fn by_hand(&self, record: &Record) -> Option<String> {
        let What::Proposed { to, .. } = &record.what else { return None };
        let device = self.state.devices().find(|d| d.device.bdi == record.bdi)?;
        if device.device.kind == DeviceKind::OpenFiles {
            return Some("    by hand: nothing does that for open files of others; `keepahead run` does\n".into());
        }
        let mut text =
            String::from("    by hand (not proven yet, which `keepahead run` would do; earlier suggestions are void):\n");
        for line in crate::actuator::apply_lines(&device.device, *to) {
            text += &format!("      {line}\n");
        }
        Some(text)
    }
}

/// The policy that acts, and says so. Where its model is refused that is the rules, in the settings too: the journal is replayed by them.
fn load_policy(config: &mut Config) -> Box<dyn Policy> {
    let policy = crate::policy::load(config.settings.policy, config.agent.model()).unwrap_or_else(|e| {
        tracing::warn!("{e:#}; the rules go on");
        config.settings.policy = PolicyName::Rules;
        Box::new(Rules)
    });
    let model = config.agent.model().filter(|_| config.settings.policy == PolicyName::Learned);
    tracing::info!("policy: {}{}", policy.name(), model.map_or(String::new(), |path| format!(", {}", path.display())));
    policy
}

fn load_rules(rules: &[WorkloadRule], roots: &Roots) -> Option<Ruled> {
    if rules.is_empty() {
        return None;
    }
    Ruled::load(rules.to_vec(), &roots.proc).inspect_err(|e| tracing::warn!("[[workload]] rules have no effect: {e}")).ok()
}

/// Without it writers are noticed at the next tick all the same, but not named.
fn watch_knobs(roots: &Roots) -> Option<Watch> {
    Watch::new(&roots.sys).map_err(|e| tracing::warn!("writers of the knob will not be named: {e}")).ok()
}
