// SPDX-License-Identifier: MIT OR Apache-2.0
//! What advice for regions of a mapping can do that a file's readahead window cannot, on a device of 3000 IOPS and 150 MB/s: the figures of
//! `regions.json` and of docs/decisions/0008. The program is `tests/control/region.py`.

use anyhow::Context;
use keepahead_testbed::{Fs, Testbed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Each row: seconds until the cache has its shape, and seconds that are measured.
const SETTLE_S: usize = 30;
const MEASURE_S: usize = 20;
/// Time for the agent to find out.
const FIND_S: usize = 60;

/// What is read: parts as `region.py` takes them, without their advice, and the memory for it.
const CASES: [(&str, u64, &[&str]); 3] = [
    ("hot lookups", 128, &["lookups:0:1200:64"]),
    ("lookups and a scan", 256, &["lookups:0:600:0", "scan:600:600:0"]),
    ("hot lookups and a scan", 256, &["lookups:0:160:0", "scan:200:1000:0"]),
];
/// `read_ahead_kb` and the advice of each part.
const SETTINGS: [&[(u32, &[&str])]; 3] = [
    &[(128, &["-"]), (16, &["-"]), (4, &["-"]), (128, &["random"])],
    &[(64, &["-", "-"]), (128, &["-", "-"]), (512, &["-", "-"]), (128, &["random", "-"])],
    &[(16, &["-", "-"]), (128, &["-", "-"]), (128, &["random", "-"]), (128, &["-", "sequential"])],
];

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    if let Some(why) = keepahead_testbed::unavailable() {
        anyhow::bail!("no bench here: {why}");
    }
    let bed = Bed::new()?;
    let mut rows = Vec::new();
    for ((name, memory, parts), settings) in CASES.iter().zip(SETTINGS) {
        bed.testbed.limit(3000, 150_000_000, *memory)?;
        for (kib, advice) in settings {
            let parts: Vec<String> = parts.iter().zip(*advice).map(|(part, advice)| format!("{part}:{advice}")).collect();
            let with = format!("{kib} KiB, {}", advice.join(" and "));
            rows.push(row(name, &with, bed.run(Some(*kib), None, &parts, SETTLE_S)?));
        }
        let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
        // Before it looks: later it would be somebody else's write.
        bed.testbed.set_read_ahead(128)?;
        let agent = bed.agent()?;
        rows.push(row(name, "keepahead", bed.run(None, Some(&bed.socket()), &parts, FIND_S)?));
        agent.stop()?;
    }
    std::fs::create_dir_all("target/bench")?;
    std::fs::write("target/bench/regions.json", serde_json::to_string_pretty(&rows)? + "\n")?;
    println!("written: target/bench/regions.json");
    Ok(())
}

fn row(case: &str, with: &str, measured: Value) -> Value {
    println!("{case:24} {with:26} {measured}");
    json!({ "name": case, "with": with, "measured": measured })
}

struct Bed {
    testbed: Testbed,
    file: PathBuf,
    dir: PathBuf,
}

/// A running agent; ended in order when dropped.
struct Agent(Child);

impl Agent {
    fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM)?;
        let status = self.0.wait()?;
        anyhow::ensure!(status.success(), "keepahead ended with {status}");
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Bed {
    fn new() -> anyhow::Result<Bed> {
        let testbed = Testbed::new(1400, Fs::Ext4)?;
        let file = testbed.file("f", 1200)?;
        anyhow::ensure!(Command::new("sync").status()?.success(), "sync");
        let dir = std::env::temp_dir().join(format!("keepahead-regions-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Bed { testbed, file, dir })
    }

    fn socket(&self) -> String {
        self.dir.join("control.sock").display().to_string()
    }

    fn agent(&self) -> anyhow::Result<Agent> {
        let config = self.dir.join("keepahead.toml");
        std::fs::write(&config, format!("[control]\nsocket = {:?}\n", self.socket()))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_keepahead"));
        command.args(["--format", "json", "run", "--device", &self.testbed.name, "--config"]).arg(&config);
        command.arg("--state-dir").arg(&self.dir).env("KEEPAHEAD_LOG", "error").stdout(Stdio::null());
        let agent = Agent(command.spawn()?);
        let end = Instant::now() + Duration::from_secs(20);
        while !Path::new(&self.socket()).exists() {
            anyhow::ensure!(Instant::now() < end, "the agent opens no control socket");
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(Duration::from_millis(1500));
        Ok(agent)
    }

    /// Means of each part over the measured seconds, and what was advised in the last of them.
    fn run(&self, kib: Option<u32>, socket: Option<&str>, parts: &[String], settle: usize) -> anyhow::Result<Value> {
        kib.map_or(Ok(()), |kib| self.testbed.set_read_ahead(kib))?;
        self.testbed.drop_caches()?;
        let mut command = self.testbed.cgroup.command("python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control/region.py"));
        command.arg(socket.unwrap_or("-")).arg(&self.file).arg("3600").args(parts).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let measured = measure(BufReader::new(child.stdout.take().context("no standard output")?), settle);
        child.kill()?;
        child.wait()?;
        measured
    }
}

fn measure(out: BufReader<ChildStdout>, settle: usize) -> anyhow::Result<Value> {
    let lines = out.lines().skip(settle).take(MEASURE_S);
    let lines: Vec<Value> = lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<anyhow::Result<_>>()?;
    let last = lines.last().context("it has ended early")?;
    let mean =
        |n: usize, key: &str| lines.iter().filter_map(|line| line["parts"][n][key].as_f64()).sum::<f64>() / lines.len() as f64;
    let round = |value: f64| (value * 10.0).round() / 10.0;
    let part = |(n, part): (usize, &Value)| json!({ "kind": part["kind"], "mb_per_s": round(mean(n, "mb")), "faults_per_s": round(mean(n, "faults")) });
    let parts: Vec<Value> = last["parts"].as_array().into_iter().flatten().enumerate().map(part).collect();
    let advised = last["advised"].as_array().into_iter().flatten().map(|a| a["advice"].clone()).collect::<Vec<_>>();
    Ok(json!({ "parts": parts, "advised": advised }))
}
