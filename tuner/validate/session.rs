// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records scripts on one file system: a loop device with that file system, a recorder on it, and an execution for each script.
//! Everything is removed when dropped, and after any signal (`keepahead-testbed`).
//!
//! Page states are made to follow from the script alone: one thread on one CPU, on which the device's completions also run (so that a
//! fault never sees half of a completed request); before each operation all pages asked for so far have been read. What others do to
//! the files is noticed by process id, and the script is run again.

use super::ValidateError;
use super::execute::Execution;
use super::files::{Files, Stored};
use super::recorder::{Recorder, Seen};
use keepahead_sim::event::Event;
use keepahead_sim::script::{Environment, Filesystem, Op, Recording, Script};
use keepahead_testbed::{Fs, Testbed};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs of a script before it is given up as disturbed. With the pauses between them 14 s: kswapd, once woken on a machine that builds
/// something, reclaims for seconds.
const RUNS: u32 = 24;

pub struct Session {
    environment: Environment,
    // Dropped in this order: descriptors and mappings before the mount they keep busy.
    recorder: Recorder,
    files: Files,
    knob: PathBuf,
    buffer: Vec<u8>,
    _cpu: OneCpu,
    _testbed: Testbed,
}

/// A run that says nothing about the script.
enum Failed {
    Disturbed(String),
    Error(ValidateError),
}

impl From<ValidateError> for Failed {
    fn from(error: ValidateError) -> Failed {
        Failed::Error(error)
    }
}

impl Session {
    /// Why no session can be had here; `None` where one can.
    pub fn unavailable(filesystem: Filesystem) -> Option<String> {
        keepahead_testbed::device_unavailable(kind(filesystem)).or_else(|| {
            let tracepoints = Path::new("/sys/kernel/btf/vmlinux");
            (!tracepoints.exists()).then(|| format!("{}: the kernel has no BTF", tracepoints.display()))
        })
    }

    /// Sets up a device with room for `mib` of files.
    pub fn open(filesystem: Filesystem, mib: u64) -> Result<Session, ValidateError> {
        let failed = |e: anyhow::Error| ValidateError::Device(format!("{e:#}"));
        // XFS takes no less than 300 MiB; journal and metadata want some of it.
        let testbed = Testbed::unlimited((mib + mib / 8 + 128).max(512), kind(filesystem)).map_err(failed)?;
        let queue = Path::new("/sys/block").join(&testbed.name).join("queue");
        let read = |name: &str| {
            let path = queue.join(name);
            std::fs::read_to_string(&path).map_err(|source| ValidateError::File { path, source })
        };
        let max_sectors_kb = read("max_sectors_kb")?;
        let max_sectors_kb = max_sectors_kb.trim().parse().map_err(|_| ValidateError::Device(max_sectors_kb))?;
        // 2: completions on the very CPU that submitted.
        let path = queue.join("rq_affinity");
        std::fs::write(&path, "2").map_err(|source| ValidateError::File { path, source })?;
        let kernel = nix::sys::utsname::uname().map_err(|e| ValidateError::Device(format!("uname: {e}")))?;
        let kernel = kernel.release().to_string_lossy().into_owned();
        let device = device_number(&testbed.number).ok_or_else(|| ValidateError::Device(testbed.number.clone()))?;
        Ok(Session {
            environment: Environment { filesystem, kernel, max_sectors_kb },
            recorder: Recorder::open(device)?,
            files: Files::new(testbed.mount()),
            knob: queue.join("read_ahead_kb"),
            buffer: Vec::new(),
            _cpu: OneCpu::take().map_err(|e| ValidateError::Device(format!("sched_setaffinity: {e}")))?,
            _testbed: testbed,
        })
    }

    /// Whether this kernel has a tracepoint for such an event: others cannot be compared.
    pub fn tells(&self, event: &Event) -> bool {
        self.recorder.tells(event)
    }

    /// Tracepoints that this kernel has not.
    pub fn missing(&self) -> Vec<&'static str> {
        self.recorder.missing()
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Executes the script and records what the kernel does. Runs it again where something else came between.
    pub fn record(&mut self, script: &Script) -> Result<Recording, ValidateError> {
        let steps = self.undisturbed(script, true)?;
        Ok(Recording { environment: self.environment.clone(), script: script.clone(), steps })
    }

    /// The events of a script without a pause between its operations: each finds what the I/O of those before it left in flight, so
    /// that they may change from run to run.
    pub fn record_hurried(&mut self, script: &Script) -> Result<Vec<Event>, ValidateError> {
        self.undisturbed(script, false).map(|steps| steps.concat())
    }

    fn undisturbed(&mut self, script: &Script, settled: bool) -> Result<Vec<Vec<Event>>, ValidateError> {
        script.check().map_err(|(number, trouble)| ValidateError::Script { number, trouble })?;
        let mut last = String::new();
        for run in 1..=RUNS {
            match self.run(script, settled) {
                Ok(steps) => return Ok(steps),
                Err(Failed::Disturbed(by)) => last = by,
                Err(Failed::Error(error)) => return Err(error),
            }
            // Somebody's drop_caches takes a while, and so does reclaim.
            std::thread::sleep(Duration::from_millis(50 * u64::from(run)));
        }
        Err(ValidateError::Disturbed { times: RUNS, by: last })
    }

    fn run(&mut self, script: &Script, settled: bool) -> Result<Vec<Vec<Event>>, Failed> {
        self.set_knob(script.read_ahead_kb)?;
        let Session { recorder, files, knob, buffer, .. } = self;
        files.prepare(&script.files)?;
        recorder.drain()?;
        let lost = recorder.lost()?;
        let stored = files.of(&script.files);
        let paths: Vec<&Path> = stored.iter().map(|file| file.path.as_path()).collect();
        let mut execution = Execution::new(&paths, knob, buffer);
        let mut steps = Vec::with_capacity(script.ops.len());
        for (number, op) in script.ops.iter().enumerate() {
            execution.execute(op).map_err(|source| ValidateError::Operation { number, op: op.to_string(), source })?;
            if settled {
                let events = attribute(&recorder.drain()?, &stored)?;
                settle(&events, &stored)?;
                steps.push(events);
            }
        }
        if !settled {
            let events = attribute(&recorder.drain()?, &stored)?;
            settle(&events, &stored)?;
            steps.push(events);
        }
        drop(execution);
        if recorder.lost()? != lost {
            return Err(Failed::Disturbed("a full ring buffer".into()));
        }
        self.check_knob(script)?;
        Ok(steps)
    }

    fn set_knob(&self, kib: u32) -> Result<(), ValidateError> {
        std::fs::write(&self.knob, kib.to_string()).map_err(|source| ValidateError::File { path: self.knob.clone(), source })
    }

    /// Nobody else has changed the knob in the meantime, such as an agent that tunes every device.
    fn check_knob(&self, script: &Script) -> Result<(), Failed> {
        let set = script.ops.iter().rev().find_map(|op| if let Op::ReadAheadKb(kib) = op { Some(*kib) } else { None });
        let now = std::fs::read_to_string(&self.knob).unwrap_or_default();
        // The kernel keeps pages: what it shows is rounded down to 4 KiB.
        if now.trim().parse() == Ok(set.unwrap_or(script.read_ahead_kb) / 4 * 4) {
            return Ok(());
        }
        Err(Failed::Disturbed(format!("a change of read_ahead_kb to {}", now.trim())))
    }
}

/// Gives each event its file, and leaves out inodes that are none of the script's.
fn attribute(seen: &[Seen], stored: &[&Stored]) -> Result<Vec<Event>, Failed> {
    let me = std::process::id();
    let mut events = Vec::with_capacity(seen.len());
    for one in seen {
        let Some(number) = stored.iter().position(|file| file.ino == one.ino) else { continue };
        if one.tgid != me {
            return Err(Failed::Disturbed(format!("process {}: {}", one.tgid, one.event)));
        }
        let mut event = one.event;
        *file_of(&mut event) = number as u32;
        events.push(event);
    }
    Ok(events)
}

fn file_of(event: &mut Event) -> &mut u32 {
    match event {
        Event::SyncRa { file, .. }
        | Event::AsyncRa { file, .. }
        | Event::RaOrder { file, .. }
        | Event::RaUnbounded { file, .. }
        | Event::Add { file, .. }
        | Event::Delete { file, .. }
        | Event::Fault { file, .. }
        | Event::MapPages { file, .. } => file,
    }
}

/// Waits until the pages added by these events have been read.
fn settle(events: &[Event], stored: &[&Stored]) -> Result<(), ValidateError> {
    let mut range: Option<(u32, u64, u64)> = None;
    for event in events {
        let Event::Add { file, index, order } = *event else { continue };
        let end = index + (1 << order);
        range = match range {
            Some((of, first, last)) if of == file && last == index => Some((of, first, end)),
            before => {
                wait(before, stored)?;
                Some((file, index, end))
            }
        };
    }
    wait(range, stored)
}

fn wait(range: Option<(u32, u64, u64)>, stored: &[&Stored]) -> Result<(), ValidateError> {
    let Some((file, first, end)) = range else { return Ok(()) };
    stored[file as usize].settle(first, end)
}

fn kind(filesystem: Filesystem) -> Fs {
    match filesystem {
        Filesystem::Ext4 => Fs::Ext4,
        Filesystem::Xfs => Fs::Xfs,
    }
}

/// `7:3` as the kernel keeps it.
fn device_number(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once(':')?;
    Some(major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?)
}

/// Keeps the thread on one CPU, and from taking it away from completions at work there, until dropped.
struct OneCpu(CpuSet);

impl OneCpu {
    fn take() -> nix::Result<OneCpu> {
        let me = Pid::from_raw(0);
        let before = sched_getaffinity(me)?;
        let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap_or(false)).unwrap_or(0);
        let mut one = CpuSet::new();
        one.set(first)?;
        sched_setaffinity(me, &one)?;
        policy(libc::SCHED_BATCH)?;
        Ok(OneCpu(before))
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        let _ = policy(libc::SCHED_OTHER);
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// The calling thread's policy; a batch thread that is woken does not preempt (sched(7)).
fn policy(policy: i32) -> nix::Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter outlives the call.
    nix::errno::Errno::result(unsafe { libc::sched_setscheduler(0, policy, &priority) }).map(|_| ())
}
