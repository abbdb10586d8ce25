// SPDX-License-Identifier: MIT OR Apache-2.0
//! Traces with one access a line: takes a `Read` and a format's parser of lines, gives accesses. Holds one line.

use super::error::{Position, TraceError};
use super::{ACCESS_BYTES_MAX, Access, FileTable, Kind, NAME_BYTES_MAX, OFFSET_MAX, Source};
use keepahead_core::units::Nanos;
use std::io::{BufRead, BufReader, ErrorKind, Read};

/// Longest line: twice the longest name leaves room for every number.
const LINE_MAX: usize = 2 * NAME_BYTES_MAX;

/// What a line is.
pub(super) enum Step {
    Access(Access),
    /// Nothing that is replayed: a comment, an open, a queue event that is not asked for.
    Skip,
    /// The trace is over, whatever follows.
    End,
}

/// One format.
pub(super) trait LineFormat: Send {
    fn step(&mut self, line: &Line<'_>, files: &mut FileTable) -> Result<Step, TraceError>;
}

/// A line without its end.
pub(super) struct Line<'a> {
    pub text: &'a str,
    pub number: u64,
}

impl<'a> Line<'a> {
    /// The first `N` fields, trimmed, and how many there are (at most `N`); the rest stay empty.
    pub fn fields<const N: usize>(&self, separator: Option<char>) -> ([&'a str; N], usize) {
        let mut fields = [""; N];
        let mut count = 0;
        let mut put = |field: &'a str| {
            fields[count] = field.trim();
            count += 1;
        };
        match separator {
            Some(separator) => self.text.split(separator).take(N).for_each(&mut put),
            None => self.text.split_ascii_whitespace().take(N).for_each(&mut put),
        }
        (fields, count)
    }

    /// Where `field`, a part of this line, begins.
    pub fn position(&self, field: &str) -> Position {
        let column = (field.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
        Position::Line { line: self.number, column: column.filter(|&c| c <= self.text.len()).map_or(1, |c| c as u64 + 1) }
    }

    pub fn invalid(&self, field: &str, what: &'static str, limit: &str, way_out: &'static str) -> TraceError {
        TraceError::invalid(self.position(field), what, field, limit, way_out)
    }

    /// A whole number of at most `max`.
    pub fn number(&self, field: &str, what: &'static str, max: u64) -> Result<u64, TraceError> {
        match field.parse::<u64>() {
            Ok(value) if value <= max => Ok(value),
            _ => Err(self.invalid(
                field,
                what,
                &format!("a whole number from 0 to {max} is needed"),
                "correct or remove the line",
            )),
        }
    }

    /// Seconds with or without a fraction, exact to the ns.
    pub fn seconds(&self, field: &str) -> Result<Nanos, TraceError> {
        let (whole, fraction) = field.split_once('.').unwrap_or((field, ""));
        let digits = fraction.len() <= 18 && fraction.bytes().all(|b| b.is_ascii_digit());
        let whole = whole.parse::<u64>().ok().and_then(|s| s.checked_mul(1_000_000_000));
        match whole {
            Some(whole) if digits => {
                let fraction = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
                Ok(Nanos(whole) + Nanos(fraction.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))))
            }
            _ => Err(self.invalid(field, "a time", "seconds from 0 to 18446744073 are needed", "correct or remove the line")),
        }
    }

    /// Offset and length, checked against what a file and a call can have; `unit` is what both count, bytes.
    pub fn range(&self, offset: &str, length: &str, unit: u64, kind: Kind) -> Result<(u64, u32), TraceError> {
        let bytes_max = if kind == Kind::Trim { OFFSET_MAX } else { ACCESS_BYTES_MAX };
        let bytes = self.number(length, "a length", bytes_max / unit)? * unit;
        let at = self.number(offset, "an offset", (OFFSET_MAX - bytes) / unit)? * unit;
        Ok((at, u32::try_from(bytes).unwrap_or(u32::MAX)))
    }

    /// The id of the file named by `field`.
    pub fn file(&self, field: &str, files: &mut FileTable) -> Result<u64, TraceError> {
        files.intern(field).map_err(|(what, value, limit)| {
            let limit = format!("at most {limit} is possible");
            TraceError::invalid(self.position(field), what, value, limit, "split the trace")
        })
    }
}

/// A text trace that is being read.
pub(super) struct TextReader<R: Read, F> {
    input: BufReader<R>,
    format: F,
    line: Vec<u8>,
    number: u64,
    accesses: u64,
    files: FileTable,
    over: bool,
}

impl<R: Read, F: LineFormat> TextReader<R, F> {
    pub fn new(input: R, format: F) -> TextReader<R, F> {
        let files = FileTable::default();
        TextReader { input: BufReader::new(input), format, line: Vec::new(), number: 0, accesses: 0, files, over: false }
    }

    fn step(&mut self) -> Result<Step, TraceError> {
        self.line.clear();
        self.number += 1;
        let start = Position::Line { line: self.number, column: 1 };
        let limit = LINE_MAX as u64 + 1;
        let read = (&mut self.input).take(limit).read_until(b'\n', &mut self.line);
        let read = read.map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => {
                TraceError::Truncated { position: start, what: "the compressed data", records: self.accesses }
            }
            _ => TraceError::Io { position: start, source },
        })?;
        if read == 0 {
            return Ok(Step::End);
        }
        if read > LINE_MAX {
            let limit = format!("a line has at most {LINE_MAX} bytes");
            return Err(TraceError::invalid(
                start,
                "the length of a line",
                format!("over {LINE_MAX}"),
                limit,
                "is this a text trace?",
            ));
        }
        let text = std::str::from_utf8(&self.line).map_err(|e| {
            let position = Position::Line { line: self.number, column: e.valid_up_to() as u64 + 1 };
            let byte = self.line.get(e.valid_up_to()).copied().unwrap_or(0);
            TraceError::invalid(
                position,
                "a byte",
                format!("{byte:#04x}"),
                "a text trace is UTF-8",
                "name its format with --trace-format",
            )
        })?;
        let line = Line { text: text.trim_end_matches(['\n', '\r']), number: self.number };
        if line.text.trim().is_empty() { Ok(Step::Skip) } else { self.format.step(&line, &mut self.files) }
    }
}

impl<R: Read, F: LineFormat> Iterator for TextReader<R, F> {
    type Item = Result<Access, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            match self.step() {
                Ok(Step::Access(access)) => {
                    self.accesses += 1;
                    return Some(Ok(access));
                }
                Ok(Step::Skip) => {}
                Ok(Step::End) => self.over = true,
                Err(e) => {
                    self.over = true;
                    return Some(Err(e));
                }
            }
        }
        None
    }
}

impl<R: Read + Send, F: LineFormat> Source for TextReader<R, F> {
    fn files(&self) -> &FileTable {
        &self.files
    }
}
