// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripts that a real kernel and the simulated one both execute, so that their events can be compared one by one. A script is a list
//! of files and of system calls in one fixed order, by one task: everything that the page cache does about it follows from it.
//!
//! `random` makes them, `text` reads and writes them, `minimise` shortens one that shows a difference, `compare` finds it; a
//! `recording` is a script with what a kernel did, operation by operation.

pub mod compare;
mod event_text;
pub mod golden;
pub mod minimise;
pub mod random;
pub mod recording;
mod simulate;
mod text;

pub use compare::{Mismatch, compare};
pub use recording::{Environment, Filesystem, Recording};
pub use simulate::{Pace, simulate, simulate_at};
pub use text::{ScriptError, Trouble};

use std::collections::BTreeMap;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Largest file, 1 GiB: a script must be executable on a small scratch device.
pub const MAX_FILE_BYTES: u64 = 1 << 30;
/// Largest single read, 64 MiB.
pub const MAX_READ_BYTES: u64 = 64 << 20;
/// Largest `read_ahead_kb`, 1 GiB.
pub const MAX_READ_AHEAD_KB: u32 = 1 << 20;
/// Most files, and most numbers of descriptors and mappings.
pub const MAX_NUMBER: u32 = 256;

/// A script: what is there at the start, then one operation after the other. The cache holds nothing of the files at the start, and
/// every operation begins after all I/O of the one before it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// `queue/read_ahead_kb` at the start, in KiB.
    pub read_ahead_kb: u32,
    /// Size of each file in bytes; file `n` is `files[n]`.
    pub files: Vec<u64>,
    pub ops: Vec<Op>,
}

/// One operation. `fd` and `map` are numbers chosen by the script; pages count from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `open(2)` for reading: an open file of its own, with a `file_ra_state` of its own.
    Open { fd: u32, file: u32 },
    /// `close(2)`. Mappings made through the descriptor keep the open file.
    Close { fd: u32 },
    /// `pread(2)`; reads less at the end of the file.
    Pread { fd: u32, offset: u64, bytes: u64 },
    /// `mmap(2)`, shared and read-only, at an address congruent to the page modulo 2 MiB.
    Mmap { map: u32, fd: u32, page: u64, pages: u64 },
    /// `munmap(2)` of the whole mapping.
    Munmap { map: u32 },
    /// Reads one byte of this page of the file through the mapping.
    Touch { map: u32, page: u64 },
    /// `posix_fadvise(2)`; 0 bytes mean up to the end.
    Fadvise { fd: u32, advice: Fadvice, offset: u64, bytes: u64 },
    /// `madvise(2)` of pages of the mapping.
    Madvise { map: u32, advice: Madvice, page: u64, pages: u64 },
    /// A write to `queue/read_ahead_kb`.
    ReadAheadKb(u32),
}

/// `POSIX_FADV_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fadvice {
    Normal,
    Sequential,
    Random,
    Noreuse,
    Willneed,
    Dontneed,
}

/// `MADV_*`, as far as they concern file mappings and readahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Madvice {
    Normal,
    Sequential,
    Random,
    Willneed,
    /// Drops the page tables' entries; the pages stay cached.
    Dontneed,
}

/// A mapping that is alive.
#[derive(Clone, Copy)]
struct Mapped {
    page: u64,
    pages: u64,
}

/// What is open and mapped after some operations: whether the next one makes sense.
#[derive(Default)]
pub(crate) struct Standing {
    fds: BTreeMap<u32, u32>,
    maps: BTreeMap<u32, Mapped>,
}

impl Script {
    /// Pages of a file, the last one perhaps in part.
    pub fn pages(&self, file: u32) -> u64 {
        self.files.get(file as usize).map_or(0, |bytes| bytes.div_ceil(PAGE))
    }

    /// The first operation that cannot be executed, and why.
    pub fn check(&self) -> Result<(), (usize, Trouble)> {
        let mut standing = Standing::default();
        self.ops.iter().enumerate().try_for_each(|(at, op)| standing.apply(self, op).map_err(|trouble| (at, trouble)))
    }
}

impl Standing {
    pub(crate) fn apply(&mut self, script: &Script, op: &Op) -> Result<(), Trouble> {
        match *op {
            Op::Open { fd, file } => {
                number("descriptor", fd)?;
                if file as usize >= script.files.len() {
                    return Err(Trouble::NoFile { file, files: script.files.len() });
                }
                insert(&mut self.fds, fd, file, Trouble::Taken { kind: 'd', number: fd })
            }
            Op::Close { fd } => self.fds.remove(&fd).map(|_| ()).ok_or(Trouble::NotThere { kind: 'd', number: fd }),
            Op::Pread { fd, offset, bytes } => {
                within("bytes read", bytes, MAX_READ_BYTES)?;
                within("offset", offset, MAX_FILE_BYTES)?;
                self.file(fd).map(|_| ())
            }
            Op::Mmap { map, fd, page, pages } => {
                number("mapping", map)?;
                let file = self.file(fd)?;
                inside(page, pages, 0, script.pages(file))?;
                insert(&mut self.maps, map, Mapped { page, pages }, Trouble::Taken { kind: 'm', number: map })
            }
            Op::Munmap { map } => self.maps.remove(&map).map(|_| ()).ok_or(Trouble::NotThere { kind: 'm', number: map }),
            Op::Touch { map, page } => self.inside_map(map, page, 1),
            Op::Fadvise { fd, offset, bytes, .. } => {
                within("offset", offset, MAX_FILE_BYTES)?;
                within("bytes advised", bytes, MAX_FILE_BYTES)?;
                self.file(fd).map(|_| ())
            }
            Op::Madvise { map, page, pages, .. } => self.inside_map(map, page, pages),
            Op::ReadAheadKb(kib) => within("read_ahead_kb", u64::from(kib), u64::from(MAX_READ_AHEAD_KB)),
        }
    }

    fn file(&self, fd: u32) -> Result<u32, Trouble> {
        self.fds.get(&fd).copied().ok_or(Trouble::NotThere { kind: 'd', number: fd })
    }

    fn inside_map(&self, map: u32, page: u64, pages: u64) -> Result<(), Trouble> {
        let mapped = self.maps.get(&map).ok_or(Trouble::NotThere { kind: 'm', number: map })?;
        inside(page, pages, mapped.page, mapped.page + mapped.pages)
    }
}

fn insert<T>(all: &mut BTreeMap<u32, T>, number: u32, value: T, taken: Trouble) -> Result<(), Trouble> {
    if all.contains_key(&number) {
        return Err(taken);
    }
    all.insert(number, value);
    Ok(())
}

fn number(what: &'static str, number: u32) -> Result<(), Trouble> {
    within(what, u64::from(number), u64::from(MAX_NUMBER))
}

pub(crate) fn within(what: &'static str, value: u64, limit: u64) -> Result<(), Trouble> {
    if value > limit { Err(Trouble::TooLarge { what, value, limit }) } else { Ok(()) }
}

/// Pages past the end of the file or mapping would end the task by SIGBUS or SIGSEGV.
fn inside(page: u64, pages: u64, first: u64, end: u64) -> Result<(), Trouble> {
    let fits = pages > 0 && page >= first && page.checked_add(pages).is_some_and(|last| last <= end);
    if fits { Ok(()) } else { Err(Trouble::OutOfRange { page, pages, first, end }) }
}
