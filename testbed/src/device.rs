// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device: a backing file, a loop device over it, a file system, a mount.

use crate::latency::Late;
use crate::reaper::Reaper;
use crate::{Cgroup, PREFIX, run};
use anyhow::{Context, ensure};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    Ext4,
    Xfs,
    Btrfs,
}

impl Fs {
    pub(crate) fn mkfs(self) -> &'static str {
        match self {
            Fs::Ext4 => "mkfs.ext4",
            Fs::Xfs => "mkfs.xfs",
            Fs::Btrfs => "mkfs.btrfs",
        }
    }
}

/// Where the backing file is seen once more, late.
const LATE: &str = "late";

/// Removed again when dropped.
pub struct Testbed {
    /// Directory of this testbed: backing file and mount point.
    dir: PathBuf,
    /// `loop3`.
    pub name: String,
    /// `7:3`, also the bdi's name (but for btrfs).
    pub number: String,
    pub cgroup: Cgroup,
    original: u32,
    late: Option<Late>,
    reaper: Option<Reaper>,
}

impl Testbed {
    /// A device of `mib`, mounted. Its data comes later, by [`Testbed::file`].
    pub fn new(mib: u64, fs: Fs) -> anyhow::Result<Testbed> {
        Testbed::build(mib, fs, true, Duration::ZERO)
    }

    /// The same without a cgroup: for what needs no [`Testbed::limit`], on kernels that have none.
    pub fn unlimited(mib: u64, fs: Fs) -> anyhow::Result<Testbed> {
        Testbed::build(mib, fs, false, Duration::ZERO)
    }

    /// A device each read of which takes `latency` longer, as on a network: needs /dev/fuse.
    pub fn late(mib: u64, fs: Fs, latency: Duration) -> anyhow::Result<Testbed> {
        Testbed::build(mib, fs, true, latency)
    }

    fn build(mib: u64, fs: Fs, limits: bool, latency: Duration) -> anyhow::Result<Testbed> {
        sweep();
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("{PREFIX}{}-{n}", std::process::id());
        let dir = base().join(&id);
        fs::create_dir_all(dir.join("mnt")).with_context(|| format!("{}", dir.display()))?;
        // As the kernel will name the backing file.
        let dir = dir.canonicalize()?;
        let cgroup = Cgroup::named(&id);
        let (name, number) = (String::new(), String::new());
        let mut testbed = Testbed { dir, name, number, cgroup, original: 0, late: None, reaper: None };
        // From here on dropping it removes what there is of it, and so does the reaper: between a mount and the next step a kill hits too.
        testbed.reaper = Some(Reaper::start(&testbed.dir, latency > Duration::ZERO, &testbed.cgroup.dirs).context("/bin/sh")?);
        if limits {
            testbed.cgroup.create()?;
        }
        testbed.attach(mib, fs, limits, latency)?;
        Ok(testbed)
    }

    fn attach(&mut self, mib: u64, fs: Fs, limits: bool, latency: Duration) -> anyhow::Result<()> {
        let mut image = self.dir.join("image");
        let stat = nix::sys::statvfs::statvfs(&self.dir)?;
        let free = (stat.blocks_available() as u64 * stat.fragment_size() as u64) >> 20;
        ensure!(free > mib + 512, "{}: {free} MiB free, {mib} wanted; set KEEPAHEAD_TESTBED_DIR", self.dir.display());
        let file = fs::File::create(&image)?;
        file.set_len(mib << 20)?;
        // In memory a page would be charged to the group that first writes it: the workload, whose memory is limited.
        let in_memory = nix::sys::statfs::statfs(&self.dir)?.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC;
        if in_memory {
            nix::fcntl::posix_fallocate(&file, 0, (mib << 20) as nix::libc::off_t)?;
        }
        if latency > Duration::ZERO {
            let late = self.dir.join(LATE);
            fs::create_dir(&late)?;
            self.late = Some(Late::mount(&image, &late, latency)?);
            image = late.join("image");
        }
        // Without direct I/O the backing file is cached a second time and nothing is ever slow.
        let attach = |direct: &str| run(Command::new("losetup").args(["-f", "--show", direct]).arg(&image));
        // A device without a throttle is not there to be slow: where the file system below refuses, it may be cached twice.
        let path = match attach("--direct-io=on") {
            Err(_) if !limits => attach("--direct-io=off")?,
            other => other?,
        };
        self.name = path.trim_start_matches("/dev/").to_owned();
        self.number = fs::read_to_string(format!("/sys/block/{}/dev", self.name))?.trim().to_owned();
        self.original = self.read_ahead()?;
        fs::write(self.dir.join("original"), self.original.to_string())?;
        // Nor may mkfs give those pages back.
        let options: &[&str] = match fs {
            Fs::Ext4 => &["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
            Fs::Xfs | Fs::Btrfs => &["-q", "-f", "-K"],
        };
        run(Command::new(fs.mkfs()).args(options).arg(&path))?;
        run(Command::new("mount").args(["-o", "noatime"]).arg(&path).arg(self.mount()))?;
        Ok(())
    }

    pub fn mount(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// A file of incompressible data on the device, written with direct I/O so that nothing of it is cached.
    pub fn file(&self, name: &str, mib: u64) -> anyhow::Result<PathBuf> {
        let path = self.mount().join(name);
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).open(&path)?;
        let mut block = Block::new();
        for i in 0..mib {
            file.write_all(block.fill(i)).with_context(|| format!("{}", path.display()))?;
        }
        file.sync_all()?;
        Ok(path)
    }

    fn knob(&self) -> PathBuf {
        Path::new("/sys/block").join(&self.name).join("queue/read_ahead_kb")
    }

    pub fn read_ahead(&self) -> anyhow::Result<u32> {
        Ok(fs::read_to_string(self.knob())?.trim().parse()?)
    }

    pub fn set_read_ahead(&self, kib: u32) -> anyhow::Result<()> {
        fs::write(self.knob(), kib.to_string()).with_context(|| format!("{}", self.knob().display()))
    }

    /// A cloud volume: requests and bytes a second for the processes of the cgroup, and their memory.
    pub fn limit(&self, iops: u64, bytes_per_s: u64, memory_mib: u64) -> anyhow::Result<()> {
        self.cgroup.limit(&self.number, iops, bytes_per_s, memory_mib)
    }
}

/// Drops the page cache of the whole machine.
pub fn drop_caches() -> anyhow::Result<()> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("/proc/sys/vm/drop_caches")
}

impl Testbed {
    pub fn drop_caches(&self) -> anyhow::Result<()> {
        drop_caches()
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.cgroup.kill();
        if !self.name.is_empty() {
            let _ = fs::write(self.knob(), self.original.to_string());
        }
        take_down(&self.dir, &self.name);
        self.cgroup.remove();
        // Last, so that a signal in the middle of this is still answered.
        self.reaper = None;
    }
}

fn take_down(dir: &Path, name: &str) {
    let mount = dir.join("mnt");
    // Lazily as a last resort: something may still be dying in there.
    if run(Command::new("umount").arg(&mount)).is_err() {
        let _ = run(Command::new("umount").arg("-l").arg(&mount));
    }
    if !name.is_empty() {
        let _ = run(Command::new("losetup").arg("-d").arg(format!("/dev/{name}")));
    }
    // Not if it is there: a FUSE mount whose server is dead cannot be looked at.
    let _ = run(Command::new("umount").arg("-l").arg(dir.join(LATE)));
    let _ = fs::remove_dir_all(dir);
}

/// Where testbeds live: `KEEPAHEAD_TESTBED_DIR`, else /var/tmp, which is a disk where /tmp may be memory.
fn base() -> PathBuf {
    std::env::var_os("KEEPAHEAD_TESTBED_DIR").map_or("/var/tmp".into(), PathBuf::from)
}

/// Removes what killed runs left behind.
fn sweep() {
    let Ok(entries) = fs::read_dir(base()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        let all = run(Command::new("losetup").args(["-n", "-l", "-O", "NAME,BACK-FILE"])).unwrap_or_default();
        let of_it = |line: &&str| line.contains(&format!("/{name}/"));
        let attached = all.lines().find(of_it).and_then(|line| line.split_whitespace().next()).unwrap_or("");
        take_down(&entry.path(), attached.trim_start_matches("/dev/"));
        Cgroup::named(&name).remove();
    }
}

/// One MiB, aligned as direct I/O wants it.
struct Block(Vec<[u64; PAGE / 8]>);

const PAGE: usize = 4096;

impl Block {
    /// A page more than needed, so that a whole MiB lies on a page's border.
    fn new() -> Block {
        Block(vec![[0; PAGE / 8]; (1 << 20) / PAGE + 1])
    }

    /// splitmix64: fast, and no file system or disk can compress it.
    fn fill(&mut self, seed: u64) -> &[u8] {
        let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
        for word in self.0.iter_mut().flatten() {
            x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            *word = z ^ (z >> 31);
        }
        // SAFETY: plain words, all of them initialised; the slice lies within the vector, which it borrows.
        let bytes = unsafe { std::slice::from_raw_parts(self.0.as_ptr() as *const u8, self.0.len() * PAGE) };
        let skip = bytes.as_ptr().align_offset(PAGE);
        &bytes[skip..skip + (1 << 20)]
    }
}
