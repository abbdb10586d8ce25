// SPDX-License-Identifier: MIT OR Apache-2.0
//! One event as one line of text and back: `async_ra f0 index=1 req=1 start=0 size=4 async=3 ra_pages=32 order=0 miss=0 prev=4096`.
//! Folios added or deleted one after the other, of one order and side by side, share a line: `add f0 index=850 order=2 run=12`.

use super::text::{Trouble, Words};
use super::{MAX_FILE_BYTES, PAGE, within};
use crate::event::{Event, RaState};
use std::fmt;

impl fmt::Display for RaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RaState { start, size, async_size, ra_pages, order, mmap_miss, prev_pos } = self;
        write!(
            f,
            "start={start} size={size} async={async_size} ra_pages={ra_pages} order={order} miss={mmap_miss} prev={prev_pos}"
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Event::SyncRa { file, index, req_count, ra } => write!(f, "sync_ra f{file} index={index} req={req_count} {ra}"),
            Event::AsyncRa { file, index, req_count, ra } => write!(f, "async_ra f{file} index={index} req={req_count} {ra}"),
            Event::RaOrder { file, index, order, size, async_size, ra_pages } => {
                write!(f, "ra_order f{file} index={index} order={order} size={size} async={async_size} ra_pages={ra_pages}")
            }
            Event::RaUnbounded { file, index, nr_to_read, lookahead } => {
                write!(f, "ra_unbounded f{file} index={index} nr={nr_to_read} lookahead={lookahead}")
            }
            Event::Add { file, index, order } => write!(f, "add f{file} index={index} order={order}"),
            Event::Delete { file, index, order } => write!(f, "delete f{file} index={index} order={order}"),
            Event::Fault { file, index } => write!(f, "fault f{file} index={index}"),
            Event::MapPages { file, first, last } => write!(f, "map_pages f{file} first={first} last={last}"),
        }
    }
}

/// Writes events one a line, indented.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, events: &[Event]) -> fmt::Result {
    let mut rest = events;
    while let Some(first) = rest.first() {
        let run = (1..rest.len() as u64).take_while(|n| shifted(first, *n) == Some(rest[*n as usize])).count() + 1;
        match run {
            1 => writeln!(f, "  {first}")?,
            _ => writeln!(f, "  {first} run={run}")?,
        }
        rest = &rest[run..];
    }
    Ok(())
}

/// The same for the `n`th folio after it; `None` for what is no folio.
fn shifted(event: &Event, n: u64) -> Option<Event> {
    let to = |index: u64, order: u8| 1u64.checked_shl(order.into())?.checked_mul(n)?.checked_add(index);
    match *event {
        Event::Add { file, index, order } => Some(Event::Add { file, index: to(index, order)?, order }),
        Event::Delete { file, index, order } => Some(Event::Delete { file, index: to(index, order)?, order }),
        _ => None,
    }
}

/// The events of a line.
pub(crate) fn parse(words: &mut Words) -> Result<Vec<Event>, Trouble> {
    let event = one(words)?;
    let Some(word) = words.next() else { return Ok(vec![event]) };
    let surplus = || Trouble::Surplus { word: word.into() };
    let run: u64 = word.strip_prefix("run=").and_then(|run| run.parse().ok()).ok_or_else(surplus)?;
    // No file of a script has more pages.
    within("run", run, MAX_FILE_BYTES / PAGE)?;
    words.end()?;
    (0..run).map(|n| shifted(&event, n).ok_or_else(surplus)).collect()
}

fn one(words: &mut Words) -> Result<Event, Trouble> {
    let kind = words.word("event")?;
    let file = words.tagged("f")?;
    let event = match kind {
        "sync_ra" => {
            Event::SyncRa { file, index: words.tagged("index=")?, req_count: words.tagged("req=")?, ra: state(words)? }
        }
        "async_ra" => {
            Event::AsyncRa { file, index: words.tagged("index=")?, req_count: words.tagged("req=")?, ra: state(words)? }
        }
        "ra_order" => {
            let (index, order, size) = (words.tagged("index=")?, words.tagged("order=")?, words.tagged("size=")?);
            Event::RaOrder {
                file,
                index,
                order,
                size,
                async_size: words.tagged("async=")?,
                ra_pages: words.tagged("ra_pages=")?,
            }
        }
        "ra_unbounded" => {
            let (index, nr_to_read) = (words.tagged("index=")?, words.tagged("nr=")?);
            Event::RaUnbounded { file, index, nr_to_read, lookahead: words.tagged("lookahead=")? }
        }
        "add" => Event::Add { file, index: words.tagged("index=")?, order: words.tagged("order=")? },
        "delete" => Event::Delete { file, index: words.tagged("index=")?, order: words.tagged("order=")? },
        "fault" => Event::Fault { file, index: words.tagged("index=")? },
        "map_pages" => Event::MapPages { file, first: words.tagged("first=")?, last: words.tagged("last=")? },
        _ => return Err(Trouble::Unknown { word: kind.into() }),
    };
    Ok(event)
}

fn state(words: &mut Words) -> Result<RaState, Trouble> {
    Ok(RaState {
        start: words.tagged("start=")?,
        size: words.tagged("size=")?,
        async_size: words.tagged("async=")?,
        ra_pages: words.tagged("ra_pages=")?,
        order: words.tagged("order=")?,
        mmap_miss: words.tagged("miss=")?,
        prev_pos: words.tagged("prev=")?,
    })
}
