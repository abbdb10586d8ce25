// SPDX-License-Identifier: MIT OR Apache-2.0
//! A workload that turns to another pattern every minute, on a device that answers after three milliseconds, against every static value.
//!
//! The score of a run is the geometric mean of its phases' throughputs, over all of each phase, the search included: neither phase
//! counts for more because its pages are cheaper. Phases are as long under a static value: what is cached of one is still there when the next
//! begins.
//!
//! The bed is one where the phases want opposite values: a network volume that answers after three milliseconds, scanned by one thread,
//! which waits for each answer, then searched by sixteen, which share the bandwidth. With one thread in each phase no bed of one bandwidth and one
//! latency has opposites: whatever is small beside their product costs the lookups nothing, and whatever is large serves the scan. (Measured: 128
//! KiB best for both at 1 ms, 256 KiB at 3 ms.) Both are mapped: reads of 128 KiB do not depend on the knob.

use crate::agent::Agent;
use crate::load::{Load, Rate, mean_of_phase, own};
use crate::tuning::trials;
use keepahead_testbed::workload::Kind;
use keepahead_testbed::{Fs, Testbed};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

pub const LOAD: Load = Load::Phases([Kind::SeqMmap, Kind::Lookups(16)]);
const LATENCY: Duration = Duration::from_millis(3);
const START_KIB: u32 = 128;
const IOPS: u64 = 3000;
const BYTES_PER_S: u64 = 150_000_000;
const MEMORY_MIB: u64 = 256;
/// Seconds of a phase, in full and in quick mode; phases of keepahead's run.
const PHASE_S: [f64; 2] = [60.0, 30.0];
const PHASES: usize = 4;
const SWEEP: &[u32] = &[16, 64, 128, 256, 512, 2048];

pub fn measure(policy: &str, seed: u64, quick: bool) -> anyhow::Result<Value> {
    let phase_s = PHASE_S[usize::from(quick)];
    let testbed = Testbed::late(2000, Fs::Ext4, LATENCY)?;
    let file = testbed.file("data", 1200)?;
    testbed.limit(IOPS, BYTES_PER_S, MEMORY_MIB)?;
    let mut scores = Vec::new();
    for &kib in SWEEP {
        testbed.set_read_ahead(kib)?;
        testbed.drop_caches()?;
        let phases = run(&testbed, &file, phase_s, 2, seed)?;
        scores.push((kib, geometric_mean(&phases), phases));
    }
    let best = scores.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or((START_KIB, 0.0), |b| (b.0, b.1));
    let default = scores.iter().find(|s| s.0 == START_KIB).map_or(0.0, |s| s.1);
    testbed.set_read_ahead(START_KIB)?;
    testbed.drop_caches()?;
    let state = testbed.mount().with_file_name("state");
    let agent = Agent::start(&[&testbed.name], &state, &format!("[agent]\npolicy = \"{policy}\"\n"))?;
    let phases = run(&testbed, &file, phase_s, PHASES, seed)?;
    let records = agent.stop()?;
    let ours = geometric_mean(&phases);
    let ended = |outcome: &str| records.iter().filter(|(_, r)| r["verdict"]["outcome"] == outcome).count();
    // When the last value of each phase was kept, in seconds from the phase's start.
    let settled: Vec<Value> = (0..PHASES)
        .map(|n| {
            let of_it = |at: f64| (n as f64 * phase_s..(n + 1) as f64 * phase_s).contains(&at);
            let last = records.iter().rev().find(|(at, r)| of_it(*at) && r["verdict"]["outcome"] == "kept");
            last.map_or(Value::Null, |(at, _)| json!(at - n as f64 * phase_s))
        })
        .collect();
    Ok(json!({
        "default": default, "best_static": best.1, "best_static_kib": best.0, "keepahead": ours,
        "ratio_to_default": ours / default, "ratio_to_best": ours / best.1,
        "changes_kept": ended("kept"), "changes_reverted": ended("reverted") + ended("aborted"),
        "memory_mib": MEMORY_MIB, "latency_ms": LATENCY.as_millis() as u64, "phase_s": phase_s, "trials": trials(&records),
        "restored": testbed.read_ahead()? == START_KIB,
        "phases": phases, "settle_s": Value::Null, "settled_in_phase_s": settled,
        "sweep": scores.iter().map(|(kib, score, phases)| (kib.to_string(), json!([score, phases]))).collect::<serde_json::Map<_, _>>(),
    }))
}

/// MB/s of each phase.
fn run(testbed: &Testbed, file: &Path, phase_s: f64, count: usize, seed: u64) -> anyhow::Result<Vec<f64>> {
    let Load::Phases(kinds) = LOAD else { return Ok(Vec::new()) };
    let text: Vec<String> = (0..count).map(|n| format!("{}:{phase_s}", kinds[n % 2])).collect();
    let rates: Vec<Rate> = own(testbed, file, &text.join(","), seed)?;
    Ok((0..count).map(|n| mean_of_phase(&rates, n)).collect())
}

fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp()
}
