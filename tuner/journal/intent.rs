// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of a change: declared before the write, settled after it, released when the device stops being ours. Takes the write that
//! is about to happen, gives back only once that is on the disk.

use super::error::JournalError;
use super::restore_file::{Ledger, Outstanding};
use super::{Journal, clock};
use keepahead_core::device::Device;
use keepahead_core::event::{Applied, SetReason};
use keepahead_core::units::Kib;
use rusqlite::{Connection, params};
use serde::Serialize;

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
    /// The kernel made the value anew.
    KernelRaised,
    /// The device, or the boot in which we wrote, is gone, and the value with it.
    Gone,
}

impl Release {
    pub fn name(self) -> &'static str {
        match self {
            Release::Restored => "restored",
            Release::KeptOnExit => "kept_on_exit",
            Release::HandsOff => "hands_off",
            Release::KernelRaised => "kernel_raised",
            Release::Gone => "gone",
        }
    }
}

impl Journal {
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

    /// A write that puts an old value back is done although it could not be declared: known here alone until the next commit.
    pub fn undeclared(&mut self, device: &Device, from: Kib, to: Kib) {
        self.ledger = self.with_intent(device, from, to);
        self.unsaved = true;
    }

    fn with_intent(&self, device: &Device, from: Kib, to: Kib) -> Ledger {
        let mut next = self.ledger.next();
        // What was written to an earlier bdi of this device has gone with it, and what somebody else wrote since is the original by now.
        let is_old = |d: &Outstanding| d.node != device.node || !d.ours.contains(&from);
        next.devices.retain(|d| d.identity != device.identity || !is_old(d));
        if next.get(&device.identity).is_none() {
            next.devices.push(Outstanding {
                identity: device.identity.clone(),
                bdi: device.bdi.clone(),
                node: device.node,
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

    fn identity_of(&self, id: IntentId) -> Result<String, JournalError> {
        let found = self.conn.query_row("SELECT identity FROM change WHERE id = ?1", [id.0], |r| r.get(0));
        found.map_err(|source| self.read_error(source))
    }
}

pub(super) fn put_ledger(conn: &Connection, ledger: &Ledger) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO restore (id, body) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET body = excluded.body")?
        .execute([ledger.seal()])
        .map(|_| ())
}

fn why_name(why: SetReason) -> &'static str {
    match why {
        SetReason::Trial => "trial",
        SetReason::Revert => "revert",
        SetReason::Reapply => "reapply",
        SetReason::Pinned => "pinned",
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
