// SPDX-License-Identifier: MIT OR Apache-2.0
//! The write-ahead journal: takes intents, outcomes, records and inputs; gives what is outstanding, whatever happened to the last run.
//!
//! The rule everything rests on: a write to a device is committed here, with fsync, before it is done. So after `kill -9` or power
//! loss the journal names every device that can carry a value of ours, and the value to put back. SQLite (WAL, `synchronous=FULL`)
//! because people can read it with `sqlite3` while the agent runs; `restore.json` beside it because one file can be torn.

mod clock;
mod error;
mod lock;
pub mod recover;
mod restore_file;
mod run_info;
mod store;
mod tape;

pub use error::{JournalError, Notice};
pub use lock::{AgentLock, LockError};
pub use recover::{Outcome, Restored};
pub use restore_file::Outstanding;
pub use run_info::RunInfo;
pub use store::open_read_only;
pub use tape::Retention;

use keepahead_core::device::Device;
use keepahead_core::event::{Applied, Input, Record, SetReason};
use keepahead_core::units::Kib;
use restore_file::Ledger;
use rusqlite::{Connection, params};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tape::Tape;

/// A committed intent, to be settled by [`Journal::applied`] or [`Journal::failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntentId(i64);

/// How a device stopped being ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// The original value is back.
    Restored,
    /// `on_exit = "keep"`: our value stays, on purpose.
    KeptOnExit,
    /// Somebody else wrote the knob: it is theirs.
    HandsOff,
    /// The device, or the boot in which we wrote, is gone, and the value with it.
    Gone,
}

impl Release {
    pub fn name(self) -> &'static str {
        match self {
            Release::Restored => "restored",
            Release::KeptOnExit => "kept_on_exit",
            Release::HandsOff => "hands_off",
            Release::Gone => "gone",
        }
    }
}

/// The journal of one run of the agent.
pub struct Journal {
    conn: Connection,
    dir: PathBuf,
    path: PathBuf,
    run: i64,
    boot_id: String,
    ledger: Ledger,
    tape: Tape,
}

impl Journal {
    /// The database file in a state directory.
    pub fn path(state_dir: &Path) -> PathBuf {
        store::path(state_dir)
    }

    /// Where [`AgentLock`] is taken for this state directory.
    pub fn lock_path(state_dir: &Path) -> PathBuf {
        state_dir.join("agent.lock")
    }

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

    /// Declares a write. Once this returns, the intent is on the disk twice and the write may be done; if it fails, it must not.
    pub fn intent(&mut self, device: &Device, from: Kib, to: Kib, why: SetReason) -> Result<IntentId, JournalError> {
        let next = self.with_intent(device, from, to);
        let (run, seq, at, utc) = (self.run, self.tape.seq, self.tape.now, clock::utc_now());
        let id = self.commit("the intent of a write", |conn, tape| {
            tape.write(conn)?;
            put_ledger(conn, &next)?;
            conn.prepare_cached(
                "INSERT INTO change (run, seq, mono_ns, utc, identity, bdi, label, from_kib, to_kib, why) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                run,
                seq,
                at.0 as i64,
                utc,
                device.identity,
                device.bdi.0,
                device.label,
                from.0,
                to.0,
                why_name(why)
            ])?;
            Ok(conn.last_insert_rowid())
        })?;
        self.tape.written();
        self.ledger = next;
        self.replace_restore_file()?;
        Ok(IntentId(id))
    }

    fn with_intent(&self, device: &Device, from: Kib, to: Kib) -> Ledger {
        let mut next = self.ledger.next();
        if next.get(&device.identity).is_none() {
            next.devices.push(Outstanding {
                identity: device.identity.clone(),
                bdi: device.bdi.clone(),
                label: device.label.clone(),
                original: device.original,
                last_written: from,
                ours: Vec::new(),
                since: clock::utc_now(),
                run: self.run,
                boot_id: self.boot_id.clone(),
            });
        }
        if let Some(entry) = next.get_mut(&device.identity) {
            entry.bdi = device.bdi.clone();
            entry.last_written = to;
            for value in [from, to] {
                if !entry.ours.contains(&value) {
                    entry.ours.push(value);
                }
            }
        }
        next
    }

    /// The write was done: from now on only what the kernel made of it is ours. (Kept in the database alone: `restore.json` may name
    /// both ends of the write, which errs on the side of restoring and saves two fsyncs a write.)
    pub fn applied(&mut self, id: IntentId, applied: &Applied) -> Result<(), JournalError> {
        let mut next = self.ledger.next();
        let identity = self.identity_of(id)?;
        if let Some(entry) = next.get_mut(&identity) {
            (entry.last_written, entry.ours) = (applied.read_back, vec![applied.read_back]);
        }
        let files = json(&applied.files);
        self.settle(next, id, "applied", Some(applied.read_back), Some(files), None)
    }

    /// The write failed. Both ends of it stay ours: it may have failed after the kernel took the value.
    pub fn failed(&mut self, id: IntentId, error: &str) -> Result<(), JournalError> {
        self.settle(self.ledger.next(), id, "failed", None, None, Some(error.into()))
    }

    fn settle(
        &mut self,
        next: Ledger,
        id: IntentId,
        state: &str,
        read_back: Option<Kib>,
        files: Option<String>,
        error: Option<String>,
    ) -> Result<(), JournalError> {
        // The memory is right even where the commit fails: the next one carries it.
        self.ledger = next.clone();
        self.commit("the outcome of a write", |conn, _| {
            put_ledger(conn, &next)?;
            conn.prepare_cached(
                "UPDATE change SET state = ?2, read_back_kib = ?3, files = ?4, error = ?5, settled_utc = ?6 WHERE id = ?1",
            )?
            .execute(params![id.0, state, read_back.map(|k| k.0), files, error, clock::utc_now()])
        })
        .map(|_| ())
    }

    /// Devices with a value of ours on them that was neither restored nor released.
    pub fn outstanding(&self) -> Vec<Outstanding> {
        self.ledger.devices.clone()
    }

    /// A device stops being ours; nothing happens where it was not.
    pub fn released(&mut self, identity: &str, how: Release) -> Result<(), JournalError> {
        let Some(entry) = self.ledger.get(identity).cloned() else { return Ok(()) };
        let mut next = self.ledger.next();
        next.devices.retain(|d| d.identity != identity);
        self.ledger = next.clone();
        let (run, seq) = (self.run, self.tape.next_seq());
        self.commit("the release of a device", |conn, _| {
            put_ledger(conn, &next)?;
            conn.prepare_cached(
                "INSERT INTO release (run, seq, utc, identity, bdi, label, original_kib, last_written_kib, how) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                run,
                seq,
                clock::utc_now(),
                entry.identity,
                entry.bdi.0,
                entry.label,
                entry.original.0,
                entry.last_written.0,
                how.name()
            ])
        })?;
        self.replace_restore_file()
    }

    /// Puts back every outstanding value that is still ours and releases the devices; see [`recover::restore`].
    pub fn restore(&mut self, only: Option<&str>, knobs: &dyn recover::Knobs) -> (Vec<Restored>, Result<(), JournalError>) {
        let mut items = self.outstanding();
        items.retain(|o| only.is_none_or(|name| o.is_named(name)));
        let restored = recover::restore(&items, &self.boot_id, knobs);
        let mut noted = Ok(());
        for r in &restored {
            if let Some(how) = r.outcome.release() {
                noted = noted.and(self.released(&r.identity, how));
            }
        }
        (restored, noted)
    }

    /// Notes an input of `step`, before the step. It is committed with a later batch, never without the records it led to.
    pub fn input(&mut self, input: &Input) -> Result<(), JournalError> {
        self.tape.advance(input);
        let flushed = if self.tape.is_due() { self.flush() } else { Ok(()) };
        self.tape.input(input).map_err(|e| self.parse_error("input", e))?;
        flushed
    }

    /// Notes what `step` made of the last input. Nothing else may come here, or `replay` will rightly complain.
    pub fn record(&mut self, records: &[Record]) -> Result<(), JournalError> {
        for record in records {
            self.tape.record(record).map_err(|e| self.parse_error("record", e))?;
        }
        Ok(())
    }

    /// Whether the state should be handed to [`checkpoint`](Journal::checkpoint) before the next input: at the start, every ten minutes,
    /// and after inputs were lost.
    pub fn checkpoint_due(&self) -> bool {
        self.tape.checkpoint_due()
    }

    /// The state before the next input, from which `replay` can begin.
    pub fn checkpoint(&mut self, state_json: &str) -> Result<(), JournalError> {
        self.flush()?;
        self.commit("a checkpoint for replay", |conn, tape| tape.checkpoint(conn, state_json))
    }

    /// Commits what is held and deletes a bounded piece of what is too old.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        let written = self.commit("a batch of records", |conn, tape| {
            tape.write(conn)?;
            tape.retain(conn)
        });
        match &written {
            Ok(()) => self.tape.written(),
            Err(_) => {
                self.tape.not_written();
            }
        }
        written
    }

    /// Ends the run in order. What is still outstanding stays so.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.flush()?;
        let run = self.run;
        self.commit("the end of this run", |conn, _| {
            conn.execute("UPDATE run SET ended_utc = ?2 WHERE run = ?1", params![run, clock::utc_now()]).map(|_| ())
        })
    }

    /// What `restore.json` says, for a panic hook: no database, no lock, no journal needed. Empty where it cannot be read.
    pub fn emergency_restore_file(state_dir: &Path) -> Vec<Outstanding> {
        restore_file::read(state_dir).ok().flatten().map_or(Vec::new(), |l| l.devices)
    }

    /// One transaction, on the disk when it returns.
    fn commit<T>(
        &mut self,
        what: &'static str,
        body: impl FnOnce(&Connection, &mut Tape) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        let tape = &mut self.tape;
        let run = || {
            let tx = self.conn.unchecked_transaction()?;
            let value = body(&tx, tape)?;
            tx.commit()?;
            Ok(value)
        };
        run().map_err(|e| JournalError::write(&self.path, what, e))
    }

    fn identity_of(&self, id: IntentId) -> Result<String, JournalError> {
        let found = self.conn.query_row("SELECT identity FROM change WHERE id = ?1", [id.0], |r| r.get(0));
        found.map_err(|source| self.read_error(source))
    }

    fn replace_restore_file(&self) -> Result<(), JournalError> {
        restore_file::replace(&self.dir, &self.ledger)
            .map_err(|source| JournalError::RestoreFile { path: restore_file::path(&self.dir), source })
    }

    fn read_error(&self, source: rusqlite::Error) -> JournalError {
        JournalError::Read { path: self.path.clone(), source }
    }

    fn parse_error(&self, row: &str, source: serde_json::Error) -> JournalError {
        JournalError::Parse { path: self.path.clone(), row: row.into(), source }
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

fn put_ledger(conn: &Connection, ledger: &Ledger) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO restore (id, body) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET body = excluded.body")?
        .execute([ledger.seal()])
        .map(|_| ())
}

fn why_name(why: SetReason) -> &'static str {
    match why {
        SetReason::Trial => "trial",
        SetReason::Revert => "revert",
        SetReason::Reapply => "reapply",
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
