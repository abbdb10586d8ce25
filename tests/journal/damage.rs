// SPDX-License-Identifier: MIT OR Apache-2.0
//! Torn, flipped and foreign files: opening never panics, and loses nothing as long as the database or the restore file is whole.

use super::{applied, device, open, run_info};
use keepahead::journal::{Journal, JournalError, Notice, Outstanding};
use keepahead_core::event::SetReason;
use keepahead_core::units::Kib;
use proptest::prelude::*;
use std::path::Path;

/// A journal with two outstanding devices, left as a kill leaves it: with a write-ahead log.
fn killed_journal(dir: &Path) -> Vec<Outstanding> {
    let work = dir.join("work");
    let (mut journal, _) = open(&work);
    for n in 0..2 {
        let id = journal.intent(&device(n), Kib(128), Kib(512), SetReason::Trial).unwrap();
        journal.applied(id, &applied(&device(n), 128, 512)).unwrap();
    }
    let known = journal.outstanding();
    std::fs::create_dir(dir.join("state")).unwrap();
    for name in ["journal.sqlite", "journal.sqlite-wal", "restore.json"] {
        std::fs::copy(work.join(name), dir.join("state").join(name)).unwrap();
    }
    drop(journal);
    known
}

fn values(known: &[Outstanding]) -> Vec<(String, Kib, Kib)> {
    known.iter().map(|o| (o.identity.clone(), o.original, o.last_written)).collect()
}

#[derive(Clone, Debug)]
enum Harm {
    Truncate(f64),
    Flip(Vec<(f64, u8)>),
    Remove,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        3 => (0.0..1.0).prop_map(Harm::Truncate),
        5 => prop::collection::vec((0.0..1.0, 1_u8..), 1..40).prop_map(Harm::Flip),
        1 => Just(Harm::Remove),
    ]
}

fn hurt(path: &Path, harm: &Harm) {
    let mut bytes = std::fs::read(path).unwrap();
    match harm {
        Harm::Truncate(at) => bytes.truncate((bytes.len() as f64 * at) as usize),
        Harm::Flip(places) => {
            for (at, mask) in places {
                let i = (bytes.len() as f64 * at) as usize;
                bytes[i] ^= mask;
            }
        }
        Harm::Remove => return std::fs::remove_file(path).unwrap(),
    }
    std::fs::write(path, bytes).unwrap();
}

/// One byte of the header: SQLite then reads the file, and refuses to write to it as if the disk were read-only.
#[test]
fn a_header_that_forbids_writing_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let known = killed_journal(dir.path());
    let path = dir.path().join("state/journal.sqlite");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[18] = 130;
    std::fs::write(&path, bytes).unwrap();
    // Without a log, whose copy of the first page would be read instead.
    let _ = std::fs::remove_file(dir.path().join("state/journal.sqlite-wal"));
    let (mut journal, notices) = open(&dir.path().join("state"));
    assert!(notices.iter().any(|n| n.to_string().contains("format 130")), "{notices:?}");
    assert_eq!(values(&journal.outstanding()), values(&known));
    journal.intent(&device(2), Kib(128), Kib(256), SetReason::Trial).unwrap();
}

/// The last one who leaves a database folds its log into it and deletes that: this must not be somebody who only looked. Whoever closes a
/// descriptor of the file loses the locks that say he is there (SQLite notices since 3.51; the Python of this test may have an older one).
#[test]
fn a_reader_that_comes_and_goes_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (state, path) = (dir.path().join("state"), dir.path().join("state/journal.sqlite"));
    open(&state).0.close().unwrap();
    let (mut journal, _) = open(&state);
    let read = format!("import sqlite3; sqlite3.connect({path:?}).execute('SELECT count(*) FROM change').fetchall()");
    match std::process::Command::new("python3").args(["-c", &read]).status() {
        Ok(status) => assert!(status.success()),
        Err(e) => return println!("skipped: no python3: {e}"),
    }
    journal.intent(&device(2), Kib(128), Kib(256), SetReason::Trial).unwrap();
    let changes = rusqlite::Connection::open(&path).unwrap().query_row("SELECT count(*) FROM change", [], |r| r.get(0));
    assert_eq!(changes, Ok(1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hurt_database_loses_nothing(file in prop::sample::select(vec!["journal.sqlite", "journal.sqlite-wal"]), harm in harm()) {
        let dir = tempfile::tempdir().unwrap();
        let known = killed_journal(dir.path());
        hurt(&dir.path().join("state").join(file), &harm);
        match Journal::open(&dir.path().join("state"), run_info()) {
            Ok((mut journal, _)) => {
                prop_assert_eq!(values(&journal.outstanding()), values(&known));
                let id = journal.intent(&device(2), Kib(128), Kib(256), SetReason::Trial).unwrap();
                journal.applied(id, &applied(&device(2), 128, 256)).unwrap();
                prop_assert_eq!(journal.outstanding().len(), 3);
            }
            // The format number itself was hit: nothing is touched, and the restore file is still there.
            Err(e) => {
                prop_assert!(matches!(e, JournalError::Newer { .. }), "{e}");
                prop_assert_eq!(values(&Journal::emergency_restore_file(&dir.path().join("state"))), values(&known));
            }
        }
    }

    #[test]
    fn a_hurt_restore_file_loses_nothing(harm in harm()) {
        let dir = tempfile::tempdir().unwrap();
        let known = killed_journal(dir.path());
        hurt(&dir.path().join("state/restore.json"), &harm);
        let (journal, _) = open(&dir.path().join("state"));
        prop_assert_eq!(values(&journal.outstanding()), values(&known));
        prop_assert_eq!(values(&Journal::emergency_restore_file(&dir.path().join("state"))), values(&known));
    }

    #[test]
    fn both_hurt_is_survived_and_invents_nothing(one in harm(), log in harm(), two in harm()) {
        let dir = tempfile::tempdir().unwrap();
        let known = values(&killed_journal(dir.path()));
        hurt(&dir.path().join("state/journal.sqlite"), &one);
        hurt(&dir.path().join("state/journal.sqlite-wal"), &log);
        hurt(&dir.path().join("state/restore.json"), &two);
        if let Ok((journal, _)) = Journal::open(&dir.path().join("state"), run_info()) {
            for (identity, original, last) in values(&journal.outstanding()) {
                // An older commit may have survived: then it says 128 for a device that was not yet written.
                prop_assert!(known.iter().any(|k| k.0 == identity && k.1 == original && (k.2 == last || last == original)));
            }
        }
    }
}

#[test]
fn a_database_that_is_none_is_set_aside_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let known = killed_journal(dir.path());
    let state = dir.path().join("state");
    std::fs::write(state.join("journal.sqlite"), "This is a letter to grandmother, not a database. ".repeat(100)).unwrap();
    let (journal, notices) = open(&state);
    let Notice::SetAside { to, .. } = &notices[0] else { panic!("{notices:?}") };
    assert!(std::fs::read_to_string(to).unwrap().starts_with("This is a letter"));
    assert!(to.file_name().unwrap().to_string_lossy().starts_with("journal.sqlite.damaged-"));
    assert_eq!(values(&journal.outstanding()), values(&known));
}

#[test]
fn a_database_of_another_program_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE songs (name TEXT)").unwrap();
    let (_, notices) = open(dir.path());
    assert!(notices[0].to_string().contains("some other program"), "{notices:?}");
}

#[test]
fn both_torn_says_that_nothing_is_known() {
    let dir = tempfile::tempdir().unwrap();
    killed_journal(dir.path());
    let state = dir.path().join("state");
    for name in ["journal.sqlite", "journal.sqlite-wal", "restore.json"] {
        std::fs::write(state.join(name), "torn ".repeat(200)).unwrap();
    }
    let (journal, notices) = open(&state);
    assert!(journal.outstanding().is_empty());
    assert!(notices.contains(&Notice::NothingKnown), "{notices:?}");
}

#[test]
fn a_newer_format_is_refused_and_left_in_place() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join("journal.sqlite");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let Err(e) = Journal::open(dir.path(), run_info()) else { panic!("opened") };
    assert!(e.to_string().contains("format 3") && e.to_string().contains("newer version"), "{e}");
    assert!(path.exists());
    assert!(!std::fs::read_dir(dir.path()).unwrap().any(|f| f.unwrap().file_name().to_string_lossy().contains("damaged")));
}
