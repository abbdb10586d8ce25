// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device with a workload on it and an agent over both, for the tests beside this file.

use keepahead_testbed::workload::Running;
use keepahead_testbed::{Fs, Testbed, unavailable};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub const KEEPAHEAD: &str = env!("CARGO_BIN_EXE_keepahead");

/// A throttled device with one file on it, `read_ahead_kb` 128.
pub struct Bench {
    pub testbed: Testbed,
    pub file: PathBuf,
    pub state: tempfile::TempDir,
}

impl Bench {
    /// `None` where this machine cannot: says why.
    pub fn new() -> Option<Bench> {
        let no_bpf = (!Path::new("/sys/kernel/btf/vmlinux").exists()).then(|| "no BTF".to_string());
        if let Some(why) = unavailable().or(no_bpf) {
            println!("skipped: {why}");
            return None;
        }
        let testbed = Testbed::new(900, Fs::Ext4).unwrap();
        let file = testbed.file("data", 700).unwrap();
        // Sequential reads: 131 MB/s at 128 KiB, 400 at 512. The file does not fit in memory, so it stays cold.
        testbed.limit(1000, 400_000_000, 256).unwrap();
        testbed.set_read_ahead(128).unwrap();
        testbed.drop_caches().unwrap();
        Some(Bench { testbed, file, state: tempfile::tempdir().unwrap() })
    }

    pub fn value(&self) -> u32 {
        self.testbed.read_ahead().unwrap()
    }

    pub fn work(&self, phases: &str) -> Running {
        Running::start(&self.testbed, &self.file, phases, 11).unwrap()
    }

    /// `keepahead run` on this device, as a command to add to.
    pub fn command(&self, format: &str) -> Command {
        let mut command = Command::new(KEEPAHEAD);
        command.args(["--format", format, "run", "--device", &self.testbed.name, "--state-dir"]).arg(self.state.path());
        command
    }

    pub fn agent(&self) -> Agent {
        Agent::start(&mut self.command("json"))
    }

    pub fn keepahead(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let output = Command::new(KEEPAHEAD).args(arguments).arg("--state-dir").arg(self.state.path()).output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What was decided is decided again from the journal's inputs.
    #[allow(dead_code)] // Of the tests that share this file, one asks.
    pub fn replays(&self) {
        let journal = self.state.path().join("journal.sqlite");
        let replay = Command::new(KEEPAHEAD).arg("replay").arg(journal).output().unwrap();
        assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stdout));
    }
}

/// A file system of 2 MiB under the agent's state.
pub struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    pub fn under(at: &Path) -> SmallDisk<'_> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).status().unwrap();
        assert!(mounted.success());
        SmallDisk(at)
    }

    pub fn fill(&self) {
        let _ = std::fs::write(self.0.join("filler"), vec![1u8; 4 << 20]);
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // An agent that a failed test leaves behind may still be there.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// A running agent and its JSON lines.
pub struct Agent {
    child: Child,
    lines: Receiver<Value>,
    pub seen: Vec<Value>,
}

impl Agent {
    pub fn start(command: &mut Command) -> Agent {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = send.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Agent { child, lines, seen: Vec::new() }
    }

    /// Waits for the first record that fits.
    pub fn wait(&mut self, seconds: u64, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if fits(&line) {
                        return line;
                    }
                }
                Err(_) => {
                    let mut stderr = String::new();
                    let _ = self.child.kill();
                    let _ = self.child.stderr.take().unwrap().read_to_string(&mut stderr);
                    let seen: Vec<String> = self.seen.iter().map(ToString::to_string).collect();
                    panic!("no {what} within {seconds} s; stderr:\n{stderr}\nseen:\n{}", seen.join("\n"));
                }
            }
        }
    }

    /// Waits until a trial has written its candidate.
    pub fn wait_mid_trial(&mut self) -> Value {
        self.wait(20, "write of a trial", |r| r["record"] == "applied" && r["applied"]["read_back"] != 128)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the end; status, and standard error.
    pub fn end(mut self) -> (ExitStatus, String, Vec<Value>) {
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        self.seen.extend(self.lines.iter());
        (status, stderr, std::mem::take(&mut self.seen))
    }

    pub fn terminate(self) -> (ExitStatus, String, Vec<Value>) {
        self.signal(Signal::SIGTERM);
        self.end()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A test that failed: the agent must still put the value back before the device goes.
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGTERM);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            println!("the agent's records:");
            self.seen.drain(..).chain(self.lines.iter()).for_each(|line| println!("{line}"));
        }
    }
}

pub fn kept(record: &Value) -> bool {
    record["record"] == "trial_ended" && record["verdict"]["outcome"] == "kept"
}
