// SPDX-License-Identifier: MIT OR Apache-2.0
//! The events of one file system, from `bpf/events.bpf.c`. Takes the device's number; gives, at each call, the events since the last.

use super::ValidateError;
use keepahead_sim::event::{Event, RaState};
use libbpf_rs::btf::{Btf, types};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, RingBuffer, RingBufferBuilder};
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::rc::Rc;

mod skel {
    #![allow(clippy::all, clippy::undocumented_unsafe_blocks, non_camel_case_types, dead_code)]
    include!(concat!(env!("OUT_DIR"), "/events.skel.rs"));
}

/// Bytes of a record: `struct ka_event`.
const RECORD: usize = 64;

/// An event, and what tells whether it belongs to a script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub ino: u64,
    pub tgid: u32,
    /// Its `file` is 0 until somebody who knows the inodes sets it.
    pub event: Event,
}

pub(super) struct Recorder {
    ring: RingBuffer<'static>,
    seen: Rc<RefCell<Vec<Seen>>>,
    lost: MapHandle,
    /// Kinds that this kernel tells of.
    offered: [bool; 8],
    /// Detach when dropped.
    _links: Vec<Link>,
}

impl Recorder {
    /// Listens to the file systems with this device number, as the kernel keeps it: `major << 20 | minor`.
    pub fn open(device: u32) -> Result<Recorder, ValidateError> {
        attach(device).map_err(|e| ValidateError::Recorder(format!("{e:#}")))
    }

    /// The events since the last call, oldest first.
    pub fn drain(&mut self) -> Result<Vec<Seen>, ValidateError> {
        self.ring.consume().map_err(|e| ValidateError::Recorder(format!("ring buffer: {e:#}")))?;
        Ok(std::mem::take(&mut *self.seen.borrow_mut()))
    }

    /// Whether this kernel tells of such an event.
    pub fn tells(&self, event: &Event) -> bool {
        self.offered[match event {
            Event::SyncRa { .. } => 0,
            Event::AsyncRa { .. } => 1,
            Event::RaOrder { .. } => 2,
            Event::RaUnbounded { .. } => 3,
            Event::Add { .. } => 4,
            Event::Delete { .. } => 5,
            Event::Fault { .. } => 6,
            Event::MapPages { .. } => 7,
        }]
    }

    /// Tracepoints that this kernel has not.
    pub fn missing(&self) -> Vec<&'static str> {
        HOOKS.iter().zip(self.offered).filter(|(_, offered)| !offered).map(|((hook, _), _)| *hook).collect()
    }

    /// Events that found the buffer full, since the start.
    pub fn lost(&self) -> Result<u64, ValidateError> {
        let bytes = self.lost.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
        let bytes = bytes.map_err(|e| ValidateError::Recorder(format!("losses: {e:#}")))?.unwrap_or_default();
        Ok(bytes.try_into().map_or(0, u64::from_ne_bytes))
    }
}

/// Tracepoint and program of each kind of event, by its number.
const HOOKS: [(&str, &str); 8] = [
    ("page_cache_sync_ra", "sync_ra"),
    ("page_cache_async_ra", "async_ra"),
    ("page_cache_ra_order", "ra_order"),
    ("page_cache_ra_unbounded", "ra_unbounded"),
    ("mm_filemap_add_to_page_cache", "add"),
    ("mm_filemap_delete_from_page_cache", "delete"),
    ("mm_filemap_fault", "fault"),
    ("mm_filemap_map_pages", "map_pages"),
];

/// Which of them this kernel has.
fn offered() -> Result<[bool; 8], libbpf_rs::Error> {
    let btf = Btf::from_vmlinux()?;
    Ok(HOOKS.map(|(hook, _)| btf.type_by_name::<types::Typedef<'_>>(&format!("btf_trace_{hook}")).is_some()))
}

fn attach(device: u32) -> Result<Recorder, libbpf_rs::Error> {
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::EventsSkelBuilder::default().open(&mut storage)?;
    if let Some(settings) = open.maps.rodata_data.as_deref_mut() {
        settings.device = device;
    }
    let offered = offered()?;
    for mut program in open.open_object_mut().progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        program.set_autoload(HOOKS.iter().zip(offered).any(|((_, program), offered)| offered && *program == name));
    }
    let skel = open.load()?;
    let mut links = Vec::new();
    for program in skel.object().progs_mut().filter(|program| program.autoload()) {
        links.push(program.attach()?);
    }
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sink = seen.clone();
    let mut builder = RingBufferBuilder::new();
    builder.add(&skel.maps.events, move |bytes| {
        sink.borrow_mut().extend(parse(bytes));
        0
    })?;
    Ok(Recorder { ring: builder.build()?, seen, lost: MapHandle::try_from(&skel.maps.lost)?, offered, _links: links })
}

/// A record of `struct ka_event`; `None` for a kind that this build does not know.
fn parse(bytes: &[u8]) -> Option<Seen> {
    let bytes: &[u8; RECORD] = bytes.get(..RECORD)?.try_into().ok()?;
    let u16_at = |at: usize| u16::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    let u32_at = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    let u64_at = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    let (index, count, start) = (u64_at(16), u64_at(24), u64_at(32));
    let ra = RaState {
        start,
        prev_pos: u64_at(40) as i64,
        size: u32_at(48),
        async_size: u32_at(52),
        ra_pages: u32_at(56),
        order: u16_at(60) as u8,
        mmap_miss: u16_at(62),
    };
    let RaState { size, async_size, ra_pages, order, .. } = ra;
    let file = 0;
    let event = match u32_at(0) {
        0 => Event::SyncRa { file, index, req_count: count, ra },
        1 => Event::AsyncRa { file, index, req_count: count, ra },
        2 => Event::RaOrder { file, index, order, size, async_size, ra_pages },
        3 => Event::RaUnbounded { file, index, nr_to_read: count, lookahead: start },
        4 => Event::Add { file, index, order },
        5 => Event::Delete { file, index, order },
        6 => Event::Fault { file, index },
        7 => Event::MapPages { file, first: index, last: count },
        _ => return None,
    };
    Some(Seen { ino: u64_at(8), tgid: u32_at(4), event })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_size_of_the_struct_in_c() {
        // Two u32, five 64-bit words, three u32, two u16.
        assert_eq!(2 * 4 + 5 * 8 + 3 * 4 + 2 * 2, RECORD);
        assert!(parse(&[0; RECORD]).is_some());
        assert!(parse(&[0xff; RECORD]).is_none());
        assert!(parse(&[0; 8]).is_none());
    }
}
