// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead history`: the text of one whole story, its JSON, the views that `sqlite3` shows, and reading while the agent writes.

use super::{applied, device, open, tick};
use keepahead::cli::history::{self, Filter};
use keepahead::journal::{Journal, Release};
use keepahead_core::device::{BdiName, Device, DeviceKind};
use keepahead_core::event::*;
use keepahead_core::units::{Kib, Nanos};
use std::path::Path;

fn block(arm: Arm, kib: u32, hits: f64, stall: f64) -> Block {
    Block {
        arm,
        read_ahead: Kib(kib),
        seconds: 0.5,
        demanded_mib: 100.0,
        hit_ratio: Some(hits),
        stall_ms_per_mib: Some(stall),
        fill_ms_per_mib: Some(0.25),
        stall_ratio: Some(stall / 3.2),
        device_mib: 101.0,
        waste_mib: 0.0,
    }
}

fn trial(n: u64, outcome: Outcome) -> Vec<What> {
    let proposal = Proposal {
        read_ahead: Kib(1024),
        pattern: Pattern::Sequential,
        expected_stall_ratio: 0.5,
        confidence: 0.9,
        reason: "long runs; windows end before the device is busy".into(),
    };
    let evidence = Evidence {
        seconds: 5.0,
        demanded_mib_per_s: 200.0,
        hit_ratio: Some(0.92),
        waste_mib_per_s: 0.1,
        stall_ms_per_mib: Some(3.2),
        fill_ms_per_mib: Some(0.25),
        stall_share: 0.41,
        run_pages: 400.0,
        ..Evidence::default()
    };
    let verdict = Verdict {
        outcome,
        reason: "stall fell, hits rose".into(),
        pairs: 1,
        confidence: 0.95,
        stall_ratio: Some(Interval { low: 0.45, mean: 0.52, high: 0.6 }),
        hit_change: Some(Interval { low: 0.04, mean: 0.05, high: 0.06 }),
        undecided: false,
        looked: None,
    };
    vec![
        What::TrialStarted { trial: n, from: Kib(128), to: Kib(1024), proposal, evidence, policy: "rules-1".into() },
        What::BlockEnded { trial: n, block: block(Arm::New, 1024, 0.98, 1.1) },
        What::BlockEnded { trial: n, block: block(Arm::Old, 128, 0.92, 3.2) },
        What::TrialEnded { trial: n, from: Kib(128), to: Kib(1024), verdict },
    ]
}

fn note(journal: &mut Journal, whats: Vec<What>) {
    for what in whats {
        journal.record(&[Record { at: Nanos(1), bdi: device(0).bdi, label: device(0).label, what }]).unwrap();
    }
}

fn told(dir: &Path, filter: &Filter, json: bool) -> String {
    let mut out = Vec::new();
    history::run(dir, filter, json, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The text with its clock taken out.
fn without_times(text: &str) -> String {
    let line = |l: &str| if l.starts_with("20") { format!("TIME{}", &l[20..]) } else { l.to_string() };
    text.lines().map(|l| line(l) + "\n").collect()
}

#[test]
fn a_whole_story_reads_so() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    note(&mut journal, trial(1, Outcome::Kept));
    let id = journal.intent(&device(0), Kib(128), Kib(1024), SetReason::Trial).unwrap();
    let mut done = applied(&device(0), 128, 1024);
    done.files = OpenFiles { current: 4, refreshed: 3, advised: 1, denied: 0, stale: 2 };
    journal.applied(id, &done).unwrap();
    note(&mut journal, vec![What::Applied { applied: done }]);
    let writer = Some(Writer { pid: 7, comm: "tuned".into() });
    note(&mut journal, vec![What::HandsOff { expected: Kib(1024), found: Kib(4096), writer }]);
    journal.released(&device(0).identity, Release::HandsOff).unwrap();
    journal.close().unwrap();
    insta::assert_snapshot!(without_times(&told(dir.path(), &Filter::default(), false)), @r"
    TIME  nvme0n1  128 KiB → 1024 KiB  kept
      proposed  by rules-1: sequential, confidence 0.90, expected stall × 0.50
      because   long runs
                windows end before the device is busy
      evidence  hits 92.0 %, waste 0.1 MiB/s, stall 3.20 ms/MiB (41 % of the time), fill 0.25 ms/MiB, 200.0 MiB/s demanded over 5 s, runs of 400 pages, 0 % mmap
      block     new 1024 KiB: 0.5 s, 100.0 MiB (200.0 MiB/s), hits 98.0 %, stall 1.10 ms/MiB, fill 0.25 ms/MiB (× 0.34 of before at equal load), device 101.0 MiB, evicted unused meanwhile 0.0 MiB
      block     old 128 KiB: 0.5 s, 100.0 MiB (200.0 MiB/s), hits 92.0 %, stall 3.20 ms/MiB, fill 0.25 ms/MiB (× 1.00 of before at equal load), device 101.0 MiB, evicted unused meanwhile 0.0 MiB
      verdict   kept after 1 new and 1 old blocks at 95 % confidence: stall fell, hits rose; stall × 0.52 [0.45, 0.60], as expected (× 0.50); hits +5.0 points [+4.0, +6.0]
      value     1024 KiB stays; open files: 3 refreshed, 1 advised by their program, 2 still with an old value

    TIME  nvme0n1  hands off: tuned (pid 7) wrote 4096 KiB where 1024 KiB was ours

    TIME  nvme0n1  not restored: somebody else had written it (ours was 1024 KiB, the original 128 KiB)

    ");
}

#[test]
fn what_changed_without_a_trial_is_told_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let files =
        |refreshed| Applied { files: OpenFiles { refreshed, ..OpenFiles::default() }, ..applied(&device(0), 128, 1024) };
    note(&mut journal, trial(1, Outcome::Kept));
    note(&mut journal, vec![What::Applied { applied: files(3) }]);
    let (from, to) = (Kib(1024), Kib(128));
    let other = Because::OtherPattern { kept_for: Pattern::Sequential, seen: Pattern::RandomMmap };
    note(&mut journal, vec![What::GaveWay { from, to, because: other }, What::Applied { applied: files(7) }]);
    note(&mut journal, vec![What::GaveWay { from, to, because: Because::Polluting { kept: 0.1, now: 0.5 } }]);
    note(&mut journal, vec![What::Pinned { from: to, value: from }, What::Unpinned { from, back_to: to }]);
    journal.flush().unwrap();
    let told = without_times(&told(dir.path(), &Filter::default(), false));
    let (trial, rest) = told.split_once("\n\n").unwrap();
    assert!(trial.contains("open files: 3 refreshed"), "{trial}");
    insta::assert_snapshot!(rest, @r"
    TIME  nvme0n1  gave way without a trial: 1024 KiB → 128 KiB, because it was kept for sequential access, and for random mmap there is no proven value to try

    TIME  nvme0n1  gave way without a trial: 1024 KiB → 128 KiB, because 0.50 pages are evicted unused for each one demanded, 0.10 when it was kept

    TIME  nvme0n1  pinned by hand: 128 KiB → 1024 KiB

    TIME  nvme0n1  unpinned by hand: 1024 KiB → 128 KiB

    ");
}

#[test]
fn open_files_that_were_given_back_are_over_and_no_device_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let (bdi, label) = (BdiName("259:0/rule:db".into()), "db on nvme0n1".into());
    let files = Device { bdi, label, identity: "open-files:db".into(), kind: DeviceKind::OpenFiles, ..device(0) };
    journal.intent(&files, Kib(128), Kib(16), SetReason::Trial).unwrap();
    journal.released(&files.identity, Release::Gone).unwrap();
    let told = without_times(&told(dir.path(), &Filter::default(), false));
    assert_eq!(told, "TIME  db on nvme0n1  over; its open files have no window of their own (16 KiB) any more\n\n");
}

#[test]
fn json_lines_carry_the_same_and_filters_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    note(&mut journal, trial(1, Outcome::Kept));
    note(&mut journal, trial(2, Outcome::Reverted));
    journal.flush().unwrap();
    let lines: Vec<serde_json::Value> =
        told(dir.path(), &Filter::default(), true).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["verdict"]["outcome"], "reverted");
    assert_eq!(lines[0]["blocks"].as_array().unwrap().len(), 2);
    let last = Filter { last: Some(1), device: Some("nvme0n1".into()) };
    assert!(told(dir.path(), &last, false).contains("back to 128 KiB"));
}

#[test]
fn a_device_that_was_only_watched_is_told_from_one_that_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    note(&mut journal, trial(1, Outcome::Kept));
    let Device { bdi, label, original, .. } = device(1);
    journal.record(&[Record { at: Nanos(1), bdi, label, what: What::Appeared { original } }]).unwrap();
    journal.flush().unwrap();
    let of = |name: &str| Filter { device: Some(name.into()), ..Filter::default() };
    assert!(told(dir.path(), &of("nvme1n1"), false).starts_with("Nothing was tried of nvme1n1 yet"));
    assert!(told(dir.path(), &of("259:1"), false).starts_with("Nothing was tried of 259:1 yet"));
    let error = history::run(dir.path(), &of("sda"), false, &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "the journal speaks of no device sda; it does of nvme0n1, nvme1n1");
}

#[test]
fn nothing_yet_is_said_kindly() {
    let dir = tempfile::tempdir().unwrap();
    assert!(told(dir.path(), &Filter::default(), false).starts_with("No journal at"));
    drop(open(dir.path()));
    assert!(told(dir.path(), &Filter::default(), false).starts_with("Nothing was tried yet"));
}

#[test]
fn the_views_answer_in_plain_sql() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    note(&mut journal, trial(1, Outcome::Kept));
    journal.intent(&device(0), Kib(128), Kib(1024), SetReason::Trial).unwrap();
    let conn = rusqlite::Connection::open(Journal::path(dir.path())).unwrap();
    let story: (String, i64, i64, String, f64) = conn
        .query_row("SELECT device, to_kib, blocks, outcome, stall_ratio FROM trials_story", [], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
        })
        .unwrap();
    assert_eq!(story, ("nvme0n1".into(), 1024, 2, "kept".into(), 0.52));
    let left: (String, i64, i64) = conn
        .query_row("SELECT device, original_kib, last_written_kib FROM outstanding", [], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?))
        })
        .unwrap();
    assert_eq!(left, ("nvme0n1".into(), 128, 1024));
}

#[test]
fn history_reads_while_the_agent_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let writer = std::thread::spawn(move || {
        for n in 0..60_u64 {
            journal.input(&tick(n * 2000)).unwrap();
            note(&mut journal, trial(n, Outcome::Void));
            let id = journal.intent(&device(0), Kib(128), Kib(1024), SetReason::Trial).unwrap();
            journal.applied(id, &applied(&device(0), 128, 1024)).unwrap();
        }
        journal
    });
    let mut seen = 0;
    while !writer.is_finished() {
        let now = told(dir.path(), &Filter::default(), true).lines().count();
        assert!(now >= seen);
        seen = now;
    }
    drop(writer.join().unwrap());
    assert_eq!(told(dir.path(), &Filter::default(), true).lines().count(), 60);
}
