// SPDX-License-Identifier: MIT OR Apache-2.0
//! The golden events of `fixtures/golden`: a transcript of tracepoints, one block a run, whose title tells what was accessed. Takes
//! that text, gives scripts with the events to expect.
//!
//! The transcript has no pages added and no `start` of the window's state, and it does not say where a run of reads ended: the script
//! reads up to the last event. [`visible`] leaves of any events what such a transcript shows. The accesses followed each other at once:
//! a touch of a mapped page may come while the window that an earlier one started is still being read. Reads wait for their last
//! page's I/O, and windows of this size are one request, so they do not see that.

use super::{Op, PAGE, Script};
use crate::event::{Event, RaState};

/// One block of a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Golden {
    pub title: String,
    /// Whether accesses met I/O in flight: fault-around passes over pages that are still being read.
    pub in_flight: bool,
    pub script: Script,
    /// Without adds and deletes, `start` left 0.
    pub events: Vec<Event>,
}

/// What is wrong with a transcript, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}: {text:?}")]
pub struct GoldenError {
    pub line: usize,
    pub what: &'static str,
    pub text: String,
}

/// How the title of a run of touches begins.
const MMAP: &str = "mmap seq touch ";
/// The transcript's files were larger than anything read from them; this is too.
const FILE_BYTES: u64 = 16 << 20;

/// The events that a transcript shows.
pub fn visible(events: &[Event]) -> Vec<Event> {
    let strip = |ra: RaState| RaState { start: 0, ..ra };
    let shown = |event: &Event| match *event {
        Event::Add { .. } | Event::Delete { .. } => None,
        Event::SyncRa { file, index, req_count, ra } => Some(Event::SyncRa { file, index, req_count, ra: strip(ra) }),
        Event::AsyncRa { file, index, req_count, ra } => Some(Event::AsyncRa { file, index, req_count, ra: strip(ra) }),
        other => Some(other),
    };
    events.iter().filter_map(shown).collect()
}

/// Reads a transcript.
pub fn parse(text: &str) -> Result<Vec<Golden>, GoldenError> {
    let mut blocks: Vec<(usize, &str, Vec<Event>)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |what| GoldenError { line: at + 1, what, text: line.trim().into() };
        if let Some(title) = line.strip_prefix("## golden ") {
            blocks.push((at + 1, title, Vec::new()));
        } else if !line.starts_with('#') && !line.trim().is_empty() {
            let block = blocks.last_mut().ok_or_else(|| wrong("an event before the first title"))?;
            block.2.push(event(line).ok_or_else(|| wrong("no event"))?);
        }
    }
    blocks
        .into_iter()
        .map(|(line, title, events)| {
            let wrong = || GoldenError { line, what: "a title that names no accesses", text: title.into() };
            let script = script(title, &events).ok_or_else(wrong)?;
            Ok(Golden { title: title.into(), in_flight: title.starts_with(MMAP), script, events })
        })
        .collect()
}

/// A number given as `key=value`, pages for byte offsets.
fn field<T: std::str::FromStr>(line: &str, key: &str) -> Option<T> {
    line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

fn event(line: &str) -> Option<Event> {
    let number = |key| field::<u64>(line, key);
    let half = |key| field::<u32>(line, key);
    let state = || {
        Some(RaState {
            start: 0,
            size: half("size")?,
            async_size: half("async_size")?,
            ra_pages: half("ra_pages")?,
            order: field(line, "order")?,
            mmap_miss: field(line, "mmap_miss")?,
            prev_pos: field(line, "prev_pos")?,
        })
    };
    let file = 0;
    Some(match line.split_whitespace().next()? {
        "page_cache_sync_ra" => Event::SyncRa { file, index: number("index")?, req_count: number("req_count")?, ra: state()? },
        "page_cache_async_ra" => {
            Event::AsyncRa { file, index: number("index")?, req_count: number("req_count")?, ra: state()? }
        }
        "page_cache_ra_order" => {
            let (size, async_size, ra_pages) = (half("size")?, half("async_size")?, half("ra_pages")?);
            Event::RaOrder { file, index: number("index")?, order: field(line, "order")?, size, async_size, ra_pages }
        }
        "page_cache_ra_unbounded" => {
            let (nr_to_read, lookahead) = (number("nr_to_read")?, number("lookahead_size")?);
            Event::RaUnbounded { file, index: number("index")?, nr_to_read, lookahead }
        }
        "mm_filemap_fault" => Event::Fault { file, index: number("ofs")? / PAGE },
        "mm_filemap_map_pages" => {
            let range: String = field(line, "ofs")?;
            let (first, last) = range.split_once('-')?;
            Event::MapPages { file, first: first.parse::<u64>().ok()? / PAGE, last: last.parse::<u64>().ok()? / PAGE }
        }
        _ => return None,
    })
}

/// The accesses that a title tells of: `mmap seq touch 0..99 ra=128`, `seq 4K from page 1000 sz=4096 ra=128`.
fn script(title: &str, events: &[Event]) -> Option<Script> {
    let mut ops = vec![Op::Open { fd: 0, file: 0 }];
    if let Some(range) = title.strip_prefix(MMAP) {
        let (first, last) = range.split_whitespace().next()?.split_once("..")?;
        ops.push(Op::Mmap { map: 0, fd: 0, page: 0, pages: FILE_BYTES / PAGE });
        ops.extend((first.parse().ok()?..=last.parse().ok()?).map(|page| Op::Touch { map: 0, page }));
    } else {
        let bytes: u64 = field(title, "sz").filter(|bytes| *bytes > 0)?;
        let from = title.split_once(" from ")?.1.trim_start_matches("page ");
        let first: u64 = from.split([' ', ',']).next()?.parse().ok()?;
        let last = events.iter().rev().find_map(|event| match event {
            Event::SyncRa { index, .. } | Event::AsyncRa { index, .. } => Some(*index),
            _ => None,
        })?;
        let start = first * PAGE;
        let reads = (last * PAGE).checked_sub(start)? / bytes;
        ops.extend((0..=reads).map(|n| Op::Pread { fd: 0, offset: start + n * bytes, bytes }));
    }
    Some(Script { read_ahead_kb: field(title, "ra")?, files: vec![FILE_BYTES], ops })
}
