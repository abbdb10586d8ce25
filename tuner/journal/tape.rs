// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inputs and records on their way into the database: one sequence over both, held in memory until a batch is due. Time comes in with
//! the inputs. Retention is bounded per batch, so that deleting never holds up the loop.

use super::clock;
use keepahead_core::event::{Input, Record};
use keepahead_core::units::Nanos;
use rusqlite::{Connection, OptionalExtension, params};

/// A batch with inputs alone waits this long; decisions are wanted by `history` sooner.
const INPUTS_WAIT: Nanos = Nanos::from_secs(10);
const RECORDS_WAIT: Nanos = Nanos::from_secs(1);
const SEGMENT_SPAN: Nanos = Nanos::from_secs(600);
/// What is held back while the disk takes nothing; beyond it, it is dropped and a new segment begins.
const HELD_MAX: usize = 8 << 20;
/// Rows that one batch may delete: about 10 ms.
const DELETES: i64 = 2000;
const RECORD_DELETES: i64 = 500;
const VACUUM_PAGES: i64 = 256;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Inputs for `replay`.
    pub inputs_mib: u32,
    /// Records, changes and inputs older than this go.
    pub days: u32,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { inputs_mib: 256, days: 90 }
    }
}

struct Line {
    seq: i64,
    body: String,
    /// For a record: its columns.
    record: Option<Columns>,
}

struct Columns {
    at: Nanos,
    utc: String,
    bdi: String,
    label: String,
    kind: String,
    trial: Option<i64>,
}

pub(super) struct Tape {
    run: i64,
    pub seq: i64,
    pub now: Nanos,
    retention: Retention,
    segment: Option<Segment>,
    lines: Vec<Line>,
    held: usize,
    oldest_input: Option<Nanos>,
    oldest_record: Option<Nanos>,
    lost: u64,
}

struct Segment {
    id: i64,
    began: Nanos,
    bytes: usize,
}

impl Tape {
    pub fn new(run: i64, retention: Retention) -> Tape {
        Tape {
            run,
            seq: 0,
            now: Nanos(0),
            retention,
            segment: None,
            lines: Vec::new(),
            held: 0,
            oldest_input: None,
            oldest_record: None,
            lost: 0,
        }
    }

    pub fn next_seq(&mut self) -> i64 {
        self.seq += 1;
        self.seq
    }

    pub fn advance(&mut self, input: &Input) {
        self.now = self.now.max(time_of(input));
    }

    pub fn input(&mut self, input: &Input) -> serde_json::Result<()> {
        let (body, seq) = (serde_json::to_string(input)?, self.next_seq());
        self.oldest_input.get_or_insert(self.now);
        // Without a checkpoint before it an input cannot be replayed.
        if self.segment.is_some() {
            self.push(Line { seq, body, record: None });
        }
        Ok(())
    }

    pub fn record(&mut self, record: &Record) -> serde_json::Result<()> {
        let body = serde_json::to_value(record)?;
        let columns = Columns {
            at: record.at,
            utc: clock::utc_now(),
            bdi: record.bdi.0.clone(),
            label: record.label.clone(),
            kind: body["record"].as_str().unwrap_or("unknown").into(),
            trial: body["trial"].as_i64(),
        };
        self.oldest_record.get_or_insert(self.now);
        let seq = self.next_seq();
        self.push(Line { seq, body: serde_json::to_string(record)?, record: Some(columns) });
        Ok(())
    }

    fn push(&mut self, line: Line) {
        self.held += line.body.len();
        self.lines.push(line);
    }

    pub fn is_due(&self) -> bool {
        let waited = |since: Option<Nanos>, wait| since.is_some_and(|s| self.now.since(s) >= wait);
        waited(self.oldest_input, INPUTS_WAIT) || waited(self.oldest_record, RECORDS_WAIT)
    }

    pub fn checkpoint_due(&self) -> bool {
        let Some(segment) = &self.segment else { return true };
        let full = segment.bytes + self.held > (self.retention.inputs_mib as usize) << 18; // a quarter of the bound
        full || self.now.since(segment.began) >= SEGMENT_SPAN
    }

    /// Begins a segment; what is held belongs to the one before and must be written first.
    pub fn checkpoint(&mut self, conn: &Connection, state: &str) -> rusqlite::Result<()> {
        let seq = self.next_seq();
        conn.prepare_cached(
            "INSERT INTO segment (run, seq, mono_ns, utc, contiguous, bytes, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            self.run,
            seq,
            self.now.0 as i64,
            clock::utc_now(),
            self.segment.is_some(),
            state.len() as i64,
            state
        ])?;
        self.segment = Some(Segment { id: conn.last_insert_rowid(), began: self.now, bytes: state.len() });
        Ok(())
    }

    /// Writes what is held, inside the caller's transaction; `written` follows once that is committed.
    pub fn write(&self, conn: &Connection) -> rusqlite::Result<()> {
        let mut input = conn.prepare_cached("INSERT INTO input (segment, seq, body) VALUES (?1, ?2, ?3)")?;
        let mut record = conn.prepare_cached(
            "INSERT INTO record (run, seq, mono_ns, utc, bdi, label, kind, trial, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        for line in &self.lines {
            match (&line.record, &self.segment) {
                (Some(c), _) => {
                    record.execute(params![
                        self.run,
                        line.seq,
                        c.at.0 as i64,
                        c.utc,
                        c.bdi,
                        c.label,
                        c.kind,
                        c.trial,
                        line.body
                    ])?;
                }
                (None, Some(segment)) => {
                    input.execute(params![segment.id, line.seq, line.body])?;
                }
                (None, None) => {}
            }
        }
        if let Some(segment) = &self.segment {
            conn.prepare_cached("UPDATE segment SET bytes = ?2 WHERE id = ?1")?
                .execute(params![segment.id, (segment.bytes + self.held) as i64])?;
        }
        Ok(())
    }

    pub fn written(&mut self) {
        if let Some(segment) = &mut self.segment {
            segment.bytes += self.held;
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.lines.clear();
        (self.held, self.oldest_input, self.oldest_record) = (0, None, None);
    }

    /// A batch could not be committed: it stays for the next try, as far as the bound allows. Gives how many lines were lost so far.
    pub fn not_written(&mut self) -> u64 {
        if self.held > HELD_MAX {
            self.lost += self.lines.len() as u64;
            self.segment = None;
            self.forget();
        } else {
            // Not at each input again: the next try comes after the usual wait.
            self.oldest_input = self.oldest_input.map(|_| self.now);
            self.oldest_record = None;
        }
        self.lost
    }

    /// Deletes a bounded piece of what is over the limits.
    pub fn retain(&self, conn: &Connection) -> rusqlite::Result<()> {
        let before = clock::utc_days_ago(self.retention.days);
        self.retain_segments(conn, &before)?;
        for table in ["record", "change", "release"] {
            // The oldest rows only are looked at: nothing here grows with the size of the journal.
            conn.prepare_cached(&format!(
                "DELETE FROM {table} WHERE id IN \
                 (SELECT id FROM (SELECT id, utc FROM {table} ORDER BY id LIMIT {RECORD_DELETES}) WHERE utc < ?1)"
            ))?
            .execute([&before])?;
        }
        let mut vacuum = conn.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    fn retain_segments(&self, conn: &Connection, before: &str) -> rusqlite::Result<()> {
        let limit = i64::from(self.retention.inputs_mib) << 20;
        let (mut total, last): (i64, Option<i64>) = conn
            .prepare_cached("SELECT coalesce(sum(bytes), 0), max(id) FROM segment")?
            .query_row([], |r| Ok((r.get(0)?, r.get(1)?)))?;
        conn.prepare_cached("UPDATE segment SET whole = 0 WHERE utc < ?1 AND id <> ?2")?.execute(params![before, last])?;
        let mut room = DELETES;
        while room > 0 {
            let oldest: Option<(i64, i64, String)> = conn
                .prepare_cached("SELECT id, bytes, utc FROM segment ORDER BY id LIMIT 1")?
                .query_row([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
                .optional()?;
            let Some((id, bytes, utc)) = oldest else { return Ok(()) };
            if Some(id) == last || (total <= limit && utc.as_str() >= before) {
                return Ok(());
            }
            conn.prepare_cached("UPDATE segment SET whole = 0 WHERE id = ?1")?.execute([id])?;
            let gone = conn
                .prepare_cached("DELETE FROM input WHERE rowid IN (SELECT rowid FROM input WHERE segment = ?1 LIMIT ?2)")?
                .execute([id, room])? as i64;
            if gone < room {
                conn.prepare_cached("DELETE FROM segment WHERE id = ?1")?.execute([id])?;
                total -= bytes;
            }
            room -= gone.max(1);
        }
        Ok(())
    }
}

fn time_of(input: &Input) -> Nanos {
    match input {
        Input::Tick(t) => t.now,
        Input::Regions { now, .. }
        | Input::Appeared { now, .. }
        | Input::Gone { now, .. }
        | Input::Applied { now, .. }
        | Input::Failed { now, .. }
        | Input::TakeBack { now, .. }
        | Input::Pause { now }
        | Input::Resume { now }
        | Input::Pin { now, .. }
        | Input::Settings { now, .. }
        | Input::Unpin { now, .. }
        | Input::Stop { now } => *now,
    }
}
