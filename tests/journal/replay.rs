// SPDX-License-Identifier: MIT OR Apache-2.0
//! A toy step is journalled and replayed: equal inputs from a checkpoint give equal records, and a changed step is found out.

use super::{open, tick};
use keepahead::cli::Format;
use keepahead::cli::replay::{self, Replayable};
use keepahead::journal::Journal;
use keepahead_core::device::BdiName;
use keepahead_core::event::{Hold, Input, Record, What};
use std::path::Path;

/// Counts inputs; each fifth makes a record.
#[derive(Default)]
struct Counting {
    count: u64,
    /// Decides otherwise from this count on.
    goes_wrong_at: Option<u64>,
}

impl Replayable for Counting {
    fn restore(&mut self, checkpoint_json: &str) -> Result<(), String> {
        self.count = checkpoint_json.parse().map_err(|e| format!("{e}"))?;
        Ok(())
    }

    fn input(&mut self, input: &Input) -> Vec<Record> {
        let Input::Tick(t) = input else { return Vec::new() };
        self.count += 1;
        if !self.count.is_multiple_of(5) {
            return Vec::new();
        }
        let wrong = self.goes_wrong_at.is_some_and(|at| self.count >= at);
        let some_avg10 = if wrong { 0.0 } else { self.count as f64 / 3.0 };
        let what = What::Held { reason: Hold::MemoryPressure { some_avg10, limit: 20.0 } };
        vec![Record { at: t.now, bdi: BdiName("259:0".into()), label: "nvme0n1".into(), what }]
    }
}

/// Two runs; the second begins with a state of its own and is killed.
fn record(dir: &Path) {
    for run in 0..2 {
        let (mut journal, _) = open(dir);
        let mut step = Counting { count: run * 1000, goes_wrong_at: None };
        for i in 0..3000 {
            if journal.checkpoint_due() {
                journal.checkpoint(&step.count.to_string()).unwrap();
            }
            let input = tick(i * 500);
            journal.input(&input).unwrap();
            journal.record(&step.input(&input)).unwrap();
        }
        if run == 0 { journal.close().unwrap() } else { journal.flush().unwrap() }
    }
}

#[test]
fn a_journal_replays_to_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let mut out = Vec::new();
    assert!(replay::run(&Journal::path(dir.path()), &mut Counting::default(), Format::Text, &mut out).unwrap());
    assert_eq!(String::from_utf8(out).unwrap(), "6000 inputs replayed, 1200 records equal\n");
}

#[test]
fn the_first_difference_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let mut out = Vec::new();
    let mut step = Counting { goes_wrong_at: Some(2000), ..Counting::default() };
    assert!(!replay::run(&Journal::path(dir.path()), &mut step, Format::Text, &mut out).unwrap());
    let told = String::from_utf8(out).unwrap();
    assert!(told.contains("399 records equal") && told.contains("first difference: run 1"), "{told}");
    assert!(told.contains("\"some_avg10\":666.6") && told.contains("\"some_avg10\":0.0"), "{told}");
}

#[test]
fn a_missing_record_is_a_difference() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let conn = rusqlite::Connection::open(Journal::path(dir.path())).unwrap();
    conn.execute("DELETE FROM record WHERE id = 100", []).unwrap();
    let found = replay::replay(&Journal::path(dir.path()), &mut Counting::default()).unwrap();
    assert_eq!(found.equal, 99);
    assert_eq!(found.difference.unwrap().recorded, None);
}

#[test]
fn replay_names_a_journal_that_is_not_there() {
    let told = replay::replay(Path::new("/nonexistent/journal.sqlite"), &mut Counting::default()).unwrap_err().to_string();
    assert!(told.contains("/nonexistent/journal.sqlite"), "{told}");
}
