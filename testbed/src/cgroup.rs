// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits for the workload alone, by cgroup v1 (`blkio`, `memory`) or v2 (`io.max`, `memory.max`), whichever the machine has.

use anyhow::Context;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const V1: [&str; 2] = ["/sys/fs/cgroup/blkio", "/sys/fs/cgroup/memory"];
const V2: &str = "/sys/fs/cgroup";

/// A group of the workload: made by [`Cgroup::create`], removed by [`Cgroup::remove`].
pub struct Cgroup {
    /// One directory (v2) or two (v1: blkio, memory).
    pub(crate) dirs: Vec<PathBuf>,
}

pub fn unavailable() -> Option<String> {
    if is_v1() {
        let throttle = Path::new(V1[0]).join("blkio.throttle.read_iops_device");
        return (!throttle.exists()).then(|| format!("{} is missing: the kernel has no block throttling", throttle.display()));
    }
    let controllers = fs::read_to_string(Path::new(V2).join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| controllers.split_whitespace().any(|c| c == name);
    (!has("io") || !has("memory")).then(|| "no cgroup controllers io and memory".into())
}

fn is_v1() -> bool {
    V1.iter().all(|dir| Path::new(dir).join("cgroup.procs").exists())
}

impl Cgroup {
    /// The group of that name, whether it exists or not.
    pub fn named(name: &str) -> Cgroup {
        let dirs = if is_v1() { V1.iter().map(|d| Path::new(d).join(name)).collect() } else { vec![Path::new(V2).join(name)] };
        Cgroup { dirs }
    }

    pub fn create(&self) -> anyhow::Result<()> {
        if !is_v1() {
            let control = Path::new(V2).join("cgroup.subtree_control");
            fs::write(&control, "+io +memory").with_context(|| format!("{}", control.display()))?;
        }
        for dir in &self.dirs {
            fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        }
        Ok(())
    }

    pub fn limit(&self, device: &str, iops: u64, bytes_per_s: u64, memory_mib: u64) -> anyhow::Result<()> {
        let write = |dir: &Path, file: &str, text: String| {
            let path = dir.join(file);
            fs::write(&path, text).with_context(|| format!("{}", path.display()))
        };
        match self.dirs.as_slice() {
            [blkio, memory] => {
                write(blkio, "blkio.throttle.read_iops_device", format!("{device} {iops}"))?;
                write(blkio, "blkio.throttle.read_bps_device", format!("{device} {bytes_per_s}"))?;
                write(memory, "memory.limit_in_bytes", (memory_mib << 20).to_string())
            }
            dirs => {
                write(&dirs[0], "io.max", format!("{device} rbps={bytes_per_s} riops={iops}"))?;
                write(&dirs[0], "memory.max", (memory_mib << 20).to_string())
            }
        }
    }

    /// Page cache charged to the group, bytes (`memory.stat`: `cache` in v1, `file` in v2).
    pub fn cached(&self) -> anyhow::Result<u64> {
        let path = self.dirs.last().context("a cgroup without a directory")?.join("memory.stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let value = |name: &str| stat.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value("file").or_else(|| value("cache")).with_context(|| format!("{}: no page cache in it", path.display()))
    }

    /// The command, to run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let files: Vec<CString> = self.dirs.iter().filter_map(|d| path(&d.join("cgroup.procs"))).collect();
        let enter = move || files.iter().try_for_each(|file| enter(file));
        // SAFETY: between fork and exec only `enter` runs: three system calls, no allocation, since other threads may hold its lock.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Ends everything inside.
    pub fn kill(&self) {
        for dir in &self.dirs {
            for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Ok(pid) = pid.parse() {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
            }
        }
    }

    pub fn remove(&self) {
        for dir in &self.dirs {
            // The kernel needs a moment to see the last process leave.
            for _ in 0..50 {
                if !dir.exists() || fs::remove_dir(dir).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

fn path(file: &Path) -> Option<CString> {
    CString::new(file.as_os_str().as_bytes()).ok()
}

/// Moves the calling process into a group: 0 stands for the writer.
fn enter(procs: &CStr) -> io::Result<()> {
    // SAFETY: the path ends in a zero byte and outlives the call; the descriptor is this function's own.
    let written = unsafe {
        let fd = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 { -1 } else { libc::write(fd, c"0".as_ptr().cast(), 1) }
    };
    if written == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
