// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stays when programs and the agent end, and what thousands of clients do to a trial.

use crate::bed::Bed;
use crate::{FIND_S, Sizes, row};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Clients that exit and crash, an agent that is killed.
pub fn left_behind(bed: &Bed, _: &Sizes) -> anyhow::Result<Vec<Value>> {
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
    agent.stop()?;
    let ended = bed.own_windows()?;
    let detail = format!("killed {killed}, restarted {restarted}, client crashed {crashed}, agent ended {ended}");
    Ok(vec![row((restarted + crashed + ended) as f64, "open files", detail)])
}

/// Thousands of clients beside a trial: idle connections, and plans whose readers move on every second.
pub fn crowd(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    let lookups = bed.testbed.file("lookups", 700)?.display().to_string();
    bed.testbed.file("small", 4)?;
    bed.limit()?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..sizes.trials {
        alone.push(trial(bed, &lookups, None)?);
        beside.push(trial(bed, &lookups, Some((sizes.connections, sizes.plans)))?);
    }
    let least = |what: fn(&Seen) -> f64| beside.iter().map(what).fold(f64::INFINITY, f64::min);
    let pairs = |seen: &[Seen]| seen.iter().map(|s| f64::from(s.pairs)).sum::<f64>();
    let same = alone.iter().zip(&beside).filter(|(a, b)| a.verdict == b.verdict).count();
    let all = |seen: &[Seen]| seen.iter().map(Seen::to_string).collect::<Vec<_>>().join(", ");
    let detail = format!("alone {}; beside the crowd {}", all(&alone), all(&beside));
    let crowd = format!("{} idle and {} with a plan; the agent answers Status meanwhile", sizes.connections, sizes.plans);
    Ok(vec![
        row(least(|s| s.connections as f64), "connections", crowd),
        row(same as f64 / sizes.trials as f64, "of verdicts", detail),
        row(pairs(&beside) / pairs(&alone), "of the pairs of blocks alone", "as above".into()),
    ])
}

/// The first verdict on lookups by mapping at 128 KiB.
struct Seen {
    verdict: String,
    pairs: u32,
    connections: usize,
    /// Of the agent, over five seconds after the trial.
    cpu_percent: f64,
    rss_mib: f64,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} pairs, {:.1} % of a CPU, {:.0} MiB)", self.verdict, self.pairs, self.cpu_percent, self.rss_mib)
    }
}

fn trial(bed: &Bed, lookups: &str, crowd: Option<(usize, usize)>) -> anyhow::Result<Seen> {
    bed.forget()?;
    bed.testbed.drop_caches()?;
    let agent = bed.agent()?;
    let around = crowd.map(|(idle, plans)| {
        let (idle, plans) = (idle.to_string(), plans.to_string());
        let where_ = bed.testbed.mount().display().to_string();
        let mut crowd = bed.started("control/crowd.py", &[&bed.socket(), &where_, &idle, &plans])?;
        let connections = crowd.mean("connections", 0, 1)?;
        anyhow::Ok((crowd, connections))
    });
    let around = around.transpose()?;
    let _reader = bed.started("control/tenant.py", &["-", lookups, "random", "-", "900"])?;
    let end = Instant::now() + Duration::from_secs(FIND_S);
    let ended = loop {
        anyhow::ensure!(Instant::now() < end, "no trial ended within {FIND_S} s");
        std::thread::sleep(Duration::from_millis(500));
        let trials = call(&bed.socket(), "Trials")?;
        if let Some(ended) = trials["records"].as_array().and_then(|all| all.iter().find(|r| r["record"] == "trial_ended")) {
            break ended.clone();
        }
    };
    let cpu_percent = agent.cpu_percent(Duration::from_secs(5))?;
    let verdict = format!("{} to {}: {}", ended["from"], ended["to"], ended["verdict"]["outcome"].as_str().unwrap_or_default());
    let status = call(&bed.socket(), "Status")?;
    anyhow::ensure!(around.is_none() || status["workloads"].as_u64() == crowd.map(|(_, plans)| plans as u64), "{status}");
    let seen = Seen {
        verdict,
        pairs: ended["verdict"]["pairs"].as_u64().unwrap_or_default() as u32,
        connections: around.as_ref().map_or(0, |(_, n)| *n as usize),
        cpu_percent,
        rss_mib: agent.rss_mib()?,
    };
    drop(around);
    agent.stop()?;
    Ok(seen)
}

fn call(socket: &str, method: &str) -> anyhow::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("{{\"method\":\"io.keepahead.Control.{method}\"}}\0").as_bytes())?;
    let mut reply = Vec::new();
    BufReader::new(stream).read_until(0, &mut reply)?;
    reply.pop();
    let reply: Value = serde_json::from_slice(&reply)?;
    anyhow::ensure!(reply["error"].is_null(), "{method}: {reply}");
    Ok(reply["parameters"].clone())
}
