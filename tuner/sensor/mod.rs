// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sensor: cumulative counters of every backing device, and how complete they are. Takes the kernel's probes where it may,
//! `/proc` alone where it may not; says which, why, and what is lost.

#[cfg(feature = "ebpf")]
mod apart;
#[cfg(feature = "ebpf")]
pub(crate) mod attach;
mod coarse;
#[cfg(feature = "ebpf")]
pub(crate) mod cost;
#[cfg(feature = "ebpf")]
pub(crate) mod ebpf;
#[cfg(feature = "ebpf")]
mod layout;
mod procfs;
#[cfg(feature = "ebpf")]
mod sampling;

pub use coarse::CoarseSensor;
#[cfg(feature = "ebpf")]
pub use cost::{Baseline, ProgramCost};
#[cfg(feature = "ebpf")]
pub use ebpf::EbpfSensor;
pub use procfs::machine;

use keepahead_core::device::BdiName;
use keepahead_core::sample::Sample;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the sensor looks; tests point it at trees of their own.
#[derive(Clone, Debug)]
pub struct Places {
    pub proc: PathBuf,
    pub sys: PathBuf,
    /// The running kernel's BTF.
    pub btf: PathBuf,
}

impl Default for Places {
    fn default() -> Places {
        Places { proc: "/proc".into(), sys: "/sys".into(), btf: "/sys/kernel/btf/vmlinux".into() }
    }
}

/// What every sensor can do.
pub trait Sense {
    /// Cumulative counters of each bdi of the machine; adapts the sampling rate on the way.
    fn read(&mut self) -> Result<BTreeMap<BdiName, Sample>, SensorError>;
    /// The files of a bdi that demand most, at most `most` of them.
    fn files(&mut self, bdi: &BdiName, most: usize) -> Result<Vec<FileUse>, SensorError>;
    /// From now on these files, and no others, count under `name` and no longer for their device; no files: nothing does. Faults in
    /// `parts` of them count under [`part_name`] too.
    fn count_apart(&mut self, name: &BdiName, files: &[Inode], parts: &[Part]) -> Result<(), SensorError>;
    fn probes(&self) -> &[ProbeStatus];
    /// What is missing for full counts, in words; `None` when nothing is.
    fn missing(&self) -> Option<String>;
    /// What did not fit its bounded map, since the start.
    fn overflow(&self) -> Overflow;
}

/// Parts of one file that can be counted apart (`KA_FILE_PARTS`).
pub const FILE_PARTS: usize = 8;

/// Pages of one of the files that count apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// As the caller names it.
    pub number: u32,
    pub file: Inode,
    pub first: u64,
    pub last: u64,
}

/// The name that a part's faults are counted under.
pub fn part_name(name: &BdiName, number: u32) -> BdiName {
    BdiName(format!("{name}#{number}"))
}

/// A file, as the kernel tells it from others while it is open. The device number is that of its superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode {
    pub ino: u64,
    pub major: u32,
    pub minor: u32,
}

/// How a program listens to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    TpBtf,
    Fentry,
    Kprobe,
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            How::TpBtf => "tp_btf",
            How::Fentry => "fentry",
            How::Kprobe => "kprobe",
        })
    }
}

/// One hook, and what became of it on this kernel.
#[derive(Clone, Debug)]
pub struct ProbeStatus {
    pub hook: &'static str,
    /// What it counts.
    pub counts: &'static str,
    pub attached: Option<How>,
    /// Ways that this kernel does not offer or refuses, and why.
    pub tried: Vec<(How, String)>,
    /// What becomes less exact without it.
    pub lost: &'static str,
    /// Without it there is no trial.
    pub required: bool,
}

/// What one file demanded, since it came among the heavy hitters. Reads and speculation are weighted, the rest is exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileUse {
    pub ino: u64,
    /// Kernel device number of its superblock (`major << 20 | minor`).
    pub dev: u32,
    pub read_pages: u64,
    pub mmap_pages: u64,
    pub miss: u64,
    pub late: u64,
    pub stall_ns: u64,
    pub spec_added: u64,
    pub spec_used: u64,
    pub spec_evicted: u64,
    /// The last process that used it.
    pub pid: u32,
    pub comm: String,
}

impl FileUse {
    pub fn demanded(&self) -> u64 {
        self.read_pages + self.mmap_pages
    }
}

/// Things that found no room in a bounded map, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// First events of devices that got no slot.
    pub slots: u64,
    /// Chunks of speculative pages that could not be tracked.
    pub pending: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("this build has no eBPF (feature `ebpf` is off); build with default features")]
    NotBuilt,
    #[error("{path} is absent: the kernel has no BTF, and the probes need it; use a kernel built with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf { path: PathBuf },
    #[error("not permitted to load BPF programs: {missing} missing; run as root, or give the binary those capabilities")]
    NoCapability { missing: String },
    #[error("kernel lockdown is `{mode}`: it forbids BPF from reading kernel memory; boot without `lockdown=confidentiality`")]
    Lockdown { mode: String },
    #[error("BPF {what}: {reason}")]
    Bpf { what: &'static str, reason: String },
}

/// The best sensor this machine allows, and why it is not eBPF where it is not.
pub fn open(prefer_ebpf: bool, places: &Places) -> (Box<dyn Sense>, Option<SensorError>) {
    let coarse = || Box::new(CoarseSensor::new(places.clone())) as Box<dyn Sense>;
    if !prefer_ebpf {
        return (coarse(), None);
    }
    #[cfg(feature = "ebpf")]
    let opened = EbpfSensor::open_ignoring(places, own_tgid(places)).map(|s| Box::new(s) as Box<dyn Sense>);
    #[cfg(not(feature = "ebpf"))]
    let opened: Result<Box<dyn Sense>, SensorError> = Err(SensorError::NotBuilt);
    match opened {
        Ok(sensor) => (sensor, None),
        Err(why) => (coarse(), Some(why)),
    }
}

/// This process as BPF programs see it; 0 in a PID namespace of its own, where it cannot know.
#[cfg(feature = "ebpf")]
fn own_tgid(places: &Places) -> u32 {
    // `PROC_PID_INIT_INO`, include/linux/proc_ns.h.
    let is_first = std::fs::read_link(places.proc.join("self/ns/pid")).is_ok_and(|ns| ns.as_os_str() == "pid:[4026531836]");
    if is_first { std::process::id() } else { 0 }
}

/// Names in `/sys/class/bdi`.
fn bdi_names(sys: &Path) -> Result<Vec<BdiName>, SensorError> {
    let path = sys.join("class/bdi");
    let entries = std::fs::read_dir(&path).map_err(|source| SensorError::Read { path, source })?;
    Ok(entries.flatten().map(|e| BdiName(e.file_name().to_string_lossy().into_owned())).collect())
}
