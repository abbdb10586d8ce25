// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead history`: tells each trial's story from the journal, newest last, also while the agent runs. Takes a state directory,
//! prints text for people or JSON lines for machines.

use super::opened::{self, OpenError};
use super::story::{Event, Released, Story, Trial, load};
use crate::agent::report::{clauses, fill};
use crate::journal::{Journal, JournalError};
use keepahead_core::event::{Arm, Block, Evidence, Interval, Outcome, Verdict, What};
use rusqlite::Connection;
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(transparent)]
    Opened(#[from] OpenError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("output: {0}")]
    Output(#[from] io::Error),
    #[error("the journal speaks of no device {name}; it does of {}", known.join(", "))]
    NoSuchDevice { name: String, known: Vec<String> },
}

/// What to tell.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Label or bdi of one device.
    pub device: Option<String>,
    /// Only the newest so many.
    pub last: Option<usize>,
}

/// Prints the stories of a state directory.
pub fn run(state_dir: &Path, filter: &Filter, json: bool, out: &mut dyn Write) -> Result<(), HistoryError> {
    let path = Journal::path(state_dir);
    let conn = match opened::open(&path) {
        Err(OpenError::Journal(JournalError::Absent { path })) => {
            let text = format!("No journal at {} yet: `keepahead run` writes one.", path.display());
            match json {
                true => writeln!(out, "{}", json!({ "story": "none", "text": text }))?,
                false => writeln!(out, "{text}")?,
            }
            return Ok(());
        }
        other => other?,
    };
    let unread = |source| JournalError::Read { path: path.clone(), source };
    let (mut stories, unreadable) = load(&conn).map_err(unread)?;
    if let Some(name) = &filter.device {
        let known = devices(&conn).map_err(unread)?;
        if !known.is_empty() && !known.iter().flatten().any(|known| known == name) {
            let mut known: Vec<String> = known.into_iter().map(|[label, _]| label).collect();
            known.dedup();
            return Err(HistoryError::NoSuchDevice { name: name.clone(), known });
        }
    }
    stories.retain(|s| filter.device.as_deref().is_none_or(|name| s.is_about(name)));
    let skipped = filter.last.map_or(0, |n| stories.len().saturating_sub(n));
    for story in &stories[skipped..] {
        if json {
            serde_json::to_writer(&mut *out, story).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            tell(story, out)?;
        }
    }
    if !json {
        if stories.is_empty() {
            let of = filter.device.as_ref().map_or(String::new(), |d| format!(" of {d}"));
            writeln!(out, "Nothing was tried{of} yet. `keepahead run --dry-run` shows what is seen and why nothing is done.")?;
        }
        if unreadable > 0 {
            writeln!(out, "({unreadable} rows could not be read: damaged, or written by another version)")?;
        }
    }
    Ok(())
}

/// Label and bdi of every device that the journal speaks of, by label.
fn devices(conn: &Connection) -> rusqlite::Result<Vec<[String; 2]>> {
    let mut q = conn.prepare("SELECT label, bdi FROM record UNION SELECT label, bdi FROM release ORDER BY label")?;
    q.query_map([], |r| Ok([r.get(0)?, r.get(1)?]))?.collect()
}

fn tell(story: &Story, out: &mut dyn Write) -> io::Result<()> {
    match story {
        Story::Trial(t) => trial(t, out),
        Story::Event(e) => event(e, out),
        Story::Released(r) => released(r, out),
    }
}

/// `2026-11-22T23:10:04.123Z` as `2026-11-22 23:10:04Z`.
fn moment(utc: &str) -> String {
    match (utc.get(..10), utc.get(11..19)) {
        (Some(day), Some(time)) => format!("{day} {time}Z"),
        _ => utc.into(),
    }
}

fn trial(t: &Trial, out: &mut dyn Write) -> io::Result<()> {
    let end = t.verdict.as_ref().map_or("no verdict", |v| outcome(v.outcome));
    writeln!(out, "{}  {}  {} → {}  {end}", moment(&t.started), t.device, t.from, t.to)?;
    let p = &t.proposal;
    let by = if t.policy.is_empty() { String::new() } else { format!("by {}: ", t.policy) };
    writeln!(
        out,
        "  proposed  {by}{}, confidence {:.2}, expected stall × {:.2}",
        p.pattern, p.confidence, p.expected_stall_ratio
    )?;
    for (i, clause) in clauses(&p.reason).enumerate() {
        writeln!(out, "  {:8}  {clause}", if i == 0 { "because" } else { "" })?;
    }
    writeln!(out, "  evidence  {}", evidence(&t.evidence))?;
    for b in &t.blocks {
        writeln!(out, "  block     {}", block(b))?;
    }
    match &t.verdict {
        Some(v) => {
            writeln!(out, "  verdict   {}", verdict(v, t))?;
            let kept = if v.outcome == Outcome::Kept { format!("{} stays", t.to) } else { format!("back to {}", t.from) };
            writeln!(out, "  value     {kept}{}", files(t))?;
        }
        None => writeln!(out, "  verdict   none yet, or the agent ended before it")?,
    }
    writeln!(out)
}

fn outcome(o: Outcome) -> &'static str {
    match o {
        Outcome::Kept => "kept",
        Outcome::Reverted => "reverted",
        Outcome::Aborted => "aborted",
        Outcome::Void => "void",
    }
}

fn evidence(e: &Evidence) -> String {
    let mut words = vec![
        format!("hits {}", percent(e.hit_ratio)),
        format!("waste {:.1} MiB/s", e.waste_mib_per_s),
        format!(
            "stall {} ms/MiB ({:.0} % of the time){}",
            number(e.stall_ms_per_mib),
            e.stall_share * 100.0,
            fill(e.fill_ms_per_mib)
        ),
        format!("{:.1} MiB/s demanded over {:.0} s", e.demanded_mib_per_s, e.seconds),
        format!("runs of {:.0} pages", e.run_pages),
        format!("{:.0} % mmap", e.mmap_share * 100.0),
    ];
    if e.stale_share > 0.0 {
        words.push(format!("{:.0} % from files with an old value", e.stale_share * 100.0));
    }
    words.join(", ")
}

fn block(b: &Block) -> String {
    let arm = if b.arm == Arm::New { "new" } else { "old" };
    format!(
        "{arm} {}: {:.1} s, {:.1} MiB ({:.1} MiB/s), hits {}, stall {} ms/MiB{}{}, device {:.1} MiB, evicted unused meanwhile {:.1} MiB",
        b.read_ahead,
        b.seconds,
        b.demanded_mib,
        b.demanded_mib / b.seconds.max(f64::EPSILON),
        percent(b.hit_ratio),
        number(b.stall_ms_per_mib),
        fill(b.fill_ms_per_mib),
        b.stall_ratio.map_or(String::new(), |r| format!(" (× {r:.2} of before at equal load)")),
        b.device_mib,
        b.waste_mib
    )
}

fn verdict(v: &Verdict, t: &Trial) -> String {
    let count = |arm: Arm| t.blocks.iter().filter(|b| b.arm == arm).count();
    let (new, old) = (count(Arm::New), count(Arm::Old));
    let after = format!("{new} new and {old} old block{}", if (new, old) == (0, 1) { "" } else { "s" });
    let mut text = format!("{} after {after} at {:.0} % confidence: {}", outcome(v.outcome), v.confidence * 100.0, v.reason);
    if let Some(Interval { low, mean, high }) = v.stall_ratio {
        text += &format!("; stall × {mean:.2} [{low:.2}, {high:.2}]");
        // Where the old value could not be measured less than a quarter counts as a quarter.
        let expected = t.proposal.expected_stall_ratio.max(if old == 0 { 0.25 } else { 0.0 });
        text += &match (expected < low, expected > high) {
            (true, _) => format!(", less gained than the × {expected:.2} expected"),
            (_, true) => format!(", more gained than the × {expected:.2} expected"),
            _ => format!(", as expected (× {expected:.2})"),
        };
    }
    if let Some(Interval { low, mean, high }) = v.hit_change {
        text += &format!("; hits {:+.1} points [{:+.1}, {:+.1}]", mean * 100.0, low * 100.0, high * 100.0);
    }
    text
}

fn files(t: &Trial) -> String {
    let Some(f) = &t.files else { return String::new() };
    format!(
        "; open files: {} refreshed, {} advised by their program, {} still with an old value",
        f.refreshed, f.advised, f.stale
    )
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or("unknown".into(), |r| format!("{:.1} %", r * 100.0))
}

fn number(value: Option<f64>) -> String {
    value.map_or("unknown".into(), |v| format!("{v:.2}"))
}

fn event(e: &Event, out: &mut dyn Write) -> io::Result<()> {
    let what = match &e.what {
        What::HandsOff { expected, found, writer } => {
            let who = writer.as_ref().map_or("somebody else".into(), ToString::to_string);
            format!("hands off: {who} wrote {found} where {expected} was ours")
        }
        What::KernelRaised { expected, found, .. } => {
            format!("the kernel made {found} of {expected} when the queue's limits changed")
        }
        What::GaveWay { from, to, because } => format!("gave way without a trial: {from} → {to}, because {because}"),
        What::TakenBack { value } => format!("taken back by hand at {value}"),
        What::Pinned { from, value } => format!("pinned by hand: {from} → {value}"),
        What::Unpinned { from, back_to } => format!("unpinned by hand: {from} → {back_to}"),
        What::Failed { wanted, error } => format!("{wanted} could not be written: {error}"),
        other => format!("{other:?}"),
    };
    writeln!(out, "{}  {}  {what}\n", moment(&e.at), e.device)
}

fn released(r: &Released, out: &mut dyn Write) -> io::Result<()> {
    let what = match r.how.as_str() {
        // Open files that were tuned apart from their device.
        _ if r.bdi.contains('/') => format!("over; its open files have no window of their own ({}) any more", r.last_written),
        "restored" if r.last_written == r.original => format!("left at its original {}", r.original),
        "restored" => format!("restored: {} → {}", r.last_written, r.original),
        "kept_on_exit" => format!("kept on exit: {} (the original was {})", r.last_written, r.original),
        "hands_off" => {
            format!("not restored: somebody else had written it (ours was {}, the original {})", r.last_written, r.original)
        }
        "kernel_raised" => format!("the kernel made the value anew: nothing of ours ({}) is left", r.last_written),
        _ => format!("gone, and our {} with it", r.last_written),
    };
    writeln!(out, "{}  {}  {what}\n", moment(&r.at), r.device)
}
