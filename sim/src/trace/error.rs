// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a trace, said with its place, its value, the limit and the way out.

use std::fmt;
use std::io;
use thiserror::Error;

/// A place in a trace. In a compressed file it counts in what was decompressed, except for keepahead's own format, which compresses
/// block by block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Both from 1; columns count bytes.
    Line { line: u64, column: u64 },
    /// From 0.
    Byte(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Line { line, column } => write!(f, "line {line}, column {column}"),
            Position::Byte(at) => write!(f, "byte {at}"),
        }
    }
}

/// Why a trace cannot be read on. Accesses yielded before it are good.
#[derive(Debug, Error)]
pub enum TraceError {
    #[error("{position}: the trace cannot be read: {source}")]
    Io { position: Position, source: io::Error },
    #[error(
        "{position}: the trace ends within {what}, {records} accesses before it are whole; it was cut off, or its recording was killed: \
         use what is there or record again"
    )]
    Truncated { position: Position, what: &'static str, records: u64 },
    #[error("{position}: {what} is damaged ({detail}); copy the trace again or record it again")]
    Damaged { position: Position, what: &'static str, detail: String },
    #[error("{position}: {what} is `{value}`: {limit}; {way_out}")]
    Invalid { position: Position, what: &'static str, value: String, limit: String, way_out: &'static str },
    #[error(
        "{position}: the trace has format version {found}, this keepahead reads {known}; read it with the version that wrote it"
    )]
    Version { position: Position, found: u16, known: u16 },
    #[error(
        "{position}: no known trace format begins like `{value}`; known are {known}: name the format with --trace-format if this is one of \
         them"
    )]
    UnknownFormat { position: Position, value: String, known: String },
}

impl TraceError {
    /// Where it is.
    pub fn position(&self) -> Position {
        match self {
            TraceError::Io { position, .. }
            | TraceError::Truncated { position, .. }
            | TraceError::Damaged { position, .. }
            | TraceError::Invalid { position, .. }
            | TraceError::Version { position, .. }
            | TraceError::UnknownFormat { position, .. } => *position,
        }
    }

    pub(crate) fn invalid(
        position: Position,
        what: &'static str,
        value: impl fmt::Display,
        limit: impl Into<String>,
        way_out: &'static str,
    ) -> TraceError {
        TraceError::Invalid { position, what, value: shown(&value.to_string()), limit: limit.into(), way_out }
    }
}

/// A piece of a hostile file, fit for a terminal: control characters escaped, cut at 60 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut escaped: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        escaped.push('…');
    }
    escaped
}
