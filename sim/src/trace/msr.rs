// SPDX-License-Identifier: MIT OR Apache-2.0
//! The block traces of MSR Cambridge (Narayanan et al., FAST 2008; SNIA IOTTA): `Timestamp,Hostname,DiskNumber,Type,Offset,Size,
//! ResponseTime`. Times are Windows' FILETIME, 100 ns since 1601; here they count from the first line. A disk becomes a file.

use super::error::TraceError;
use super::text::{Line, LineFormat, Step};
use super::{Access, FileTable, Kind};
use keepahead_core::units::Nanos;

const TICK: u64 = 100;

#[derive(Debug, Default)]
pub(super) struct Msr {
    first: Option<u64>,
}

impl LineFormat for Msr {
    fn step(&mut self, line: &Line<'_>, files: &mut FileTable) -> Result<Step, TraceError> {
        let ([stamp, host, disk, kind, offset, size, response], count) = line.fields(Some(','));
        if line.number == 1 && stamp.eq_ignore_ascii_case("timestamp") {
            return Ok(Step::Skip);
        }
        if count < 7 {
            let limit = "seven fields are needed: Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime";
            return Err(line.invalid(line.text, "a line", limit, "complete or remove it"));
        }
        let stamp = line.number(stamp, "a timestamp", u64::MAX)?;
        let since = stamp.saturating_sub(*self.first.get_or_insert(stamp));
        let kind = if kind.eq_ignore_ascii_case("read") {
            Kind::Read
        } else if kind.eq_ignore_ascii_case("write") {
            Kind::Write
        } else {
            return Err(line.invalid(kind, "a type", "Read and Write are known", "correct or remove the line"));
        };
        let (offset, bytes) = line.range(offset, size, 1, kind)?;
        let took = line.number(response, "a response time", u64::MAX)?;
        // Both are fields of this line with one comma between them: "host,disk" is a name that needs no copy.
        let start = line.text.find(',').map_or(0, |comma| comma + 1);
        let end = line.text.match_indices(',').nth(2).map_or(line.text.len(), |(comma, _)| comma);
        debug_assert!(line.text[start..end].contains(host) && line.text[start..end].contains(disk));
        let file = line.file(&line.text[start..end], files)?;
        let at = Nanos(since.saturating_mul(TICK));
        Ok(Step::Access(Access { at, file, pid: 0, offset, bytes, kind, took: Some(Nanos(took.saturating_mul(TICK))) }))
    }
}
