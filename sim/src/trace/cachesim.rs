// SPDX-License-Identifier: MIT OR Apache-2.0
//! libCacheSim's traces (Yang et al., OSDI 2020 and later): `oracleGeneral`, 24 packed little-endian bytes a request (u32 seconds,
//! u64 object, u32 size, i64 next access), and CSV. Both name objects, not places in files, and most have lost reads and writes: good
//! for cache hits, poor for readahead unless the objects are block numbers ([`Objects::Blocks`]).

use super::error::{Position, TraceError};
use super::text::{Line, LineFormat, Step};
use super::{ACCESS_BYTES_MAX, Access, FileTable, Kind, OFFSET_MAX, Source};
use keepahead_core::units::Nanos;
use std::io::{BufReader, ErrorKind, Read};

/// What the object ids of a trace are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objects {
    /// Each a file of its own, read from its start.
    #[default]
    Files,
    /// Numbers of blocks of so many bytes in one file.
    Blocks { bytes: u64 },
}

impl Objects {
    /// File, offset and length of an access, or what is out of range with its limit.
    fn place(self, object: u64, size: u64) -> Result<(u64, u64, u32), (&'static str, u64, u64)> {
        let bytes = u32::try_from(size).ok().filter(|_| size <= ACCESS_BYTES_MAX).ok_or(("a size", size, ACCESS_BYTES_MAX))?;
        match self {
            Objects::Files => Ok((object, 0, bytes)),
            Objects::Blocks { bytes: block } => {
                let max = (OFFSET_MAX - size) / block.max(1);
                if object > max { Err(("a block number", object, max)) } else { Ok((0, object * block, bytes)) }
            }
        }
    }
}

const RECORD: usize = 24;

pub(super) struct OracleGeneral<R: Read> {
    input: BufReader<R>,
    objects: Objects,
    first: Option<u32>,
    records: u64,
    over: bool,
    files: FileTable,
}

impl<R: Read> OracleGeneral<R> {
    pub fn new(input: R, objects: Objects) -> OracleGeneral<R> {
        OracleGeneral {
            input: BufReader::new(input),
            objects,
            first: None,
            records: 0,
            over: false,
            files: FileTable::default(),
        }
    }

    fn record(&mut self) -> Result<Option<Access>, TraceError> {
        let start = self.records * RECORD as u64;
        let mut record = [0u8; RECORD];
        let mut have = 0;
        while have < RECORD {
            let position = Position::Byte(start + have as u64);
            match self.input.read(&mut record[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(self.truncated(position)),
                Ok(n) => have += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(self.truncated(position)),
                Err(source) => return Err(TraceError::Io { position, source }),
            }
        }
        let [a, b, c, d, object @ .., e, f, g, h, _, _, _, _, _, _, _, _] = record;
        let (at, size) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let since = at.saturating_sub(*self.first.get_or_insert(at));
        let (file, offset, bytes) =
            self.objects.place(u64::from_le_bytes(object), size.into()).map_err(|(what, value, limit)| {
                let limit = format!("at most {limit} is possible");
                TraceError::invalid(
                    Position::Byte(start),
                    what,
                    value,
                    limit,
                    "is it an oracleGeneral trace, and of blocks of this size?",
                )
            })?;
        self.records += 1;
        Ok(Some(Access { at: Nanos::from_secs(since.into()), file, pid: 0, offset, bytes, kind: Kind::Read, took: None }))
    }

    fn truncated(&self, position: Position) -> TraceError {
        TraceError::Truncated { position, what: "a record of 24 bytes", records: self.records }
    }
}

impl<R: Read> Iterator for OracleGeneral<R> {
    type Item = Result<Access, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let record = self.record().transpose();
        self.over = !matches!(record, Some(Ok(_)));
        record
    }
}

impl<R: Read + Send> Source for OracleGeneral<R> {
    fn files(&self) -> &FileTable {
        &self.files
    }
}

/// Which column of a CSV trace holds what, from 1 as libCacheSim counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsvColumns {
    /// Seconds.
    pub time: usize,
    /// An object's number.
    pub object: usize,
    /// Bytes.
    pub size: usize,
}

impl Default for CsvColumns {
    fn default() -> CsvColumns {
        CsvColumns { time: 1, object: 2, size: 3 }
    }
}

/// Columns that a CSV trace may have; more are not looked at.
pub(super) const COLUMNS_MAX: usize = 16;

pub(super) struct CacheCsv {
    pub columns: CsvColumns,
    pub objects: Objects,
    pub first: Option<Nanos>,
}

impl LineFormat for CacheCsv {
    fn step(&mut self, line: &Line<'_>, _files: &mut FileTable) -> Result<Step, TraceError> {
        let (fields, count) = line.fields::<COLUMNS_MAX>(Some(','));
        let heading = line.number == 1 && fields[..count].iter().all(|f| !f.starts_with(|c: char| c.is_ascii_digit()));
        if heading || line.text.starts_with('#') {
            return Ok(Step::Skip);
        }
        let column = |number: usize| {
            fields.get(number.wrapping_sub(1)).filter(|_| number <= count).copied().ok_or_else(|| {
                let limit = format!("column {number} is needed (of at most {COLUMNS_MAX})");
                line.invalid(line.text, "a line", &limit, "name the right columns")
            })
        };
        let (time, object, size) = (column(self.columns.time)?, column(self.columns.object)?, column(self.columns.size)?);
        let at = line.seconds(time)?;
        let at = at.since(*self.first.get_or_insert(at));
        let number = line.number(object, "an object", u64::MAX)?;
        let bytes = line.number(size, "a size", ACCESS_BYTES_MAX)?;
        let (file, offset, bytes) = self.objects.place(number, bytes).map_err(|(what, _, limit)| {
            line.invalid(object, what, &format!("at most {limit} is possible"), "are the objects blocks of this size?")
        })?;
        Ok(Step::Access(Access { at, file, pid: 0, offset, bytes, kind: Kind::Read, took: None }))
    }
}
