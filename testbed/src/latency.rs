// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk that answers late: the backing file once more, through a file system in user space (FUSE) that sleeps before each read.
//!
//! `blkio.throttle` limits rates alone: a request that comes when tokens are left is answered in some 100 us, while a cloud volume or a
//! network disk takes 0.5 to 2 ms for every one, however little is asked of it. Reading ahead hides exactly that. The kernel here has
//! no device that delays (no dm-delay, null_blk, nbd or ublk), but FUSE it has.

use anyhow::Context;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// Requests under way at once; each sleeps in a thread of its own. The loop driver sends no more than its queue holds (128).
const AT_ONCE: usize = 64;
const NAME: &str = "image";
const IMAGE: INodeNo = INodeNo(2);
/// What the kernel may remember of names and sizes: all of it, nothing changes.
const FOREVER: Duration = Duration::from_secs(1 << 20);

/// Mounted until dropped.
pub struct Late(#[allow(dead_code)] BackgroundSession);

impl Late {
    /// Shows `image` as `at/image`, each read of which takes `by` longer.
    pub fn mount(image: &Path, at: &Path, by: Duration) -> anyhow::Result<Late> {
        let file = File::options().read(true).write(true).open(image).with_context(|| format!("{}", image.display()))?;
        let bytes = file.metadata()?.len();
        let mut config = Config::default();
        config.n_threads = Some(AT_ONCE);
        let mounted = fuser::spawn_mount(Image { file, bytes, by }, at, &config);
        Ok(Late(mounted.with_context(|| format!("a FUSE file system at {}", at.display()))?))
    }
}

struct Image {
    file: File,
    bytes: u64,
    by: Duration,
}

impl Image {
    fn attr(&self, inode: INodeNo) -> Option<FileAttr> {
        let (size, kind, perm) = match inode {
            INodeNo::ROOT => (0, FileType::Directory, 0o700),
            IMAGE => (self.bytes, FileType::RegularFile, 0o600),
            _ => return None,
        };
        let [atime, mtime, ctime, crtime] = [UNIX_EPOCH; 4];
        let (blocks, blksize, nlink, uid, gid, rdev, flags) = (size / 512, 4096, 1, 0, 0, 0, 0);
        Some(FileAttr {
            ino: inode,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            crtime,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev,
            blksize,
            flags,
        })
    }
}

impl Filesystem for Image {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without it the loop driver's requests would come one at a time.
        let missing = |_| io::Error::other("this kernel's FUSE has no asynchronous direct I/O");
        config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).map_err(missing)?;
        let _ = config.set_max_background(AT_ONCE as u16); // Refuses zero only.
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attr(IMAGE).filter(|_| parent == INodeNo::ROOT && name == NAME) {
            Some(attr) => reply.entry(&FOREVER, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(inode) {
            Some(attr) => reply.attr(&FOREVER, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        std::thread::sleep(self.by);
        let mut data = vec![0; size as usize];
        match self.file.read_exact_at(&mut data, offset) {
            Ok(()) => reply.data(&data),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.file.write_all_at(data, offset) {
            Ok(()) => reply.written(data.len() as u32),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.file.sync_data() {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }
    }
}
