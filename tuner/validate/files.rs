// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files that scripts read. Each size is written once for each place in a script and used again; before a script, nothing of it
//! is cached, and after each operation everything asked for is there.

use super::ValidateError;
use keepahead_sim::script::PAGE;
use nix::fcntl::PosixFadviseAdvice;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fs::File;
use std::io::{Error, Write};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// A read that takes longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// cachestat(2): the same number on every architecture (`include/uapi/asm-generic/unistd.h`); libc does not name it everywhere.
const SYS_CACHESTAT: libc::c_long = 451;

/// A file on the device, held open to watch its pages.
pub(super) struct Stored {
    pub path: PathBuf,
    pub ino: u64,
    file: File,
    /// A mapping that is never touched: mincore(2) takes addresses. `None` for an empty file.
    watch: Option<NonNull<c_void>>,
    bytes: u64,
}

/// All files of a device, by place in the script and size.
pub(super) struct Files {
    dir: PathBuf,
    stored: BTreeMap<(usize, u64), Stored>,
}

impl Files {
    pub fn new(dir: PathBuf) -> Files {
        Files { dir, stored: BTreeMap::new() }
    }

    /// Sees to it that there is a file of each size, with nothing of it cached.
    pub fn prepare(&mut self, sizes: &[u64]) -> Result<(), ValidateError> {
        for key in sizes.iter().copied().enumerate() {
            if !self.stored.contains_key(&key) {
                let path = self.dir.join(format!("{}-{}", key.0, key.1));
                let stored = Stored::write(&path, key.1).map_err(|source| ValidateError::File { path, source })?;
                self.stored.insert(key, stored);
            }
            self.stored[&key].drop_cache()?;
        }
        Ok(())
    }

    /// The files of a script in its order, once prepared.
    pub fn of(&self, sizes: &[u64]) -> Vec<&Stored> {
        sizes.iter().copied().enumerate().filter_map(|key| self.stored.get(&key)).collect()
    }
}

impl Stored {
    fn write(path: &Path, bytes: u64) -> std::io::Result<Stored> {
        let mut file = File::create(path)?;
        let block: Vec<u8> = (0..1u32 << 20).map(|n| (n.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        let mut left = bytes;
        while left > 0 {
            let now = left.min(block.len() as u64);
            file.write_all(&block[..now as usize])?;
            left -= now;
        }
        // Dirty pages cannot be dropped.
        file.sync_all()?;
        let file = File::open(path)?;
        let watch = NonZeroUsize::new(bytes as usize).map(|length| {
            // SAFETY: a new mapping at an address of the kernel's choice; nothing else lies there.
            unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &file, 0) }
        });
        Ok(Stored { path: path.into(), ino: file.metadata()?.ino(), watch: watch.transpose()?, file, bytes })
    }

    /// Takes every page out of the cache, and looks whether that worked.
    fn drop_cache(&self) -> Result<(), ValidateError> {
        let failed = |source: Error| ValidateError::File { path: self.path.clone(), source };
        let start = Instant::now();
        loop {
            nix::fcntl::posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
                .map_err(|e| failed(e.into()))?;
            let pages = self.cached().map_err(failed)?;
            if pages == 0 {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(ValidateError::NotDropped { path: self.path.clone(), pages });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Pages of the file in the cache, read or still being read: cachestat(2), Linux 6.5.
    fn cached(&self) -> std::io::Result<u64> {
        let everything = [0u64; 2];
        let mut stat = [0u64; 5];
        // SAFETY: `struct cachestat_range` is two u64, `struct cachestat` five; both outlive the call.
        let status = unsafe { libc::syscall(SYS_CACHESTAT, self.file.as_raw_fd(), everything.as_ptr(), stat.as_mut_ptr(), 0) };
        if status == 0 {
            return Ok(stat[0]);
        }
        match Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOSYS) => self.resident(),
            e => Err(e),
        }
    }

    /// The same without those still being read: mincore(2).
    fn resident(&self) -> std::io::Result<u64> {
        let Some(watch) = self.watch else { return Ok(0) };
        let mut resident = vec![0u8; self.bytes.div_ceil(PAGE) as usize];
        // SAFETY: the mapping holds the whole file, and there is a byte for each page.
        let status = unsafe { libc::mincore(watch.as_ptr(), self.bytes as usize, resident.as_mut_ptr().cast()) };
        if status != 0 {
            return Err(Error::last_os_error());
        }
        Ok(resident.iter().filter(|page| **page & 1 == 1).count() as u64)
    }

    /// Waits until these pages, all of them in the cache, have been read. Pages past the end of the file are not asked for.
    pub fn settle(&self, first: u64, end: u64) -> Result<(), ValidateError> {
        let end = end.min(self.bytes.div_ceil(PAGE));
        let (Some(watch), true) = (self.watch, first < end) else { return Ok(()) };
        let mut resident = vec![0u8; (end - first) as usize];
        let start = Instant::now();
        loop {
            // SAFETY: first..end lies within the mapping, and there is a byte for each page.
            let status = unsafe {
                let address = watch.as_ptr().byte_add((first * PAGE) as usize);
                libc::mincore(address, resident.len() * PAGE as usize, resident.as_mut_ptr().cast())
            };
            if status != 0 {
                return Err(ValidateError::File { path: self.path.clone(), source: Error::last_os_error() });
            }
            if resident.iter().all(|page| page & 1 == 1) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(ValidateError::NotSettled { path: self.path.clone(), first, end, seconds });
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Some(watch) = self.watch {
            // SAFETY: this value's own mapping, of which no reference was ever made.
            let _ = unsafe { munmap(watch, self.bytes as usize) };
        }
    }
}
