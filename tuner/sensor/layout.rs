// SPDX-License-Identifier: MIT OR Apache-2.0
//! Map values as bytes, read as the words that `bpf/keepahead.h` lays out. Takes slices of the kernel's length, gives owned values.

use super::FileUse;
use keepahead_core::sample::{Counters, WORDS};

/// `struct ka_bdi`.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub id: u64,
    pub name: String,
}

/// `struct ka_health`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    pub slots: u64,
    pub pending: u64,
    pub sampled: u64,
    pub made: u64,
    pub gone: u64,
}

pub(super) const COUNTERS_BYTES: usize = WORDS * 8;
pub(super) const CHUNK_KEY_BYTES: usize = 16;
const COMM_AT: usize = 72;

/// The `index`th 64-bit word; 0 beyond the end.
fn word(bytes: &[u8], index: usize) -> u64 {
    bytes.get(index * 8..index * 8 + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

pub(super) fn counters(bytes: &[u8]) -> Counters {
    Counters::from_words(&std::array::from_fn(|i| word(bytes, i)))
}

pub(super) fn owner(bytes: &[u8]) -> Owner {
    Owner { id: word(bytes, 0), name: text(bytes.get(16..).unwrap_or_default()) }
}

pub(super) fn health(bytes: &[u8]) -> Health {
    let [slots, pending, sampled, made, gone] = std::array::from_fn(|i| word(bytes, i));
    Health { slots, pending, sampled, made, gone }
}

/// The slot in a `struct ka_file_key`.
pub(super) fn file_slot(key: &[u8]) -> u32 {
    half(key, 12)
}

pub(super) fn file(key: &[u8], value: &[u8]) -> FileUse {
    FileUse {
        ino: word(key, 0),
        dev: half(key, 8),
        read_pages: word(value, 0),
        mmap_pages: word(value, 1),
        miss: word(value, 2),
        late: word(value, 3),
        stall_ns: word(value, 4),
        spec_added: word(value, 5),
        spec_used: word(value, 6),
        spec_evicted: word(value, 7),
        pid: half(value, 64),
        comm: text(value.get(COMM_AT..).unwrap_or_default()),
    }
}
