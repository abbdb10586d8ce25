// SPDX-License-Identifier: MIT OR Apache-2.0
#![allow(clippy::disallowed_methods)] // A bench writes its figures and takes its seed from the clock.
//! How far a verdict can be believed: whole trials (`Trial::tick`, ten ticks a second) on simulated workloads whose truth is known.
//!
//! Gives `target/bench/verify.json`: false keeps where there is no effect, under four kinds of noise; true effects of 10 % found
//! within 20 blocks; harm ended within two blocks of the new value. `KEEPAHEAD_VERIFY_TRIALS` (10,000) and `KEEPAHEAD_VERIFY_SEED`
//! (the clock) set how many of each and which.

mod workload;

use keepahead_core::event::Outcome;
use keepahead_core::settings::TrialSettings;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256StarStar;
use serde_json::{Value, json};
use workload::{BLOCK_SPREAD, Ended, Noise, trial};

const TRIALS: u64 = 10_000;
/// Blocks within which an effect of 10 % is to be found.
const FOUND_WITHIN: u32 = 20;
/// Blocks of the new value within which harm is to end.
const HARM_WITHIN: u32 = 2;

#[derive(Clone)]
struct Bench {
    seed: u64,
    trials: u64,
    settings: TrialSettings,
    /// Seconds that were seen before each trial.
    before: u32,
}

impl Bench {
    /// All trials of one kind. `effect` draws the stall ratio, new over old.
    fn run(&self, kind: u64, noise: Noise, effect: impl Fn(&mut Xoshiro256StarStar) -> f64) -> Vec<Ended> {
        let one = |n: u64| {
            let mut random = Xoshiro256StarStar::seed_from_u64(self.seed.wrapping_add(kind << 32).wrapping_add(n));
            let ratio = effect(&mut random);
            trial(n, ratio, noise, (self.before, &self.settings), &mut random)
        };
        (0..self.trials).map(one).collect()
    }

    fn row(&self, name: &str, value: f64, unit: &str, note: &str) -> Value {
        let ratio = (value * 1000.0).round() / 1000.0;
        println!("{name:36} {ratio:>9} {unit:8} {note}");
        json!({ "name": name, "value": ratio, "unit": unit, "note": note, "trials": self.trials, "seed": self.seed })
    }
}

fn percent(of: &[Ended], what: impl Fn(&Ended) -> bool) -> f64 {
    100.0 * of.iter().filter(|ended| what(ended)).count() as f64 / of.len().max(1) as f64
}

fn kept(ended: &Ended) -> bool {
    ended.outcome == Outcome::Kept
}

fn median_blocks(of: &[Ended], what: impl Fn(&Ended) -> bool) -> f64 {
    let mut blocks: Vec<u32> = of.iter().filter(|ended| what(ended)).map(|ended| ended.blocks).collect();
    blocks.sort_unstable();
    blocks.get(blocks.len() / 2).map_or(f64::NAN, |b| f64::from(*b))
}

fn false_keeps(bench: &Bench) -> Vec<Value> {
    let kinds = [
        ("white", Noise::White, "independent"),
        ("autocorrelated", Noise::Autocorrelated, "AR(1) between blocks, phi 0.5 to 0.9, spread 0.15"),
        ("drift", Noise::Drift, "a slope of up to 5 % a block, or a random walk of 5 % a block"),
        ("bursty", Noise::Bursty, "Pareto bursts (index 1.5) of three blocks on average"),
        ("wild", Noise::Wild, "independent, a block's spread 0.3"),
        (
            "moved",
            Noise::Moved,
            "independent, a block's spread 0.15, and the level moves by 0.3 (one standard deviation) as the trial begins",
        ),
        ("rare_windows", Noise::RareWindows, "white; a window comes every 1 to 3 s, and all waits follow it"),
    ];
    let row = |(i, (name, noise, note)): (usize, (&str, Noise, &str))| {
        let ended = bench.run(i as u64, noise, |_| 1.0);
        bench.row(&format!("false_keep_percent.{name}"), percent(&ended, kept), "percent", note)
    };
    kinds.into_iter().enumerate().map(row).collect()
}

fn power(bench: &Bench) -> Vec<Value> {
    let (tenth, half) = (bench.run(10, Noise::White, |_| 0.9), bench.run(11, Noise::White, |_| 0.5));
    let correlated = bench.run(12, Noise::AutocorrelatedTestbed, |_| 0.9);
    let (bursty, wild) = (bench.run(14, Noise::Bursty, |_| 0.5), bench.run(15, Noise::Wild, |_| 0.5));
    let rare = bench.run(16, Noise::RareWindows, |_| 0.5);
    let moved = bench.run(17, Noise::Moved, |_| 0.5);
    let none = bench.run(13, Noise::White, |_| 1.0);
    let found = |ended: &Ended| kept(ended) && ended.blocks <= FOUND_WITHIN;
    let note = format!("stall -10 %, found within {FOUND_WITHIN} blocks, spread of a block's log stall {BLOCK_SPREAD}");
    vec![
        bench.row("power_10pct_percent", percent(&tenth, found), "percent", &note),
        bench.row(
            "power_10pct_percent.autocorrelated",
            percent(&correlated, found),
            "percent",
            "the same spread, phi 0.5 to 0.9",
        ),
        bench.row("power_halved_percent", percent(&half, found), "percent", "stall halved"),
        bench.row(
            "power_halved_percent.bursty",
            percent(&bursty, found),
            "percent",
            "stall halved, bursts as in false_keep_percent",
        ),
        bench.row("power_halved_percent.wild", percent(&wild, found), "percent", "stall halved, a block's spread 0.3"),
        bench.row(
            "power_halved_percent.moved",
            percent(&moved, found),
            "percent",
            "stall halved, the level as in false_keep_percent",
        ),
        bench.row(
            "power_halved_percent.rare_windows",
            percent(&rare, found),
            "percent",
            "stall halved, windows as in false_keep_percent",
        ),
        bench.row("blocks_to_verdict_median", median_blocks(&tenth, kept), "blocks", "stall -10 %, kept"),
        bench.row("blocks_to_verdict_median.halved", median_blocks(&half, kept), "blocks", "stall halved, kept"),
        bench.row(
            "blocks_to_verdict_median.moved",
            median_blocks(&moved, kept),
            "blocks",
            "stall halved, the level moves, kept",
        ),
        bench.row(
            "blocks_to_verdict_median.wild",
            median_blocks(&wild, kept),
            "blocks",
            "stall halved, a block's spread 0.3, kept",
        ),
        bench.row("blocks_to_verdict_median.no_effect", median_blocks(&none, |_| true), "blocks", "no effect"),
        bench.row("ticks_to_verdict_mean.halved", mean_ticks(&half), "ticks", "of 100 ms"),
        bench.row("false_abort_percent.no_effect", percent(&none, |e| e.outcome == Outcome::Aborted), "percent", "white"),
        bench.row(
            "false_abort_percent.10pct",
            percent(&tenth, |e| e.outcome == Outcome::Aborted),
            "percent",
            "stall -10 %, white",
        ),
    ]
}

/// A value that was proven for the pattern before, and one second of the pattern that has returned.
fn proven(bench: &Bench) -> Vec<Value> {
    let bench = Bench { settings: bench.settings.of_proven(), before: 1, ..*bench };
    let noises = [
        ("white", Noise::White),
        ("autocorrelated", Noise::Autocorrelated),
        ("drift", Noise::Drift),
        ("bursty", Noise::Bursty),
    ];
    let false_keep = |(i, (name, noise)): (usize, (&str, Noise))| {
        let ended = bench.run(30 + i as u64, noise, |_| 1.0);
        let note = "a value proven before that is of no use any more";
        bench.row(&format!("false_keep_percent.proven.{name}"), percent(&ended, kept), "percent", note)
    };
    let mut rows: Vec<Value> = noises.into_iter().enumerate().map(false_keep).collect();
    for (kind, ratio) in [(34, 0.5), (35, 0.9)] {
        let ended = bench.run(kind, Noise::White, |_| ratio);
        let note = format!("a value proven before, stall {ratio} times the present value's");
        let found = |ended: &Ended| kept(ended) && ended.blocks <= FOUND_WITHIN;
        rows.push(bench.row(&format!("power_percent.proven_{ratio}"), percent(&ended, found), "percent", &note));
        rows.push(bench.row(&format!("blocks_to_verdict_median.proven_{ratio}"), median_blocks(&ended, kept), "blocks", &note));
    }
    rows
}

fn mean_ticks(of: &[Ended]) -> f64 {
    of.iter().map(|e| f64::from(e.ticks)).sum::<f64>() / of.len().max(1) as f64
}

fn stopped(ended: &Ended) -> bool {
    ended.outcome != Outcome::Kept && ended.new_blocks <= HARM_WITHIN && ended.outcome != Outcome::Void
}

fn harm(bench: &Bench) -> Vec<Value> {
    let from_1_1_to_4 =
        |bench: &Bench, kind| bench.run(kind, Noise::White, |random| random.gen_range(1.1f64.ln()..4f64.ln()).exp());
    let beyond = from_1_1_to_4(bench, 20);
    let (second, proven) = (Bench { before: 1, ..bench.clone() }, bench.settings.of_proven());
    let of_proven = from_1_1_to_4(&Bench { settings: proven, ..second.clone() }, 37);
    let mut rows = vec![
        bench.row(
            "harm_abort_percent",
            percent(&beyond, stopped),
            "percent",
            "stall ratio 1.1 to 4, even in the logarithm; ended within two blocks of the new value",
        ),
        bench.row("harm_kept_percent", percent(&beyond, kept), "percent", "of the same"),
        bench.row(
            "harm_abort_percent.second",
            percent(&from_1_1_to_4(&second, 36), stopped),
            "percent",
            "the same next to a single second before",
        ),
        bench.row("harm_abort_percent.proven", percent(&of_proven, stopped), "percent", "and of a value proven before"),
        bench.row("harm_kept_percent.proven", percent(&of_proven, kept), "percent", "of these"),
    ];
    for (i, ratio) in [1.1, 1.15, 1.2, 1.5].into_iter().enumerate() {
        let ended = bench.run(21 + i as u64, Noise::White, |_| ratio);
        rows.push(bench.row(
            &format!("harm_abort_percent.at_{ratio}"),
            percent(&ended, stopped),
            "percent",
            "exactly this ratio",
        ));
    }
    rows
}

fn main() {
    let number = |name: &str, otherwise: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |t| t.as_secs());
    let trials = if std::env::args().any(|a| a == "--test") { 100 } else { TRIALS };
    let bench = Bench {
        seed: number("KEEPAHEAD_VERIFY_SEED", clock),
        trials: number("KEEPAHEAD_VERIFY_TRIALS", trials),
        settings: TrialSettings::default(),
        before: 3,
    };
    println!("seed {}, {} trials of each kind", bench.seed, bench.trials);
    let mut rows = false_keeps(&bench);
    rows.extend(power(&bench));
    rows.extend(harm(&bench));
    rows.extend(proven(&bench));
    rows.push(bench.row("trials", bench.trials as f64, "trials", "of each kind"));
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench/verify.json");
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let text = serde_json::to_string_pretty(&rows).unwrap_or_default();
    if let Err(error) = written.and_then(|()| std::fs::write(&path, text)) {
        eprintln!("{}: {error}", path.display());
        std::process::exit(1);
    }
}
