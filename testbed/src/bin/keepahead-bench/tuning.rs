// SPDX-License-Identifier: MIT OR Apache-2.0
//! Does keepahead find what a sweep of static values finds? Each row: a workload behind a throttle where the knob matters.

use crate::agent::Agent;
use crate::load::{Load, Rate, mean};
use crate::{db, phases, table};
use anyhow::ensure;
use keepahead_testbed::workload::Kind;
use keepahead_testbed::{Fs, Testbed};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

struct Row {
    load: Load,
    start_kib: u32,
    iops: u64,
    bytes_per_s: u64,
}

impl Row {
    fn name(&self) -> String {
        format!("{} from {} KiB", self.load.name(), self.start_kib)
    }

    /// Whether what it delivers at one value goes on changing after [`SETTLED_S`]: single pages fill the cache only as fast as they are asked for, and a
    /// database that is written to compacts more and more.
    fn drifts(&self) -> bool {
        match self.load {
            Load::Own(kind) => matches!(kind, Kind::RandPread),
            Load::Db(name) => name.contains("write") || name.contains("update") || name == "mixgraph",
            Load::Phases(_) => false,
        }
    }
}

const SWEEP: &[u32] = &[4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];
/// Share of the best short run's throughput from which a static value takes a turn of its own (what was best of random faults had 0.80 there), and most of
/// these.
const NEAR_BEST: f64 = 0.7;
const NEAR_BEST_MOST: usize = 5;
/// keepahead's run: it must have settled after 30 s; the rest is its score.
const RUN_S: f64 = 45.0;
const SETTLED_S: f64 = 30.0;
/// Where keepahead and static values take turns on one program, the next begins so much later: a second lies between them, because the program's clock
/// starts later than the bench's.
const TURN_S: f64 = RUN_S + 1.0;
/// A second run with what the first has taught: long enough for one trial that fails and one that does not.
const KNOWN_S: f64 = 15.0;

const COLUMNS: [&str; 13] = [
    "name",
    "unit",
    "default",
    "best_static",
    "best_static_kib",
    "keepahead",
    "ratio_to_default",
    "ratio_to_best",
    "settle_s",
    "settle_known_s",
    "changes_kept",
    "changes_reverted",
    "restored",
];

fn rows() -> Vec<Row> {
    let row = |load, start_kib, iops, mb: u64| Row { load, start_kib, iops, bytes_per_s: mb * 1_000_000 };
    let mut rows = vec![
        row(Load::Own(Kind::SeqRead), 128, 1000, 400),
        row(Load::Own(Kind::SeqMmap), 128, 1000, 400),
        row(Load::Own(Kind::RandMmap), 128, 3000, 150),
        row(Load::Own(Kind::RandMmap), 2048, 3000, 150),
        // What some cloud disks come with since Linux 6.17: two faults a second.
        row(Load::Own(Kind::RandMmap), 65536, 3000, 150),
        row(Load::Own(Kind::Runs(8)), 128, 3000, 150),
        row(Load::Own(Kind::Runs(32)), 128, 3000, 150),
        row(Load::Own(Kind::RandPread), 128, 3000, 150),
        row(Load::Own(Kind::Idle), 128, 3000, 150),
    ];
    // But for seekrandom, the six of Akgun et al. (KML, HotStorage 2021).
    let db = ["readrandom", "readseq", "readreverse", "seekrandom", "mixgraph", "readrandomwriterandom", "updaterandom"];
    rows.extend(db.map(|name| row(Load::Db(name), 128, 6000, 250)));
    rows.push(row(phases::LOAD, 128, 3000, 150));
    rows
}

pub fn run(seed: u64, quick: bool, policy: &str) -> anyhow::Result<()> {
    let only = std::env::var("KEEPAHEAD_BENCH_ROWS").unwrap_or_default();
    let testbed = Testbed::new(7600, Fs::Ext4)?;
    let file = testbed.file("data", 1500)?;
    let mut database: Option<PathBuf> = None;
    let mut results = Vec::new();
    for row in rows().iter().filter(|r| only.is_empty() || only.split(',').any(|o| r.name().contains(o))) {
        let measured = match (row.load, &database) {
            (Load::Db(_), None) => match db::unavailable() {
                Some(why) => Err(anyhow::anyhow!(why)),
                None => db::build(&testbed).map(|dir| database.insert(dir).clone()),
            },
            (Load::Db(_), Some(dir)) => Ok(dir.clone()),
            (Load::Own(_) | Load::Phases(_), _) => Ok(file.clone()),
        }
        .and_then(|path| match row.load {
            Load::Phases(_) => phases::measure(policy, seed, quick),
            _ => measure(&testbed, &path, row, (seed, policy), quick),
        });
        let result = measured.unwrap_or_else(|e| json!({ "value": null, "why": format!("{e:#}") }));
        let mut result = json!({ "name": row.name(), "unit": row.load.unit(), "seed": seed, "kernel": crate::kernel(),
            "iops": row.iops, "bytes_per_s": row.bytes_per_s, "memory_mib": 512, "policy": policy, "result": result });
        let inner = result["result"].take();
        if let (Value::Object(all), Value::Object(inner)) = (&mut result, inner) {
            all.remove("result");
            all.extend(inner);
        }
        println!("{result}");
        results.push(result);
        // After each row: a bench ended early keeps what it measured.
        table::write("tuning", &results)?;
    }
    table::print(&results, &COLUMNS);
    println!("written: {}", table::path("tuning").display());
    Ok(())
}

fn measure(testbed: &Testbed, path: &Path, row: &Row, (seed, policy): (u64, &str), quick: bool) -> anyhow::Result<Value> {
    testbed.limit(row.iops, row.bytes_per_s, 512)?;
    if matches!(row.load, Load::Own(Kind::Idle)) {
        let mut result = Run::alone(testbed, path, row, (seed, policy))?.told(testbed, path, row, (seed, policy))?;
        result["why"] = json!("an idle device has no throughput: the number of changes is the result");
        for key in ["default", "best_static", "best_static_kib", "keepahead", "ratio_to_default", "ratio_to_best"] {
            result[key] = Value::Null;
        }
        return Ok(result);
    }
    let (near_best, scores) = sweep(testbed, path, row, seed)?;
    let turns = |ours_last, seed| Run::by_turns(testbed, path, row, (seed, policy), Turns { near_best: &near_best, ours_last });
    let first = turns(false, seed + 10)?;
    let mut result = first.told(testbed, path, row, (seed + 10, policy))?;
    let mut scored = vec![first.scored];
    if !quick || row.drifts() {
        let turned = turns(true, seed + 11)?;
        result["turned"] = json!({ "settle_s": turned.settled_s(), "final_kib": turned.final_kib(row), "restored": turned.restored,
            "trials": trials(&turned.records) });
        result["restored"] = json!(result["restored"] == true && turned.restored);
        scored.push(turned.scored);
    }
    let best_kib = best_of(&scored).unwrap_or(row.start_kib);
    let of = |what: &dyn Fn(&Scored) -> f64| spread(scored.iter().map(what).collect());
    let (default, best) = (|s: &Scored| s.fixed[&row.start_kib], |s: &Scored| s.fixed[&best_kib]);
    ensure!(scored.iter().all(|s| best(s) > 0.0 && default(s) > 0.0), "a static value delivered nothing: {scored:?}");
    for (key, [low, median, high]) in [
        ("default", of(&default)),
        ("best_static", of(&best)),
        ("keepahead", of(&|s| s.ours)),
        ("ratio_to_default", of(&|s| s.ours / default(s))),
        ("ratio_to_best", of(&|s| s.ours / best(s))),
    ] {
        result[key] = json!(median);
        result[format!("{key}_min")] = json!(low);
        result[format!("{key}_max")] = json!(high);
    }
    result["best_static_kib"] = json!(best_kib);
    result["sweep"] = Value::Object(scores);
    Ok(result)
}

/// Of the values that took turns with keepahead, the one that delivered most of what it did.
fn best_of(scored: &[Scored]) -> Option<u32> {
    let median = |kib: &u32| spread(scored.iter().map(|s| s.fixed[kib] / s.ours).collect())[1];
    scored.first()?.fixed.keys().copied().max_by(|a, b| median(a).total_cmp(&median(b)))
}

/// The static values that come near the best in a few seconds of an empty cache, best first, and every score by value. Which is the best shows only when the
/// cache has turned over: of random faults 32 KiB got most in the first six seconds, a quarter more than 4, and 4 a quarter more than 32 half a minute later.
fn sweep(testbed: &Testbed, path: &Path, row: &Row, seed: u64) -> anyhow::Result<(Vec<u32>, serde_json::Map<String, Value>)> {
    let mut sweep = Vec::new();
    for &kib in SWEEP {
        sweep.push((kib, mean(&statically(testbed, path, row, kib, 6.0, seed)?, 2.0, RUN_S)));
    }
    let scores = sweep.iter().map(|(kib, score)| (kib.to_string(), json!(score))).collect();
    sweep.sort_by(|a, b| b.1.total_cmp(&a.1));
    let enough = NEAR_BEST * sweep[0].1;
    let near_best = sweep.iter().take(NEAR_BEST_MOST).filter(|(_, score)| *score >= enough).map(|(kib, _)| *kib).collect();
    Ok((near_best, scores))
}

/// Minimum, median, maximum.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    [values[0], (values[(n - 1) / 2] + values[n / 2]) / 2.0, values[n - 1]]
}

/// What a reader needs to see why a row ended where it did: each trial that ended, and why it was begun.
pub fn trials(records: &[(f64, Value)]) -> Vec<Value> {
    let of = |kind: &'static str| records.iter().filter(move |(_, r)| r["record"] == kind);
    let begun = |id: &Value| of("trial_started").find(|(_, r)| r["trial"] == *id).cloned().unwrap_or_default();
    let ended = |(at_s, r): &(f64, Value)| {
        let (began_s, started) = begun(&r["trial"]);
        let (proposal, evidence) = (&started["proposal"], &started["evidence"]);
        json!({ "at_s": at_s, "began_s": began_s, "hit_ratio": evidence["hit_ratio"], "waste_mib_per_s": evidence["waste_mib_per_s"],
            "demanded_mib_per_s": evidence["demanded_mib_per_s"], "pairs": r["verdict"]["pairs"],
            "from": r["from"], "to": r["to"], "pattern": proposal["pattern"], "why": proposal["reason"], "outcome": r["verdict"]["outcome"],
            "reason": r["verdict"]["reason"], "stall_ratio": r["verdict"]["stall_ratio"]["mean"] })
    };
    of("trial_ended").map(ended).collect()
}

fn last_kept(records: &[(f64, Value)]) -> Option<&(f64, Value)> {
    records.iter().rev().find(|(_, r)| r["record"] == "trial_ended" && r["verdict"]["outcome"] == "kept")
}

/// Throughput of one program once keepahead must have settled, and once each of the static values that took turns with it was in force for as long.
#[derive(Clone, Debug)]
struct Scored {
    ours: f64,
    fixed: BTreeMap<u32, f64>,
}

/// What takes turns with keepahead besides the default.
#[derive(Clone, Copy, Debug)]
struct Turns<'a> {
    near_best: &'a [u32],
    ours_last: bool,
}

/// A run of the workload with keepahead, cold.
struct Run {
    scored: Scored,
    /// Of keepahead's turn, with the seconds since it began.
    records: Vec<(f64, Value)>,
    state: PathBuf,
    restored: bool,
}

impl Run {
    /// With keepahead alone.
    fn alone(testbed: &Testbed, path: &Path, row: &Row, (seed, policy): (u64, &str)) -> anyhow::Result<Run> {
        let (agent, state) = cold(testbed, row, policy)?;
        let rates = row.load.run(testbed, path, RUN_S, seed)?;
        let scored = Scored { ours: mean(&rates, SETTLED_S, RUN_S), fixed: BTreeMap::new() };
        Run::ended(testbed, row, agent, (scored, 0.0, state))
    }

    /// With keepahead, with the default and with the static values near the best, one after the other (or the other way round), on one running program (readseq
    /// and readreverse begin anew every few seconds): two of one kind lie apart by a factor of up to 1.8 at one and the same value (twelve of RocksDB's readrandom:
    /// 4,040 to 7,320 ops/s), where tens of seconds of one lie within a percent. A value is pinned, so that it reaches open files. The probes run all along:
    /// what they cost another bench measures (0.4 % of readrandom, five pairs of 12 s).
    fn by_turns(testbed: &Testbed, path: &Path, row: &Row, (seed, policy): (u64, &str), turns: Turns) -> anyhow::Result<Run> {
        let (agent, state) = cold(testbed, row, policy)?;
        let fixed = turns.near_best.iter().copied().filter(|kib| *kib != row.start_kib);
        let mut order: Vec<Option<u32>> = [None, Some(row.start_kib)].into_iter().chain(fixed.map(Some)).collect();
        if turns.ours_last {
            order.reverse();
        }
        let take = |turn: Option<u32>| match turn {
            Some(kib) => agent.pin(&testbed.name, kib),
            None => agent.unpin(&testbed.name),
        };
        if turns.ours_last {
            take(order[0])?;
        }
        let start_s = if turns.ours_last { agent.up_s() } else { 0.0 };
        let (running, over) = mpsc::channel::<()>();
        let began = Instant::now();
        let rates = std::thread::scope(|scope| {
            let later = scope.spawn(|| {
                let over = over;
                for (turn, i) in order.iter().zip(0..).skip(1) {
                    let begins = Duration::from_secs_f64(f64::from(i) * TURN_S);
                    match over.recv_timeout(begins.saturating_sub(began.elapsed())) {
                        Err(RecvTimeoutError::Timeout) => take(*turn)?,
                        _ => break,
                    }
                }
                anyhow::Ok(())
            });
            let rates = row.load.run(testbed, path, TURN_S * (order.len() - 1) as f64 + RUN_S, seed);
            drop(running);
            later.join().map_err(|_| anyhow::anyhow!("the thread that takes the turns panicked"))??;
            rates
        })?;
        let begins = |i: usize| i as f64 * TURN_S;
        let scored = |i| mean(&rates, begins(i) + SETTLED_S, begins(i) + RUN_S);
        let ours = if turns.ours_last { order.len() - 1 } else { 0 };
        let fixed = order.iter().enumerate().filter_map(|(i, turn)| Some(((*turn)?, scored(i)))).collect();
        Run::ended(testbed, row, agent, (Scored { ours: scored(ours), fixed }, start_s + begins(ours), state))
    }

    /// `began_s`: when keepahead's turn began, by the agent's clock. In the first turn that is the agent's start, its probes yet to be loaded.
    fn ended(
        testbed: &Testbed,
        row: &Row,
        agent: Agent,
        (scored, began_s, state): (Scored, f64, PathBuf),
    ) -> anyhow::Result<Run> {
        let records = agent.stop()?;
        let foreign = records.iter().find(|(_, r)| r["record"] == "hands_off" || r["record"] == "kernel_raised");
        ensure!(foreign.is_none(), "somebody else writes read_ahead_kb of {}: {foreign:?}", testbed.name);
        // A pin at the end of the turn makes a running trial void.
        let of_turn = records.into_iter().map(|(at, r)| (at - began_s, r)).filter(|(at, _)| (0.0..TURN_S).contains(at));
        Ok(Run { scored, records: of_turn.collect(), state, restored: testbed.read_ahead()? == row.start_kib })
    }

    fn settled_s(&self) -> Option<f64> {
        last_kept(&self.records).map(|(at, _)| *at)
    }

    fn final_kib(&self, row: &Row) -> Value {
        last_kept(&self.records).map_or(json!(row.start_kib), |(_, r)| r["to"].clone())
    }

    /// What it did; and, where it kept something, what a second run does that begins with what this one has taught.
    fn told(&self, testbed: &Testbed, path: &Path, row: &Row, (seed, policy): (u64, &str)) -> anyhow::Result<Value> {
        let (mut known, mut restored) = (Vec::new(), self.restored);
        if self.settled_s().is_some() {
            testbed.drop_caches()?;
            let agent = Agent::start(&[&testbed.name], &self.state, &config(policy))?;
            row.load.run(testbed, path, KNOWN_S, seed + 1)?;
            known = agent.stop()?;
            // It leaves from a value that it kept.
            restored &= testbed.read_ahead()? == row.start_kib;
        }
        let outcomes = self.records.iter().filter(|(_, r)| r["record"] == "trial_ended");
        let outcomes: Vec<&str> = outcomes.filter_map(|(_, r)| r["verdict"]["outcome"].as_str()).collect();
        let count = |of: &[&str]| outcomes.iter().filter(|o| of.contains(o)).count();
        let kept_known = last_kept(&known);
        Ok(json!({
            "changes_kept": count(&["kept"]),
            "changes_reverted": count(&["reverted", "aborted"]),
            "changes_void": count(&["void"]),
            "settle_s": self.settled_s(),
            "settle_known_s": kept_known.map(|(at, _)| at),
            "final_known_kib": kept_known.map(|(_, r)| &r["to"]),
            "final_kib": self.final_kib(row),
            "restored": restored,
            "trials": trials(&self.records),
            "trials_known": trials(&known),
        }))
    }
}

/// An agent that has been taught nothing, and its state directory.
fn cold(testbed: &Testbed, row: &Row, policy: &str) -> anyhow::Result<(Agent, PathBuf)> {
    testbed.set_read_ahead(row.start_kib)?;
    testbed.drop_caches()?;
    let state = testbed.mount().with_file_name("state");
    let _ = std::fs::remove_dir_all(&state);
    Ok((Agent::start(&[&testbed.name], &state, &config(policy))?, state))
}

fn config(policy: &str) -> String {
    format!("[agent]\npolicy = \"{policy}\"\n")
}

fn statically(testbed: &Testbed, path: &Path, row: &Row, kib: u32, seconds: f64, seed: u64) -> anyhow::Result<Vec<Rate>> {
    testbed.set_read_ahead(kib)?;
    testbed.drop_caches()?;
    let rates = row.load.run(testbed, path, seconds, seed)?;
    // A figure taken at another value would stand under this one: another agent, udev, or a queue limit that was written.
    let found = testbed.read_ahead()?;
    anyhow::ensure!(found == kib, "read_ahead_kb of {} is {found} after a run at {kib}: somebody else writes it", testbed.name);
    Ok(rates)
}
