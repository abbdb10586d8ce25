// SPDX-License-Identifier: MIT OR Apache-2.0
//! What keepahead itself costs, on this machine, now: the kernel's own run-time statistics of its programs (over an empty program on the
//! hit path's hook, in the same run), cached reads with and without, CPU and memory of the agent over ten devices. Prints a table and
//! writes `target/bench/overhead.json`.

use keepahead::sensor::{Baseline, EbpfSensor, Places, ProgramCost, Sense};
use keepahead_testbed::workload::Running;
use keepahead_testbed::{Fs, Testbed, drop_caches};
use libbpf_rs::libbpf_sys::{BPF_STATS_RUN_TIME, bpf_enable_stats};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The kernel measures programs while this descriptor is open: unlike the sysctl, that also ends when the bench is killed.
fn measured_by_the_kernel() -> anyhow::Result<OwnedFd> {
    // SAFETY: one bpf(2) call without pointers; on success the descriptor is new and nobody else's.
    unsafe {
        let fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
        anyhow::ensure!(fd >= 0, "BPF_ENABLE_STATS (Linux 5.8 and later): {}", std::io::Error::from_raw_os_error(-fd));
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn main() -> anyhow::Result<()> {
    if let Some(why) = keepahead_testbed::unavailable() {
        anyhow::bail!("no bench here: {why}");
    }
    let mut rows = Vec::new();
    let bed = Testbed::new(600, Fs::Ext4)?;
    let file = bed.file("data", 256)?;
    rows.extend(programs(&file)?);
    rows.push(slowdown(&file)?);
    drop(bed);
    let why = |e: anyhow::Error| {
        let names = ["agent_cpu_percent", "agent_rss_mib", "map_memory_mib"];
        names.map(|name| json!({ "name": name, "value": null, "why": format!("{e:#}") })).to_vec()
    };
    rows.extend(agent().unwrap_or_else(why));
    for row in &rows {
        println!("{:32} {:>10}  {}", text(&row["name"]), text(&row["value"]), text(row.get("unit").unwrap_or(&row["why"])));
    }
    std::fs::create_dir_all("target/bench")?;
    std::fs::write("target/bench/overhead.json", serde_json::to_string_pretty(&rows)? + "\n")?;
    println!("written: target/bench/overhead.json");
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.as_str().unwrap_or("-").to_owned(), |v| format!("{v:.2}"))
}

fn row(name: &str, values: &mut [f64], unit: &str) -> Value {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    json!({ "name": name, "value": median, "unit": unit, "min": values[0], "max": values[values.len() - 1], "runs": values.len() })
}

/// 4 KiB reads over a file in the cache until the time is over; reads a second.
fn cached_reads(file: &File, seconds: f64, mut each: impl FnMut()) -> anyhow::Result<f64> {
    let pages = file.metadata()?.len() / 4096;
    let (start, mut count, mut buffer) = (Instant::now(), 0u64, [0u8; 4096]);
    while start.elapsed().as_secs_f64() < seconds {
        for _ in 0..20_000 {
            file.read_exact_at(&mut buffer, count % pages * 4096)?;
            count += 1;
        }
        each();
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Mean run time of a program between two looks.
fn per_run(before: &[ProgramCost], after: &[ProgramCost], program: &str) -> Option<f64> {
    let find = |costs: &[ProgramCost]| costs.iter().find(|c| c.program.starts_with(program)).cloned();
    let (a, b) = (find(before)?, find(after)?);
    (b.runs > a.runs).then(|| (b.run_ns - a.run_ns) as f64 / (b.runs - a.runs) as f64)
}

fn programs(path: &Path) -> anyhow::Result<Vec<Value>> {
    let file = File::open(path)?;
    let mut sensor = EbpfSensor::open(&Places::default())?;
    let empty = Baseline::attach()?;
    let _stats = measured_by_the_kernel()?;
    // The sampling rate finds its place first, as it does in a running agent.
    cached_reads(&file, 2.0, || _ = sensor.read())?;
    let (mut hit, mut add, mut delete, mut fault) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        let before = (sensor.costs(), empty.costs());
        cached_reads(&file, 1.0, || _ = sensor.read())?;
        let after = (sensor.costs(), empty.costs());
        let floor = per_run(&before.1, &after.1, "read__empty").unwrap_or(0.0);
        hit.extend(per_run(&before.0, &after.0, "read__").map(|ns| ns - floor));
        let before = sensor.costs();
        drop_caches()?;
        let middle = sensor.costs();
        touch(&file)?;
        let after = sensor.costs();
        delete.extend(per_run(&before, &middle, "delete__").map(|ns| ns - floor));
        add.extend(per_run(&middle, &after, "add__").map(|ns| ns - floor));
        fault.extend(per_run(&middle, &after, "fault__").map(|ns| ns - floor));
    }
    let unmeasured = |name: &str| json!({ "name": name, "value": null, "unit": "ns", "why": "the program did not run" });
    let named = [("get_pages_ns", hit), ("add_ns", add), ("delete_ns", delete), ("fault_ns", fault)];
    Ok(named.into_iter().map(|(name, mut v)| if v.is_empty() { unmeasured(name) } else { row(name, &mut v, "ns") }).collect())
}

/// Touches every page of a file through a fresh mapping.
fn touch(file: &File) -> anyhow::Result<()> {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
    let length = std::num::NonZeroUsize::new(file.metadata()?.len() as usize).ok_or_else(|| anyhow::anyhow!("empty file"))?;
    // SAFETY: a private read-only mapping of the bench's own file, unmapped below and not used afterwards.
    unsafe {
        let map = mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, 0)?;
        for page in 0..length.get() / 4096 {
            std::hint::black_box(map.cast::<u8>().add(page * 4096).read_volatile());
        }
        munmap(map, length.get())?;
    }
    Ok(())
}

/// With and without the sensor, in turns.
fn slowdown(path: &Path) -> anyhow::Result<Value> {
    let file = File::open(path)?;
    cached_reads(&file, 0.5, || ())?;
    let mut percents = Vec::new();
    for _ in 0..7 {
        let without = cached_reads(&file, 0.6, || ())?;
        let mut sensor = EbpfSensor::open(&Places::default())?;
        let mut last = Instant::now();
        let mut tick = || {
            if last.elapsed() > Duration::from_millis(300) {
                last = Instant::now();
                let _ = sensor.read();
            }
        };
        cached_reads(&file, 1.2, &mut tick)?;
        let with = cached_reads(&file, 0.6, &mut tick)?;
        percents.push((without / with - 1.0) * 100.0);
    }
    Ok(row("cached_read_slowdown_percent", &mut percents, "%"))
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// CPU and memory of the agent over ten devices, two of them read from.
fn agent() -> anyhow::Result<Vec<Value>> {
    let beds = (0..10).map(|i| Testbed::new(if i < 2 { 400 } else { 64 }, Fs::Ext4)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut loads = Vec::new();
    for bed in &beds[..2] {
        let file = bed.file("data", 300)?;
        bed.limit(1000, 200_000_000, 128)?;
        bed.set_read_ahead(128)?;
        loads.push(Running::start(bed, &file, "seq-read:60", 3)?);
    }
    let state = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepahead"));
    command
        .args(["--format", "json", "run", "--state-dir"])
        .arg(state.path())
        .stdout(Stdio::null())
        .env("KEEPAHEAD_LOG", "error");
    for bed in &beds {
        command.args(["--device", &bed.name]);
    }
    // An agent that outlived a killed bench would go on, and refuse the next one.
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    unsafe { command.pre_exec(|| nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM).map_err(Into::into)) };
    let mut agent = Agent(command.spawn()?);
    let pid = agent.0.id();
    // Loading the programs is not what running costs.
    std::thread::sleep(Duration::from_secs(3));
    let (start, before) = (Instant::now(), cpu_seconds(pid)?);
    std::thread::sleep(Duration::from_secs(30));
    let percent = (cpu_seconds(pid)? - before) / start.elapsed().as_secs_f64() * 100.0;
    // One that was refused (another agent runs here) costs nothing, and its zombie can be asked for its times.
    if let Some(status) = agent.0.try_wait()? {
        anyhow::bail!("keepahead ended by itself: {status}");
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |key: &str| {
        status.lines().find_map(|l| l.strip_prefix(key)?.trim().split(' ').next()?.parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    let rows = vec![
        json!({ "name": "agent_cpu_percent", "value": percent, "unit": "% of one core", "devices": 10, "seconds": 30 }),
        json!({ "name": "agent_rss_mib", "value": kib("VmRSS:") / 1024.0, "unit": "MiB", "peak": kib("VmHWM:") / 1024.0 }),
        json!({ "name": "map_memory_mib", "value": map_bytes(pid)? / 1048576.0, "unit": "MiB" }),
    ];
    Ok(rows)
}

fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = procfs::process::Process::new(pid as i32)?.stat()?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// Kernel memory of the maps that a process holds (`memlock` in its fdinfo), each once.
fn map_bytes(pid: u32) -> anyhow::Result<f64> {
    let mut maps = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |key: &str| info.lines().find_map(|l| l.strip_prefix(key)?.trim().parse::<u64>().ok());
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum::<u64>() as f64)
}
