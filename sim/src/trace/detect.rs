// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which format a trace has, from its first bytes or by name; takes a `Read`, gives the reader that fits. A trace compressed with zstd
//! is decompressed on the way, whatever is in it.

use super::blkparse::Blkparse;
use super::cachesim::{CacheCsv, CsvColumns, Objects, OracleGeneral};
use super::error::{Position, TraceError, shown};
use super::fio::FioIolog;
use super::format::MAGIC;
use super::msr::Msr;
use super::reader::Reader;
use super::text::TextReader;
use super::{ACCESS_BYTES_MAX, Source};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{BufReader, Cursor, Read};
use std::str::FromStr;

/// Formats that are read; the names are those of `--trace-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceFormat {
    Keepahead,
    FioIolog,
    OracleGeneral,
    CacheCsv,
    Msr,
    Blkparse,
}

impl TraceFormat {
    pub const ALL: [TraceFormat; 6] = [
        TraceFormat::Keepahead,
        TraceFormat::FioIolog,
        TraceFormat::OracleGeneral,
        TraceFormat::CacheCsv,
        TraceFormat::Msr,
        TraceFormat::Blkparse,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            TraceFormat::Keepahead => "keepahead",
            TraceFormat::FioIolog => "fio-iolog",
            TraceFormat::OracleGeneral => "oracle-general",
            TraceFormat::CacheCsv => "cache-csv",
            TraceFormat::Msr => "msr",
            TraceFormat::Blkparse => "blkparse",
        }
    }

    fn known() -> String {
        TraceFormat::ALL.map(TraceFormat::name).join(", ")
    }
}

impl fmt::Display for TraceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TraceFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<TraceFormat, String> {
        let known = || format!("trace format `{}` is not known; known are {}", shown(name), TraceFormat::known());
        TraceFormat::ALL.into_iter().find(|f| f.name() == name).ok_or_else(known)
    }
}

/// What a format leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// libCacheSim's traces.
    pub objects: Objects,
    pub columns: CsvColumns,
    /// The action that counts in blkparse's output.
    pub blkparse_action: char,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { objects: Objects::default(), columns: CsvColumns::default(), blkparse_action: 'Q' }
    }
}

const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Memory for going back in zstd data: 2^27 bytes, what the zstd program takes without `--long`.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Read ahead to tell formats apart; the first line of every known format is far shorter.
const PEEK: u64 = 4096;

/// A reader for the trace in `input`; its format is `format`, or is told from its first bytes.
///
/// # Errors
/// The format is not known, the header is damaged or of another version; `input` fails.
pub fn open(
    input: Box<dyn Read + Send>,
    format: Option<TraceFormat>,
    options: &ReadOptions,
) -> Result<(TraceFormat, Box<dyn Source>), TraceError> {
    let (mut head, mut input) = peek(input)?;
    if head.starts_with(&ZSTD_MAGIC) {
        let io = |source| TraceError::Io { position: Position::Byte(0), source };
        let mut plain = zstd::stream::read::Decoder::new(input).map_err(io)?;
        plain.window_log_max(ZSTD_WINDOW_LOG).map_err(io)?;
        (head, input) = peek(Box::new(plain))?;
    }
    let format = match format {
        Some(format) => format,
        None => detect(&head).ok_or_else(|| TraceError::UnknownFormat {
            position: Position::Byte(0),
            value: shown(&String::from_utf8_lossy(&head[..head.len().min(40)])),
            known: TraceFormat::known(),
        })?,
    };
    let ReadOptions { objects, columns, blkparse_action: action } = *options;
    let source: Box<dyn Source> = match format {
        TraceFormat::Keepahead => Box::new(Reader::new(BufReader::new(input))?),
        TraceFormat::FioIolog => Box::new(TextReader::new(input, FioIolog::default())),
        TraceFormat::OracleGeneral => Box::new(OracleGeneral::new(input, objects)),
        TraceFormat::CacheCsv => Box::new(TextReader::new(input, CacheCsv { columns, objects, first: None })),
        TraceFormat::Msr => Box::new(TextReader::new(input, Msr::default())),
        TraceFormat::Blkparse => Box::new(TextReader::new(input, Blkparse { action })),
    };
    Ok((format, source))
}

/// The first bytes, and a `Read` that begins with them again.
fn peek(mut input: Box<dyn Read + Send>) -> Result<(Vec<u8>, Box<dyn Read + Send>), TraceError> {
    let mut head = Vec::new();
    let read = (&mut input).take(PEEK).read_to_end(&mut head);
    read.map_err(|source| TraceError::Io { position: Position::Byte(head.len() as u64), source })?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(input))))
}

/// The format of a trace that begins with `head` (a few hundred bytes are enough), uncompressed.
pub fn detect(head: &[u8]) -> Option<TraceFormat> {
    if head.starts_with(&MAGIC) {
        return Some(TraceFormat::Keepahead);
    }
    if head.contains(&0) {
        return is_oracle_general(head).then_some(TraceFormat::OracleGeneral);
    }
    let text = String::from_utf8_lossy(head);
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    if line.starts_with("fio version ") {
        return Some(TraceFormat::FioIolog);
    }
    let cells: Vec<&str> = line.split(',').collect();
    if cells.len() == 7
        && (cells[0].eq_ignore_ascii_case("timestamp") || ["read", "write"].contains(&&*cells[3].to_lowercase()))
    {
        return Some(TraceFormat::Msr);
    }
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    if words.len() >= 6 && words[0].contains(',') && words[3].contains('.') {
        return Some(TraceFormat::Blkparse);
    }
    (cells.len() >= 3).then_some(TraceFormat::CacheCsv)
}

/// It has no magic: two records in a row must make sense, with times that do not fall and a next access that is -2, -1 or later.
fn is_oracle_general(head: &[u8]) -> bool {
    let records = head.chunks_exact(24).take(2).map(|r| {
        let u32_at = |i: usize| u32::from_le_bytes([r[i], r[i + 1], r[i + 2], r[i + 3]]);
        let next = i64::from(u32_at(20) as i32) << 32 | i64::from(u32_at(16));
        (u32_at(0), u32_at(12), next)
    });
    let records: Vec<(u32, u32, i64)> = records.collect();
    let sane = records.iter().all(|&(_, size, next)| u64::from(size) <= ACCESS_BYTES_MAX && (-2..1 << 48).contains(&next));
    !records.is_empty() && sane && records.is_sorted_by_key(|r| r.0)
}
