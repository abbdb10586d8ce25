// SPDX-License-Identifier: MIT OR Apache-2.0
//! Putting values back: takes what is outstanding and a way to find, read and write the knobs; gives what became of each device.
//! The original comes back only where the value is still one of ours; somebody else's value is never touched. Open files with windows
//! of their own follow their device again, after it.

use super::Release;
use super::restore_file::Outstanding;
use keepahead_core::device::BdiName;
use keepahead_core::units::Kib;
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The knobs of a machine, as far as restoring needs them.
pub trait Knobs {
    /// What tells the bdi of this name from a later one, see [`keepahead_core::device::Device::node`].
    fn node(&self, bdi: &BdiName) -> Option<u64>;
    /// The bdi that this identity has now. `last` is the name it had when we wrote; another device may have it by now.
    fn find(&self, identity: &str, last: &BdiName) -> Option<BdiName>;
    fn read(&self, bdi: &BdiName) -> io::Result<Kib>;
    fn write(&self, bdi: &BdiName, value: Kib) -> io::Result<()>;
    /// Takes our windows from open files. How many had one.
    fn withdraw(&self, left: &Outstanding) -> io::Result<usize>;
}

/// Knobs under `SYS/class/bdi`, found by the name they had. All that a panic hook can do.
pub struct BdiKnobs {
    pub sys: PathBuf,
}

impl BdiKnobs {
    fn knob(&self, bdi: &BdiName) -> PathBuf {
        self.sys.join("class/bdi").join(&bdi.0).join("read_ahead_kb")
    }
}

impl Knobs for BdiKnobs {
    fn node(&self, bdi: &BdiName) -> Option<u64> {
        let folder = self.knob(bdi).parent()?.metadata().ok()?;
        Some(std::os::unix::fs::MetadataExt::ino(&folder))
    }

    fn find(&self, _identity: &str, last: &BdiName) -> Option<BdiName> {
        self.knob(last).exists().then(|| last.clone())
    }

    fn read(&self, bdi: &BdiName) -> io::Result<Kib> {
        let text = std::fs::read_to_string(self.knob(bdi))?;
        text.trim()
            .parse()
            .map(Kib)
            .map_err(|_| io::Error::other(format!("read_ahead_kb says {:?}, not a number", text.trim())))
    }

    fn write(&self, bdi: &BdiName, value: Kib) -> io::Result<()> {
        std::fs::write(self.knob(bdi), value.0.to_string())
    }

    fn withdraw(&self, _: &Outstanding) -> io::Result<usize> {
        Err(io::Error::other("`keepahead restore` and the next start can take it from open files"))
    }
}

/// What became of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    pub identity: String,
    pub label: String,
    /// The value that was ours.
    pub from: Kib,
    /// The original.
    pub to: Kib,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Restored {
    /// As a line of JSON says it.
    pub fn json(&self) -> serde_json::Value {
        let mut line = serde_json::to_value(self).unwrap_or_default();
        line["record"] = "restored".into();
        line
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The original was written and read back.
    Restored,
    /// So many open files follow their device again.
    Withdrawn {
        files: usize,
    },
    /// `on_exit = "keep"`: it stays, on purpose.
    Kept,
    /// It was already there: a crash between restoring and noting it, or a trial that had ended.
    AlreadyOriginal,
    /// Somebody else wrote it since: left alone.
    NotOurs {
        found: Kib,
    },
    /// The machine was booted since: the kernel made the value anew.
    Rebooted {
        found: Kib,
    },
    DeviceGone,
    Failed {
        error: String,
    },
}

impl Outcome {
    /// How the device is released; `None`: it stays outstanding for the next try.
    pub fn release(&self) -> Option<Release> {
        match self {
            Outcome::Restored | Outcome::AlreadyOriginal | Outcome::Withdrawn { .. } => Some(Release::Restored),
            Outcome::Kept => Some(Release::KeptOnExit),
            Outcome::NotOurs { .. } => Some(Release::HandsOff),
            Outcome::Rebooted { .. } | Outcome::DeviceGone => Some(Release::Gone),
            Outcome::Failed { .. } => None,
        }
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restored { label, from, to, .. } = self;
        match &self.outcome {
            Outcome::Restored => write!(f, "{label}: restored {from} → {to}"),
            Outcome::Withdrawn { files: 1 } => write!(f, "{label}: 1 open file has its device's window again"),
            Outcome::Withdrawn { files } => write!(f, "{label}: {files} open files have their device's window again"),
            Outcome::Kept => write!(f, "{label}: kept at {from} (it was {to})"),
            Outcome::AlreadyOriginal => write!(f, "{label}: {to} is already back"),
            Outcome::NotOurs { found } => {
                write!(f, "{label}: left at {found}: somebody else wrote it since ours ({from}; the original was {to})")
            }
            Outcome::Rebooted { found } => {
                write!(f, "{label}: nothing to restore: the machine was booted since, {found} is the kernel's own")
            }
            Outcome::DeviceGone => write!(f, "{label}: the device is gone, and the value with it"),
            Outcome::Failed { error } => write!(f, "{label}: {to} could not be put back over {from}: {error}; it stays noted"),
        }
    }
}

/// Puts back each value that is still ours. Needs no journal: a crash halfway is seen next time as [`Outcome::AlreadyOriginal`].
pub fn restore(items: &[Outstanding], boot_id: &str, knobs: &dyn Knobs) -> Vec<Restored> {
    let one = |o: &Outstanding| Restored {
        identity: o.identity.clone(),
        label: o.label.clone(),
        from: o.last_written,
        to: o.original,
        outcome: restore_one(o, boot_id, knobs).unwrap_or_else(|e| Outcome::Failed { error: e.to_string() }),
    };
    // Open files take what their device has then.
    let (files, devices): (Vec<_>, Vec<_>) = items.iter().partition(|o| o.is_of_open_files());
    devices.into_iter().chain(files).map(one).collect()
}

fn restore_one(o: &Outstanding, boot_id: &str, knobs: &dyn Knobs) -> io::Result<Outcome> {
    if o.is_of_open_files() {
        // No open file outlives a boot.
        return Ok(Outcome::Withdrawn { files: if o.boot_id == boot_id { knobs.withdraw(o)? } else { 0 } });
    }
    let bdi = match find_ours(o, boot_id, knobs)? {
        Ok((bdi, _)) => bdi,
        Err(outcome) => return Ok(outcome),
    };
    knobs.write(&bdi, o.original)?;
    match knobs.read(&bdi)? {
        now if now == o.original => Ok(Outcome::Restored),
        now => Ok(Outcome::Failed { error: format!("the kernel made {now} of it") }),
    }
}

/// Where a value of ours still is, and which; or what became of it.
fn find_ours(o: &Outstanding, boot_id: &str, knobs: &dyn Knobs) -> io::Result<Result<(BdiName, Kib), Outcome>> {
    let here = o.boot_id == boot_id;
    // What was written is a bdi, whatever stands behind it by now: a loop device keeps its value when its file goes. A bdi that was made anew
    // begins with the kernel's own, and may have the old one's name.
    let bdi = match o.node.filter(|_| here) {
        Some(node) => (knobs.node(&o.bdi) == Some(node)).then(|| o.bdi.clone()),
        None => knobs.find(&o.identity, &o.bdi),
    };
    let Some(bdi) = bdi else { return Ok(Err(Outcome::DeviceGone)) };
    let found = knobs.read(&bdi)?;
    // Values in sysfs do not outlive a boot: one that equals ours is then the kernel's or a udev rule's.
    if !here {
        return Ok(Err(Outcome::Rebooted { found }));
    }
    if found == o.original {
        return Ok(Err(Outcome::AlreadyOriginal));
    }
    if !o.ours.contains(&found) {
        return Ok(Err(Outcome::NotOurs { found }));
    }
    Ok(Ok((bdi, found)))
}

/// For a panic hook: puts back what `restore.json` of the state directory names, with no database and no discovery.
pub fn emergency(state_dir: &Path, sys: &Path, boot_id: &str) -> Vec<Restored> {
    restore(&super::Journal::emergency_restore_file(state_dir), boot_id, &BdiKnobs { sys: sys.into() })
}

/// The devices that have a value of ours now, by the same file, with that value; nothing is written.
pub fn left_behind(state_dir: &Path, sys: &Path, boot_id: &str) -> Vec<(Outstanding, Kib)> {
    let knobs = BdiKnobs { sys: sys.into() };
    let noted = super::Journal::emergency_restore_file(state_dir).into_iter().filter(|o| !o.is_of_open_files());
    let found = noted.filter_map(|o| {
        let (_, found) = find_ours(&o, boot_id, &knobs).ok()?.ok()?;
        Some((o, found))
    });
    found.collect()
}
