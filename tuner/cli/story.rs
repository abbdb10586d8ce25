// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal's rows put together into stories: takes a read-only connection, gives trials (with proposal, blocks, verdict) and the
//! events around them in the order they happened.

use keepahead_core::event::{Block, Evidence, OpenFiles, Proposal, Record, Verdict, What};
use keepahead_core::units::Kib;
use rusqlite::Connection;
use serde::Serialize;

/// One thing to tell.
#[derive(Debug, Serialize)]
#[serde(tag = "story", rename_all = "snake_case")]
pub enum Story {
    Trial(Box<Trial>),
    Event(Box<Event>),
    Released(Released),
}

#[derive(Debug, Serialize)]
pub struct Trial {
    pub run: i64,
    pub trial: u64,
    pub started: String,
    pub ended: Option<String>,
    pub device: String,
    pub bdi: String,
    pub from: Kib,
    pub to: Kib,
    /// Who proposed it; empty in journals of earlier versions.
    pub policy: String,
    pub proposal: Proposal,
    pub evidence: Evidence,
    pub blocks: Vec<Block>,
    pub verdict: Option<Verdict>,
    /// How the last write of this trial reached open files.
    pub files: Option<OpenFiles>,
    #[serde(skip)]
    seq: i64,
}

#[derive(Debug, Serialize)]
pub struct Event {
    pub run: i64,
    pub at: String,
    pub device: String,
    pub bdi: String,
    #[serde(flatten)]
    pub what: What,
    #[serde(skip)]
    seq: i64,
}

#[derive(Debug, Serialize)]
pub struct Released {
    pub run: i64,
    pub at: String,
    pub device: String,
    pub bdi: String,
    pub original: Kib,
    pub last_written: Kib,
    pub how: String,
    #[serde(skip)]
    seq: i64,
}

impl Story {
    fn order(&self) -> (i64, i64) {
        match self {
            Story::Trial(t) => (t.run, t.seq),
            Story::Event(e) => (e.run, e.seq),
            Story::Released(r) => (r.run, r.seq),
        }
    }

    pub fn is_about(&self, name: &str) -> bool {
        let (device, bdi) = match self {
            Story::Trial(t) => (&t.device, &t.bdi),
            Story::Event(e) => (&e.device, &e.bdi),
            Story::Released(r) => (&r.device, &r.bdi),
        };
        device == name || bdi == name
    }
}

struct Row {
    run: i64,
    seq: i64,
    utc: String,
    record: Record,
}

/// Everything worth telling, oldest first, and how many rows could not be read (damaged, or of a newer version).
pub fn load(conn: &Connection) -> rusqlite::Result<(Vec<Story>, u64)> {
    let mut stories: Vec<Story> = Vec::new();
    let mut unreadable = 0;
    // One snapshot for both tables, however long the agent writes on.
    let snapshot = conn.unchecked_transaction()?;
    let mut q = snapshot.prepare(
        "SELECT run, seq, utc, body FROM record WHERE kind IN ('trial_started', 'block_ended', 'trial_ended', 'applied', \
         'failed', 'gave_way', 'hands_off', 'kernel_raised', 'taken_back', 'pinned', 'unpinned') ORDER BY run, seq",
    )?;
    let mut rows = q.query([])?;
    while let Some(r) = rows.next()? {
        let body: String = r.get(3)?;
        match serde_json::from_str(&body) {
            Ok(record) => add(&mut stories, Row { run: r.get(0)?, seq: r.get(1)?, utc: r.get(2)?, record }),
            Err(_) => unreadable += 1,
        }
    }
    let mut q = snapshot.prepare("SELECT run, utc, label, bdi, original_kib, last_written_kib, how, seq FROM release")?;
    let released = q.query_map([], |r| {
        Ok(Story::Released(Released {
            run: r.get(0)?,
            at: r.get(1)?,
            device: r.get(2)?,
            bdi: r.get(3)?,
            original: Kib(r.get(4)?),
            last_written: Kib(r.get(5)?),
            how: r.get(6)?,
            seq: r.get(7)?,
        }))
    })?;
    for story in released {
        stories.push(story?);
    }
    stories.sort_by_key(Story::order);
    Ok((stories, unreadable))
}

fn add(stories: &mut Vec<Story>, row: Row) {
    let Row { run, seq, utc, record } = row;
    let (device, bdi) = (record.label, record.bdi.0);
    match record.what {
        What::TrialStarted { trial, from, to, proposal, evidence, policy } => stories.push(Story::Trial(Box::new(Trial {
            run,
            trial,
            started: utc,
            ended: None,
            device,
            bdi,
            from,
            to,
            policy,
            proposal,
            evidence,
            blocks: Vec::new(),
            verdict: None,
            files: None,
            seq,
        }))),
        What::BlockEnded { block, .. } => {
            if let Some(t) = last_trial(stories, run, &bdi) {
                t.blocks.push(block);
            }
        }
        What::TrialEnded { verdict, .. } => {
            if let Some(t) = last_trial(stories, run, &bdi) {
                (t.verdict, t.ended) = (Some(verdict), Some(utc));
            }
        }
        // What follows something else than a trial is not the trial's.
        What::Applied { applied } => {
            let failed = |s: &Story| matches!(s, Story::Event(e) if matches!(e.what, What::Failed { .. }));
            if let Some(Story::Trial(t)) = stories.iter_mut().rev().find(|s| s.is_about(&bdi) && !failed(s))
                && t.run == run
            {
                t.files = Some(applied.files);
            }
        }
        what => stories.push(Story::Event(Box::new(Event { run, at: utc, device, bdi, what, seq }))),
    }
}

fn last_trial<'a>(stories: &'a mut [Story], run: i64, bdi: &str) -> Option<&'a mut Trial> {
    stories.iter_mut().rev().find_map(|s| match s {
        Story::Trial(t) if t.run == run && t.bdi == bdi => Some(&mut **t),
        _ => None,
    })
}
