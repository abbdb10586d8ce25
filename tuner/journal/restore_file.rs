// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is outstanding: the devices whose value is ours, and what it was before. One text, with a checksum and a generation, is kept
//! twice: in the database and as `restore.json` beside it, so that a torn database (or a torn file) loses nothing. A checksum,
//! because SQLite notices a broken page but not a flipped byte inside a value; a generation, because a damaged write-ahead log makes
//! SQLite go back silently to an older commit.

use keepahead_core::device::{BdiName, OPEN_FILES};
use keepahead_core::units::Kib;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "restore.json";
const ABOUT: &str = "Values of read_ahead_kb that keepahead changed; `keepahead restore` puts them back.";

/// A device with a value of ours on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outstanding {
    /// Survives renumbering, see [`keepahead_core::device::Device::identity`].
    pub identity: String,
    pub bdi: BdiName,
    /// See [`keepahead_core::device::Device::node`]; `None` also where an earlier version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u64>,
    pub label: String,
    /// What comes back.
    pub original: Kib,
    pub last_written: Kib,
    /// Every value that can be ours: one after a confirmed write; both ends of the write while it is not confirmed.
    pub ours: Vec<Kib>,
    /// UTC of the first change.
    pub since: String,
    pub run: i64,
    /// Values in sysfs do not outlive a boot.
    pub boot_id: String,
}

impl Outstanding {
    /// Windows of open files, which no device has as its value.
    pub fn is_of_open_files(&self) -> bool {
        self.identity.starts_with(OPEN_FILES)
    }

    /// People may say the label, the bdi or the identity.
    pub fn is_named(&self, name: &str) -> bool {
        self.label == name || self.bdi.0 == name || self.identity == name
    }
}

/// All outstanding devices at one moment; a higher generation is newer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub generation: u64,
    pub devices: Vec<Outstanding>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    about: String,
    check: String,
    state: Ledger,
}

impl Ledger {
    pub fn get(&self, identity: &str) -> Option<&Outstanding> {
        self.devices.iter().find(|d| d.identity == identity)
    }

    pub fn get_mut(&mut self, identity: &str) -> Option<&mut Outstanding> {
        self.devices.iter_mut().find(|d| d.identity == identity)
    }

    pub fn next(&self) -> Ledger {
        Ledger { generation: self.generation + 1, devices: self.devices.clone() }
    }

    pub fn seal(&self) -> String {
        let sealed = Sealed { about: ABOUT.into(), check: self.check(), state: self.clone() };
        // Strings and integers only: this serialisation has no way to fail.
        serde_json::to_string_pretty(&sealed).unwrap_or_default()
    }

    pub fn unseal(text: &[u8]) -> Result<Ledger, String> {
        let sealed: Sealed = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        if sealed.check != sealed.state.check() {
            return Err(format!("its checksum is {}, not {}", sealed.state.check(), sealed.check));
        }
        Ok(sealed.state)
    }

    /// FNV-1a, 64 bits: guards against torn and flipped bytes, not against people.
    fn check(&self) -> String {
        let body = serde_json::to_vec(self).unwrap_or_default();
        let hash = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
        format!("{hash:016x}")
    }
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// `None`: there is no such file. `Err`: there is one, and it cannot be trusted.
pub(super) fn read(dir: &Path) -> Result<Option<Ledger>, String> {
    match std::fs::read(path(dir)) {
        Ok(text) => Ledger::unseal(&text).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

/// Replaces the file as a whole: a crash leaves the old one or the new one, and a return means that the new one is on the disk.
pub(super) fn replace(dir: &Path, ledger: &Ledger) -> io::Result<()> {
    let mut new = tempfile::Builder::new().prefix(".restore-").tempfile_in(dir)?;
    new.write_all(ledger.seal().as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(path(dir)).map_err(|e| e.error)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let device = Outstanding {
            identity: "wwid:x".into(),
            bdi: BdiName("259:0".into()),
            node: Some(7),
            label: "nvme0n1".into(),
            original: Kib(128),
            last_written: Kib(1024),
            ours: vec![Kib(1024)],
            since: "2026-11-22T23:10:04.000Z".into(),
            run: 1,
            boot_id: "b".into(),
        };
        Ledger { generation: 7, devices: vec![device] }
    }

    #[test]
    fn a_replaced_file_reads_back_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), Ok(None));
        replace(dir.path(), &ledger()).unwrap();
        replace(dir.path(), &ledger()).unwrap();
        assert_eq!(read(dir.path()), Ok(Some(ledger())));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_changed_value_breaks_the_seal() {
        let text = ledger().seal().replace("1024", "2048");
        assert!(Ledger::unseal(text.as_bytes()).unwrap_err().contains("checksum"));
    }
}
