// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records as lines: words for people, JSON for machines. Every line says why.

use super::windows::is_apart;
use crate::sensor::FileUse;
use keepahead_core::event::{Evidence, Hold, Interval, OpenFiles, Outcome, Record, Verdict, What};
use keepahead_core::units::{Nanos, PAGE_BYTES};
use serde_json::json;
use std::time::SystemTime;

/// One JSON object: the record, with the wall-clock time in UTC beside the monotonic one.
pub fn json(record: &Record, wall: SystemTime) -> serde_json::Value {
    let mut value = serde_json::to_value(record).unwrap_or_else(|e| json!({ "record": "unprintable", "error": e.to_string() }));
    value["time"] = json!(utc(wall));
    value
}

/// `2026-01-31T12:34:56.789Z`.
pub fn utc(wall: SystemTime) -> String {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    let (h, m, s, ms) = (rest / 3600, rest / 60 % 60, rest % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

/// Days since 1970-01-01 to the proleptic Gregorian date (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// One line for a person, without the time.
pub fn text(record: &Record) -> String {
    match &record.what {
        // Open files: what they read ahead by is said where they are given back.
        What::Gone if is_apart(&record.bdi) => format!("{}: over; it is no longer tuned apart from its device", record.label),
        other => format!("{}: {}", record.label, what(other)),
    }
}

fn what(what: &What) -> String {
    match what {
        What::Appeared { original } => format!("watching; read_ahead_kb is {original}"),
        What::Gone => "the device is gone; nothing to restore".into(),
        What::Proposed { from, to, proposal, evidence, policy } => format!(
            "{policy} suggests {from} -> {to}, expected stall x{:.2} ({}, confidence {:.2})\n    {}\n    {}",
            proposal.expected_stall_ratio,
            proposal.pattern,
            proposal.confidence,
            lines(&proposal.reason),
            figures(evidence)
        ),
        What::Held { reason } => format!("hold: {}", hold(reason)),
        What::TrialStarted { trial, from, to, proposal, evidence, .. } if from == to => {
            format!("trial {trial} ({})\n    {}\n    {}", proposal.pattern, lines(&proposal.reason), figures(evidence))
        }
        What::TrialStarted { trial, from, to, proposal, evidence, policy } => format!(
            "trial {trial}: {from} against {to} ({policy}: {})\n    {}\n    {}",
            proposal.pattern,
            lines(&proposal.reason),
            figures(evidence)
        ),
        What::BlockEnded { trial, block } => format!(
            "trial {trial}: {:?} {} for {:.2} s: {:.1} MiB demanded, hits {}, stall {} ms/MiB{}{}",
            block.arm,
            block.read_ahead,
            block.seconds,
            block.demanded_mib,
            percent(block.hit_ratio),
            number(block.stall_ms_per_mib),
            fill(block.fill_ms_per_mib),
            block.stall_ratio.map_or(String::new(), |r| format!(", x{r:.2} of before at equal load"))
        ),
        What::TrialEnded { trial, from, to, verdict } => format!("trial {trial}: {}", ended(*from, *to, verdict)),
        What::Applied { applied } => {
            let surprise = match applied.read_back == applied.wanted {
                true => String::new(),
                false => format!(" (asked for {}, the kernel made {} of it)", applied.wanted, applied.read_back),
            };
            format!("read_ahead_kb {} -> {}{surprise}{}", applied.old, applied.read_back, files(&applied.files))
        }
        What::Failed { wanted, error } => format!("could not set {wanted}: {error}"),
        What::HandsOff { expected, found, writer } => {
            let who = writer.as_ref().map_or("somebody else".into(), ToString::to_string);
            format!(
                "hands off: {who} wrote {found} where {expected} was; it stays until keepahead is told to take the device back"
            )
        }
        What::KernelRaised { expected, found, limits } => format!(
            "the kernel recomputed read_ahead_kb from {expected} to {found} after its queue limits changed \
             (max_sectors_kb {}, optimal_io_size {}, rotational {})",
            limits.max_sectors_kb, limits.optimal_io_bytes, limits.rotational as u8
        ),
        What::GaveWay { from, to, because } => format!("gave way without a trial: {from} -> {to}, because {because}"),
        What::TakenBack { value } => format!("taken back at {value}"),
        What::Pinned { from, value } => format!("pinned: {from} -> {value}, until it is unpinned"),
        What::RegionAdvised { region, advice, why } => format!("region {region}: madvise {}, because {why}", advice.word()),
        What::Unpinned { from, back_to } => format!("unpinned: {from} -> {back_to}; tuned again"),
    }
}

fn ended(from: keepahead_core::units::Kib, to: keepahead_core::units::Kib, verdict: &Verdict) -> String {
    let outcome = match verdict.outcome {
        // Advice for a region; the reason names it.
        outcome if from == to => outcome.word().to_owned(),
        Outcome::Kept => format!("KEPT {to} (was {from})"),
        Outcome::Reverted => format!("reverted to {from} (tried {to})"),
        Outcome::Aborted => format!("aborted, back to {from} (tried {to})"),
        Outcome::Void => format!("void, which shows nothing: {from} stands (tried {to})"),
    };
    let mut line = format!("{outcome}: {}", verdict.reason);
    if let Some(Interval { low, mean, high }) = verdict.stall_ratio {
        line += &format!("; stall x{mean:.2} ({low:.2} to {high:.2})");
    }
    if let Some(Interval { low, mean, high }) = verdict.hit_change {
        line += &format!("; hit ratio {:+.1} points ({:+.1} to {:+.1})", mean * 100.0, low * 100.0, high * 100.0);
    }
    if verdict.pairs > 0 && verdict.stall_ratio.is_some() {
        // Pairs of the two values' blocks, or, where only the new one's could be measured, each of those with what was before.
        let s = if verdict.pairs == 1 { "" } else { "s" };
        line += &format!("; {} comparison{s} of blocks, {:.0} % confidence", verdict.pairs, verdict.confidence * 100.0);
    }
    line
}

/// The kernel's work beside a stall; nothing where an older journal has none.
pub fn fill(ms_per_mib: Option<f64>) -> String {
    ms_per_mib.map_or(String::new(), |ms| format!(", fill {ms:.2} ms/MiB"))
}

/// The clauses of a reason, each for a line of its own.
pub fn clauses(reason: &str) -> impl Iterator<Item = &str> {
    reason.split("; ")
}

fn lines(reason: &str) -> String {
    clauses(reason).collect::<Vec<_>>().join("\n    ")
}

/// The figures under a decision: what was asked for and waited for, and what reading ahead did.
fn figures(e: &Evidence) -> String {
    format!(
        "over the last {:.1} s: {:.1} MiB/s demanded ({:.0} % by mmap) in runs of {:.0} pages, hits {}, stall {} ms/MiB ({:.0} % of the time){}\n    \
         read ahead: accuracy {} of what was used or evicted, waste {:.1} MiB/s, amplification {}, stale files {:.0} %",
        e.seconds,
        e.demanded_mib_per_s,
        e.mmap_share * 100.0,
        e.run_pages,
        percent(e.hit_ratio),
        number(e.stall_ms_per_mib),
        e.stall_share * 100.0,
        fill(e.fill_ms_per_mib),
        percent(e.accuracy),
        e.waste_mib_per_s,
        number(e.amplification),
        e.stale_share * 100.0
    )
}

/// One of the files behind a proposal.
pub fn file_text(f: &FileUse) -> String {
    let mib = |pages: u64| keepahead_core::units::mib((pages * PAGE_BYTES) as f64);
    format!(
        "heaviest so far: inode {} on {}:{}, last by {} (pid {}): {:.1} MiB demanded ({:.0} % by mmap), {} misses{}",
        f.ino,
        f.dev >> 20,
        f.dev & 0xf_ffff,
        f.comm,
        f.pid,
        mib(f.demanded()),
        100.0 * f.mmap_pages as f64 / f.demanded().max(1) as f64,
        f.miss,
        // Waits of faults are counted by device only.
        if f.read_pages > 0 { format!(", {:.0} ms stall in reads", f.stall_ns as f64 / 1e6) } else { String::new() }
    )
}

pub fn file_json(f: &FileUse) -> serde_json::Value {
    json!({ "ino": f.ino, "dev": format!("{}:{}", f.dev >> 20, f.dev & 0xf_ffff), "comm": f.comm, "pid": f.pid,
        "read_pages": f.read_pages, "mmap_pages": f.mmap_pages, "miss": f.miss, "late": f.late, "read_stall_ns": f.stall_ns,
        "spec_added": f.spec_added, "spec_used": f.spec_used, "spec_evicted": f.spec_evicted })
}

/// Why nothing is done, in words.
pub fn hold(hold: &Hold) -> String {
    match hold {
        Hold::NoDemand => "too little is read to learn anything".into(),
        Hold::Gathering => "gathering the first windows".into(),
        Hold::Sensor { missing } => format!("no trial without full sensing: {missing}"),
        Hold::Abstained { pattern, reason } => format!("{reason} ({pattern})"),
        Hold::Settled { pattern } => format!("settled: no value that is left to try is expected to do better ({pattern})"),
        Hold::CoolingDown { .. } => "cooling down after the last trial".into(),
        Hold::TrialsPerHour { limit } => format!("{limit} trials in the last hour: guards.trials_per_hour is reached"),
        Hold::SharedDisk { with } => format!("{with} is on trial and shares a disk"),
        Hold::MemoryPressure { some_avg10, limit } => format!("memory pressure {some_avg10:.1} % is above {limit:.1} %"),
        Hold::Filling => "the cache fills and may hold everything: a smaller window would fill it more slowly".into(),
        Hold::Refaults { per_s, limit } => format!("{per_s:.0} refaults/s are above {limit:.0}: nothing is raised"),
        Hold::Bounds { wanted, floor, ceiling } => {
            format!("{wanted} is outside {floor} to {ceiling} (or no change after clamping)")
        }
        Hold::HandsOff => "hands off: somebody else wrote the knob; `keepahead take-back` tunes it again".into(),
        Hold::Pinned { value } => format!("pinned at {value} by hand; `keepahead unpin` ends it"),
        Hold::Paused => "paused by hand; `keepahead resume` goes on".into(),
        Hold::LeftOver => "running streams still have the windows of a larger value".into(),
    }
}

fn files(files: &OpenFiles) -> String {
    let mut parts = Vec::new();
    let mut part = |count: u32, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    part(files.refreshed, if files.refreshed == 1 { "open file refreshed" } else { "open files refreshed" });
    part(files.advised, "left to their own advice");
    part(files.denied, "denied by the config");
    part(files.stale, "out of reach");
    if parts.is_empty() { String::new() } else { format!("; {}", parts.join(", ")) }
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or("-".into(), |r| format!("{:.1} %", r * 100.0))
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| format!("{v:.2}"))
}

/// Seconds since `start`, as the left margin of a live view.
pub fn clock(at: Nanos, start: Nanos) -> String {
    format!("{:7.1} s", at.since(start).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepahead_core::device::BdiName;
    use keepahead_core::event::{Pattern, Proposal};
    use keepahead_core::units::Kib;
    use std::time::Duration;

    #[test]
    fn a_trial_is_told_a_clause_a_line() {
        let proposal = Proposal {
            read_ahead: Kib(512),
            pattern: Pattern::Sequential,
            expected_stall_ratio: 0.5,
            confidence: 0.9,
            reason: "raise: runs of 900 pages; 3 % is not used yet".into(),
        };
        let (evidence, policy) = (Evidence::default(), "rules-1".to_owned());
        let what = What::TrialStarted { trial: 4, from: Kib(128), to: Kib(512), proposal, evidence, policy };
        let told = text(&Record { at: Nanos(0), bdi: BdiName("8:0".into()), label: "vdb".into(), what });
        let lines: Vec<&str> = told.lines().collect();
        let head = "vdb: trial 4: 128 KiB against 512 KiB (rules-1: sequential)";
        assert_eq!(lines[..3], [head, "    raise: runs of 900 pages", "    3 % is not used yet"]);
        assert!(lines.len() == 5 && lines[3].contains("% by mmap") && lines[4].starts_with("    read ahead: "), "{told}");
    }

    #[test]
    fn utc_is_right_on_leap_days_and_at_the_epoch() {
        let at = |s| utc(SystemTime::UNIX_EPOCH + Duration::from_millis(s));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_709_164_800_123), "2024-02-29T00:00:00.123Z");
        assert_eq!(at(1_798_761_599_999), "2026-12-31T23:59:59.999Z");
    }

    #[test]
    fn open_files_that_are_given_back_are_no_device_that_is_gone() {
        let gone =
            |bdi: &str| text(&Record { at: Nanos(1), bdi: BdiName(bdi.into()), label: "lk on loop0".into(), what: What::Gone });
        assert_eq!(gone("7:0/rule:lk"), "lk on loop0: over; it is no longer tuned apart from its device");
        assert_eq!(gone("7:0"), "lk on loop0: the device is gone; nothing to restore");
    }
}
