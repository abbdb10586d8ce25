// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running `keepahead run` and what it said: JSON lines with the time they came.

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub struct Agent {
    child: Child,
    reader: Option<JoinHandle<Vec<(f64, Value)>>>,
    start: Instant,
    socket: PathBuf,
}

/// Until its probes are loaded an agent has no control socket yet.
const STARTS: Duration = Duration::from_secs(20);

impl Agent {
    /// Starts on the devices of these names, with a state directory and a configuration of its own.
    pub fn start(devices: &[&str], state_dir: &std::path::Path, config: &str) -> anyhow::Result<Agent> {
        let mut command = Command::new(keepahead_testbed::program("keepahead")?);
        command.args(["--format", "json", "run", "--state-dir"]).arg(state_dir);
        for device in devices {
            command.args(["--device", device]);
        }
        // The defaults are measured, not the configuration of the machine that this runs on.
        std::fs::create_dir_all(state_dir).with_context(|| format!("{}", state_dir.display()))?;
        let (defaults, socket) = (state_dir.join("bench.toml"), std::path::absolute(state_dir.join("control.sock"))?);
        let config = format!("{config}[control]\nsocket = {:?}\n", socket.display().to_string());
        std::fs::write(&defaults, config).with_context(|| format!("{}", defaults.display()))?;
        command.arg("--config").arg(&defaults).env("KEEPAHEAD_LOG", "error");
        // An agent that outlived a killed bench would tune on and refuse the next one.
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe { command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(Into::into)) };
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let out = BufReader::new(child.stdout.take().context("no standard output")?);
        let start = Instant::now();
        let reader = std::thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            lines.filter_map(|l| Some((start.elapsed().as_secs_f64(), serde_json::from_str(&l).ok()?))).collect()
        });
        Ok(Agent { child, reader: Some(reader), start, socket })
    }

    /// Seconds since its start, by the clock of what [`Agent::stop`] gives.
    pub fn up_s(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Fixes a device's value, also of its open files.
    pub fn pin(&self, device: &str, kib: u32) -> anyhow::Result<()> {
        while !self.socket.exists() && self.start.elapsed() < STARTS {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.order(&["pin", device, &kib.to_string()])
    }

    /// Has it tuned again, from its original value on.
    pub fn unpin(&self, device: &str) -> anyhow::Result<()> {
        self.order(&["unpin", device])
    }

    fn order(&self, verb: &[&str]) -> anyhow::Result<()> {
        let program = keepahead_testbed::program("keepahead")?;
        keepahead_testbed::run(Command::new(program).args(verb).arg("--socket").arg(&self.socket)).map(|_| ())
    }

    /// Ends it in order; seconds since its start and record, for each line.
    pub fn stop(mut self) -> anyhow::Result<Vec<(f64, Value)>> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "keepahead ended with {status}");
        let reader = self.reader.take().context("read twice")?;
        reader.join().map_err(|_| anyhow::anyhow!("the reader of keepahead's lines panicked"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It restores on SIGTERM; killed outright it would leave a value behind.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
