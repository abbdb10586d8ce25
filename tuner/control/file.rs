// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client's file: takes a descriptor that a client sent, gives something that can be prefetched, or the reason why not. And the
//! few system calls on it.

use super::access::Peer;
use super::error::ControlError;
use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fstat, fstatfs};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// File systems without a disk behind their page cache, or without one (`include/uapi/linux/magic.h`).
const NOTHING_BEHIND: &[(i64, &str)] = &[
    (0x0102_1994, "tmpfs, which is memory already"),
    (0x8584_58f6, "ramfs, which is memory already"),
    (0x9584_58f6, "hugetlbfs, which is memory already"),
    (0x9fa0, "procfs, whose files are made as they are read"),
    (0x6265_6572, "sysfs, whose files are made as they are read"),
];

/// `STATX_ATTR_DAX` (5.8 and later): no page cache at all.
const ATTR_DAX: u64 = 0x0020_0000;

/// One file of a workload, by a description of our own: what is read through it does not disturb the readahead state of the
/// client's, and the client may close his.
#[derive(Debug)]
pub struct ClientFile {
    file: File,
    /// The client's own description, kept where it may carry advice of ours.
    pub theirs: Option<OwnedFd>,
    pub ino: u64,
    /// Device number as in `stat`, major and minor.
    pub device: (u32, u32),
    /// Whether the client may learn what of it is cached: the rule of `cachestat(2)`, that it is writable or his.
    pub visible: bool,
}

/// What of a range is cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cached {
    pub pages: u64,
    /// Pages that the range spans.
    pub of: u64,
}

impl Cached {
    pub fn is_whole(&self) -> bool {
        self.pages >= self.of
    }

    pub fn bytes(&self) -> u64 {
        self.pages * rustix::param::page_size() as u64
    }
}

impl ClientFile {
    /// `index` is the descriptor's place in the message, for the error.
    pub fn adopt(index: u64, fd: OwnedFd, peer: &Peer) -> Result<ClientFile, ControlError> {
        let refuse = |reason: &str| ControlError::BadDescriptor { index, reason: reason.into() };
        let failed = |what: &str, e: io::Error| ControlError::BadDescriptor { index, reason: format!("{what}: {e}") };
        let flags = fcntl_getfl(&fd).map_err(|e| failed("its flags", e.into()))?;
        let stat = fstat(&fd).map_err(|e| failed("its status", e.into()))?;
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        match kind {
            rustix::fs::FileType::RegularFile => {}
            rustix::fs::FileType::Fifo => return Err(refuse("a pipe has no page cache")),
            rustix::fs::FileType::Socket => return Err(refuse("a socket has no page cache")),
            rustix::fs::FileType::Directory => return Err(refuse("a directory is not read through the page cache")),
            other => return Err(refuse(&format!("only regular files are prefetched, this is a {other:?}"))),
        }
        if flags.contains(OFlags::PATH) {
            return Err(refuse("opened with O_PATH: that is no right to read"));
        }
        if flags.contains(OFlags::DIRECT) {
            return Err(refuse("opened with O_DIRECT: its reads pass the page cache by"));
        }
        let access = flags & OFlags::ACCMODE;
        if access == OFlags::WRONLY {
            return Err(refuse("not open for reading"));
        }
        let fs = fstatfs(&fd).map_err(|e| failed("its file system", e.into()))?;
        if let Some((_, name)) = NOTHING_BEHIND.iter().find(|(magic, _)| *magic == fs.f_type as i64) {
            return Err(refuse(&format!("on {name}")));
        }
        if is_dax(&fd) {
            return Err(refuse("a DAX file: it has no page cache"));
        }
        let file = reopen(&fd).map_err(|e| failed("it could not be opened a second time", e))?;
        // Our own description reads single bytes to wait for what is in flight: nothing else shall come with them.
        let _ = fadvise(&file, 0, None, Advice::Random);
        let visible = peer.uid == 0 || stat.st_uid == peer.uid || access == OFlags::RDWR;
        let device = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        Ok(ClientFile { file, theirs: Some(fd), ino: stat.st_ino, device, visible })
    }

    /// Gives advice on the client's own description, which it shares with its reads.
    pub fn advise(&self, advice: Advice) -> io::Result<()> {
        let theirs = self.theirs.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(fadvise(theirs, 0, None, advice)?)
    }

    /// The client's own description, where it was kept.
    pub fn description(&self) -> Option<BorrowedFd<'_>> {
        self.theirs.as_ref().map(AsFd::as_fd)
    }

    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.size())
    }

    /// Starts reading a range into the page cache and returns. The kernel silently cuts one call at the larger of `max_sectors_kb`
    /// and `read_ahead_kb`, so callers keep below it.
    pub fn will_need(&self, offset: u64, length: u64) -> io::Result<()> {
        Ok(fadvise(&self.file, offset, std::num::NonZeroU64::new(length), Advice::WillNeed)?)
    }

    /// Waits until the page with this byte is in the cache. At or behind the end of the file there is nothing to wait for.
    pub fn wait_for(&self, byte: u64) -> io::Result<()> {
        self.file.read_at(&mut [0u8], byte).map(|_| ())
    }

    /// Drops the clean, unmapped, whole pages of a range.
    pub fn dont_need(&self, offset: u64, length: u64) -> io::Result<()> {
        Ok(fadvise(&self.file, offset, std::num::NonZeroU64::new(length), Advice::DontNeed)?)
    }

    /// `cachestat(2)`, 6.5 and later; `ENOSYS` before.
    pub fn cached(&self, offset: u64, length: u64) -> io::Result<Cached> {
        const SYS_CACHESTAT: i64 = 451;
        if length == 0 {
            // To the kernel, the rest of the file.
            return Ok(Cached::default());
        }
        let page = rustix::param::page_size() as u64;
        let of = (offset + length - 1) / page - offset / page + 1;
        let (range, mut stat) = ([offset, length], [0u64; 5]);
        // SAFETY: `struct cachestat_range` is two u64, `struct cachestat` five; both live through the call.
        let done = unsafe { libc::syscall(SYS_CACHESTAT, self.file.as_raw_fd(), range.as_ptr(), stat.as_mut_ptr(), 0) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Cached { pages: stat[0], of })
    }
}

/// A second description of the same file. O_NOATIME, so that prefetching leaves no trace; O_NONBLOCK, so that a lease is no wait.
fn reopen(fd: &OwnedFd) -> io::Result<File> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let open = |flags| File::options().read(true).custom_flags(flags).open(&path);
    open(libc::O_NOATIME | libc::O_NONBLOCK).or_else(|_| open(libc::O_NONBLOCK))
}

fn is_dax(fd: &OwnedFd) -> bool {
    let found = rustix::fs::statx(fd, "", rustix::fs::AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::empty());
    found.is_ok_and(|s| s.stx_attributes.bits() & ATTR_DAX != 0)
}

/// Largest step of `POSIX_FADV_WILLNEED` that the kernel takes whole on a device: `force_page_cache_ra()` in `mm/readahead.c` cuts
/// at the larger of the bdi's `io_pages` (`max_sectors_kb`) and `ra_pages`. 128 KiB, the default of every bdi, where it is unknown.
pub fn step_bytes(device: (u32, u32)) -> u64 {
    let dir = PathBuf::from(format!("/sys/dev/block/{}:{}", device.0, device.1));
    // A partition has the queue of its disk.
    let queue = if dir.join("partition").exists() { dir.join("../queue") } else { dir.join("queue") };
    let read =
        |file: &str| -> u64 { std::fs::read_to_string(queue.join(file)).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0) };
    let kib = read("max_sectors_kb").max(read("read_ahead_kb"));
    // More than 1 MiB in one call gains nothing and makes those behind it wait.
    if kib == 0 { 128 << 10 } else { kib.clamp(4, 1024) << 10 }
}

/// Lets this thread's requests wait for everybody else's, where the device has a scheduler that knows of it (`ioprio_set(2)`).
pub fn idle_io_priority() {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_IDLE: i32 = 3 << 13;
    // SAFETY: three numbers; 0 is the calling thread.
    if unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE) } != 0 {
        tracing::debug!("prefetching at normal I/O priority: {}", io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn peer() -> Peer {
        Peer::of(&std::os::unix::net::UnixStream::pair().unwrap().0).unwrap()
    }

    fn refused(fd: impl Into<OwnedFd>) -> String {
        match ClientFile::adopt(4, fd.into(), &peer()) {
            Err(ControlError::BadDescriptor { index: 4, reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn descriptors_without_a_page_cache_to_fill_are_refused_with_the_reason() {
        let (pipe, _other) = nix::unistd::pipe().unwrap();
        assert!(refused(pipe).contains("pipe"));
        assert!(refused(std::os::unix::net::UnixStream::pair().unwrap().0).contains("socket"));
        assert!(refused(File::open("/").unwrap()).contains("directory"));
        assert!(refused(File::open("/dev/null").unwrap()).contains("CharacterDevice"));
        assert!(refused(rustix::fs::memfd_create("m", rustix::fs::MemfdFlags::empty()).unwrap()).contains("tmpfs"));
        assert!(refused(File::open("/proc/self/status").unwrap()).contains("procfs"));
        let exe = std::env::current_exe().unwrap();
        let open = |flags| File::options().read(true).custom_flags(flags).open(&exe).unwrap();
        assert!(refused(open(libc::O_PATH)).contains("O_PATH"));
        let dir = tempfile::tempdir_in(exe.parent().unwrap()).unwrap();
        let direct = dir.path().join("f");
        assert!(refused(File::create(&direct).unwrap()).contains("not open for reading"));
        match File::options().read(true).custom_flags(libc::O_DIRECT).open(&direct) {
            Ok(file) => assert!(refused(file).contains("O_DIRECT")),
            Err(e) => println!("skipped: no O_DIRECT here: {e}"),
        }
    }

    #[test]
    fn a_regular_file_is_cached_on_demand() {
        let mut file = tempfile::NamedTempFile::new_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        file.write_all(&[1; 64 << 10]).unwrap();
        file.as_file().sync_all().unwrap();
        let adopted = ClientFile::adopt(0, File::open(file.path()).unwrap().into(), &peer()).unwrap();
        assert!(adopted.visible && adopted.size().unwrap() == 64 << 10);
        adopted.dont_need(0, 64 << 10).unwrap();
        adopted.will_need(0, 64 << 10).unwrap();
        adopted.wait_for((64 << 10) - 1).unwrap();
        adopted.wait_for(1 << 30).unwrap();
        match adopted.cached(0, 64 << 10) {
            Ok(cached) => assert!(cached.is_whole() && cached.bytes() == 64 << 10, "{cached:?}"),
            Err(e) => println!("skipped: cachestat: {e}"),
        }
    }
}
