// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent as a user runs it, `keepahead run --device … --state-dir …`: started as a child, its lines collected, ended by SIGTERM.

use crate::interrupt;
use crate::live::Live;
use anyhow::{Context, bail, ensure};
use keepahead_testbed::{Testbed, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Restoring one device takes milliseconds; a trial's tick and a slow disk under the journal may come before it.
const LEAVE: Duration = Duration::from_secs(10);

/// Loading the probes takes less than a second; a busy machine is given time.
const START: Duration = Duration::from_secs(15);

pub struct Agent {
    child: Child,
    lines: Receiver<String>,
    /// Said before the workload began.
    early: Vec<String>,
    left: bool,
}

/// Why the agent will not run here, in its own words: it is started for a moment, since nobody knows better.
pub fn refuses(testbed: &Testbed, state: &Path) -> anyhow::Result<Option<String>> {
    let output = command(testbed, state)?.args(["--duration", "100ms"]).output()?;
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(None),
        // A privilege or a kernel feature is missing.
        Some(3) => Ok(Some(words)),
        // Another agent runs on this machine: its words say what to do.
        Some(4) => bail!("{words}"),
        _ => bail!("keepahead run: {}: {words}", output.status),
    }
}

fn command(testbed: &Testbed, state: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(program("keepahead")?);
    command.args(["run", "--device", &testbed.name, "--state-dir"]).arg(state);
    // The demo measures the defaults, not the configuration of the machine that it runs on.
    let defaults = state.join("defaults.toml");
    std::fs::write(&defaults, "").with_context(|| format!("{}", defaults.display()))?;
    command.arg("--config").arg(&defaults).stdin(Stdio::null()).env_remove("KEEPAHEAD_LOG").env("NO_COLOR", "1");
    // A terminal's Ctrl-C goes to the demo alone, which ends the agent in its turn; should the demo be killed, the agent leaves.
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    unsafe { command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(Into::into)) };
    Ok(command)
}

impl Agent {
    /// Returns once it watches the device, so that the workload starts with the agent in place.
    pub fn start(testbed: &Testbed, state: &Path) -> anyhow::Result<Agent> {
        let mut child = command(testbed, state)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (sender, lines) = channel();
        collect(child.stdout.take().context("no standard output")?, sender.clone());
        collect(child.stderr.take().context("no standard error")?, sender);
        let mut agent = Agent { child, lines, early: Vec::new(), left: false };
        agent.wait_until_it_watches()?;
        Ok(agent)
    }

    fn wait_until_it_watches(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        while Instant::now() < end {
            interrupt::check()?;
            let words = self.words()?;
            let watches = words.iter().any(|line| line.contains("watching"));
            self.early.extend(words);
            if watches {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("keepahead run does not watch the device after {} s: {}", START.as_secs(), self.early.join("\n"))
    }

    /// What it said since the last call. An agent that ended by itself is an error.
    pub fn words(&mut self) -> anyhow::Result<Vec<String>> {
        let words: Vec<String> = std::mem::take(&mut self.early).into_iter().chain(self.lines.try_iter()).collect();
        if let Some(status) = self.child.try_wait()? {
            let last: Vec<String> = words.into_iter().chain(self.lines.iter()).collect();
            self.left = true;
            bail!("keepahead run ended by itself: {status}\n{}", last.join("\n"));
        }
        Ok(words)
    }

    /// SIGTERM, and its last words.
    pub fn leave(mut self, live: &Live) -> anyhow::Result<()> {
        let ended = self.terminate()?;
        for line in self.lines.iter() {
            live.words(&line);
        }
        ensure!(ended.success(), "keepahead run: {ended}");
        Ok(())
    }

    fn terminate(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        self.left = true;
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let end = Instant::now() + LEAVE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("keepahead run did not leave within {} s of SIGTERM", LEAVE.as_secs())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.left
            && let Err(e) = self.terminate()
        {
            eprintln!("keepahead-demo: {e:#}");
        }
    }
}

/// Reads lines in a thread of its own: the agent must never wait for the demo.
fn collect(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).take_while(|line| to.send(line.clone()).is_ok()).for_each(drop)
    });
}
