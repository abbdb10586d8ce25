// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recorded accesses: keepahead's own format ([`Writer`], [`Reader`]), readers for traces that others publish, and the replay of either
//! as a workload. Everything streams: a reader holds one block or one line and the table of files, never the trace.
//!
//! Nothing in a trace is believed: sizes are checked against the limits in this file before anything is allocated, and every error
//! says where in the trace it is.

mod blkparse;
mod cachesim;
mod demux;
mod detect;
mod error;
mod fio;
mod format;
mod msr;
mod reader;
mod replay;
mod survey;
mod text;
mod writer;

pub use cachesim::{CsvColumns, Objects};
pub use detect::{ReadOptions, TraceFormat, detect, open};
pub use error::{Position, TraceError};
pub use format::{Header, Totals};
pub use reader::Reader;
pub use replay::{Arrival, LOOK_AHEAD, Replay, TraceSpec};
pub use survey::{OPENS_MAX, ReplayError, SPAN_MAX, STREAMS_MAX, Stream, Streams, Survey, Use};
pub use writer::Writer;

use keepahead_core::units::Nanos;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Longest transfer that the kernel does in one call: `MAX_RW_COUNT` of `include/linux/fs.h` with 4 KiB pages.
pub const ACCESS_BYTES_MAX: u64 = 0x7fff_f000;
/// Largest position in a file: `loff_t` is signed.
pub const OFFSET_MAX: u64 = i64::MAX as u64;
/// Files in one trace; with [`NAMES_BYTES_MAX`] it bounds what a reader holds at 200 MiB.
pub const FILES_MAX: usize = 1 << 20;
/// Bytes of all names of files together.
pub const NAMES_BYTES_MAX: usize = 64 << 20;
/// Longest name: `PATH_MAX` of `include/uapi/linux/limits.h`.
pub const NAME_BYTES_MAX: usize = 4096;

/// What an access did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Demanded by `read(2)` and its relatives, or a read request of a block trace.
    Read,
    /// Demanded through a mapping.
    Mmap,
    Write,
    /// Discarded. Not replayed; lengths above `u32::MAX` are shortened to it.
    Trim,
}

/// One access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Since the trace's start. Not always ascending: several processors record at once.
    pub at: Nanos,
    /// The file's id within the trace.
    pub file: u64,
    /// Process; 0 where the trace does not say.
    pub pid: u32,
    /// Bytes from the file's start; with `bytes` not above [`OFFSET_MAX`].
    pub offset: u64,
    /// At most [`ACCESS_BYTES_MAX`] unless trimmed.
    pub bytes: u32,
    pub kind: Kind,
    /// How long it took, where the trace says.
    pub took: Option<Nanos>,
}

/// What a file is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileName {
    Unknown,
    /// A keyed hash of the path: tells files of one trace apart, tells nobody their names.
    Hashed(u64),
    /// At most [`NAME_BYTES_MAX`] bytes.
    Plain(String),
}

/// A file of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    pub id: u64,
    /// Size when it was first seen; 0 where the trace does not say.
    pub bytes: u64,
    pub name: FileName,
}

/// A trace that is being read: accesses in the order of the file. After an error there is nothing more.
pub trait Source: Iterator<Item = Result<Access, TraceError>> + Send {
    /// The files named so far; one whose entry has not come yet, or never does, is not there.
    fn files(&self) -> &FileTable;
    /// Losses and totals; known at the end of keepahead's own format, never elsewhere.
    fn totals(&self) -> Option<&Totals> {
        None
    }
}

/// The files named so far, bounded by [`FILES_MAX`] and [`NAMES_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct FileTable {
    entries: HashMap<u64, FileEntry>,
    ids: HashMap<String, u64>,
    name_bytes: usize,
}

/// Why a file does not fit into the table: what, its value and the limit.
pub(crate) type TableFull = (&'static str, u64, u64);

impl FileTable {
    pub fn get(&self, id: u64) -> Option<&FileEntry> {
        self.entries.get(&id)
    }
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an entry, or replaces the one with its id.
    pub(crate) fn insert(&mut self, entry: FileEntry) -> Result<(), TableFull> {
        let name_bytes = if let FileName::Plain(name) = &entry.name { name.len() } else { 0 };
        self.room(name_bytes)?;
        self.entries.insert(entry.id, entry);
        Ok(())
    }

    /// The id of the file `name`, given in the order of appearance from 0.
    pub(crate) fn intern(&mut self, name: &str) -> Result<u64, TableFull> {
        if let Some(&id) = self.ids.get(name) {
            return Ok(id);
        }
        self.room(name.len())?;
        let id = self.ids.len() as u64;
        self.ids.insert(name.to_owned(), id);
        self.entries.insert(id, FileEntry { id, bytes: 0, name: FileName::Plain(name.to_owned()) });
        Ok(id)
    }

    fn room(&mut self, name_bytes: usize) -> Result<(), TableFull> {
        if name_bytes > NAME_BYTES_MAX {
            return Err(("the length of a file's name", name_bytes as u64, NAME_BYTES_MAX as u64));
        }
        if self.entries.len() >= FILES_MAX {
            return Err(("the number of files", self.entries.len() as u64 + 1, FILES_MAX as u64));
        }
        self.name_bytes += name_bytes;
        if self.name_bytes > NAMES_BYTES_MAX {
            return Err(("the length of all files' names", self.name_bytes as u64, NAMES_BYTES_MAX as u64));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
