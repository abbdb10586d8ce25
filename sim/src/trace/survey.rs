// SPDX-License-Identifier: MIT OR Apache-2.0
//! First pass over a trace: which streams, which files, how large, how long. A run has to know its tasks and files before it begins;
//! memory grows with these, never with the number of accesses.

use super::{FILES_MAX, Kind, Source, Totals, TraceError};
use keepahead_core::units::Nanos;
use std::collections::BTreeMap;
use thiserror::Error;

/// Tasks of a replay: a task in the simulator is a few hundred bytes, and a scheduler's entry.
pub const STREAMS_MAX: usize = 1 << 16;
/// Pairs of a stream and a file it has open.
pub const OPENS_MAX: usize = 1 << 20;
/// Longest replay in virtual time: an agent that ticks each second ticks 31 million times.
pub const SPAN_MAX: Nanos = Nanos::from_secs(366 * 86_400);

/// What becomes a task of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// Each process; it does one thing at a time, in the recorded order.
    #[default]
    PerProcess,
    /// Each file: for block traces and others that know no processes; files go on side by side.
    PerFile,
}

impl Streams {
    pub(super) fn key(self, access: &super::Access) -> u64 {
        match self {
            Streams::PerProcess => access.pid.into(),
            Streams::PerFile => access.file,
        }
    }
}

/// How a stream uses a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    pub mapped: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Accesses that are replayed.
    pub accesses: u64,
    pub first: Nanos,
    /// By file id.
    pub files: BTreeMap<u64, Use>,
}

/// What a trace needs of a machine.
#[derive(Debug)]
pub struct Survey {
    pub by: Streams,
    /// Accesses that are replayed; the others are trims and empty ones.
    pub accesses: u64,
    pub not_replayed: u64,
    pub first: Nanos,
    pub last: Nanos,
    /// Bytes of each file: what its entry says or the last byte accessed, whichever is more. By file id.
    pub files: BTreeMap<u64, u64>,
    /// By process or file id.
    pub streams: BTreeMap<u64, Stream>,
    /// Losses, where the trace says.
    pub totals: Option<Totals>,
    /// The trace ends or is damaged here; what came before is counted and can be replayed.
    pub damage: Option<TraceError>,
}

/// Why a trace cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    #[error("the trace has no read, write or mapped access to replay{}", damage.as_ref().map(|d| format!("; {d}")).unwrap_or_default())]
    Empty { damage: Option<TraceError> },
    #[error("the trace has more than {limit} {what}; {way_out}")]
    TooMany { what: &'static str, limit: usize, way_out: &'static str },
    #[error("the trace's files have {bytes} bytes together, at most {limit} fit on a disk; replay a part of the trace")]
    TooLarge { bytes: u128, limit: u64 },
    #[error(
        "the replay would last {seconds} s of virtual time, at most {limit} s are possible; raise the speed or replay a part"
    )]
    TooLong { seconds: u64, limit: u64 },
    #[error("speed is {speed}: a number above 0 is needed; 1 is as recorded, 2 twice as fast")]
    Speed { speed: f64 },
    #[error(
        "memory is {memory} bytes: less than one readahead window of {window} bytes; give more memory or a smaller read_ahead_kb"
    )]
    Memory { memory: u64, window: u64 },
    #[error("the look-ahead is {look_ahead} accesses: at least 1 is needed")]
    LookAhead { look_ahead: usize },
}

impl Survey {
    /// Reads `source` to its end, or to where it is damaged.
    ///
    /// # Errors
    /// [`ReplayError::Empty`], [`ReplayError::TooMany`].
    pub fn of(source: &mut dyn Source, by: Streams) -> Result<Survey, ReplayError> {
        let mut survey = Survey {
            by,
            accesses: 0,
            not_replayed: 0,
            first: Nanos(u64::MAX),
            last: Nanos(0),
            files: BTreeMap::new(),
            streams: BTreeMap::new(),
            totals: None,
            damage: None,
        };
        let mut opens = 0;
        for access in &mut *source {
            match access {
                Ok(access) => survey.add(&access, &mut opens)?,
                Err(e) => survey.damage = Some(e),
            }
        }
        for (id, bytes) in &mut survey.files {
            *bytes = (*bytes).max(source.files().get(*id).map_or(0, |entry| entry.bytes));
        }
        survey.totals = source.totals().copied();
        if survey.accesses == 0 {
            return Err(ReplayError::Empty { damage: survey.damage });
        }
        Ok(survey)
    }

    fn add(&mut self, access: &super::Access, opens: &mut usize) -> Result<(), ReplayError> {
        if !replayed(access) {
            self.not_replayed += 1;
            return Ok(());
        }
        self.accesses += 1;
        (self.first, self.last) = (self.first.min(access.at), self.last.max(access.at));
        let bytes = self.files.entry(access.file).or_default();
        *bytes = (*bytes).max(access.offset + u64::from(access.bytes));
        let stream =
            self.streams.entry(self.by.key(access)).or_insert_with(|| Stream { first: access.at, ..Stream::default() });
        stream.accesses += 1;
        stream.first = stream.first.min(access.at);
        let uses = stream.files.entry(access.file).or_insert_with(|| {
            *opens += 1;
            Use::default()
        });
        uses.mapped |= access.kind == Kind::Mmap;
        for (what, count, limit, way_out) in [
            ("files", self.files.len(), FILES_MAX, "are its objects really files? read them as blocks, or replay a part"),
            ("streams", self.streams.len(), STREAMS_MAX, "replay it by process instead of by file, or replay a part"),
            ("files open in its streams", *opens, OPENS_MAX, "replay it by file instead of by process, or replay a part"),
        ] {
            if count > limit {
                return Err(ReplayError::TooMany { what, limit, way_out });
            }
        }
        Ok(())
    }
}

/// Whether an access becomes an operation.
pub(super) fn replayed(access: &super::Access) -> bool {
    access.kind != Kind::Trim && access.bytes > 0
}
