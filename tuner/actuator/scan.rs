// SPDX-License-Identifier: MIT OR Apache-2.0
//! The open files of some bdis, as the kernel lists them through `bpf/openfiles.bpf.c`: one row a `struct file`, however many
//! descriptors and processes share it.

use keepahead_core::device::BdiName;

/// `FMODE_RANDOM | FMODE_NOREUSE`: `POSIX_FADV_NORMAL` would clear both. Bits as found on 6.18; NOREUSE exists since 6.3.
pub const ADVISED_MODES: u32 = 0x1000 | 1 << 23;

/// One open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Address of the kernel's `struct file`: its identity while it lives.
    pub file: u64,
    /// Address of the inode behind its page cache.
    pub inode: u64,
    pub ino: u64,
    /// Device of its superblock, kernel encoding (20 bits of minor).
    pub dev: u32,
    pub tgid: u32,
    pub fd: u32,
    pub ra_pages: u32,
    /// What its bdi held at the time of the scan.
    pub bdi_ra_pages: u32,
    pub f_mode: u32,
    pub uid: u32,
    pub comm: String,
    pub bdi: BdiName,
}

/// Bytes of a row: `struct ka_open_file`.
pub const ROW: usize = 8 * 3 + 4 * 8 + 16 + NAME;
/// Bytes of a bdi's name in a row and in the map of wanted ones, closing zero included.
pub const NAME: usize = 32;

/// The files in what the iterator wrote, each `struct file` once.
pub fn parse(bytes: &[u8]) -> Vec<OpenFile> {
    let mut met = std::collections::HashSet::new();
    bytes.chunks_exact(ROW).map(row).filter(|file| met.insert(file.file)).collect()
}

fn row(bytes: &[u8]) -> OpenFile {
    let u64_at = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    let u32_at = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    OpenFile {
        file: u64_at(0),
        inode: u64_at(8),
        ino: u64_at(16),
        dev: u32_at(24),
        tgid: u32_at(28),
        fd: u32_at(32),
        ra_pages: u32_at(36),
        bdi_ra_pages: u32_at(40),
        f_mode: u32_at(44),
        uid: u32_at(48),
        comm: text(&bytes[56..72]),
        bdi: BdiName(text(&bytes[72..72 + NAME])),
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(feature = "ebpf")]
pub use live::Scanner;

#[cfg(feature = "ebpf")]
mod live {
    use super::{NAME, OpenFile, parse};
    use crate::actuator::capability::{self, Capability};
    use crate::actuator::error::ActuatorError;
    use keepahead_core::device::BdiName;
    use libbpf_rs::skel::{OpenSkel, SkelBuilder};
    use libbpf_rs::{Iter, Link, MapCore, MapFlags, MapHandle};
    use std::collections::BTreeSet;
    use std::io::Read;
    use std::mem::MaybeUninit;

    #[allow(clippy::all, clippy::undocumented_unsafe_blocks, dead_code)]
    mod skel {
        include!(concat!(env!("OUT_DIR"), "/openfiles.skel.rs"));
    }

    /// The loaded iterator. The link keeps the program, the handle keeps the map; the rest of the object is not needed.
    pub struct Scanner {
        link: Link,
        wanted: MapHandle,
        listed: BTreeSet<BdiName>,
    }

    impl Scanner {
        pub fn load() -> Result<Scanner, ActuatorError> {
            let needs = [Capability::Bpf, Capability::Perfmon];
            if let Some(missing) = capability::effective().and_then(|caps| capability::missing(caps, &needs)) {
                return Err(ActuatorError::Capability { what: "listing open files", missing });
            }
            let bpf = |e: libbpf_rs::Error| ActuatorError::Bpf(format!("{e:#}"));
            let mut storage = MaybeUninit::uninit();
            let skel = skel::OpenfilesSkelBuilder::default().open(&mut storage).map_err(bpf)?.load().map_err(bpf)?;
            let link = skel.progs.open_files.attach().map_err(bpf)?;
            let wanted = MapHandle::try_from(&skel.maps.wanted).map_err(bpf)?;
            Ok(Scanner { link, wanted, listed: BTreeSet::new() })
        }

        /// Lists the open files of `bdis`: one pass over all descriptors of all processes.
        pub fn scan(&mut self, bdis: &[BdiName]) -> Result<Vec<OpenFile>, ActuatorError> {
            self.want(bdis)?;
            let mut bytes = Vec::new();
            let mut iter = Iter::new(&self.link).map_err(|e| ActuatorError::Bpf(format!("{e:#}")))?;
            iter.read_to_end(&mut bytes).map_err(|e| ActuatorError::Bpf(e.to_string()))?;
            Ok(parse(&bytes))
        }

        fn want(&mut self, bdis: &[BdiName]) -> Result<(), ActuatorError> {
            let bpf = |e: libbpf_rs::Error| ActuatorError::Bpf(format!("{e:#}"));
            let wanted: BTreeSet<BdiName> = bdis.iter().cloned().collect();
            for bdi in self.listed.difference(&wanted) {
                self.wanted.delete(&name(bdi)?).map_err(bpf)?;
            }
            for bdi in wanted.difference(&self.listed) {
                self.wanted.update(&name(bdi)?, &1u32.to_ne_bytes(), MapFlags::ANY).map_err(bpf)?;
            }
            self.listed = wanted;
            Ok(())
        }
    }

    fn name(bdi: &BdiName) -> Result<[u8; NAME], ActuatorError> {
        let bytes = bdi.0.as_bytes();
        if bytes.len() >= NAME {
            return Err(ActuatorError::LongName(bdi.clone()));
        }
        Ok(std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0)))
    }
}
/// One for tests, on 7:0, read-only, without advice; the device's window is 32 pages.
#[cfg(test)]
pub fn open_file(id: u64, comm: &str, ra_pages: u32) -> OpenFile {
    let (comm, bdi) = (comm.to_owned(), BdiName("7:0".into()));
    let (dev, tgid, fd, bdi_ra_pages, f_mode, uid) = (0, 7, 3, 32, 1, 0);
    OpenFile { file: id, inode: id, ino: id, dev, tgid, fd, ra_pages, bdi_ra_pages, f_mode, uid, comm, bdi }
}
