// SPDX-License-Identifier: MIT OR Apache-2.0
//! What trials have taught, from one run to the next: takes and gives each device's patterns, by the identity of the device.

use super::error::JournalError;
use super::{Journal, clock, store};
use keepahead_core::event::Pattern;
use keepahead_core::known::Known;
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::path::Path;

/// By identity of the device.
pub type AllKnown = BTreeMap<String, BTreeMap<Pattern, Known>>;

/// Devices remembered; those that have learned nothing for longest go first. Each takes some 300 bytes a pattern.
const DEVICES: i64 = 256;

impl Journal {
    /// What earlier runs have learned. What cannot be read any more is left out: it is a memory, and will be learned again.
    pub fn known(&self) -> Result<AllKnown, JournalError> {
        read(&self.conn).map_err(|source| JournalError::Open { path: self.path.clone(), source })
    }

    /// Keeps what is known now, with the verdict that taught it and all else that is held: memory and history never contradict each other,
    /// whenever the agent is killed. Rows that say the same already keep their date.
    pub fn remember(&mut self, known: &AllKnown) -> Result<(), JournalError> {
        self.commit("what trials have taught", |conn, tape| {
            tape.write(conn)?;
            write(conn, known)
        })?;
        self.tape.written();
        Ok(())
    }

    /// As [`Journal::known`], for somebody who may not write, not even files beside it; nothing where there is no journal.
    pub fn known_in(state_dir: &Path) -> Result<AllKnown, JournalError> {
        let path = store::path(state_dir);
        match store::glance(&path) {
            // A journal that an earlier version has left has no such table yet.
            Ok(conn) if !conn.table_exists(None, "known").unwrap_or(true) => Ok(AllKnown::new()),
            Ok(conn) => read(&conn).map_err(|source| JournalError::Open { path, source }),
            Err(JournalError::Absent { .. }) => Ok(AllKnown::new()),
            Err(e) => Err(e),
        }
    }
}

fn read(conn: &Connection) -> rusqlite::Result<AllKnown> {
    let mut rows = conn.prepare("SELECT identity, pattern, utc, body FROM known")?;
    let row = |r: &rusqlite::Row<'_>| -> rusqlite::Result<[String; 4]> { Ok([r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?]) };
    let mut all = AllKnown::new();
    for row in rows.query_map([], row)? {
        let [identity, pattern, utc, body] = row?;
        match (serde_json::from_str(&pattern), serde_json::from_str::<Known>(&body)) {
            (Ok(pattern), Ok(mut known)) => {
                known.day = utc.get(..10).map(str::to_owned);
                all.entry(identity).or_default().insert(pattern, known);
            }
            _ => tracing::warn!("{identity}: what was learned of {pattern} on {utc} cannot be read and is left out"),
        }
    }
    Ok(all)
}

fn write(conn: &Connection, known: &AllKnown) -> rusqlite::Result<()> {
    let mut put = conn.prepare_cached(
        "INSERT INTO known (identity, pattern, utc, proven_kib, trials, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT DO UPDATE SET utc = excluded.utc, proven_kib = excluded.proven_kib, trials = excluded.trials, \
         body = excluded.body WHERE body <> excluded.body",
    )?;
    let utc = clock::utc_now();
    for (identity, patterns) in known {
        for (pattern, known) in patterns {
            let mut known = known.clone();
            known.day = None;
            let (Ok(pattern), Ok(body)) = (serde_json::to_string(pattern), serde_json::to_string(&known)) else { continue };
            put.execute(params![identity, pattern, utc, known.proven.map(|kib| kib.0), known.trials, body])?;
        }
    }
    conn.execute(
        "DELETE FROM known WHERE identity NOT IN (SELECT identity FROM known GROUP BY identity ORDER BY max(utc) DESC LIMIT ?1)",
        [DEVICES],
    )?;
    Ok(())
}
