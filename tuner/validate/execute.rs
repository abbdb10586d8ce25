// SPDX-License-Identifier: MIT OR Apache-2.0
//! Executes the operations of a script, one system call each. Takes paths of files and of the knob; what is open or mapped at the end
//! is closed and unmapped when dropped.

use keepahead_sim::script::{Fadvice, Madvice, Op, PAGE};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::NonNull;

/// Mappings lie congruent to the file modulo this, the largest that a page table of x86-64 and arm64 (4 KiB pages) covers: it bounds
/// what fault-around maps and decides whether a folio of 2 MiB is mapped at once.
const ALIGNMENT: usize = 2 << 20;

/// What one script has open.
pub(super) struct Execution<'a> {
    paths: &'a [&'a Path],
    knob: &'a Path,
    buffer: &'a mut Vec<u8>,
    fds: BTreeMap<u32, File>,
    maps: BTreeMap<u32, Mapping>,
}

/// Address space with a mapping of a file in it.
struct Mapping {
    reserved: NonNull<c_void>,
    length: NonZeroUsize,
    /// Where the first page of the file would be.
    base: usize,
}

impl<'a> Execution<'a> {
    /// `buffer` is what reads go to, kept from script to script so that its own faults are over.
    pub fn new(paths: &'a [&'a Path], knob: &'a Path, buffer: &'a mut Vec<u8>) -> Execution<'a> {
        Execution { paths, knob, buffer, fds: BTreeMap::new(), maps: BTreeMap::new() }
    }

    /// One operation of a script that [`keepahead_sim::script::Script::check`] accepts.
    pub fn execute(&mut self, op: &Op) -> Result<()> {
        match *op {
            Op::Open { fd, file } => {
                let path = self.paths.get(file as usize).ok_or(ErrorKind::NotFound)?;
                self.fds.insert(fd, File::open(path)?);
            }
            Op::Close { fd } => drop(self.fds.remove(&fd)),
            Op::Pread { fd, offset, bytes } => {
                let bytes = bytes as usize;
                if self.buffer.len() < bytes {
                    // Not zeros: those would come as untouched pages.
                    self.buffer.resize(bytes, 1);
                }
                let file = self.fds.get(&fd).ok_or(ErrorKind::NotFound)?;
                file.read_at(&mut self.buffer[..bytes], offset)?;
            }
            Op::Mmap { map, fd, page, pages } => {
                let file = self.fds.get(&fd).ok_or(ErrorKind::NotFound)?;
                self.maps.insert(map, Mapping::new(file, page, pages)?);
            }
            Op::Munmap { map } => drop(self.maps.remove(&map)),
            Op::Touch { map, page } => {
                let address = self.address(map, page)?;
                // SAFETY: the script was checked: the page lies within the mapping and within the file, which nobody truncates.
                unsafe { address.cast::<u8>().read_volatile() };
            }
            Op::Fadvise { fd, advice, offset, bytes } => {
                let file = self.fds.get(&fd).ok_or(ErrorKind::NotFound)?;
                posix_fadvise(file, offset as i64, bytes as i64, fadvice(advice))?;
            }
            Op::Madvise { map, advice, page, pages } => {
                let address = self.address(map, page)?;
                // SAFETY: within a mapping of this process that no reference points into, and none of the advice destroys data.
                unsafe { madvise(address, (pages * PAGE) as usize, madvice(advice))? };
            }
            Op::ReadAheadKb(kib) => std::fs::write(self.knob, kib.to_string())?,
        }
        Ok(())
    }

    fn address(&self, map: u32, page: u64) -> Result<NonNull<c_void>> {
        let mapping = self.maps.get(&map).ok_or(ErrorKind::NotFound)?;
        let address = mapping.base.wrapping_add((page * PAGE) as usize);
        NonNull::new(std::ptr::with_exposed_provenance_mut(address)).ok_or_else(|| Error::from(ErrorKind::InvalidInput))
    }
}

impl Mapping {
    fn new(file: &File, page: u64, pages: u64) -> Result<Mapping> {
        let bytes = (pages * PAGE) as usize;
        let offset = (page * PAGE) as usize;
        let length = NonZeroUsize::new(bytes + ALIGNMENT).ok_or(ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let reserved = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE)? };
        let lowest = reserved.as_ptr().expose_provenance();
        let address = lowest + (offset % ALIGNMENT + ALIGNMENT - lowest % ALIGNMENT) % ALIGNMENT;
        let mapping = Mapping { reserved, length, base: address.wrapping_sub(offset) };
        let size = NonZeroUsize::new(bytes).ok_or(ErrorKind::InvalidInput)?;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: address..address+bytes lies within what was just reserved: at most ALIGNMENT - PAGE was skipped.
        unsafe { mmap(NonZeroUsize::new(address), size, ProtFlags::PROT_READ, flags, file, offset as i64)? };
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this value's own address space, into which no reference points.
        let _ = unsafe { munmap(self.reserved, self.length.get()) };
    }
}

fn fadvice(advice: Fadvice) -> PosixFadviseAdvice {
    match advice {
        Fadvice::Normal => PosixFadviseAdvice::POSIX_FADV_NORMAL,
        Fadvice::Sequential => PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL,
        Fadvice::Random => PosixFadviseAdvice::POSIX_FADV_RANDOM,
        Fadvice::Noreuse => PosixFadviseAdvice::POSIX_FADV_NOREUSE,
        Fadvice::Willneed => PosixFadviseAdvice::POSIX_FADV_WILLNEED,
        Fadvice::Dontneed => PosixFadviseAdvice::POSIX_FADV_DONTNEED,
    }
}

fn madvice(advice: Madvice) -> MmapAdvise {
    match advice {
        Madvice::Normal => MmapAdvise::MADV_NORMAL,
        Madvice::Sequential => MmapAdvise::MADV_SEQUENTIAL,
        Madvice::Random => MmapAdvise::MADV_RANDOM,
        Madvice::Willneed => MmapAdvise::MADV_WILLNEED,
        Madvice::Dontneed => MmapAdvise::MADV_DONTNEED,
    }
}
