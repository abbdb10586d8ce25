// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead replay JOURNAL`: feeds the recorded inputs through the same pure step again and compares what it decides with what was
//! recorded. Takes a journal and a [`Replayable`], gives how many records were equal and the first that was not.

use super::Format;
use super::opened::{self, OpenError};
use crate::journal::JournalError;
use keepahead_core::event::{Input, Record};
use rusqlite::{Connection, params};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A state that can be set back to a checkpoint and stepped.
pub trait Replayable {
    /// Takes the state that [`Journal::checkpoint`](crate::journal::Journal::checkpoint) was given.
    fn restore(&mut self, checkpoint_json: &str) -> Result<(), String>;
    fn input(&mut self, input: &Input) -> Vec<Record>;
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Opened(#[from] OpenError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("journal {path}: the checkpoint of segment {segment} does not fit this version: {why}")]
    Checkpoint { path: PathBuf, segment: i64, why: String },
    #[error("output: {0}")]
    Output(#[from] io::Error),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    pub inputs: u64,
    pub equal: u64,
    /// Records that a killed agent had decided on but not yet written.
    pub unwritten: u64,
    pub difference: Option<Difference>,
}

/// The first place where replay and record part ways; as JSON text, `None` where one side has nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub run: i64,
    pub seq: i64,
    pub recorded: Option<String>,
    pub replayed: Option<String>,
}

struct Segment {
    id: i64,
    run: i64,
    seq: i64,
    contiguous: bool,
    state: String,
    /// Where the next segment of this run begins.
    until: i64,
    /// The run ended in order after this segment, or another segment follows.
    complete: bool,
}

/// Replays a journal and prints the outcome; `true` when every record came out equal.
pub fn run(path: &Path, subject: &mut dyn Replayable, format: Format, out: &mut dyn Write) -> Result<bool, ReplayError> {
    let replayed = replay(path, subject)?;
    if format == Format::Json {
        writeln!(out, "{}", serde_json::to_string(&replayed).map_err(io::Error::other)?)?;
        return Ok(replayed.difference.is_none());
    }
    if replayed.inputs == 0 {
        writeln!(out, "{}: no inputs are kept, so there is nothing to replay", path.display())?;
        return Ok(true);
    }
    writeln!(out, "{} inputs replayed, {} records equal", replayed.inputs, replayed.equal)?;
    if replayed.unwritten > 0 {
        writeln!(out, "{} records had not been written yet when the agent was killed", replayed.unwritten)?;
    }
    let Some(d) = &replayed.difference else { return Ok(true) };
    let side = |s: &Option<String>| s.clone().unwrap_or("nothing".into());
    writeln!(
        out,
        "first difference: run {}, input {}\n  recorded: {}\n  replayed: {}",
        d.run,
        d.seq,
        side(&d.recorded),
        side(&d.replayed)
    )?;
    Ok(false)
}

/// Replays all that is kept, up to the first difference.
pub fn replay(path: &Path, subject: &mut dyn Replayable) -> Result<Replayed, ReplayError> {
    let conn = opened::open(path)?;
    let read = |source| JournalError::Read { path: path.into(), source };
    let mut done = Replayed::default();
    let mut run = None;
    for segment in segments(&conn).map_err(read)? {
        // Within a run the state flows on; a checkpoint is taken only where something is missing before it.
        if run != Some(segment.run) || !segment.contiguous {
            let checkpoint = |why| ReplayError::Checkpoint { path: path.into(), segment: segment.id, why };
            subject.restore(&segment.state).map_err(checkpoint)?;
        }
        run = Some(segment.run);
        replay_segment(&conn, path, &segment, subject, &mut done)?;
        if done.difference.is_some() {
            break;
        }
    }
    Ok(done)
}

fn segments(conn: &Connection) -> rusqlite::Result<Vec<Segment>> {
    let mut q = conn.prepare(
        "SELECT s.id, s.run, s.seq, s.contiguous, s.state, n.seq, r.ended_utc IS NOT NULL \
         FROM segment s JOIN run r ON r.run = s.run \
         LEFT JOIN segment n ON n.id = (SELECT min(id) FROM segment m WHERE m.run = s.run AND m.id > s.id) \
         WHERE s.whole ORDER BY s.id",
    )?;
    q.query_map([], |r| {
        let (next, ended): (Option<i64>, bool) = (r.get(5)?, r.get(6)?);
        Ok(Segment {
            id: r.get(0)?,
            run: r.get(1)?,
            seq: r.get(2)?,
            contiguous: r.get(3)?,
            state: r.get(4)?,
            until: next.unwrap_or(i64::MAX),
            complete: ended || next.is_some(),
        })
    })?
    .collect()
}

fn replay_segment(
    conn: &Connection,
    path: &Path,
    segment: &Segment,
    subject: &mut dyn Replayable,
    done: &mut Replayed,
) -> Result<(), ReplayError> {
    let read = |source| JournalError::Read { path: path.into(), source };
    let inputs =
        pairs(conn, "SELECT seq, body FROM input WHERE segment = ?1 ORDER BY seq", params![segment.id]).map_err(read)?;
    let of_segment = "SELECT seq, body FROM record WHERE run = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq";
    let records = pairs(conn, of_segment, params![segment.run, segment.seq, segment.until]).map_err(read)?;
    let mut records = records.into_iter().peekable();
    for (i, (seq, body)) in inputs.iter().enumerate() {
        let parse =
            |source| JournalError::Parse { path: path.into(), row: format!("input {seq} of segment {}", segment.id), source };
        let input: Input = serde_json::from_str(body).map_err(parse)?;
        let until = inputs.get(i + 1).map_or(i64::MAX, |next| next.0);
        let is_cut = i + 1 == inputs.len() && !segment.complete;
        done.inputs += 1;
        let mut recorded = std::iter::from_fn(|| records.next_if(|r| r.0 < until)).map(|r| r.1);
        for record in subject.input(&input) {
            let replayed = serde_json::to_string(&record).map_err(parse)?;
            match recorded.next() {
                Some(body) if body == replayed => done.equal += 1,
                None if is_cut => done.unwritten += 1,
                body => {
                    done.difference =
                        Some(Difference { run: segment.run, seq: *seq, recorded: body, replayed: Some(replayed) });
                    return Ok(());
                }
            }
        }
        if let Some(body) = recorded.next() {
            done.difference = Some(Difference { run: segment.run, seq: *seq, recorded: Some(body), replayed: None });
            return Ok(());
        }
    }
    Ok(())
}

fn pairs(conn: &Connection, sql: &str, params: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<Vec<(i64, String)>> {
    conn.prepare_cached(sql)?.query_map(params, |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
}
