// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one run has learned is there for the next, bounded, and never in the way of a start.

use super::open;
use keepahead::journal::{AllKnown, Journal};
use keepahead_core::device::BdiName;
use keepahead_core::event::{Interval, Outcome, Pattern, Proposal, Record, Verdict, What};
use keepahead_core::known::Known;
use keepahead_core::units::{Kib, Nanos};
use std::collections::{BTreeMap, BTreeSet};

fn learned(kib: u32) -> Known {
    let reason = String::new();
    let pattern = Pattern::Sequential;
    let proposal =
        Proposal { read_ahead: Kib(kib), pattern, expected_stall_ratio: 0.6, confidence: 0.9, reason: reason.clone() };
    let stall_ratio = Some(Interval { low: 0.4, mean: 0.5, high: 0.6 });
    let verdict = Verdict { stall_ratio, ..Verdict::new(Outcome::Kept, reason, 3, 0.95) };
    let mut known = Known::default();
    known.learn(Kib(128), &proposal, &verdict);
    known
}

fn one(identity: &str, kib: u32) -> AllKnown {
    BTreeMap::from([(identity.to_owned(), BTreeMap::from([(Pattern::Sequential, learned(kib))]))])
}

#[test]
fn what_was_learned_is_there_for_the_next_run_with_its_day() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Journal::known_in(dir.path()).unwrap(), AllKnown::new());
    let (mut journal, _) = open(dir.path());
    assert_eq!(journal.known().unwrap(), AllKnown::new());
    journal.remember(&one("wwid:a", 512)).unwrap();
    journal.remember(&one("wwid:b", 64)).unwrap();
    journal.close().unwrap();
    let there = || std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<BTreeSet<_>>();
    let before = there();
    assert!(Journal::known_in(dir.path()).unwrap().contains_key("wwid:a"));
    assert_eq!(there(), before, "a dry run writes nothing anywhere");
    let (journal, notices) = open(dir.path());
    assert!(notices.is_empty(), "{notices:?}");
    for known in [journal.known().unwrap(), Journal::known_in(dir.path()).unwrap()] {
        let back = &known["wwid:a"][&Pattern::Sequential];
        assert!(back.day.as_ref().is_some_and(|day| day.len() == 10 && day.starts_with("20")), "{back:?}");
        let mut without_day = back.clone();
        without_day.day = None;
        assert_eq!(without_day, learned(512));
        assert_eq!(known["wwid:b"][&Pattern::Sequential].proven, Some(Kib(64)));
    }
}

#[test]
fn what_was_learned_is_never_without_the_records_that_taught_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let verdict = Verdict::new(Outcome::Kept, "stall fell".into(), 3, 0.95);
    let what = What::TrialEnded { trial: 7, from: Kib(128), to: Kib(512), verdict };
    journal.record(&[Record { at: Nanos(5), bdi: BdiName("7:0".into()), label: "loop0".into(), what }]).unwrap();
    journal.remember(&one("wwid:a", 512)).unwrap();
    // As after `kill -9`: nothing is flushed and nothing closed.
    let other = rusqlite::Connection::open(Journal::path(dir.path())).unwrap();
    let trial: i64 = other.query_row("SELECT trial FROM record WHERE kind = 'trial_ended'", [], |row| row.get(0)).unwrap();
    assert_eq!(trial, 7);
    drop(journal);
}

#[test]
fn the_devices_that_learned_last_are_remembered_and_nonsense_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    journal.remember(&one("first", 512)).unwrap();
    let path = Journal::path(dir.path());
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute("UPDATE known SET utc = '2001-01-01T00:00:00Z'", []).unwrap();
    let many: AllKnown = (0..256).flat_map(|n| one(&format!("wwid:{n}"), 512)).collect();
    journal.remember(&many).unwrap();
    let known = journal.known().unwrap();
    assert!(known.len() == 256 && !known.contains_key("first"));
    other.execute("UPDATE known SET body = '{\"proven\":true}' WHERE identity = 'wwid:7'", []).unwrap();
    let known = journal.known().unwrap();
    assert!(known.len() == 255 && !known.contains_key("wwid:7"));
}

#[test]
fn a_journal_of_format_1_gets_the_table_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let conn = rusqlite::Connection::open(Journal::path(dir.path())).unwrap();
    conn.execute_batch("DROP TABLE known; PRAGMA user_version = 1").unwrap();
    drop(conn);
    assert_eq!(Journal::known_in(dir.path()).unwrap(), AllKnown::new());
    let (mut journal, notices) = open(dir.path());
    assert!(notices.is_empty(), "{notices:?}");
    journal.remember(&one("wwid:a", 512)).unwrap();
    journal.close().unwrap();
    let (journal, notices) = open(dir.path());
    assert!(notices.is_empty() && journal.known().unwrap().len() == 1, "{notices:?}");
    let conn = rusqlite::Connection::open(Journal::path(dir.path())).unwrap();
    let runs: i64 = conn.query_row("SELECT count(*) FROM run", [], |r| r.get(0)).unwrap();
    assert_eq!(runs, 3);
}
