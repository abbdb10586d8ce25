// SPDX-License-Identifier: MIT OR Apache-2.0
//! The write-ahead journal: takes intents, outcomes, records and inputs; gives what is outstanding, whatever happened to the last run.
//!
//! The rule everything rests on: a write to a device is committed here, with fsync, before it is done. So after `kill -9` or power
//! loss the journal names every device that can carry a value of ours, and the value to put back. SQLite (WAL, `synchronous=FULL`)
//! because people can read it with `sqlite3` while the agent runs; `restore.json` beside it because one file can be torn.

mod clock;
mod error;
mod intent;
mod known;
mod lock;
mod open;
pub mod recover;
mod restore_file;
mod run_info;
mod store;
mod tape;

pub use error::{JournalError, Notice};
pub use intent::{IntentId, Release};
pub use known::AllKnown;
pub use lock::{AgentLock, LockError};
pub use recover::{Outcome, Restored};
pub use restore_file::Outstanding;
pub use run_info::{RunInfo, boot_id};
pub use store::open_read_only;
pub use tape::Retention;

use intent::put_ledger;
use keepahead_core::device::BdiName;
use keepahead_core::event::{Input, Record};
use restore_file::Ledger;
use rusqlite::{Connection, params};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tape::Tape;

/// The journal of one run of the agent.
pub struct Journal {
    conn: Connection,
    dir: PathBuf,
    path: PathBuf,
    run: i64,
    boot_id: String,
    ledger: Ledger,
    /// The ledger says more than the disk: what could not be declared.
    unsaved: bool,
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

    /// Devices with a value of ours on them that was neither restored nor released.
    pub fn outstanding(&self) -> Vec<Outstanding> {
        self.ledger.devices.clone()
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
        let unsaved = self.unsaved.then(|| self.ledger.clone());
        let written = self.commit("a batch of records", |conn, tape| {
            if let Some(ledger) = &unsaved {
                put_ledger(conn, ledger)?;
            }
            tape.write(conn)?;
            tape.retain(conn)
        });
        match &written {
            Ok(()) => {
                self.tape.written();
                self.unsaved = false;
            }
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

    /// What `restore.json` says, for a panic hook and for who only looks: no database, no lock, no journal needed. Empty where it cannot be read.
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

    fn replace_restore_file(&self) -> Result<(), JournalError> {
        restore_file::replace(&self.dir, &self.ledger)
            .map_err(|source| JournalError::RestoreFile { path: restore_file::path(&self.dir), source })
    }

    /// Devices that were left to somebody else in this boot, and not taken back or pinned since. Somebody may have written while no agent ran: that is
    /// found out when the value is to be put back.
    pub fn left_to_others(&self) -> Result<BTreeSet<BdiName>, JournalError> {
        let read = || -> rusqlite::Result<Vec<(String, BdiName)>> {
            let mut rows = self.conn.prepare(
                "SELECT kind, bdi FROM ( \
                   SELECT run, seq, kind, bdi FROM record WHERE kind IN ('hands_off', 'taken_back', 'pinned') \
                   UNION ALL SELECT run, seq, how, bdi FROM release WHERE how = 'hands_off') AS r \
                 JOIN run USING (run) WHERE run.boot_id = ?1 ORDER BY run, seq",
            )?;
            rows.query_map([&self.boot_id], |row| Ok((row.get(0)?, BdiName(row.get(1)?))))?.collect()
        };
        let mut left = BTreeSet::new();
        for (kind, bdi) in read().map_err(|source| self.read_error(source))? {
            if kind == "hands_off" {
                left.insert(bdi)
            } else {
                left.remove(&bdi)
            };
        }
        Ok(left)
    }

    fn read_error(&self, source: rusqlite::Error) -> JournalError {
        JournalError::Read { path: self.path.clone(), source }
    }

    fn parse_error(&self, row: &str, source: serde_json::Error) -> JournalError {
        JournalError::Parse { path: self.path.clone(), row: row.into(), source }
    }
}
