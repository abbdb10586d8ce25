// SPDX-License-Identifier: MIT OR Apache-2.0
//! Windows of their own for the open files of workloads: each such workload is a device to the loop, with counters of its own and a
//! knob that is the `ra_pages` of its open files. So it is classified, tried, verified, kept or undone as every device is; a person
//! may look at it and pin it like one.

use super::Agent;
use super::act::Hands;
use super::ruled::Late;
use crate::actuator::file_window::{self, knobs_at_rest};
use crate::actuator::ruled::{self, Bearer};
use crate::actuator::scan::OpenFile;
use crate::control::{OwnWindow, Workload};
use crate::sensor::{Inode, Part, part_name};
use keepahead_core::device::{BdiName, Device, DeviceKind, OPEN_FILES, process_of};
use keepahead_core::event::{Applied, Input, OpenFiles, Outcome, Record, SetReason, What};
use keepahead_core::region::{AdviceOrder, RegionTick};
use keepahead_core::sample::Sample;
use keepahead_core::units::{Kib, Nanos};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// Whose the files are.
pub enum Whose {
    /// He handed his descriptors over.
    Client(Arc<Workload>),
    /// A rule of the configuration names them, as they were last listed.
    Rule(Vec<OpenFile>),
}

impl Whose {
    pub fn client(&self) -> Option<&Arc<Workload>> {
        if let Whose::Client(workload) = self { Some(workload) } else { None }
    }
}

/// Files that have a window of their own.
pub struct Owner {
    pub whose: Whose,
    /// The device that bears the files.
    on: BdiName,
    pub files: Vec<Inode>,
    /// Regions of their mappings that the workload's process may be told to advise.
    parts: Vec<Part>,
    pub late: Late,
    why: String,
}

pub type Owners = BTreeMap<BdiName, Owner>;

impl Agent {
    /// Once a second: workloads that came, grew or went.
    pub(super) fn look_after_workloads(&mut self) -> anyhow::Result<()> {
        let Some(board) = &self.board else { return Ok(()) };
        let living = board.roll.living();
        let gone = |owner: &Owner| owner.whose.client().is_some_and(|w| !living.iter().any(|living| living.id == w.id));
        let over: Vec<BdiName> = self.owners.iter().filter(|(_, o)| gone(o)).map(|(name, _)| name.clone()).collect();
        for name in over {
            self.end_window(&name)?;
        }
        for workload in living {
            self.look_after(&workload)?;
        }
        self.explain();
        Ok(())
    }

    fn look_after(&mut self, workload: &Arc<Workload>) -> anyhow::Result<()> {
        let known = self.owners.iter().find(|(_, o)| o.whose.client().is_some_and(|w| w.id == workload.id)).map(|(name, o)| {
            let seen = (o.files.len(), o.parts.clone());
            (name.clone(), o.on.clone(), seen)
        });
        let theirs = |on: &BdiName| self.state.devices().any(|d| d.device.bdi == *on && d.hands_off());
        let may_have = !known.as_ref().is_some_and(|(_, on, _)| theirs(on));
        let Some((number, files)) = workload.with_descriptions().filter(|_| may_have) else {
            // It has grown beyond what has a window, or its device is somebody else's now.
            return known.map_or(Ok(()), |(name, ..)| self.end_window(&name));
        };
        let inodes: Vec<Inode> = files.iter().map(|f| Inode { ino: f.ino, major: f.device.0, minor: f.device.1 }).collect();
        let parts = parts_of(workload, &inodes);
        if known.as_ref().is_some_and(|(.., seen)| *seen == (files.len(), parts.clone())) {
            return Ok(());
        }
        let Some(on) = self.device_of(number) else { return Ok(()) };
        let name = BdiName(format!("{}/{}", on.bdi, workload.id));
        if !self.count_apart(&name, Whose::Client(workload.clone()), &on.bdi, inodes, parts) {
            return Ok(());
        }
        if let Some((.., (count, _))) = known {
            if count == files.len() {
                return Ok(());
            }
            // New files of a workload that has a window already get the same.
            let value = self.state.devices().find(|d| d.device.bdi == name).map(|d| d.current());
            return value.map_or(Ok(()), |value| self.give(&name, value, SetReason::Trial).map(|_| ()).or(Ok(())));
        }
        self.appears(name, &workload.name, format!("{OPEN_FILES}{}:{}", workload.pid, workload.id), on)
    }

    /// Counts files under a name of their own. `false` where the probes have no room.
    pub(super) fn count_apart(
        &mut self,
        name: &BdiName,
        whose: Whose,
        on: &BdiName,
        files: Vec<Inode>,
        parts: Vec<Part>,
    ) -> bool {
        if let Err(e) = self.sensor.count_apart(name, &files, &parts) {
            tracing::debug!("{name}: its files keep the device's window: {e}");
            return false;
        }
        if let Some(hands) = &mut self.hands {
            hands.leave_alone(name, &files);
        }
        let (late, why) = self.owners.remove(name).map_or((Late::default(), "watched".into()), |o| (o.late, o.why));
        self.owners.insert(name.clone(), Owner { whose, on: on.clone(), files, parts, late, why });
        true
    }

    /// To the loop the files are a device from now on.
    pub(super) fn appears(&mut self, bdi: BdiName, name: &str, identity: String, on: Device) -> anyhow::Result<()> {
        let label = format!("{name} on {}", on.label);
        let original = self.knob.read(&on.bdi).unwrap_or(on.original);
        let device = Device { label, kind: DeviceKind::OpenFiles, identity, original, bdi, node: None, ..on };
        self.feed(Input::Appeared { now: super::now(), device, hands_off: false })
    }

    /// The tuned device that bears files with this device number.
    fn device_of(&self, (major, minor): (u32, u32)) -> Option<Device> {
        let number = format!("{major}:{minor}");
        let dir = PathBuf::from(format!("/sys/dev/block/{number}"));
        // A partition has the bdi of its disk.
        let whole = if dir.join("partition").exists() { std::fs::read_to_string(dir.join("../dev")).ok() } else { None };
        let wanted = whole.map_or(number, |dev| dev.trim().to_owned());
        let ours = |d: &&keepahead_core::watched::Watched| d.device.bdi.0 == wanted && !d.hands_off();
        self.state.devices().find(ours).map(|d| d.device.clone())
    }

    pub(super) fn end_window(&mut self, name: &BdiName) -> anyhow::Result<()> {
        self.give_back(name);
        self.owners.remove(name);
        if let Err(e) = self.sensor.count_apart(name, &[], &[]) {
            tracing::warn!("{name}: {e}");
        }
        if let Some(hands) = &mut self.hands {
            hands.leave_alone(name, &[]);
            hands.gone(name);
        }
        self.feed(Input::Gone { now: super::now(), bdi: name.clone() })
    }

    /// All of them, before the agent leaves: the socket has withdrawn them already.
    pub(super) fn end_windows(&mut self) -> anyhow::Result<()> {
        let all: Vec<BdiName> = self.owners.keys().cloned().collect();
        let mut done = Ok(());
        for name in all {
            done = done.and(self.end_window(&name));
        }
        done
    }

    /// Files that had a window follow their device again. Those of a client who has left were seen to by the socket's side.
    fn give_back(&mut self, name: &BdiName) {
        let Some(owner) = self.owners.get(name).filter(|_| self.hands.is_some()) else { return };
        if let Some(client) = owner.whose.client() {
            // He lives, and has more files than may have a window.
            return client.follow_device();
        }
        let Whose::Rule(files) = &owner.whose else { return };
        let followed = {
            let _rest = knobs_at_rest();
            files.iter().filter(|file| ruled::advise_normal(file)).count()
        };
        let label = self.state.devices().find(|d| d.device.bdi == *name).map_or(name.to_string(), |d| d.device.label.clone());
        if followed > 0 {
            tracing::info!("{label}: {followed} of {} open files follow their device again", files.len());
        } else if files.iter().any(|file| self.roots.proc.join(file.tgid.to_string()).exists()) {
            tracing::warn!("{label}: its files may keep their window until they are closed: none could be borrowed");
        }
    }

    /// Carries out an action on such a device.
    pub(super) fn set_window(&mut self, device: &Device, from: Kib, to: Kib, why: SetReason) -> Input {
        let failed = |error: String| Input::Failed { now: super::now(), bdi: device.bdi.clone(), wanted: to, error };
        let Some(hands) = &mut self.hands else { return failed("a dry run writes nothing".into()) };
        let promise = match hands.promise(device, from, to, why) {
            Ok(promise) => promise,
            Err(e) => return failed(e),
        };
        let given = self.give(&device.bdi, to, why).map(|files| {
            let files = OpenFiles { refreshed: files as u32, current: files as u32, ..OpenFiles::default() };
            Applied { bdi: device.bdi.clone(), old: from, wanted: to, read_back: to, files }
        });
        if let Some(hands) = &mut self.hands {
            hands.settle(promise, given.as_ref().map_err(String::as_str));
        }
        given.map_or_else(failed, |applied| Input::Applied { now: super::now(), applied })
    }

    /// Gives the files of a workload a window. How many took it.
    fn give(&mut self, name: &BdiName, window: Kib, why: SetReason) -> Result<usize, String> {
        match &self.owners.get(name).ok_or("the workload is gone")?.whose {
            Whose::Client(workload) => {
                let workload = workload.clone();
                let (_, files) = workload.with_descriptions().ok_or("it has too many files by now")?;
                let theirs: Vec<BorrowedFd<'_>> = files.iter().filter_map(|f| f.description()).collect();
                let given = self.give_to(name, window, why, &theirs, || !workload.is_closed());
                workload.advised_anew();
                given
            }
            Whose::Rule(files) => {
                let files = files.clone();
                self.give_borrowed(name, window, why, &files)
            }
        }
    }

    /// The same to these files of a rule alone.
    pub(super) fn give_borrowed(
        &mut self,
        name: &BdiName,
        window: Kib,
        why: SetReason,
        files: &[OpenFile],
    ) -> Result<usize, String> {
        let theirs: Vec<OwnedFd> = files.iter().filter_map(ruled::borrow).collect();
        if theirs.is_empty() {
            let what = "could be borrowed (closed, or Yama forbids pidfd_getfd)";
            return Err(format!("none of its {} files {what}", files.len()));
        }
        self.give_to(name, window, why, &theirs, || true)
    }

    /// Promised for the device's own knob, which holds the window for an instant.
    fn give_to<F: AsFd>(
        &mut self,
        name: &BdiName,
        window: Kib,
        why: SetReason,
        files: &[F],
        still: impl Fn() -> bool,
    ) -> Result<usize, String> {
        let owner = self.owners.get(name).ok_or("the workload is gone")?;
        let on = self.state.devices().find(|d| d.device.bdi == owner.on).ok_or("its device is gone")?;
        let (device, present) = (on.device.clone(), on.current());
        let hands: &mut Hands = self.hands.as_mut().ok_or("a dry run writes nothing")?;
        let promise = hands.promise(&device, present, window, why)?;
        let given = file_window::give(&self.knob, &device.bdi, present, window, files, still).map_err(|e| e.to_string());
        let files = OpenFiles::default();
        let applied = Applied { bdi: device.bdi, old: window, wanted: present, read_back: present, files };
        hands.settle(promise, given.as_ref().map(|_| &applied).map_err(String::as_str));
        given
    }

    /// Notes why a window is what it is.
    pub(super) fn note_windows(&mut self, records: &[Record]) {
        for record in records {
            if let (Some(owner), Some(why)) = (self.owners.get_mut(&record.bdi), why(&record.what)) {
                owner.why = why;
            }
        }
    }

    /// What the regions of each workload have done and stand at, for `step`. `full`: of all, and not only of those on trial.
    pub(super) fn look_at_regions(&self, at: Nanos, full: bool, samples: &BTreeMap<BdiName, Sample>) -> Vec<Input> {
        let look = |(name, owner): (&BdiName, &Owner)| {
            let watched = self.state.devices().find(|d| d.device.bdi == *name)?;
            let standing = owner.whose.client()?.regions.standing();
            let tick = |part: &Part| {
                let held = standing.get(&part.number)?;
                let counters = samples.get(&part_name(name, part.number)).map(|s| s.counters).unwrap_or_default();
                Some(RegionTick { region: part.number, counters, in_force: held.in_force, refused: held.refused.is_some() })
            };
            let regions: Vec<RegionTick> = owner.parts.iter().filter_map(tick).collect();
            let any = !regions.is_empty() || watched.has_regions();
            (any && (full || watched.on_trial())).then(|| Input::Regions { now: at, bdi: name.clone(), regions })
        };
        self.owners.iter().filter_map(look).collect()
    }

    /// Hands orders to the processes that must carry them out.
    pub(super) fn pass_on(&self, orders: Vec<AdviceOrder>) {
        for order in orders {
            if let Some(workload) = self.owners.get(&order.bdi).and_then(|o| o.whose.client()) {
                workload.regions.order(order.region, order.advice, &order.why);
            }
        }
    }

    /// For `Stats`.
    fn explain(&self) {
        for (name, owner) in &self.owners {
            let Some(watched) = self.state.devices().find(|d| d.device.bdi == *name) else { continue };
            let device_kib =
                self.state.devices().find(|d| d.device.bdi == owner.on).map_or(watched.device.original, |d| d.current());
            let window = OwnWindow { kib: watched.current(), device_kib, pattern: watched.pattern(), why: owner.why.clone() };
            if let Some(workload) = owner.whose.client() {
                workload.progress().window = Some(window);
            }
        }
    }
}

/// Why a window of its own is what it is from now on.
fn why(what: &What) -> Option<String> {
    match what {
        // Of a region: its own line in `Stats` says why.
        What::TrialStarted { from, to, .. } | What::TrialEnded { from, to, .. } if from == to => None,
        What::TrialStarted { trial, from, to, proposal, .. } => {
            Some(format!("trial {trial}, {from} against {to}: {}", proposal.reason))
        }
        What::TrialEnded { trial, from, to, verdict } => {
            let kept = verdict.outcome == Outcome::Kept;
            let done = if kept { format!("{to} kept") } else { format!("{to} undone, {from} again") };
            Some(format!("trial {trial}: {done}: {}", verdict.reason))
        }
        What::GaveWay { from, to, because } => Some(format!("{from} gave way to {to}: {because}")),
        What::Pinned { value, .. } => Some(format!("pinned at {value}")),
        What::Unpinned { back_to, .. } => Some(format!("unpinned, {back_to} again")),
        _ => None,
    }
}

/// Whether these are open files that are tuned apart from the device that bears them.
pub fn is_apart(bdi: &BdiName) -> bool {
    bdi.0.contains('/')
}

/// Whose files had windows, by the identity under which the journal knows them.
pub fn bearer(identity: &str) -> Option<Bearer> {
    match process_of(identity) {
        Some(pid) => Some(Bearer::Process(pid)),
        None => serde_json::from_str(identity.strip_prefix(OPEN_FILES)?).ok().map(Box::new).map(Bearer::Rule),
    }
}

/// The pages of its files that a workload's regions map.
fn parts_of(workload: &Workload, files: &[Inode]) -> Vec<Part> {
    let page = rustix::param::page_size() as u64;
    let part = |(number, held): (&u32, &crate::control::Held)| {
        let file = *files.get(usize::try_from(held.region.file).ok()?)?;
        let (first, last) = (held.region.offset / page, (held.region.offset + held.region.length - 1) / page);
        Some(Part { number: *number, file, first, last })
    };
    workload.regions.standing().iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepahead_core::event::{Because, Hold, Pattern, Verdict};

    #[test]
    fn whatever_changes_a_window_says_why_it_is_what_it_is() {
        let (from, to) = (Kib(512), Kib(128));
        let because = Because::OtherPattern { kept_for: Pattern::Sequential, seen: Pattern::RandomMmap };
        let ended = |from, outcome| {
            let verdict = Verdict::new(outcome, "less stall".into(), 3, 0.95);
            why(&What::TrialEnded { trial: 7, from, to, verdict })
        };
        let said = [
            why(&What::GaveWay { from, to, because }),
            ended(from, Outcome::Kept),
            ended(from, Outcome::Reverted),
            why(&What::Pinned { from, value: to }),
            why(&What::Unpinned { from, back_to: to }),
        ];
        let expected = [
            "512 KiB gave way to 128 KiB: it was kept for sequential access, and for random mmap there is no proven value to try",
            "trial 7: 128 KiB kept: less stall",
            "trial 7: 128 KiB undone, 512 KiB again: less stall",
            "pinned at 128 KiB",
            "unpinned, 128 KiB again",
        ];
        assert_eq!(said.map(Option::unwrap_or_default), expected);
        // A region's trial changes no window, nor does a hold.
        assert_eq!((ended(to, Outcome::Kept), why(&What::Held { reason: Hold::NoDemand })), (None, None));
    }
}
