// SPDX-License-Identifier: MIT OR Apache-2.0
//! How good the learned policy is on what it has not seen: takes the model file (`KEEPAHEAD_MODEL`, else what `make` ships), worlds of a
//! seed that no training has, the recorded programs and the scenarios; gives `target/bench/learn.json`, a table, and the plot `calibration.svg` beside it.
//! `KEEPAHEAD_BENCH=quick`: a few worlds, and only the scenarios with phases. `KEEPAHEAD_BENCH_SEED`: these worlds again.

use anyhow::Context as _;
use keepahead_core::event::Proposal;
use keepahead_core::policy::{Context, Decision, Policy};
use keepahead_core::settings::Settings;
use keepahead_core::units::Kib;
use keepahead_policies::dataset::Row;
use keepahead_policies::features::restore;
use keepahead_policies::learned::Learned;
use keepahead_policies::rules::{Rules, classify};
use keepahead_sim::compare::Plan;
use keepahead_sim::output::plot::reliability;
use keepahead_sim::report::{Figures, Report};
use keepahead_sim::scenario::Scenario;
use keepahead_sim::spec::Control;
use keepahead_sim::training::{FAMILIES, LADDER, Programs, rows, worlds};
use keepahead_sim::world;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const MODEL: &str = "policies/model/learned.model";
/// Virtual seconds of a world's run: long enough to settle.
const RUN_S: f64 = 60.0;
/// What a cached page costs its reader anyway, ns: keeps nothing over nothing from being a loss.
const CACHED_PAGE_NS: f64 = 1000.0;
/// Better or worse than the rules only beyond these.
const EQUAL: f64 = 1.0;
const WORSE: f64 = 1.02;
/// Stall of the default over the best static value's, from which there is something to gain.
const SOMETHING_TO_GAIN: f64 = 1.03;
/// Printed; `learn.json` has all.
const WORST_RUNS: usize = 12;

/// One scenario, stall per page (plus a cached page's cost) under each control, and throughput.
struct Run {
    name: String,
    phases: bool,
    learned: Side,
    rules: Side,
    knowing: Side,
    default: Side,
    statics: Vec<(Kib, Side)>,
}

/// One control's.
struct Side {
    all: Figures,
    /// The last third: what is left of the search's cost by then is a wrong value.
    last: Figures,
    /// Throughput of each phase, all its returns together.
    phases: BTreeMap<String, f64>,
    /// Of each task, or of all of one name: time waited, ns, and pages demanded.
    tasks: BTreeMap<String, (u64, u64)>,
    /// Of the first disk.
    ended: Kib,
    trials: u32,
}

impl Side {
    fn of(report: &Report) -> Side {
        let seconds = report.disks.iter().flat_map(|disk| &disk.seconds).filter(|s| s.at > report.seconds * 2.0 / 3.0);
        let last = seconds.fold(Figures::default(), |sum, second| sum.plus(&second.figures));
        let ended = report.disks.first().map_or(Kib(0), |disk| disk.read_ahead);
        let mut phases: BTreeMap<String, Figures> = BTreeMap::new();
        for phase in report.disks.iter().flat_map(|disk| &disk.phases) {
            let sum = phases.entry(phase.name.clone()).or_default();
            *sum = sum.plus(&phase.figures);
        }
        let phases = phases.into_iter().map(|(name, figures)| (name, figures.throughput())).collect();
        let mut tasks: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for task in &report.tasks {
            let (waited, pages) = tasks.entry(task.name.clone()).or_default();
            (*waited, *pages) = (*waited + task.stall_ns, *pages + task.demanded);
        }
        Side { all: report.total(), last, phases, tasks, ended, trials: report.kept + report.reverted }
    }
}

/// Knows the best static value beforehand and asks for nothing else: what it misses, no policy can gain in this loop.
struct Knowing(Kib);

impl Policy for Knowing {
    fn name(&self) -> &'static str {
        "knowing"
    }

    fn decide(&self, context: &Context) -> Decision {
        let pattern = classify(context.features, context.min_demand);
        // Or what memory allows of it.
        let read_ahead = self.0.min(context.ceiling.floor_power_of_two());
        if !context.may_try(read_ahead) {
            return Decision::Settled { pattern };
        }
        Decision::Propose(Proposal {
            read_ahead,
            pattern,
            expected_stall_ratio: 0.5,
            confidence: 1.0,
            reason: "the best static value".into(),
        })
    }

    fn slots_needed(&self, whole: u32) -> u32 {
        whole.min(1)
    }
}

fn main() -> anyhow::Result<()> {
    let quick = std::env::var("KEEPAHEAD_BENCH").is_ok_and(|v| v == "quick");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = std::env::var_os("KEEPAHEAD_MODEL").map_or(root.join(MODEL), PathBuf::from);
    let file = std::fs::read(&path).with_context(|| format!("{}: make one with `keepahead train --out`", path.display()))?;
    let learned = Learned::from_bytes(&file)?;
    let seed = seed()?;
    println!("seed {seed}, model {}", path.display());
    let unseen = worlds(seed, if quick { 1 } else { 4 } * FAMILIES.len() as u32)?;
    let held_out = rows(&unseen, &())?;
    let programs = programs(&root.join("fixtures/traces/programs"), seed)?;
    let of_worlds = unseen.iter().map(|w| Scenario { duration_s: RUN_S, ..w.scenario.clone() });
    let all: Vec<Scenario> = of_worlds.chain(scenarios(&root.join("fixtures/scenarios"), quick)?).collect();
    let runs = all.par_iter().map(|scenario| run(scenario, &learned)).collect::<anyhow::Result<Vec<Run>>>()?;
    let losses = losses(&runs);
    let mut table = vec![
        accuracy("pattern_accuracy_heldout_percent", &learned, &held_out, seed),
        accuracy("pattern_accuracy_programs_percent", &learned, &programs, seed),
    ];
    table.extend(two_tenants(&learned, &held_out, seed));
    table.extend(comparisons(&runs, seed));
    table.push(infer(&learned, &held_out));
    table.push(json!({ "name": "model_kib", "value": file.len() as f64 / 1024.0, "unit": "KiB" }));
    for row in &table {
        println!("{:41} {:>9.3}", row["name"].as_str().unwrap_or("-"), row["value"].as_f64().unwrap_or(f64::NAN));
    }
    let dir = root.join("target/bench");
    std::fs::create_dir_all(&dir)?;
    let sets = [calibration("unseen worlds", &learned, &held_out), calibration("recorded programs", &learned, &programs)];
    print_losses(&losses);
    table.push(json!({ "name": "runs", "value": runs.len(), "each": losses }));
    std::fs::write(dir.join("calibration.svg"), reliability(&sets)?)?;
    std::fs::write(dir.join("learn.json"), serde_json::to_string_pretty(&table)? + "\n")?;
    Ok(())
}

/// From outside, else from the clock: nothing is tuned to the bench. Never that of the shipped model's worlds.
fn seed() -> anyhow::Result<u64> {
    match std::env::var("KEEPAHEAD_BENCH_SEED") {
        Ok(text) => text.parse().with_context(|| format!("KEEPAHEAD_BENCH_SEED={text:?}: no number")),
        Err(_) => Ok(1_000_000 + SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() % 1_000_000),
    }
}

fn programs(dir: &Path, seed: u64) -> anyhow::Result<Vec<Row>> {
    let list: Programs = toml::from_str(&std::fs::read_to_string(dir.join("programs.toml"))?)?;
    let mut all = Vec::new();
    for (run, program) in list.program.iter().enumerate() {
        if let Ok(trace) = std::fs::read(dir.join(program.file())) {
            all.extend(program.rows(&trace, seed, run as u32)?);
        }
    }
    Ok(all)
}

fn scenarios(dir: &Path, phases_only: bool) -> anyhow::Result<Vec<Scenario>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    let read = |path: PathBuf| Scenario::parse(&std::fs::read_to_string(&path)?).with_context(|| path.display().to_string());
    let mut all = Vec::new();
    for scenario in paths.into_iter().map(read) {
        let scenario = scenario?;
        if !phases_only || has_phases(&scenario)? {
            all.push(scenario);
        }
    }
    Ok(all)
}

fn has_phases(scenario: &Scenario) -> anyhow::Result<bool> {
    Ok(scenario.spec()?.phases.len() > 1)
}

fn run(scenario: &Scenario, learned: &Learned) -> anyhow::Result<Run> {
    let settings = scenario.settings()?;
    let under = |control: &Control| -> anyhow::Result<Side> { Ok(Side::of(&world::run(scenario.spec()?, control, &())?)) };
    let by = |policy: &dyn Policy| under(&Control::Keepahead { policy, settings: settings.clone() });
    let values = Plan::of(&scenario.spec()?, settings.clone(), scenario.ladder()).values;
    let statics = values.into_iter().filter(|v| v.0 <= LADDER[LADDER.len() - 1]).map(|v| Ok((v, under(&Control::Static(v))?)));
    let statics = statics.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Run {
        name: scenario.name.clone(),
        phases: has_phases(scenario)?,
        learned: by(learned)?,
        rules: by(&Rules)?,
        knowing: by(&Knowing(least(&statics, |side| stall(&side.all)).1))?,
        default: under(&Control::Default)?,
        statics,
    })
}

fn least(statics: &[(Kib, Side)], of: impl Fn(&Side) -> f64) -> (f64, Kib) {
    let all = statics.iter().map(|(value, side)| (of(side), *value));
    all.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NAN, Kib(0)))
}

fn stall(figures: &Figures) -> f64 {
    figures.stall_per_page().unwrap_or(0.0) + CACHED_PAGE_NS
}

impl Run {
    /// Stall of this control over that of the static value that is best over the whole run, and the same of the last third.
    fn to_best(&self, side: &Side) -> f64 {
        stall(&side.all) / self.best(|s| stall(&s.all)).0
    }

    /// The same at the load of the default: each task's pages there, at what a page costs it here. Over all pages alone a backup that reads more beside
    /// lookups is a gain, because its pages are cheaper, however long the lookups wait.
    fn matched_to_best(&self, side: &Side) -> f64 {
        let cost = |side: &Side| -> f64 {
            let of_task = |(name, (_, load)): (&String, &(u64, u64))| {
                let (waited, pages) = side.tasks.get(name).copied().unwrap_or_default();
                // A task that got nothing has waited for a page all the time.
                let waited = if pages == 0 { side.all.seconds * 1e9 } else { waited as f64 };
                *load as f64 * (waited / pages.max(1) as f64 + CACHED_PAGE_NS)
            };
            self.default.tasks.iter().map(of_task).sum::<f64>().max(CACHED_PAGE_NS)
        };
        cost(side) / self.statics.iter().map(|(_, side)| cost(side)).fold(f64::INFINITY, f64::min)
    }

    fn last_to_best(&self, side: &Side) -> f64 {
        stall(&side.last) / self.best(|s| stall(&s.last)).0
    }

    fn best(&self, of: impl Fn(&Side) -> f64) -> (f64, Kib) {
        least(&self.statics, of)
    }

    fn throughput_to_best(&self) -> f64 {
        self.of_best(|side| side.all.throughput())
    }

    /// By the geometric mean of the phases' throughputs, as in `tuning.json`: none counts for more because its pages are cheaper. Those in which nothing is
    /// asked for do not count.
    fn phases_to_best(&self) -> f64 {
        let busy = |name: &str| self.default.phases.get(name).is_some_and(|rate| *rate > 0.0);
        self.of_best(|side| geometric_mean(side.phases.iter().filter(|(name, _)| busy(name)).map(|(_, rate)| *rate)))
    }

    /// The learned policy's over the largest of a static value.
    fn of_best(&self, of: impl Fn(&Side) -> f64) -> f64 {
        of(&self.learned) / self.statics.iter().map(|(_, side)| of(side)).fold(0.0, f64::max)
    }

    fn loss(&self) -> Value {
        json!({ "run": self.name, "learned": self.to_best(&self.learned), "rules": self.to_best(&self.rules),
            "learned_matched": self.matched_to_best(&self.learned), "rules_matched": self.matched_to_best(&self.rules),
            "default": self.to_best(&self.default), "learned_last_third": self.last_to_best(&self.learned),
            "rules_last_third": self.last_to_best(&self.rules), "best_kib": self.best(|s| stall(&s.all)).1.0,
            "ended_kib": self.learned.ended.0, "rules_ended_kib": self.rules.ended.0, "trials": self.learned.trials,
            "rules_trials": self.rules.trials, "knowing": self.to_best(&self.knowing), "throughput_to_best": self.throughput_to_best(),
            "phases_to_best": self.phases.then(|| self.phases_to_best()) })
    }
}

/// A row named unknown counts as wrong. Every program and family is listed with its own share.
fn accuracy(name: &str, learned: &Learned, rows: &[Row], seed: u64) -> Value {
    let mut groups: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let (mut right, mut unknown) = (0.0, 0.0);
    for row in rows {
        let seen = learned.model().classifier.classify(&row.features).pattern;
        let hit = f64::from(u8::from(seen == Some(row.pattern)));
        let group = groups.entry(&row.family).or_default();
        *group = (group.0 + hit, group.1 + 1.0);
        (right, unknown) = (right + hit, unknown + f64::from(u8::from(seen.is_none())));
    }
    let percent = |part: f64, whole: f64| 100.0 * part / whole.max(1.0);
    let each: BTreeMap<&str, f64> = groups.into_iter().map(|(name, (hit, all))| (name, percent(hit, all))).collect();
    let count = rows.len() as f64;
    json!({ "name": name, "value": percent(right, count), "unit": "%", "unknown_percent": percent(unknown, count), "rows": rows.len(),
        "seed": seed, "each": each })
}

/// Rows that show two patterns at once, of the family that has two tenants and of those that have one. (A database may be either.)
fn two_tenants(learned: &Learned, rows: &[Row], seed: u64) -> [Value; 2] {
    let share = |name: &str, of: fn(&str) -> bool| {
        let seen = rows.iter().filter(|row| of(&row.family)).filter_map(|row| {
            let features = restore(&row.features)?;
            Some(f64::from(u8::from(learned.tenants(&features, Kib(128)).is_some())))
        });
        let seen: Vec<f64> = seen.collect();
        json!({ "name": name, "value": 100.0 * seen.iter().sum::<f64>() / seen.len().max(1) as f64, "unit": "%", "rows": seen.len(), "seed": seed })
    };
    [
        share("two_tenants_seen_as_two_percent", |family| family == "backup"),
        share("one_tenant_seen_as_two_percent", |family| family != "backup" && family != "database"),
    ]
}

/// Mean stated confidence and share named rightly, of the rows whose confidence fell into the same tenth.
fn calibration(name: &str, learned: &Learned, rows: &[Row]) -> (String, Vec<(f64, f64)>) {
    let mut tenths: BTreeMap<usize, (f64, f64, f64)> = BTreeMap::new();
    for row in rows {
        let seen = learned.model().classifier.classify(&row.features);
        if let Some(pattern) = seen.pattern {
            let (stated, right, count) = tenths.entry((seen.confidence * 10.0) as usize).or_default();
            (*stated, *count) = (*stated + seen.confidence, *count + 1.0);
            *right += f64::from(u8::from(pattern == row.pattern));
        }
    }
    // A handful of rows says nothing.
    let enough = tenths.into_values().filter(|(_, _, count)| *count >= 10.0);
    (name.into(), enough.map(|(stated, right, count)| (stated / count, right / count)).collect())
}

fn comparisons(runs: &[Run], seed: u64) -> Vec<Value> {
    let geomean = |of: &dyn Fn(&Run) -> f64| geometric_mean(runs.iter().map(of));
    let phased: Vec<&Run> = runs.iter().filter(|r| r.phases).collect();
    let of_phased = |name: &str, of: fn(&Run) -> f64| json!({ "name": name, "value": geometric_mean(phased.iter().map(|r| of(r))), "runs": phased.len(), "unit": "throughput" });
    let to_rules = |r: &Run| stall(&r.learned.all) / stall(&r.rules.all);
    let share = |part: usize| 100.0 * part as f64 / runs.len().max(1) as f64;
    let gain: Vec<&Run> = runs.iter().filter(|r| r.to_best(&r.default) >= SOMETHING_TO_GAIN).collect();
    let won = gain.iter().filter(|r| to_rules(r) < EQUAL).count();
    let worst = |of: &dyn Fn(&Run) -> f64| {
        runs.iter().map(|r| (of(r), r.name.as_str())).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NAN, "none"))
    };
    let to_best = |r: &Run| r.to_best(&r.learned);
    let (best, rules) = (worst(&to_best), worst(&to_rules));
    let default = worst(&|r: &Run| stall(&r.learned.all) / stall(&r.default.all));
    let row = |name: &str, value: f64, worst: (f64, &str)| json!({ "name": name, "value": value, "runs": runs.len(), "seed": seed, "worst": worst.0, "worst_run": worst.1 });
    let mean = |name: &str, of: &dyn Fn(&Run) -> f64| json!({ "name": name, "value": geomean(of), "runs": runs.len() });
    vec![
        row("stall_ratio_to_best_geomean", geomean(&to_best), best),
        mean("rules_stall_ratio_to_best_geomean", &|r| r.to_best(&r.rules)),
        mean("knowing_stall_ratio_to_best_geomean", &|r| r.to_best(&r.knowing)),
        mean("matched_stall_ratio_to_best_geomean", &|r| r.matched_to_best(&r.learned)),
        mean("rules_matched_stall_ratio_to_best_geomean", &|r| r.matched_to_best(&r.rules)),
        mean("last_third_stall_ratio_to_best_geomean", &|r| r.last_to_best(&r.learned)),
        mean("rules_last_third_stall_ratio_to_best_geomean", &|r| r.last_to_best(&r.rules)),
        row("worst_ratio_to_default", default.0, default),
        row("beats_rules_percent", share(runs.iter().filter(|r| to_rules(r) < EQUAL).count()), rules),
        json!({ "name": "beats_rules_where_there_is_gain_percent", "value": 100.0 * won as f64 / gain.len().max(1) as f64, "runs": gain.len() }),
        row("worse_than_rules_percent", share(runs.iter().filter(|r| to_rules(r) > WORSE).count()), rules),
        of_phased("phases_ratio_to_best_static", Run::phases_to_best),
        of_phased("phases_bytes_ratio_to_best_static", Run::throughput_to_best),
    ]
}

fn geometric_mean(all: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = all.fold((0.0, 0.0), |(sum, count), value| (sum + value.ln(), count + 1.0));
    (sum / f64::max(count, 1.0)).exp()
}

/// Every run, the one furthest from its best static value first.
fn losses(runs: &[Run]) -> Vec<Value> {
    let mut all: Vec<&Run> = runs.iter().collect();
    all.sort_by(|a, b| b.to_best(&b.learned).total_cmp(&a.to_best(&a.learned)));
    all.into_iter().map(Run::loss).collect()
}

/// The first of them.
fn print_losses(losses: &[Value]) {
    println!("\nstall over that of the best static value (of the last third), the {WORST_RUNS} worst runs");
    println!("{:36} {:>13} {:>13} {:>8} {:>8} {:>8}", "", "learned", "rules", "default", "best kB", "ended kB");
    for loss in losses.iter().take(WORST_RUNS) {
        let figure = |name: &str| loss[name].as_f64().unwrap_or(f64::NAN);
        let pair = |name: &str| format!("{:.2} ({:.2})", figure(name), figure(&format!("{name}_last_third")));
        let (name, default) = (loss["run"].as_str().unwrap_or("-"), figure("default"));
        println!(
            "{name:36} {:>13} {:>13} {default:>8.2} {:>8} {:>8}",
            pair("learned"),
            pair("rules"),
            loss["best_kib"],
            loss["ended_kib"]
        );
    }
}

/// One decision from features, mean over the rows.
fn infer(learned: &Learned, rows: &[Row]) -> Value {
    let (settings, tried, known) = (Settings::default(), BTreeMap::new(), BTreeMap::new());
    let all: Vec<_> = rows.iter().filter_map(|row| Some((restore(&row.features)?, Kib(row.kib)))).collect();
    let start = Instant::now();
    for (features, current) in &all {
        black_box(learned.decide(&Context {
            features,
            current: *current,
            tried: &tried,
            known: &known,
            floor: settings.floor,
            ceiling: settings.ceiling,
            min_demand: settings.min_demand_pages_per_s,
            min_stall_share: settings.min_stall_share,
            whole: true,
        }));
    }
    let value = start.elapsed().as_secs_f64() * 1e6 / all.len().max(1) as f64;
    json!({ "name": "infer_us", "value": value, "unit": "us", "decisions": all.len() })
}
