// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of the sensor share: a loop device, the sensor at a held sampling rate, known work.

use keepahead::sensor::{EbpfSensor, How, Places, Sense};
use keepahead_core::device::BdiName;
use keepahead_core::sample::{ADDED, Counters, SCALARS, WORDS};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// The page cache is one for all: one test at a time.
static MACHINE: Mutex<()> = Mutex::new(());
pub const MIB: usize = 1 << 20;
pub const PAGES_PER_MIB: u64 = 256;

/// A file system on a loop device, undone on drop.
pub struct Loop {
    dir: tempfile::TempDir,
    pub device: String,
    _turn: MutexGuard<'static, ()>,
}

pub fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

impl Loop {
    pub fn new(mkfs: &[&str], size: &str) -> Loop {
        let turn = MACHINE.lock().unwrap_or_else(|e| e.into_inner());
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let back = dir.path().join("back.img");
        run("truncate", &["-s", size, back.to_str().unwrap()]);
        let direct = ["-f", "--show", "--direct-io=on", back.to_str().unwrap()];
        let device = match Command::new("losetup").args(direct).output() {
            Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
            _ => run("losetup", &["-f", "--show", back.to_str().unwrap()]), // a backing file on tmpfs before 6.6
        };
        let bed = Loop { dir, device, _turn: turn };
        fs::create_dir(bed.mount()).unwrap();
        if let Some((program, args)) = mkfs.split_first() {
            run(program, &[args, &[bed.device.as_str()]].concat());
            run("mount", &[&bed.device, bed.mount().to_str().unwrap()]);
        }
        bed.set(128);
        bed
    }

    pub fn mount(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    pub fn bdi(&self) -> BdiName {
        let name = self.device.trim_start_matches("/dev/");
        BdiName(fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap().trim().to_owned())
    }

    pub fn set(&self, kib: u32) {
        fs::write(format!("/sys/class/bdi/{}/read_ahead_kb", self.bdi()), kib.to_string()).unwrap();
    }

    /// A file of pseudo-random bytes, on the disk and out of the cache.
    pub fn file(&self, name: &str, mib: usize) -> PathBuf {
        let path = self.mount().join(name);
        let mut file = File::create(&path).unwrap();
        for i in 0..mib {
            file.write_all(&vec![i as u8; MIB]).unwrap();
        }
        file.sync_all().unwrap();
        drop_caches();
        path
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mount()).output();
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}

pub fn drop_caches() {
    run("sync", &[]);
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    DROPS.fetch_add(1, Ordering::Relaxed);
}

/// Our own drops of the page cache.
pub static DROPS: AtomicU64 = AtomicU64::new(0);

/// Drops of the page cache by anybody else since boot.
pub fn foreign_drops() -> u64 {
    let vmstat = fs::read_to_string("/proc/vmstat").unwrap();
    let all = vmstat.lines().find_map(|l| l.strip_prefix("drop_pagecache ")).map_or(0, |v| v.parse().unwrap());
    all - DROPS.load(Ordering::Relaxed).min(all)
}

/// Ways to leave out where a hook has others, so that a young kernel tries those of an old one:
/// `KEEPAHEAD_TEST_WITHOUT="tp_btf fentry"`.
pub fn barred() -> Vec<How> {
    let names = std::env::var("KEEPAHEAD_TEST_WITHOUT").unwrap_or_default();
    [How::TpBtf, How::Fentry, How::Kprobe].into_iter().filter(|how| names.split(' ').any(|n| n == how.to_string())).collect()
}

/// The sensor at a held sampling rate, or `None` with the reason printed.
pub fn sensor(shift: u8) -> Option<EbpfSensor> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    match EbpfSensor::open_without(&Places::default(), &barred()) {
        Ok(mut sensor) => {
            sensor.force_shift(shift).unwrap();
            let ways = sensor.probes().iter().map(|p| format!("{} {:?}", p.hook, p.attached)).collect::<Vec<_>>();
            println!("{}", ways.join(", "));
            Some(sensor)
        }
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

pub fn read(sensor: &mut EbpfSensor, bdi: &BdiName) -> Counters {
    sensor.read().unwrap().remove(bdi).map(|s| s.counters).unwrap_or_default()
}

/// What `work` adds to the counters of `bdi`.
pub fn counted(sensor: &mut EbpfSensor, bdi: &BdiName, work: impl FnOnce()) -> Counters {
    let drops = foreign_drops();
    let before = read(sensor, bdi);
    work();
    let after = read(sensor, bdi).since(&before);
    assert_eq!(foreign_drops(), drops, "somebody else dropped the page cache meanwhile: this test needs the machine to itself");
    println!("{:?}", nonzero(&after));
    after
}

pub fn nonzero(c: &Counters) -> Vec<(&'static str, u64)> {
    let words = c.words();
    let added = ADDED.iter().copied().zip(words[WORDS - ADDED.len()..].iter().copied());
    SCALARS.iter().copied().zip(words).chain(added).filter(|(_, v)| *v != 0).collect()
}

pub fn read_through(path: &Path, request: usize) {
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; request];
    while file.read(&mut buffer).unwrap() > 0 {}
}

pub fn near(value: u64, wanted: u64, percent: u64) -> bool {
    value.abs_diff(wanted) * 100 <= wanted * percent
}

/// Mapping of a whole file.
pub struct Mapping(*mut libc::c_void, usize);

impl Mapping {
    /// Shared and read-only.
    pub fn new(file: &File) -> Mapping {
        Mapping::with(file, libc::PROT_READ, libc::MAP_SHARED)
    }

    /// Private: what is written stays in memory.
    pub fn to_write(file: &File) -> Mapping {
        Mapping::with(file, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE)
    }

    fn with(file: &File, may: i32, how: i32) -> Mapping {
        let len = file.metadata().unwrap().len() as usize;
        // SAFETY: a fresh mapping at an address of the kernel's choice; the result is checked.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, may, how, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Mapping(at, len)
    }

    /// Only where the mapping was made to write.
    pub fn write(&self, page: usize) {
        assert!(page * 4096 < self.1);
        // SAFETY: within the mapping, which lives as long as self and which nobody else has a reference to.
        unsafe { std::ptr::write_volatile(self.0.cast::<u8>().add(page * 4096), 1) };
    }

    pub fn touch(&self, page: usize) {
        assert!(page * 4096 < self.1);
        // SAFETY: within the mapping, which lives as long as self; volatile, so that the load really happens.
        unsafe { std::ptr::read_volatile(self.0.cast::<u8>().add(page * 4096)) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those that mmap gave.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

/// A fixed sequence of page numbers below `pages` (an LCG: the same in every run).
pub fn places(pages: u64, count: usize) -> Vec<u64> {
    let mut x = 88_172_645_463_325_252u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % pages
    };
    (0..count).map(|_| next()).collect()
}

/// A memory cgroup of one's own, v1 or v2; removed on drop.
pub struct MemoryGroup(pub PathBuf);

impl MemoryGroup {
    pub fn new(limit: &str) -> Option<MemoryGroup> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, knob) =
            if v1.exists() { (v1, "memory.limit_in_bytes") } else { (Path::new("/sys/fs/cgroup"), "memory.max") };
        let dir = root.join(format!("keepahead-sensor-{}", std::process::id()));
        fs::create_dir(&dir).ok()?;
        let group = MemoryGroup(dir);
        fs::write(group.0.join(knob), limit).ok()?;
        Some(group)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
