// SPDX-License-Identifier: MIT OR Apache-2.0
//! One event as one line of text and back: `async_ra f0 index=1 req=1 start=0 size=4 async=3 ra_pages=32 order=0 miss=0 prev=4096`.

use super::text::{Trouble, Words};
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

/// An event from the words of its line.
pub(crate) fn parse(words: &mut Words) -> Result<Event, Trouble> {
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
    words.end()?;
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
