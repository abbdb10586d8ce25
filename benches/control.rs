// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cooperating programs gain through the control socket, on a device of 3000 IOPS and 150 MB/s with 512 MB of memory: the figures of
//! `control.json`. Programs are those of `tests/control` and `tests/clients`, which use the Python package.

use anyhow::{Context, anyhow};
use keepahead::actuator::openfiles::OpenFilesActuator;
use keepahead_core::device::BdiName;
use keepahead_testbed::{Fs, Testbed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const IOPS: u64 = 3000;
const BYTES_PER_S: u64 = 150_000_000;
/// Time for the loop to find the windows, and then to measure them, seconds.
const FIND_S: u64 = 60;
const MEASURE_S: u64 = 15;

struct Sizes {
    files: usize,
    weights_mib: u64,
    backup_mib: u64,
    connections: usize,
    statics: &'static [u32],
}

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    if let Some(why) = keepahead_testbed::unavailable() {
        anyhow::bail!("no bench here: {why}");
    }
    let quick = std::env::var("KEEPAHEAD_BENCH").is_ok_and(|mode| mode == "quick");
    let sizes = match quick {
        true => Sizes { files: 3000, weights_mib: 768, backup_mib: 1024, connections: 2000, statics: &[16, 128, 512] },
        false => Sizes {
            files: 20_000,
            weights_mib: 2048,
            backup_mib: 2048,
            connections: 10_000,
            statics: &[4, 16, 32, 64, 128, 256, 512, 1024],
        },
    };
    let mut rows = Vec::new();
    type Part = fn(&Bed, &Sizes) -> anyhow::Result<Vec<Value>>;
    let parts: [(&[&str], u64, Part); 5] = [
        (&["epochs_bandwidth_ratio", "epochs_speedup"], sizes.files as u64 / 6 + 300, epochs),
        (&["weights_speedup", "weights_ratio_to_cat"], sizes.weights_mib + 300, weights),
        (&["reader_hit_ratio_kept"], sizes.backup_mib + 700, reader),
        (&["tenants_min_ratio", "wrong_hint_cost_percent"], 1800, tenants),
        (&["left_behind", "connections_survived"], 500, left_behind),
    ];
    let only = std::env::var("KEEPAHEAD_BENCH_ROWS").unwrap_or_default();
    for (names, mib, part) in parts {
        if !only.is_empty() && !only.split(',').any(|word| names[0].contains(word)) {
            continue;
        }
        let measured = Bed::new(mib).and_then(|bed| part(&bed, &sizes));
        rows.extend(measured.unwrap_or_else(|e| {
            names.iter().map(|name| json!({ "name": name, "value": null, "why": format!("{e:#}") })).collect()
        }));
    }
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let value = row["value"].as_f64().map_or("-".into(), |v| format!("{v:.2}"));
        println!("{:26} {value:>9} {}: {}{}", text("name"), text("unit"), text("detail"), text("why"));
    }
    std::fs::create_dir_all("target/bench")?;
    std::fs::write("target/bench/control.json", serde_json::to_string_pretty(&rows)? + "\n")?;
    println!("written: target/bench/control.json");
    Ok(())
}

/// A running `keepahead run`; ended in order when dropped, because killed outright it would leave a value behind.
struct Agent(Child);

impl Agent {
    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.0.id() as i32), signal)?)
    }

    fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.0.wait()?;
        anyhow::ensure!(status.success(), "keepahead ended with {status}");
        Ok(())
    }

    fn kill(mut self) -> anyhow::Result<()> {
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
struct Bed {
    testbed: Testbed,
    dir: PathBuf,
}

impl Bed {
    fn new(mib: u64) -> anyhow::Result<Bed> {
        let testbed = Testbed::new(mib, Fs::Ext4)?;
        testbed.set_read_ahead(128)?;
        let dir = std::env::temp_dir().join(format!("keepahead-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Bed { testbed, dir })
    }

    /// The throttle, once the files are written.
    fn limit(&self) -> anyhow::Result<()> {
        anyhow::ensure!(Command::new("sync").status()?.success(), "sync");
        self.testbed.limit(IOPS, BYTES_PER_S, 512)
    }

    fn socket(&self) -> String {
        self.dir.join("control.sock").display().to_string()
    }

    fn agent(&self) -> anyhow::Result<Agent> {
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
    fn program(&self, script: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        self.testbed.drop_caches()?;
        let output = self.command(script, arguments).output()?;
        anyhow::ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("{script}: {text}"))
    }

    fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = self.testbed.cgroup.command("python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script)).args(arguments);
        command
    }

    fn started(&self, script: &str, arguments: &[&str]) -> anyhow::Result<Program> {
        let mut child = self.command(script, arguments).stdout(Stdio::piped()).spawn()?;
        let out = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Program { child, out })
    }

    /// Open files whose window is not the device's.
    fn own_windows(&self) -> anyhow::Result<usize> {
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

struct Program {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Program {
    /// The mean of a figure over `take` lines after leaving out `skip`.
    fn mean(&mut self, figure: &str, skip: u64, take: u64) -> anyhow::Result<f64> {
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

fn row(name: &str, value: f64, unit: &str, detail: String) -> Value {
    json!({ "name": name, "value": value, "unit": unit, "detail": detail })
}

fn speed(run: &Value) -> anyhow::Result<f64> {
    run["mb_per_s"].as_f64().ok_or_else(|| anyhow!("no speed in {run}"))
}

/// Shuffled epochs over many files, 1 ms of computing a file.
fn epochs(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    let block: Vec<u8> = (0..256u32 << 10).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for n in 0..sizes.files {
        std::fs::write(bed.testbed.mount().join(format!("f{n}")), &block[..(64 + n * 37 % 193) << 10])?;
    }
    bed.limit()?;
    let (dir, count) = (bed.testbed.mount().display().to_string(), sizes.files.to_string());
    let without = speed(&bed.program("control/epoch.py", &[&dir, &count, "1"])?)?;
    let agent = bed.agent()?;
    let with = speed(&bed.program("control/epoch.py", &[&dir, &count, "1", &bed.socket()])?)?;
    agent.stop()?;
    let detail = format!("{without:.0} MB/s without, {with:.0} with; {count} files");
    Ok(vec![
        row("epochs_bandwidth_ratio", with * 1e6 / BYTES_PER_S as f64, "of the device", detail.clone()),
        row("epochs_speedup", with / without, "x", detail),
    ])
}

/// Weights through a mapping, tensors in a scattered order.
fn weights(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    let file = bed.testbed.mount().join("weights.safetensors").display().to_string();
    bed.program("clients/weights.py", &[&file, "make", &sizes.weights_mib.to_string()]).ok();
    bed.limit()?;
    let without = speed(&bed.program("clients/weights.py", &[&file, "0"])?)?;
    let agent = bed.agent()?;
    let with = speed(&bed.program("clients/weights.py", &[&file, "0", &bed.socket()])?)?;
    agent.stop()?;
    bed.testbed.drop_caches()?;
    let begun = Instant::now();
    let mut cat = bed.testbed.cgroup.command("cat");
    anyhow::ensure!(cat.arg(&file).stdout(Stdio::null()).status()?.success(), "cat");
    let cat = sizes.weights_mib as f64 * 1.048_576 / begun.elapsed().as_secs_f64();
    let detail = format!("{without:.0} MB/s without, {with:.0} with, cat {cat:.0}; {} MiB", sizes.weights_mib);
    Ok(vec![row("weights_speedup", with / without, "x", detail.clone()), row("weights_ratio_to_cat", with / cat, "x", detail)])
}

/// A reader whose hot set fits in memory, beside a backup that does not.
fn reader(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    let hot = bed.testbed.file("hot", 320)?.display().to_string();
    let cold = bed.testbed.file("cold", sizes.backup_mib)?.display().to_string();
    bed.limit()?;
    let beside = |backup: &[&str]| -> anyhow::Result<f64> {
        bed.testbed.drop_caches()?;
        let mut reader = bed.started("control/reader.py", &[&hot, "600"])?;
        reader.mean("hit_ratio", 3, 2)?;
        if backup.is_empty() {
            return reader.mean("hit_ratio", 0, 8);
        }
        let mut backup = bed.command("control/backup.py", backup).stdout(Stdio::null()).spawn()?;
        let kept = reader.mean("hit_ratio", 2, 8);
        let _ = backup.kill();
        backup.wait()?;
        kept
    };
    let (alone, without) = (beside(&[])?, beside(&[&cold])?);
    let agent = bed.agent()?;
    let with = beside(&[&cold, &bed.socket()])?;
    agent.stop()?;
    let detail = format!("hit ratio {alone:.3} alone, {without:.3} beside the backup, {with:.3} with keepahead");
    Ok(vec![row("reader_hit_ratio_kept", with / alone, "of alone", detail)])
}

/// A scan and random lookups by mapping, on one device; with right, no and wrong hints.
fn tenants(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    let scan = bed.testbed.file("scan", 700)?.display().to_string();
    let lookups = bed.testbed.file("lookups", 700)?.display().to_string();
    bed.limit()?;
    let both = |socket: &str, hints: [&str; 2], skip: u64| -> anyhow::Result<[f64; 2]> {
        bed.testbed.drop_caches()?;
        let mut one = bed.started("control/tenant.py", &[socket, &scan, "sequential", hints[0], "900"])?;
        let mut two = bed.started("control/tenant.py", &[socket, &lookups, "random", hints[1], "900"])?;
        std::thread::scope(|scope| {
            let first = scope.spawn(|| one.mean("mb_per_s", skip, MEASURE_S));
            let second = two.mean("mb_per_s", skip, MEASURE_S)?;
            Ok([first.join().map_err(|_| anyhow!("a reader of lines panicked"))??, second])
        })
    };
    let mut sweep = Vec::new();
    for &kib in sizes.statics {
        bed.testbed.set_read_ahead(kib)?;
        sweep.push((kib, both("-", ["-", "-"], 5)?));
    }
    bed.testbed.set_read_ahead(128)?;
    let best = |n: usize| sweep.iter().map(|(_, speeds)| speeds[n]).fold(0.0, f64::max);
    let least = |speeds: [f64; 2]| (speeds[0] / best(0)).min(speeds[1] / best(1));
    let agent = bed.agent()?;
    let with = both(&bed.socket(), ["-", "-"], FIND_S)?;
    let wrong = both(&bed.socket(), ["random", "sequential"], FIND_S)?;
    agent.stop()?;
    let statics: Vec<String> =
        sweep.iter().map(|(kib, s)| format!("{kib}: {:.0}+{:.1} ({:.2})", s[0], s[1], least(*s))).collect();
    let detail = format!("MB/s of scan+lookups, with keepahead {:.0}+{:.1}; static {}", with[0], with[1], statics.join(", "));
    let cost = 100.0 * (1.0 - (wrong[0] / with[0]).min(wrong[1] / with[1]));
    Ok(vec![
        row("tenants_min_ratio", least(with), "of its best static value beside the other", detail),
        row("wrong_hint_cost_percent", cost, "%", format!("with wrong hints {:.0}+{:.1}", wrong[0], wrong[1])),
    ])
}

/// Clients that exit and crash, an agent that is killed; many connections.
fn left_behind(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    let file = bed.testbed.file("scan", 400)?.display().to_string();
    bed.limit()?;
    let agent = bed.agent()?;
    let mut tenant = bed.started("control/tenant.py", &[&bed.socket(), &file, "sequential", "-", "900"])?;
    let end = Instant::now() + Duration::from_secs(FIND_S);
    while bed.own_windows()? == 0 {
        anyhow::ensure!(Instant::now() < end, "no file got a window of its own within {FIND_S} s");
        tenant.mean("mb_per_s", 0, 1)?;
    }
    agent.kill()?;
    let killed = bed.own_windows()?;
    let agent = bed.agent()?;
    let restarted = bed.own_windows()?;
    kill(Pid::from_raw(tenant.child.id() as i32), Signal::SIGKILL)?;
    tenant.child.wait()?;
    std::thread::sleep(Duration::from_secs(2));
    let crashed = bed.own_windows()?;
    let mut connections = Vec::new();
    while connections.len() < sizes.connections
        && let Ok(stream) = UnixStream::connect(bed.socket())
    {
        connections.push(stream);
    }
    let survived = if answers(&bed.socket()) { connections.len() } else { 0 };
    drop(connections);
    agent.stop()?;
    let ended = bed.own_windows()?;
    let detail = format!("killed {killed}, restarted {restarted}, client crashed {crashed}, agent ended {ended}");
    Ok(vec![
        row("left_behind", (restarted + crashed + ended) as f64, "open files", detail),
        row("connections_survived", survived as f64, "connections", "idle at once; the agent answers Status meanwhile".into()),
    ])
}

fn answers(socket: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"{\"method\":\"io.keepahead.Control.Status\"}\0")?;
        let mut reply = Vec::new();
        BufReader::new(stream).read_until(0, &mut reply)?;
        Ok(String::from_utf8_lossy(&reply).contains("uptime_s"))
    };
    ask().unwrap_or(false)
}
