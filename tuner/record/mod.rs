// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records what is demanded of one device into a trace: takes the device's name and bounds on time, size and cost; gives a file for
//! the simulator. Only watches: nothing on the machine is changed.

mod capture;
mod names;
mod sink;
mod touch;

pub use capture::{Capture, Filter, Losses};
pub use names::Naming;
pub use touch::{Demand, FileKey};

use crate::actuator::{ActuatorError, Roots, discover};
use crate::sensor::{Places, ProgramCost, SensorError};
use keepahead_core::device::{BdiName, Device};
use keepahead_sim::trace::{Header, Totals};
use names::Names;
use rustix::time::{ClockId, clock_gettime};
use sink::Sink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// The ring buffer is emptied so often: at a million records of 72 bytes a second, 0.7 MB are in it by then.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Progress is told, and losses are read.
const TELL_NS: u64 = 1_000_000_000;
/// A killed recording loses at most so much: blocks are closed.
const FLUSH_NS: u64 = 10_000_000_000;
/// Written into every trace.
const INVISIBLE: &str = "touches of pages that are mapped already are invisible; an mmap access of several pages is one touch within \
                         them, with what fault-around mapped along";

/// What to record, and its bounds.
pub struct Options {
    /// As `keepahead devices` shows it: label, bdi or identity.
    pub device: String,
    pub out: PathBuf,
    /// Without it, until `stop`.
    pub duration: Option<Duration>,
    /// One file in so many; 1 is all.
    pub one_file_in: u32,
    pub naming: Naming,
    /// The recording ends when the file has so many bytes, give or take a block of 64 KiB.
    pub max_bytes: u64,
    /// Of the kernel's ring buffer.
    pub buffer_bytes: u32,
}

/// What ended a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Duration,
    Stopped,
    /// [`Options::max_bytes`].
    Size,
    /// A trace holds 1,048,576 files.
    Files,
}

/// How far a recording is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub seconds: f64,
    pub accesses: u64,
    pub lost: u64,
    pub bytes: u64,
}

/// A recording that is over.
#[derive(Clone, Debug)]
pub struct Summary {
    pub end: End,
    /// `files` there counts entries: a file whose name came late has two.
    pub totals: Totals,
    pub files: u64,
    pub bytes: u64,
    /// Zeros unless `kernel.bpf_stats_enabled` is 1.
    pub costs: Vec<ProgramCost>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("no device is called {name:?}; there are {known}")]
    Device { name: String, known: String },
    #[error("{name} cannot be recorded: {why}")]
    NotRecordable { name: String, why: String },
    #[error(transparent)]
    Discover(#[from] ActuatorError),
    #[error("recording needs the kernel's probes: {0}")]
    Probes(#[from] SensorError),
    #[error("{path} exists; remove it or give another --out")]
    Exists { path: PathBuf },
    #[error("{path}: {source}; give an --out in a directory that can be written")]
    Create { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}; nothing could be saved: make room or give another --out")]
    Nothing { path: PathBuf, source: std::io::Error },
    #[error(
        "{path}: {source}; the first {saved} accesses are kept in {partial}, without totals: readers take them and then say that it was \
         cut off"
    )]
    Partial { path: PathBuf, source: std::io::Error, saved: u64, partial: PathBuf },
}

/// Records until a bound is reached or `stop` is set; `tell` is called once when the programs are
/// attached, and then about once a second. The file is there when this returns `Ok`.
///
/// # Errors
/// Nothing can be recorded (no such device, no probes, no file); or the file cannot be written to its end, and then the error says
/// what is kept of it.
pub fn record(options: Options, stop: &AtomicBool, tell: &mut dyn FnMut(&Progress)) -> Result<Summary, RecordError> {
    let device = find(&options.device)?;
    let filter = Filter { bdi: &device.bdi, one_file_in: options.one_file_in, buffer_bytes: options.buffer_bytes };
    let mut capture = Capture::open(&filter, &Places::default())?;
    let start = now();
    let header = Header {
        device: device.label.clone(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        start_unix_ns: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64),
        one_file_in: options.one_file_in,
        paths_hashed: !matches!(options.naming, Naming::Plain),
        notes: capture.missing().iter().cloned().chain([INVISIBLE.to_owned()]).collect(),
    };
    for missing in capture.missing() {
        eprintln!("keepahead: {missing}");
    }
    let names = Names::new(options.naming, device.bdi.0.starts_with("btrfs-"));
    let mut sink = Sink::create(&options.out, &header, names, start)?;
    let bounds = Bounds { start, duration: options.duration, max_bytes: options.max_bytes };
    let end = match run(&mut capture, &mut sink, &bounds, stop, tell) {
        Ok(end) => end,
        Err(Broken::Probes(error)) => {
            // What came until here is whole.
            let losses = capture.losses().unwrap_or_default();
            sink.finish(losses.events, losses.files_sampled_out)?;
            return Err(error.into());
        }
        Err(Broken::File(error)) => return Err(sink.rescue(error)),
    };
    let (losses, costs) = (capture.losses()?, capture.costs());
    drop(capture);
    let files = sink.files();
    let totals = sink.finish(losses.events, losses.files_sampled_out)?;
    let bytes = options.out.metadata().map_or(0, |meta| meta.len());
    Ok(Summary { end, totals, files, bytes, costs })
}

struct Bounds {
    start: u64,
    duration: Option<Duration>,
    max_bytes: u64,
}

enum Broken {
    Probes(SensorError),
    File(keepahead_sim::trace::TraceError),
}

fn run(
    capture: &mut Capture,
    sink: &mut Sink,
    bounds: &Bounds,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&Progress),
) -> Result<End, Broken> {
    let (mut told, mut flushed, mut demands) = (bounds.start, bounds.start, Vec::new());
    let mut end = None;
    tell(&Progress { seconds: 0.0, accesses: 0, lost: 0, bytes: sink.written() });
    loop {
        if end.is_none() {
            end = bounds.reached(sink, stop);
            if end.is_some() {
                capture.stop();
            }
        }
        // At the end every touch is settled.
        let at = if end.is_some() { u64::MAX } else { now() };
        let more = capture.drain(at, &mut demands).map_err(Broken::Probes)?;
        for demand in demands.drain(..) {
            sink.put(&demand).map_err(Broken::File)?;
        }
        match end {
            Some(end) if !more => return Ok(end),
            Some(_) => continue,
            None => {}
        }
        if at - flushed > FLUSH_NS {
            flushed = at;
            sink.flush().map_err(Broken::File)?;
        }
        if at - told > TELL_NS {
            told = at;
            let lost = capture.losses().map_err(Broken::Probes)?.events;
            let seconds = (at - bounds.start) as f64 / 1e9;
            tell(&Progress { seconds, accesses: sink.accesses(), lost, bytes: sink.written() });
        }
        if !more {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Bounds {
    fn reached(&self, sink: &Sink, stop: &AtomicBool) -> Option<End> {
        let over = |duration: Duration| u128::from(now().saturating_sub(self.start)) >= duration.as_nanos();
        if stop.load(Ordering::Relaxed) {
            Some(End::Stopped)
        } else if sink.written() >= self.max_bytes {
            Some(End::Size)
        } else if sink.full() {
            Some(End::Files)
        } else {
            self.duration.is_some_and(over).then_some(End::Duration)
        }
    }
}

/// The device that is called so.
fn find(name: &str) -> Result<Device, RecordError> {
    let found = discover(&Roots::default())?;
    let called = |device: &Device| device.label == name || device.bdi.0 == name || device.identity == name;
    if let Some(device) = found.tunable.iter().find(|device| called(device)) {
        return Ok(device.clone());
    }
    let bdi = Some(BdiName(name.to_owned()));
    if let Some(no) = found.not_tunable.into_iter().find(|no| no.label == name || no.bdi == bdi) {
        return Err(RecordError::NotRecordable { name: name.into(), why: no.why });
    }
    let known: Vec<_> = found.tunable.iter().map(|device| device.label.as_str()).collect();
    let known = if known.is_empty() { "none; see `keepahead devices`".into() } else { known.join(", ") };
    Err(RecordError::Device { name: name.into(), known })
}

/// The clock of `bpf_ktime_get_ns`.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
