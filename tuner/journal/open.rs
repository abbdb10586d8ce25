// SPDX-License-Identifier: MIT OR Apache-2.0
//! The start of a run: takes a state directory in whatever condition, gives a journal that knows all that is outstanding.

use super::error::{JournalError, Notice};
use super::intent::put_ledger;
use super::restore_file::Ledger;
use super::run_info::RunInfo;
use super::tape::Tape;
use super::{Journal, restore_file, store};
use std::path::Path;

impl Journal {
    /// Opens or makes the journal, survives a damaged one, and begins a run. Take the [`AgentLock`] first.
    pub fn open(state_dir: &Path, run: RunInfo) -> Result<(Journal, Vec<Notice>), JournalError> {
        make_directory(state_dir).map_err(|source| JournalError::Directory { path: state_dir.into(), source })?;
        let mut notices = Vec::new();
        let opened = store::open(state_dir, &mut notices)?;
        let is_damaged = !notices.is_empty() && opened.ledger.is_none();
        let (ledger, differs) = reconcile(opened.ledger, is_damaged, state_dir, &mut notices);
        let mut journal = Journal {
            conn: opened.conn,
            dir: state_dir.into(),
            path: store::path(state_dir),
            run: 0,
            boot_id: run.boot_id.clone(),
            ledger,
            unsaved: false,
            tape: Tape::new(0, run.retention),
        };
        let ledger = journal.ledger.clone();
        journal.run = journal.commit("the start of this run", |conn, _| {
            put_ledger(conn, &ledger)?;
            run.insert(conn)
        })?;
        journal.tape = Tape::new(journal.run, run.retention);
        if differs {
            journal.replace_restore_file()?;
        }
        Ok((journal, notices))
    }
}

/// The newer of the two lists, and whether the restore file has to be written anew.
fn reconcile(in_database: Option<Ledger>, is_damaged: bool, dir: &Path, notices: &mut Vec<Notice>) -> (Ledger, bool) {
    let (in_file, is_torn) = match restore_file::read(dir) {
        Ok(ledger) => (ledger, false),
        Err(why) => {
            notices.push(Notice::RestoreFileTorn { path: restore_file::path(dir), why });
            (None, true)
        }
    };
    if in_database.is_none() && in_file.is_none() && (is_damaged || is_torn) {
        notices.push(Notice::NothingKnown);
    }
    let same = in_database == in_file;
    match (in_database, in_file) {
        (Some(database), Some(file)) if file.generation > database.generation => {
            notices.push(Notice::RestoreFileAhead { devices: file.devices.len() });
            (file, !same)
        }
        (Some(database), _) => (database, !same),
        (None, Some(file)) => {
            notices.push(Notice::RestoreFileAhead { devices: file.devices.len() });
            (file, !same)
        }
        (None, None) => (Ledger::default(), true),
    }
}

/// 0700: the records name programs and files of all users.
fn make_directory(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    tempfile::tempfile_in(dir).map(|_| ())
}
