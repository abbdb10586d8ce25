// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verbs that talk to the running agent: status, pause, resume, take-back, pin, unpin, prefetch.

use super::socket::Socket;
use super::{Exit, Format, PinArgs, PrefetchArgs, SocketArgs, TakeBackArgs, UnpinArgs, output};
use crate::agent::report;
use anyhow::Context;
use keepahead_core::event::{Record, What};
use keepahead_core::units::mib;
use serde_json::{Value, json};
use std::fs::File;

/// Read in one call: some tenths of a second on a slow device, and a small part of the default budget.
const PIECE: u64 = 32 << 20;

/// What the agent does with each device.
pub fn status(at: &SocketArgs, format: Format) -> anyhow::Result<Exit> {
    let mut socket = Socket::connect(at)?;
    let mut status = socket.ask("Status", json!({}))?;
    let devices = socket.ask("Devices", json!({}))?["devices"].take();
    if format == Format::Json {
        status["devices"] = devices;
        output::json_line(&status)?;
        return Ok(Exit::Ok);
    }
    let trials = socket.ask("Trials", json!({}))?["records"].take();
    let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let count = |v: &Value, what: &str| format!("{v} {what}{}", if *v == 1 { "" } else { "s" });
    let mut text = format!(
        "keepahead {}, pid {}, up {} s, policy {}{}; {}, {}\n",
        word(&status["version"]),
        status["pid"],
        status["uptime_s"],
        word(&status["policy"]),
        if status["paused"] == true { ", paused" } else { "" },
        count(&status["connections"], "connection"),
        count(&status["workloads"], "workload")
    );
    for d in devices.as_array().into_iter().flatten() {
        let (name, state) = (word(&d["name"]), word(&d["state"]));
        text += &format!("{name}: {state}, read_ahead_kb {} (original {})", d["read_ahead_kib"], d["original_kib"]);
        let more = [&d["pattern"], &d["held"]].into_iter().filter_map(Value::as_str);
        text += &more.map(|m| format!("; {m}")).collect::<String>();
        text.push('\n');
        text += &latest_trial(&trials, &d["bdi"]).map_or(String::new(), |trial| format!("    {trial}\n"));
    }
    output::text(&text)?;
    Ok(Exit::Ok)
}

/// How the newest trial of a device began, and why, or how it ended, with its time, in a line.
fn latest_trial(trials: &Value, bdi: &Value) -> Option<String> {
    let newest = trials.as_array()?.iter().rev().find(|record| record["bdi"] == *bdi)?;
    let record: Record = serde_json::from_value(newest.clone()).ok()?;
    let time = newest["time"].as_str().and_then(|time| time.get(11..19)).unwrap_or_default();
    let words = report::text(&record);
    let line = words.lines().next()?.strip_prefix(&format!("{}: ", record.label)).map(str::to_owned)?;
    let why = match &record.what {
        What::TrialStarted { proposal, .. } => format!(": {}", proposal.reason),
        _ => String::new(),
    };
    Some(format!("{time}Z {line}{why}"))
}

/// One call whose success is said in `done`.
pub fn order(at: &SocketArgs, method: &str, parameters: Value, done: &str, format: Format) -> anyhow::Result<Exit> {
    let reply = Socket::connect(at)?.ask(method, parameters)?;
    say(&reply, &format!("{done}\n"), format)
}

fn say(reply: &Value, text: &str, format: Format) -> anyhow::Result<Exit> {
    match format {
        Format::Json => output::json_line(reply)?,
        Format::Text => output::text(text)?,
    }
    Ok(Exit::Ok)
}

pub fn reload(at: &SocketArgs, format: Format) -> anyhow::Result<Exit> {
    let reply = Socket::connect(at)?.ask("Reload", json!({}))?;
    let keys = |what: &str| -> Vec<&str> { reply[what].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
    let (now, later) = (keys("changed"), keys("after_restart"));
    let mut text = if now.is_empty() { "nothing to change\n".into() } else { format!("changed: {}\n", now.join(", ")) };
    if !later.is_empty() {
        text += &format!("only after a restart: {}\n", later.join(", "));
    }
    say(&reply, &text, format)
}

pub fn take_back(args: &TakeBackArgs, format: Format) -> anyhow::Result<Exit> {
    let parameters = args.device.as_ref().map_or(json!({}), |device| json!({ "device": device }));
    let reply = Socket::connect(&args.at)?.ask("TakeBack", parameters)?;
    say(&reply, &format!("{} taken back\n", reply["taken"]), format)
}

pub fn pin(args: &PinArgs, format: Format) -> anyhow::Result<Exit> {
    let parameters = json!({ "device": args.device, "value_kib": args.value_kib });
    let reply = Socket::connect(&args.at)?.ask("Pin", parameters)?;
    say(&reply, &format!("{}: pinned, read_ahead_kb {}\n", args.device, reply["read_back_kib"]), format)
}

pub fn unpin(args: &UnpinArgs, format: Format) -> anyhow::Result<Exit> {
    let reply = Socket::connect(&args.at)?.ask("Unpin", json!({ "device": args.device }))?;
    say(&reply, &format!("{}: unpinned, read_ahead_kb {}\n", args.device, reply["read_back_kib"]), format)
}

/// Reads each file into the cache, a piece at a time. What is there stays: it is no plan that ends with this program.
pub fn prefetch(args: &PrefetchArgs, format: Format) -> anyhow::Result<Exit> {
    let mut socket = Socket::connect(&args.at)?;
    let registered = socket.ask("Register", json!({ "name": "keepahead prefetch", "budget_bytes": PIECE }))?;
    for path in &args.files {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let size = file.metadata()?.len();
        let workload = &registered["workload"];
        let added = socket.call("AddFiles", json!({ "workload": workload }), &[&file]);
        let first = added.with_context(|| path.display().to_string())?["first"].clone();
        let (mut at, mut cached) = (0, 0);
        while at < size {
            let length = PIECE.min(size - at);
            let range = json!({ "file": first, "offset": at, "length": length });
            let reply = socket.ask("Prefetch", json!({ "workload": workload, "ranges": [range] }))?;
            cached += reply["cached_bytes"].as_u64().unwrap_or(0);
            at += length;
        }
        let (now, all) = (mib(cached as f64), mib(size as f64));
        let line = json!({ "file": path, "cached_bytes": cached, "bytes": size });
        say(&line, &format!("{}: {now:.1} MiB of {all:.1} MiB cached\n", path.display()), format)?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepahead_core::device::BdiName;
    use keepahead_core::event::{Evidence, Outcome, Pattern, Proposal, Verdict};
    use keepahead_core::units::{Kib, Nanos};
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_newest_trial_of_a_device_is_told_with_its_time() {
        let noted = |bdi: &str, trial, what| {
            let record = Record { at: Nanos(0), bdi: BdiName(bdi.into()), label: "vdb".into(), what };
            report::json(&record, SystemTime::UNIX_EPOCH + Duration::from_secs(3661 + trial))
        };
        let ended = |bdi: &str, trial, outcome| {
            let verdict = Verdict::new(outcome, "stall fell".into(), 3, 0.95);
            noted(bdi, trial, What::TrialEnded { trial, from: Kib(128), to: Kib(512), verdict })
        };
        let trials =
            json!([ended("8:0", 1, Outcome::Kept), ended("8:0", 2, Outcome::Reverted), ended("8:16", 3, Outcome::Kept)]);
        let told = latest_trial(&trials, &json!("8:0")).unwrap();
        assert_eq!(told, "01:01:03Z trial 2: reverted to 128 KiB (tried 512 KiB): stall fell");
        assert_eq!(latest_trial(&trials, &json!("8:32")), None);
        let reason = "raise: runs".to_owned();
        let (read_ahead, pattern, confidence) = (Kib(512), Pattern::Sequential, 0.9);
        let proposal = Proposal { read_ahead, pattern, expected_stall_ratio: 0.5, confidence, reason };
        let (evidence, policy) = (Evidence::default(), "rules-1".to_owned());
        let begun = What::TrialStarted { trial: 4, from: Kib(128), to: Kib(512), proposal, evidence, policy };
        let begun = noted("8:0", 4, begun);
        let told = latest_trial(&json!([begun]), &json!("8:0")).unwrap();
        assert_eq!(told, "01:01:05Z trial 4: 128 KiB against 512 KiB (rules-1: sequential): raise: runs");
    }
}
