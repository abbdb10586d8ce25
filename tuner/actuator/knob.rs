// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `read_ahead_kb` of a bdi: one compare, one write, one read back. The kernel validates nothing (1 becomes 0, 4294967295 is
//! accepted), so the bounds that must never be crossed are held here, below everything that decides.

use super::error::ActuatorError;
use keepahead_core::device::{BdiName, QueueLimits};
use keepahead_core::units::Kib;
use std::fs;
use std::path::{Path, PathBuf};

/// Below this one page per request remains on 4 KiB pages: 135 times slower measured at 0.
pub const FLOOR: Kib = Kib(4);

/// Reads and writes the knobs under one sysfs root.
#[derive(Clone, Debug)]
pub struct Knob {
    sys: PathBuf,
}

impl Knob {
    pub fn new(sys: impl Into<PathBuf>) -> Knob {
        Knob { sys: sys.into() }
    }

    /// Where the knob of a bdi is.
    pub fn path(&self, bdi: &BdiName) -> PathBuf {
        self.sys.join("class/bdi").join(&bdi.0).join("read_ahead_kb")
    }

    /// See [`Device::node`](keepahead_core::device::Device::node).
    pub fn node(&self, bdi: &BdiName) -> Option<u64> {
        let folder = fs::metadata(self.path(bdi).parent()?).ok()?;
        Some(std::os::unix::fs::MetadataExt::ino(&folder))
    }

    pub fn read(&self, bdi: &BdiName) -> Result<Kib, ActuatorError> {
        let path = self.path(bdi);
        let text = fs::read_to_string(&path).map_err(|e| ActuatorError::knob(bdi, path.clone(), e))?;
        text.trim().parse().map(Kib).map_err(|_| ActuatorError::NotANumber { path, found: text.trim().into() })
    }

    /// Limits of the queue behind a bdi that bears a block device's number; all zero for file systems with a bdi of their own.
    pub fn limits(&self, bdi: &BdiName) -> QueueLimits {
        queue_limits(&self.sys.join("dev/block").join(&bdi.0).join("queue"))
    }

    /// Writes a new value where `expected` still stands, and tells what the kernel made of it.
    pub fn write(&self, bdi: &BdiName, expected: Kib, wanted: Kib) -> Result<Kib, ActuatorError> {
        if wanted < FLOOR {
            return Err(ActuatorError::BelowFloor { bdi: bdi.clone(), wanted });
        }
        if !wanted.0.is_power_of_two() {
            return Err(ActuatorError::NotAPowerOfTwo { bdi: bdi.clone(), wanted });
        }
        self.exchange(bdi, expected, wanted)
    }

    /// Puts an original value back, however odd (even 0, if that is what keepahead found), where `expected` still stands.
    pub fn restore(&self, bdi: &BdiName, expected: Kib, original: Kib) -> Result<Kib, ActuatorError> {
        self.exchange(bdi, expected, original)
    }

    fn exchange(&self, bdi: &BdiName, expected: Kib, wanted: Kib) -> Result<Kib, ActuatorError> {
        let found = self.read(bdi)?;
        if found != expected {
            return Err(ActuatorError::OtherValue { bdi: bdi.clone(), expected, found });
        }
        if found != wanted {
            let path = self.path(bdi);
            // Not fs::write: creating the file where the bdi has just gone would make one in a fake tree and mean nothing here.
            let written = fs::OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(&path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, wanted.0.to_string().as_bytes()));
            written.map_err(|e| ActuatorError::knob(bdi, path, e))?;
        }
        self.read(bdi)
    }
}

/// Limits as a queue directory gives them; what is absent counts as zero.
pub(crate) fn queue_limits(queue: &Path) -> QueueLimits {
    let number = |name: &str| -> u64 {
        fs::read_to_string(queue.join(name)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    QueueLimits {
        max_sectors_kb: u32::try_from(number("max_sectors_kb")).unwrap_or(u32::MAX),
        optimal_io_bytes: number("optimal_io_size"),
        rotational: number("rotational") == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(value: &str) -> (tempfile::TempDir, Knob, BdiName) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("class/bdi/8:0");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("read_ahead_kb"), value).unwrap();
        let knob = Knob::new(root.path());
        (root, knob, BdiName("8:0".into()))
    }

    #[test]
    fn writes_and_reads_back() {
        let (_root, knob, bdi) = planted("128\n");
        assert_eq!(knob.write(&bdi, Kib(128), Kib(512)).unwrap(), Kib(512));
        assert_eq!(knob.read(&bdi).unwrap(), Kib(512));
    }

    #[test]
    fn refuses_what_the_kernel_would_accept() {
        let (_root, knob, bdi) = planted("128\n");
        for wanted in [0, 1, 2, 3] {
            assert!(matches!(knob.write(&bdi, Kib(128), Kib(wanted)), Err(ActuatorError::BelowFloor { .. })), "{wanted}");
        }
        assert!(matches!(knob.write(&bdi, Kib(128), Kib(160)), Err(ActuatorError::NotAPowerOfTwo { .. })));
        assert_eq!(knob.read(&bdi).unwrap(), Kib(128));
    }

    #[test]
    fn keeps_hands_off_a_value_that_somebody_else_wrote() {
        let (_root, knob, bdi) = planted("4096\n");
        let error = knob.write(&bdi, Kib(128), Kib(256)).unwrap_err();
        assert!(error.to_string().contains("expected 128 KiB, found 4096 KiB"), "{error}");
        assert!(knob.restore(&bdi, Kib(128), Kib(64)).is_err());
        assert_eq!(knob.read(&bdi).unwrap(), Kib(4096));
    }

    #[test]
    fn restores_odd_originals() {
        let (_root, knob, bdi) = planted("256\n");
        assert_eq!(knob.restore(&bdi, Kib(256), Kib(2560)).unwrap(), Kib(2560));
        assert_eq!(knob.restore(&bdi, Kib(2560), Kib(0)).unwrap(), Kib(0));
    }

    #[test]
    fn a_bdi_that_is_gone_is_named() {
        let (_root, knob, _) = planted("128\n");
        let error = knob.read(&BdiName("7:9".into())).unwrap_err();
        assert!(matches!(error, ActuatorError::Gone(..)) && error.to_string().contains("7:9"), "{error}");
    }
}
