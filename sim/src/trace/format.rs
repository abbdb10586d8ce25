// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead's own trace format: what [`Writer`](super::Writer) and [`Reader`](super::Reader) share. Byte by byte in
//! `docs/trace-format.md`; a change here that old readers would misread raises [`VERSION`].

use super::Kind;
use serde::{Deserialize, Serialize};

/// Like PNG's: a first byte that no text has, and a line end that a transfer in text mode would change.
pub(super) const MAGIC: [u8; 8] = *b"\x89KATRC\r\n";
pub(super) const VERSION: u16 = 1;
/// Magic, version, length and CRC of the header.
pub(super) const PREAMBLE: usize = 8 + 2 + 4 + 4;
/// Longest header or footer, JSON.
pub(super) const JSON_MAX: u32 = 64 << 10;
/// Kind, compressed length, plain length, count of records, CRC.
pub(super) const FRAME_HEAD: usize = 1 + 4 + 4 + 4 + 4;
/// A block is closed at this many bytes: large enough that zstd finds its repetitions, small enough that a killed recorder loses little.
pub(super) const BLOCK_TARGET: usize = 64 << 10;
/// Largest block that a reader takes, plain and compressed.
pub(super) const BLOCK_MAX: u32 = 1 << 20;
pub(super) const FRAME_BLOCK: u8 = 1;
pub(super) const FRAME_FOOTER: u8 = 2;

/// Low three bits of an entry's first byte.
pub(super) const TAG_FILE: u8 = 7;
pub(super) const TAG_KIND: u8 = 0b0000_0111;
/// Fields that are equal to the access before and left out.
pub(super) const SAME_FILE: u8 = 0b0000_1000;
pub(super) const SAME_PID: u8 = 0b0001_0000;
pub(super) const SAME_BYTES: u8 = 0b0010_0000;
/// A duration follows.
pub(super) const HAS_TOOK: u8 = 0b0100_0000;

/// What a trace says of its recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The device's label, as `keepahead devices` prints it.
    pub device: String,
    /// `uname -r`.
    pub kernel: String,
    /// Wall clock at time 0 of the trace, ns since 1970 UTC.
    pub start_unix_ns: u64,
    /// One file in so many was recorded; 1 is all.
    pub one_file_in: u32,
    pub paths_hashed: bool,
    /// What the recorder could not see, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a finished recording says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Accesses and file entries in the trace; the writer counts them itself.
    pub accesses: u64,
    pub files: u64,
    /// Accesses that the kernel's ring buffer had no room for, or that came while the probe ran already.
    pub events_lost: u64,
    /// Files not recorded because of sampling.
    pub files_sampled_out: u64,
}

/// State that both sides keep while they go through a block; empty at its start, so blocks can be read one without the other.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub at: u64,
    pub file: u64,
    pub pid: u32,
    pub bytes: u32,
    /// Where the last access of each file in this block ended.
    pub ends: std::collections::HashMap<u64, u64>,
}

impl Context {
    pub fn clear(&mut self) {
        (self.at, self.file, self.pid, self.bytes) = (0, 0, 0, 0);
        self.ends.clear();
    }
}

pub(super) const fn kind_tag(kind: Kind) -> u8 {
    match kind {
        Kind::Read => 0,
        Kind::Mmap => 1,
        Kind::Write => 2,
        Kind::Trim => 3,
    }
}

pub(super) const fn tag_kind(tag: u8) -> Option<Kind> {
    match tag & TAG_KIND {
        0 => Some(Kind::Read),
        1 => Some(Kind::Mmap),
        2 => Some(Kind::Write),
        3 => Some(Kind::Trim),
        _ => None,
    }
}

/// Over everything of a frame but the CRC itself.
pub(super) fn frame_crc(head: &[u8; FRAME_HEAD], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..FRAME_HEAD - 4]);
    crc.update(payload);
    crc.finalize()
}

/// LEB128: seven bits a byte, lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The varint at `*at`, which moves behind it. `None` where the bytes end or more than 64 bits come.
pub(super) fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Signed differences with small absolute value become small numbers; differences wrap, so that any two values have one.
pub(super) fn zigzag(from: u64, to: u64) -> u64 {
    let delta = to.wrapping_sub(from) as i64;
    ((delta << 1) ^ (delta >> 63)) as u64
}

pub(super) fn unzigzag(from: u64, coded: u64) -> u64 {
    from.wrapping_add((coded >> 1) ^ (coded & 1).wrapping_neg())
}
