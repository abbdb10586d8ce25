// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo as a newcomer runs it, only shorter: it ends with its table, and leaves nothing behind, however it ends.

use keepahead_testbed::{PREFIX, program, run, unavailable};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// `false`, and said so, where the demo itself would only say what is missing.
fn can_run() -> bool {
    let why = unavailable().or_else(|| program("keepahead").err().map(|e| e.to_string()));
    if let Some(why) = &why {
        println!("skipped: {why}");
    }
    why.is_none()
}

fn start() -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepahead-demo"));
    command.arg("--quick").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(mut child: Child, mut out: impl Read) -> (ExitStatus, String) {
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (child.wait().unwrap(), text)
}

/// No BPF here, or somebody tunes this machine already: the demo has said so, and nothing more can be seen.
fn refused(status: ExitStatus, text: &str) -> bool {
    let refused = status.code() == Some(3) || text.contains("already running");
    if refused {
        println!("skipped: {text}");
    }
    refused
}

fn nothing_is_left(pid: u32) {
    assert_eq!(left_of(pid), None);
}

/// The first thing of a run that is still there.
fn left_of(pid: u32) -> Option<String> {
    let name = format!("{PREFIX}{pid}-");
    let loops = run(Command::new("losetup").args(["-l", "-n", "-O", "BACK-FILE"])).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    if let Some(line) = loops.lines().chain(mounts.lines()).find(|line| line.contains(&name)) {
        return Some(line.to_owned());
    }
    let base = std::env::var("KEEPAHEAD_TESTBED_DIR").unwrap_or("/var/tmp".into());
    for dir in [&base, "/sys/fs/cgroup", "/sys/fs/cgroup/blkio", "/sys/fs/cgroup/memory"] {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        if let Some(left) = entries.flatten().find(|e| e.file_name().to_string_lossy().starts_with(&name)) {
            return Some(format!("{:?}", left.path()));
        }
    }
    // The agent and the workload have the testbed's directory among their arguments.
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        arguments.contains(&name).then(|| format!("{:?} still runs: {arguments}", process.path()))
    })
}

#[test]
fn real_kernel_demo_ends_with_its_table_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let mut child = start();
    let (pid, out) = (child.id(), child.stdout.take().unwrap());
    let (status, text) = end(child, out);
    nothing_is_left(pid);
    if refused(status, &text) {
        return;
    }
    assert!(status.success(), "{text}");
    for wanted in ["best static", "sequential scan ", "random mmap ", "short runs ", "watching; read_ahead_kb is 128"] {
        assert!(text.contains(wanted), "{wanted:?} is missing: {text}");
    }
    assert!(text.contains("read_ahead_kb 128 (as found)"), "{text}");
}

#[test]
fn real_kernel_demo_interrupted_while_the_agent_runs_leaves_nothing() {
    if !can_run() {
        return;
    }
    let mut child = start();
    let pid = child.id();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while out.read_line(&mut line).unwrap() > 0 && !line.contains("watching;") {
        line.clear();
    }
    std::thread::sleep(Duration::from_millis(1200));
    // Already over where it was refused; else it is in the first phase with the agent.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGINT);
    let (status, text) = end(child, out);
    nothing_is_left(pid);
    if refused(status, &text) {
        return;
    }
    assert_eq!(status.code(), Some(130), "{text}");
    assert!(text.contains("interrupted:"), "{text}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn real_kernel_demo_killed_while_the_agent_runs_leaves_nothing() {
    if !can_run() {
        return;
    }
    let mut child = start();
    let pid = child.id();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while out.read_line(&mut text).unwrap() > 0 && !text.contains("watching;") {}
    std::thread::sleep(Duration::from_millis(1200));
    let watched = text.contains("watching;");
    child.kill().unwrap();
    let status = child.wait().unwrap();
    if !watched {
        // Refused and over before the kill.
        println!("skipped: the demo did not run: {text}");
        assert!(status.code().is_some(), "{text}");
        return;
    }
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end && left_of(pid).is_some() {
        std::thread::sleep(Duration::from_millis(100));
    }
    nothing_is_left(pid);
}
