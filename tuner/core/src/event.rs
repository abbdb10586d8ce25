// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes into [`step`](crate::step) and what comes out: the only words that the pure stages and the outer world exchange.
//! All of them serialise, because the journal keeps them and `replay` feeds them back.

mod hold;

pub use hold::Hold;

use crate::device::{BdiName, Device, QueueLimits};
use crate::region::{Advice, RegionTick};
use crate::sample::Sample;
use crate::settings::Settings;
use crate::units::{Kib, Nanos};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that happened in the outer world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// A device is there: at start, or plugged in. `hands_off`: somebody else's value from an earlier run still stands on it.
    Appeared {
        now: Nanos,
        device: Device,
        hands_off: bool,
    },
    /// A device is gone; nothing can be restored on it.
    Gone {
        now: Nanos,
        bdi: BdiName,
    },
    /// Time passed; what every device's sensor and knob say now.
    Tick(Tick),
    /// All regions that a workload has handed over, just before its tick.
    Regions {
        now: Nanos,
        bdi: BdiName,
        regions: Vec<RegionTick>,
    },
    /// An [`Action::Set`] was carried out.
    Applied {
        now: Nanos,
        applied: Applied,
    },
    /// An [`Action::Set`] could not be carried out.
    Failed {
        now: Nanos,
        bdi: BdiName,
        wanted: Kib,
        error: String,
    },
    /// A person asks keepahead to tune a device again after hands-off.
    TakeBack {
        now: Nanos,
        bdi: BdiName,
    },
    /// A person pauses the loop: running trials end with the old value, none begins until [`Input::Resume`].
    Pause {
        now: Nanos,
    },
    Resume {
        now: Nanos,
    },
    /// A person fixes a device's value: written like any other, and left alone until [`Input::Unpin`].
    Pin {
        now: Nanos,
        bdi: BdiName,
        value: Kib,
    },
    /// The value from before the pin comes back, and the device is tuned again.
    Unpin {
        now: Nanos,
        bdi: BdiName,
    },
    /// The configuration was read anew: running trials end with the old value, and what follows is decided by these.
    Settings {
        now: Nanos,
        settings: Box<Settings>,
    },
    /// The agent is about to leave: end what runs, start nothing. The agent restores the originals itself.
    Stop {
        now: Nanos,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    pub now: Nanos,
    pub machine: Machine,
    /// Devices that have something to say: those whose counters or knob were read for this tick.
    pub devices: Vec<DeviceTick>,
}

/// The state of the whole machine at a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `MemAvailable`, bytes.
    pub memory_available: u64,
    /// PSI memory `some avg10`, percent; `None` where the kernel has no PSI.
    pub memory_pressure: Option<f64>,
    /// `workingset_refault_file` of `/proc/vmstat`, cumulative pages.
    pub refaults: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceTick {
    pub bdi: BdiName,
    /// `read_ahead_kb` as read for this tick; `None` where it could not be read.
    pub knob: Option<Kib>,
    pub limits: QueueLimits,
    /// The last user-space writer of the knob other than keepahead since the previous tick, where the kernel told.
    pub writer: Option<Writer>,
    pub sample: Sample,
}

/// Who wrote a knob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    pub pid: u32,
    pub comm: String,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.comm, self.pid)
    }
}

/// What an actuator did for one [`Action::Set`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub bdi: BdiName,
    pub old: Kib,
    pub wanted: Kib,
    /// What the kernel made of it.
    pub read_back: Kib,
    pub files: OpenFiles,
}

/// How far a change reached files that were already open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFiles {
    /// Open files of this bdi that now carry the new value.
    pub current: u32,
    /// Of those, refreshed by keepahead for this change.
    pub refreshed: u32,
    /// Left alone: the application advised them itself (`FMODE_RANDOM`, `FMODE_NOREUSE`, another `ra_pages`).
    pub advised: u32,
    /// Left alone by the allow and deny lists of the config.
    pub denied: u32,
    /// Still carry an old value: out of reach, refused, or over the bound of files a second.
    pub stale: u32,
}

/// One thing to do. There is only one kind: a write, which the actuator carries out once, reads back and reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    Set { bdi: BdiName, from: Kib, to: Kib, why: SetReason },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetReason {
    /// A block of a trial, or the new value kept at its end.
    Trial,
    /// The old value comes back after a trial.
    Revert,
    /// A person fixed the value.
    Pinned,
    /// A verified value was raised or overwritten by a recomputation of the kernel's queue limits.
    Reapply,
}

/// What was seen or decided, and why: each becomes a line for people, a JSON line for machines and a row of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub at: Nanos,
    pub bdi: BdiName,
    pub label: String,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum What {
    Appeared {
        original: Kib,
    },
    Gone,
    /// The policy would change the value. In dry-run this is the last word.
    Proposed {
        from: Kib,
        to: Kib,
        proposal: Proposal,
        evidence: Evidence,
        /// Name and version of whoever proposes; empty in journals of versions before it was written.
        #[serde(default)]
        policy: String,
    },
    /// Nothing is done, and why; recorded when the reason changes.
    Held {
        reason: Hold,
    },
    TrialStarted {
        trial: u64,
        from: Kib,
        to: Kib,
        proposal: Proposal,
        evidence: Evidence,
        #[serde(default)]
        policy: String,
    },
    BlockEnded {
        trial: u64,
        block: Block,
    },
    TrialEnded {
        trial: u64,
        from: Kib,
        to: Kib,
        verdict: Verdict,
    },
    /// The write was carried out; `read_back` differs from `wanted` where the kernel changed it.
    Applied {
        applied: Applied,
    },
    Failed {
        wanted: Kib,
        error: String,
    },
    HandsOff {
        expected: Kib,
        found: Kib,
        writer: Option<Writer>,
    },
    /// The kernel recomputed the value because queue limits changed.
    KernelRaised {
        expected: Kib,
        found: Kib,
        limits: QueueLimits,
    },
    /// A kept value was put back without a trial.
    GaveWay {
        from: Kib,
        to: Kib,
        because: Because,
    },
    TakenBack {
        value: Kib,
    },
    /// A person fixed the value over the control socket.
    Pinned {
        from: Kib,
        value: Kib,
    },
    Unpinned {
        from: Kib,
        back_to: Kib,
    },
    /// The process that mapped a region is told to advise it, outside of a trial's blocks.
    RegionAdvised {
        region: u32,
        advice: Advice,
        why: String,
    },
}

impl What {
    /// Whether [`State::known`](crate::step::State::known) may have changed with it, so that it must be kept for the next run.
    pub fn teaches(&self) -> bool {
        matches!(self, What::TrialEnded { .. } | What::GaveWay { because: Because::Polluting { .. }, .. })
    }
}

/// What a kept value has given way for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Because {
    /// More of what is read ahead is evicted unused, pages per demanded page, than when the value was kept.
    Polluting { kept: f64, now: f64 },
    /// Another pattern is seen than the value was kept for, and nothing that could be tried is proven for that.
    OtherPattern { kept_for: Pattern, seen: Pattern },
    /// The configuration was read anew, and its bounds leave the value out.
    Bounds { floor: Kib, ceiling: Kib },
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Because::Polluting { kept, now } => {
                write!(f, "{now:.2} pages are evicted unused for each one demanded, {kept:.2} when it was kept")
            }
            Because::OtherPattern { kept_for, seen } => {
                write!(f, "it was kept for {kept_for} access, and for {seen} there is no proven value to try")
            }
            Because::Bounds { floor, ceiling } => {
                write!(f, "it is outside the bounds of the configuration, {floor} to {ceiling}")
            }
        }
    }
}

/// What a policy suggests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    pub read_ahead: Kib,
    pub pattern: Pattern,
    /// Expected stall per matched load, new over old (0.5: half the stall).
    pub expected_stall_ratio: f64,
    /// 0 to 1.
    pub confidence: f64,
    pub reason: String,
}

/// Access patterns that the policies tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    Idle,
    /// Long runs, and files read from start to end whatever their size (nothing is read ahead beyond an end): gains until the
    /// device's bandwidth-delay product, or the file, is covered, and wastes nothing.
    Sequential,
    /// Short runs of read or faults at random places: wastes what is read beyond a run.
    ShortRuns,
    /// Random faults: every miss reads the whole window.
    RandomMmap,
    /// Random `pread`: the knob does nothing.
    RandomRead,
    Mixed,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pattern::Idle => "idle",
            Pattern::Sequential => "sequential",
            Pattern::ShortRuns => "short runs",
            Pattern::RandomMmap => "random mmap",
            Pattern::RandomRead => "random read",
            Pattern::Mixed => "mixed",
        })
    }
}

/// The figures a decision stands on, over the window before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub seconds: f64,
    pub demanded_mib_per_s: f64,
    pub hit_ratio: Option<f64>,
    pub accuracy: Option<f64>,
    pub coverage: Option<f64>,
    pub timeliness: Option<f64>,
    pub waste_mib_per_s: f64,
    /// Bytes read from the device per demanded byte that was not already cached.
    pub amplification: Option<f64>,
    pub stall_ms_per_mib: Option<f64>,
    /// What the kernel worked for the demand besides: allocating windows, making room, submitting. `None` where there is none, as in older
    /// journals, which must replay to the same words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill_ms_per_mib: Option<f64>,
    /// Time that tasks waited over time, all tasks together: above 1 with several waiting at once.
    pub stall_share: f64,
    /// Mean run length, pages.
    pub run_pages: f64,
    pub mmap_share: f64,
    /// Share of windows from files that still carry an old `ra_pages`.
    pub stale_share: f64,
}

/// Which of the two values a block ran with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    Old,
    New,
}

/// One measured block of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    pub arm: Arm,
    pub read_ahead: Kib,
    pub seconds: f64,
    pub demanded_mib: f64,
    pub hit_ratio: Option<f64>,
    pub stall_ms_per_mib: Option<f64>,
    /// As in [`Evidence`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill_ms_per_mib: Option<f64>,
    /// Stall and fill over what the same load cost before the trial ([`crate::matched`]): what the verdict compares. `None` where nothing can be compared.
    #[serde(default)]
    pub stall_ratio: Option<f64>,
    pub device_mib: f64,
    pub waste_mib: f64,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub outcome: Outcome,
    pub reason: String,
    pub pairs: u32,
    pub confidence: f64,
    /// Stall per matched load, new over old: estimate and the two one-sided bounds; `None` before two pairs.
    pub stall_ratio: Option<Interval>,
    /// Change of the hit ratio at matched load, points (0.05: from 0.90 to 0.95).
    pub hit_change: Option<Interval>,
    /// A gain worth keeping was in sight and the pairs ran out before it was shown, or harm was seen next to a single second alone: the same value
    /// may be tried once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    /// Where blocks that looked no better ended it: stall per matched load over that of the old value's blocks and of the time before the trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<f64>,
}

impl Verdict {
    /// One that says nothing of stall and hits.
    pub fn new(outcome: Outcome, reason: String, pairs: u32, confidence: f64) -> Verdict {
        Verdict { outcome, reason, pairs, confidence, stall_ratio: None, hit_change: None, undecided: false, looked: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub mean: f64,
    pub high: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Shown to have improved cache hits: the new value stays.
    Kept,
    /// Not shown, or shown to be worse: the old value is back.
    Reverted,
    /// Clearly harmful in a block: ended early, the old value is back.
    Aborted,
    /// The comparison means nothing (the workload changed, the device left, somebody else wrote): the old value is back if it is ours.
    Void,
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Kept => "KEPT",
            Outcome::Reverted => "reverted",
            Outcome::Aborted => "aborted",
            Outcome::Void => "void",
        }
    }
}
