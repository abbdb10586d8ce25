// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device, the agent on it, and programs beside it.

use crate::{BYTES_PER_S, IOPS, MEMORY_MIB};
use anyhow::{Context, anyhow};
use keepahead::actuator::openfiles::OpenFilesActuator;
use keepahead_core::device::BdiName;
use keepahead_testbed::{Fs, Testbed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `keepahead run`; ended in order when dropped, because killed outright it would leave a value behind.
pub struct Agent(Child);

impl Agent {
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.0.id() as i32), signal)?)
    }

    pub fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.0.wait()?;
        anyhow::ensure!(status.success(), "keepahead ended with {status}");
        Ok(())
    }

    fn ticks(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // proc(5): user and system time are fields 14 and 15; the second, the name, may hold spaces.
        let after = stat.rsplit(')').next().unwrap_or_default();
        after.split_whitespace().skip(11).take(2).map(|n| Ok(n.parse::<f64>()?)).sum()
    }

    pub fn cpu_percent(&self, over: Duration) -> anyhow::Result<f64> {
        let (before, begun) = (self.ticks()?, Instant::now());
        std::thread::sleep(over);
        // 100 ticks a second: sysconf(_SC_CLK_TCK) on every Linux that keepahead runs on.
        Ok((self.ticks()? - before) / begun.elapsed().as_secs_f64())
    }

    pub fn rss_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    pub fn kill(mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.signal(Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}

/// The device, and a place for the agent's state and socket.
pub struct Bed {
    pub testbed: Testbed,
    pub dir: PathBuf,
}

impl Bed {
    /// Each read of it takes `latency` longer than the disk below does.
    pub fn new(mib: u64, latency: Duration) -> anyhow::Result<Bed> {
        let testbed = if latency.is_zero() { Testbed::new(mib, Fs::Ext4)? } else { Testbed::late(mib, Fs::Ext4, latency)? };
        testbed.set_read_ahead(128)?;
        let dir = std::env::temp_dir().join(format!("keepahead-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Bed { testbed, dir })
    }

    /// The throttle, once the files are written.
    pub fn limit(&self) -> anyhow::Result<()> {
        anyhow::ensure!(Command::new("sync").status()?.success(), "sync");
        self.testbed.limit(IOPS, BYTES_PER_S, MEMORY_MIB)
    }

    /// What earlier agents have learnt here.
    pub fn forget(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.dir)?;
        Ok(std::fs::create_dir_all(&self.dir)?)
    }

    pub fn socket(&self) -> String {
        self.dir.join("control.sock").display().to_string()
    }

    pub fn agent(&self) -> anyhow::Result<Agent> {
        let config = self.dir.join("keepahead.toml");
        std::fs::write(&config, format!("[control]\nsocket = {:?}\n", self.socket()))?;
        // Behind the same throttle: what it reads ahead for others comes from the same device.
        let mut command = self.testbed.cgroup.command(env!("CARGO_BIN_EXE_keepahead"));
        command.args(["--format", "json", "run", "--device", &self.testbed.name, "--config"]).arg(&config);
        command.arg("--state-dir").arg(&self.dir).env("KEEPAHEAD_LOG", "error");
        let agent = Agent(command.stdout(Stdio::null()).spawn()?);
        let end = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(self.socket()).is_err() {
            anyhow::ensure!(Instant::now() < end, "the agent opens no control socket");
            std::thread::sleep(Duration::from_millis(100));
        }
        // Its first look at the devices.
        std::thread::sleep(Duration::from_millis(1500));
        Ok(agent)
    }

    /// A program of the tests, in the workload's group, from a cold cache; its last line.
    pub fn program(&self, script: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        self.testbed.drop_caches()?;
        let output = self.command(script, arguments).output()?;
        anyhow::ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("{script}: {text}"))
    }

    pub fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = self.testbed.cgroup.command("python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script)).args(arguments);
        command
    }

    pub fn started(&self, script: &str, arguments: &[&str]) -> anyhow::Result<Program> {
        let mut child = self.command(script, arguments).stdout(Stdio::piped()).spawn()?;
        let out = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Program { child, out })
    }

    /// Open files whose window is not the device's.
    pub fn own_windows(&self) -> anyhow::Result<usize> {
        let bdi = BdiName(self.testbed.number.clone());
        let files = OpenFilesActuator::new(Default::default(), 1, "/proc")?.list(std::slice::from_ref(&bdi))?;
        Ok(files.iter().filter(|f| f.ra_pages != f.bdi_ra_pages).count())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub struct Program {
    pub child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Program {
    /// The mean of a figure over `take` lines after leaving out `skip`.
    pub fn mean(&mut self, figure: &str, skip: u64, take: u64) -> anyhow::Result<f64> {
        let (mut sum, mut line) = (0.0, String::new());
        for n in 0..skip + take {
            line.clear();
            self.out.read_line(&mut line)?;
            let value: Value = serde_json::from_str(&line).with_context(|| format!("{line:?}"))?;
            if n >= skip {
                sum += value[figure].as_f64().ok_or_else(|| anyhow!("no {figure} in {line}"))?;
            }
        }
        Ok(sum / take as f64)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
