// SPDX-License-Identifier: MIT OR Apache-2.0
//! The actuator on the running kernel: loop devices of its own, real file systems, open files held by other processes.
//! Without root, loop devices or BPF a test says `skipped: WHY` and passes.

#![cfg(feature = "ebpf")]

use keepahead::actuator::knob::Knob;
use keepahead::actuator::openfiles::OpenFilesActuator;
use keepahead::actuator::rules::{FileRules, Rule};
use keepahead::actuator::scan::OpenFile;
use keepahead::actuator::watch::Watch;
use keepahead::actuator::{Actuate, ActuatorError, Hotplug, Roots, SysfsActuator, discover};
use keepahead_core::device::{BdiName, DeviceKind};
use keepahead_core::units::Kib;
use rustix::fs::Advice;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A loop device with a file system on it, taken down at the end of the test.
struct Volume {
    dir: tempfile::TempDir,
    device: String,
    bdi: BdiName,
    mounted: bool,
}

fn sh(command: &str) -> Result<String, String> {
    let out = Command::new("sh").args(["-c", command]).output().map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        false => Err(format!("{command}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

impl Volume {
    fn new(mkfs: &str) -> Result<Volume, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root for loop devices".into());
        }
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let image = dir.path().join("back.img");
        File::create(&image).and_then(|file| file.set_len(256 << 20)).map_err(|e| e.to_string())?;
        let device = sh(&format!("losetup -f --show {}", image.display()))?;
        let name = device.trim_start_matches("/dev/");
        let number = fs::read_to_string(format!("/sys/block/{name}/dev")).map_err(|e| e.to_string())?;
        let mut volume = Volume { bdi: BdiName(number.trim().into()), dir, device, mounted: false };
        if !mkfs.is_empty() {
            fs::create_dir(volume.point()).map_err(|e| e.to_string())?;
            sh(&format!("{mkfs} {} && mount {0} {}", volume.device, volume.point().display()))?;
            volume.mounted = true;
        }
        Ok(volume)
    }

    fn point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn file(&self, name: &str) -> File {
        let path = self.point().join(name);
        fs::write(&path, vec![7u8; 1 << 20]).unwrap();
        File::open(path).unwrap()
    }

    fn detach(&mut self) {
        if std::mem::take(&mut self.mounted) {
            let _ = sh(&format!("umount {}", self.point().display()));
        }
        if !self.device.is_empty() {
            let _ = sh(&format!("losetup -d {}", std::mem::take(&mut self.device)));
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Another process that holds a file open (as its standard input) and never reads it.
struct HeldBy(Child);

impl HeldBy {
    fn sleep(file: File) -> HeldBy {
        HeldBy(Command::new("sleep").arg("600").stdin(Stdio::from(file)).spawn().unwrap())
    }
}

impl Drop for HeldBy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

macro_rules! or_skip {
    ($given:expr) => {
        match $given {
            Ok(value) => value,
            Err(why) => {
                eprintln!("skipped: {why}");
                return;
            }
        }
    };
}

const EXT4: &str = "mkfs.ext4 -q";

fn actuator(per_second: u32, rules: FileRules) -> Result<OpenFilesActuator, ActuatorError> {
    OpenFilesActuator::new(rules, per_second, "/proc")
}

/// An open file counts for the first process that has it. A child that is still in execve has its siblings' files too: it goes on before
/// they are closed, and on a busy machine stays there for a while.
fn held(files: &mut OpenFilesActuator, bdi: &BdiName, child: &HeldBy) -> OpenFile {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let listed = files.list(std::slice::from_ref(bdi)).unwrap();
        match listed.into_iter().find(|file| file.tgid == child.0.id()) {
            Some(file) => return file,
            None if Instant::now() > end => panic!("the child's file is not listed"),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Sets the knob whatever stands there: where a test begins.
fn preset(bdi: &BdiName, value: Kib) -> Knob {
    let knob = Knob::new("/sys");
    let found = knob.read(bdi).unwrap();
    knob.write(bdi, found, value).unwrap();
    knob
}

#[test]
fn a_value_is_written_read_back_and_restored() {
    let volume = or_skip!(Volume::new(""));
    let knob = Knob::new("/sys");
    let original = knob.read(&volume.bdi).unwrap();
    let mut actuator = SysfsActuator::new(knob.clone());
    let to = if original == Kib(512) { Kib(1024) } else { Kib(512) };
    assert_eq!(actuator.set(&volume.bdi, original, to).unwrap().read_back, to);
    assert!(matches!(actuator.set(&volume.bdi, original, Kib(64)), Err(ActuatorError::OtherValue { .. })));
    assert_eq!(actuator.restore(&volume.bdi, to, original).unwrap().read_back, original);
    assert!(knob.limits(&volume.bdi).max_sectors_kb > 0);
}

#[test]
fn a_file_that_another_process_opened_before_is_reached() {
    let volume = or_skip!(Volume::new(EXT4));
    let mut files = or_skip!(actuator(100, FileRules::default()));
    let knob = preset(&volume.bdi, Kib(128));
    let child = HeldBy::sleep(volume.file("a"));
    files.observe(std::slice::from_ref(&volume.bdi)).unwrap();
    assert_eq!(held(&mut files, &volume.bdi, &child).ra_pages, 32);

    knob.write(&volume.bdi, Kib(128), Kib(1024)).unwrap();
    assert_eq!(held(&mut files, &volume.bdi, &child).ra_pages, 32, "the kernel alone leaves open files behind");
    let reached = files.refresh(&volume.bdi, Kib(1024), Instant::now()).unwrap();
    assert_eq!((reached.current, reached.refreshed, reached.stale), (1, 1, 0), "{reached:?}");
    assert_eq!(held(&mut files, &volume.bdi, &child).ra_pages, 256);
}

#[test]
fn what_the_application_advised_is_left_alone() {
    let volume = or_skip!(Volume::new(EXT4));
    let mut files = or_skip!(actuator(100, FileRules::default()));
    let mut knob = preset(&volume.bdi, Kib(128));
    let (random, sequential, noreuse) = (volume.file("r"), volume.file("s"), volume.file("n"));
    rustix::fs::fadvise(&random, 0, None, Advice::Random).unwrap();
    rustix::fs::fadvise(&sequential, 0, None, Advice::Sequential).unwrap();
    rustix::fs::fadvise(&noreuse, 0, None, Advice::NoReuse).unwrap();
    let children = [HeldBy::sleep(random), HeldBy::sleep(sequential), HeldBy::sleep(noreuse)];
    files.observe(std::slice::from_ref(&volume.bdi)).unwrap();
    let before = children.each_ref().map(|child| held(&mut files, &volume.bdi, child));
    assert_eq!(before[1].ra_pages, 64, "SEQUENTIAL is twice the bdi's value");

    // The trial value 256 KiB is just what SEQUENTIAL left in the file; back to 128 it must not be taken for a stale one.
    for (from, to) in [(128, 256), (256, 128), (128, 1024)] {
        knob = preset(&volume.bdi, Kib(from));
        files.observe(std::slice::from_ref(&volume.bdi)).unwrap();
        knob.write(&volume.bdi, Kib(from), Kib(to)).unwrap();
        let reached = files.refresh(&volume.bdi, Kib(to), Instant::now()).unwrap();
        let wanted_advised = if before[2].f_mode & (1 << 23) != 0 { 3 } else { 2 };
        assert_eq!(reached.advised, wanted_advised, "{to}: {reached:?}");
    }
    let after = children.each_ref().map(|child| held(&mut files, &volume.bdi, child));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.ra_pages, before.f_mode), (after.ra_pages, after.f_mode));
    }
    drop(knob);
}

#[test]
fn bounds_and_deny_lists_are_kept() {
    let volume = or_skip!(Volume::new(EXT4));
    let mut files = or_skip!(actuator(3, FileRules::default()));
    let knob = preset(&volume.bdi, Kib(128));
    let _children: Vec<HeldBy> = (0..5).map(|n| HeldBy::sleep(volume.file(&n.to_string()))).collect();
    files.observe(std::slice::from_ref(&volume.bdi)).unwrap();
    knob.write(&volume.bdi, Kib(128), Kib(64)).unwrap();
    let now = Instant::now();
    let reached = files.refresh(&volume.bdi, Kib(64), now).unwrap();
    assert_eq!((reached.refreshed, reached.stale), (3, 2), "{reached:?}");
    let reached = files.refresh(&volume.bdi, Kib(64), now + Duration::from_secs(1)).unwrap();
    assert_eq!((reached.current, reached.refreshed, reached.stale), (5, 2, 0), "{reached:?}");

    let sleep = Rule { comm: Some("sle*".into()), ..Rule::default() };
    let mut files = actuator(100, FileRules { allow: vec![], deny: vec![sleep] }).unwrap();
    files.observe(std::slice::from_ref(&volume.bdi)).unwrap();
    knob.write(&volume.bdi, Kib(64), Kib(256)).unwrap();
    let reached = files.refresh(&volume.bdi, Kib(256), Instant::now()).unwrap();
    assert_eq!((reached.denied, reached.refreshed, reached.current), (5, 0, 0), "{reached:?}");
}

#[test]
fn a_file_shared_by_two_processes_counts_once() {
    let volume = or_skip!(Volume::new(EXT4));
    let mut files = or_skip!(actuator(100, FileRules::default()));
    let knob = preset(&volume.bdi, Kib(128));
    let file = volume.file("shared");
    let _children = [HeldBy::sleep(file.try_clone().unwrap()), HeldBy::sleep(file)];
    files.observe(std::slice::from_ref(&volume.bdi)).unwrap();
    knob.write(&volume.bdi, Kib(128), Kib(512)).unwrap();
    let reached = files.refresh(&volume.bdi, Kib(512), Instant::now()).unwrap();
    assert_eq!((reached.current, reached.refreshed), (1, 1), "{reached:?}");
}

#[test]
fn open_raw_block_devices_are_reached() {
    let volume = or_skip!(Volume::new(""));
    let mut files = or_skip!(actuator(100, FileRules::default()));
    let knob = preset(&volume.bdi, Kib(128));
    let child = HeldBy::sleep(File::open(&volume.device).unwrap());
    files.observe(std::slice::from_ref(&volume.bdi)).unwrap();
    knob.write(&volume.bdi, Kib(128), Kib(512)).unwrap();
    let reached = files.refresh(&volume.bdi, Kib(512), Instant::now()).unwrap();
    assert_eq!((reached.current, reached.refreshed), (1, 1), "{reached:?}");
    assert_eq!(held(&mut files, &volume.bdi, &child).ra_pages, 128);
}

#[test]
fn btrfs_is_tuned_by_its_own_bdi() {
    let volume = or_skip!(Volume::new("mkfs.btrfs -q"));
    let found = discover(&Roots::default()).unwrap();
    let point = volume.point().display().to_string();
    let device = found.tunable.iter().find(|d| d.label.ends_with(&point)).expect("the btrfs is found");
    assert_eq!(device.kind, DeviceKind::Btrfs);
    assert!(device.identity.starts_with("fs-uuid:") && device.bdi.0.starts_with("btrfs-"), "{device:?}");
    let refused = found.not_tunable.iter().find(|no| no.bdi.as_ref() == Some(&volume.bdi)).expect("its member is refused");
    assert!(refused.why.contains("a member of btrfs"), "{refused:?}");

    let mut files = or_skip!(actuator(100, FileRules::default()));
    let knob = preset(&device.bdi, Kib(4096));
    let _child = HeldBy::sleep(volume.file("b"));
    files.observe(std::slice::from_ref(&device.bdi)).unwrap();
    knob.write(&device.bdi, Kib(4096), Kib(256)).unwrap();
    let reached = files.refresh(&device.bdi, Kib(256), Instant::now()).unwrap();
    assert_eq!((reached.current, reached.refreshed), (1, 1), "{reached:?}");
}

#[test]
fn another_writer_is_named() {
    let volume = or_skip!(Volume::new(""));
    let mut watch = or_skip!(Watch::new("/sys"));
    watch.add(&volume.bdi).unwrap();
    let knob = preset(&volume.bdi, Kib(128));
    assert!(watch.drain().is_empty(), "keepahead's own writes are not others'");
    let name = volume.device.trim_start_matches("/dev/");
    for file in [knob.path(&volume.bdi), format!("/sys/block/{name}/queue/read_ahead_kb").into()] {
        // The shell waits after its write, so that it can still be named.
        let command = format!("echo 256 > {}; read wait", file.display());
        let mut shell = Command::new("sh").args(["-c", &command]).stdin(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut writers = Vec::new();
        while writers.is_empty() && Instant::now() < deadline {
            writers = watch.drain();
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(shell.stdin.take());
        shell.wait().unwrap();
        let (bdi, writer) = writers.first().expect("the write is seen");
        assert_eq!((bdi, writer.pid, writer.comm.as_str()), (&volume.bdi, shell.id(), "sh"));
    }
}

#[test]
fn a_device_that_leaves_is_gone() {
    let mut hotplug = or_skip!(Hotplug::new(Roots::default()));
    let mut volume = or_skip!(Volume::new(""));
    let appeared = hotplug.poll().unwrap().appeared;
    let device = appeared.iter().find(|device| device.bdi == volume.bdi).expect("the loop device appeared");
    assert_eq!(device.kind, DeviceKind::Loop);
    assert!(device.identity.starts_with("loop:/"), "{}", device.identity);
    assert!(!device.disks.is_empty() && !device.disks[0].starts_with("loop"), "{:?}", device.disks);
    volume.detach();
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut gone = Vec::new();
    while !gone.contains(&volume.bdi) && Instant::now() < deadline {
        gone.extend(hotplug.poll().unwrap().gone);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(gone.contains(&volume.bdi));
}

/// Runs itself again without any capability: what is refused must be named.
#[test]
fn a_missing_capability_is_named() {
    const BARE: &str = "KEEPAHEAD_TEST_WITHOUT_CAPABILITIES";
    if std::env::var_os(BARE).is_some() {
        let refused = actuator(1, FileRules::default()).err().expect("BPF is refused").to_string();
        assert!(refused.contains("CAP_BPF and CAP_PERFMON"), "{refused}");
        let refused = Watch::new("/sys").err().expect("fanotify is refused").to_string();
        assert!(refused.contains("CAP_SYS_ADMIN"), "{refused}");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root to drop capabilities from");
        return;
    }
    let run = Command::new("setpriv")
        .args(["--bounding-set", "-all", "--inh-caps", "-all"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "real_kernel::a_missing_capability_is_named"])
        .env(BARE, "1")
        .output();
    let out = or_skip!(run.map_err(|e| format!("setpriv (util-linux): {e}")));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    assert!(String::from_utf8_lossy(&out.stdout).contains("1 passed"));
}
