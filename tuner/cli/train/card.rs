// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model card (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019): takes what a training was given and what it measured,
//! gives Markdown. Equal trainings give equal cards.

use super::Data;
use keepahead_policies::dataset::Row;
use keepahead_policies::evaluate::Scores;
use keepahead_policies::features::{COUNT, VERSION};
use keepahead_policies::model::{LINFA, SCHEMA};
use keepahead_policies::train::{Metrics, Trained};
use keepahead_sim::training::{LADDER, word};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What the data cannot teach, whatever the figures above say.
const FAILURES: &str = "\
## Known failures

- Several streams that one task reads from one file in turn look like single requests at random places to the sensor, which follows one
  position a file and task. They are named random reads; where the rules see a gain all the same, it is tried.
- Records of up to 64 KiB at even distances in a mapping are one fault each to the sensor (fault-around maps the rest): short runs are named
  random faults where the model has not seen such distances.
- A device with two tenants is one vector: how they mix is learned only from a backup over a mapped server and from compactions.
- Devices are models (`docs/SIMULATOR.md` says how faithful). A device whose latency grows with its load in other ways than these is
  outside of the data; trials on the machine correct what is predicted for it.
- Each run lasts twelve seconds from a cold cache: what only shows when a large memory has filled is not in it.
- Recorded programs are never trained on; `learn.json` says how they are named.
";

pub(super) fn card(data: &Data, seed: u64, rows: &[Row], trained: &Trained, bytes: usize) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, data, seed, rows, trained, bytes);
    out
}

fn write(out: &mut String, data: &Data, seed: u64, rows: &[Row], trained: &Trained, bytes: usize) -> std::fmt::Result {
    let (model, metrics) = (&trained.model, &trained.metrics);
    writeln!(out, "# Model card: the learned policy\n")?;
    writeln!(out, "Written by `keepahead train --seed {seed}`, which makes the same model again, byte for byte.\n")?;
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(
        out,
        "| use | names the access pattern of a block device from its counters, and predicts the stall at other `read_ahead_kb` |"
    )?;
    writeln!(out, "| not for | writing a value without a trial: every proposal is proven on the machine or taken back |")?;
    writeln!(out, "| file | schema {SCHEMA}, {COUNT} features of version {VERSION}, {bytes} bytes, linfa {LINFA} |")?;
    writeln!(out, "| clusters | {} |", model.classifier.clusters.len())?;
    writeln!(out, "| training set | {}, Parquet {} |\n", model.training_set, data.hash)?;
    write_data(out, rows, metrics)?;
    write_choices(out, metrics)?;
    write_splits(out, &metrics.splits)?;
    write!(out, "{FAILURES}")
}

fn write_data(out: &mut String, rows: &[Row], metrics: &Metrics) -> std::fmt::Result {
    writeln!(out, "## Data\n")?;
    writeln!(
        out,
        "{} rows of {} simulated runs: {} families of workloads, {} devices, {} kernels. A row is three seconds as the agent's own loop\n\
         sees them, with the sensor's noise, at one of {} sizes from {} to {} KiB; its labels are what each size gave in the same run.\n",
        metrics.rows,
        metrics.runs,
        metrics.families,
        metrics.devices,
        metrics.kernels,
        LADDER.len(),
        LADDER[0],
        LADDER[LADDER.len() - 1],
    )?;
    let mut families: BTreeMap<&str, (BTreeSet<u32>, BTreeSet<&str>)> = BTreeMap::new();
    for row in rows {
        let (runs, patterns) = families.entry(&row.family).or_default();
        runs.insert(row.run);
        patterns.insert(word(row.pattern));
    }
    writeln!(out, "| family | runs | patterns, by construction |\n|---|---|---|")?;
    for (family, (runs, patterns)) in families {
        writeln!(out, "| {family} | {} | {} |", runs.len(), patterns.into_iter().collect::<Vec<_>>().join(", "))?;
    }
    writeln!(out)
}

fn write_choices(out: &mut String, metrics: &Metrics) -> std::fmt::Result {
    writeln!(out, "## What was chosen, and among what\n")?;
    writeln!(
        out,
        "Over left-out runs; the fewest clusters a pattern that are as often right as the best within one standard error.\n"
    )?;
    writeln!(out, "| clustering | clusters | log loss | right % | ± | BIC |\n|---|---|---|---|---|---|")?;
    for c in &metrics.clusterings {
        let (method, loss, error) = (c.method, c.log_loss, c.error);
        writeln!(out, "| {method:?} | {} | {loss:.3} | {:.1} | {error:.2} | {:.0} |", c.clusters, c.accuracy_percent, c.bic)?;
    }
    writeln!(
        out,
        "\nOver left-out families; the simplest, from above, that chooses as well as the best within one standard error.\n\n\
         | regression | error, log2 of the stall ratio | stall where it thinks best / at the best | ± % |\n|---|---|---|---|"
    )?;
    for r in &metrics.regressions {
        let percent = 100.0 * (r.error.exp2() - 1.0);
        writeln!(out, "| {:?} | {:.3} | {:.3} | {percent:.1} |", r.form, r.rmse, r.chosen_to_best)?;
    }
    writeln!(out)
}

fn write_splits(out: &mut String, splits: &[Scores]) -> std::fmt::Result {
    writeln!(out, "## On what it has not seen\n")?;
    writeln!(
        out,
        "Each family, device and kernel is left out in turn, and a fifth of the runs, never windows of one run. Stall as a ratio, geometric mean over\n\
         runs; climbs begin at 128 KiB and their trials show the truth.\n"
    )?;
    writeln!(
        out,
        "| left out | pattern right % | unknown % | rules right % | climb: stall / best | rules | worst / default | rules | trials | rules |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|")?;
    for s in splits {
        let (l, r) = (&s.learned, &s.rules);
        writeln!(
            out,
            "| {} | {:.1} | {:.1} | {:.1} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} | {:.1} |",
            s.left_out,
            s.accuracy_percent,
            s.unknown_percent,
            s.rules_accuracy_percent,
            l.end_to_best,
            r.end_to_best,
            l.worst_to_default,
            r.worst_to_default,
            l.trials,
            r.trials,
        )?;
    }
    writeln!(out, "\n| left out | family | runs | pattern right % | climb: stall / best | rules |\n|---|---|---|---|---|---|")?;
    for s in splits {
        for f in &s.families {
            let (right, learned, rules) = (f.accuracy_percent, f.learned, f.rules);
            writeln!(out, "| {} | {} | {} | {right:.1} | {learned:.3} | {rules:.3} |", s.left_out, f.family, f.runs)?;
        }
    }
    writeln!(out, "\n| left out | stated confidence | right | rows |\n|---|---|---|---|")?;
    for s in splits {
        for bin in &s.calibration {
            writeln!(out, "| {} | {:.2} | {:.2} | {} |", s.left_out, bin.confidence, bin.right, bin.rows)?;
        }
    }
    writeln!(out)
}
