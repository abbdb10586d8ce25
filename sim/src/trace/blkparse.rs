// SPDX-License-Identifier: MIT OR Apache-2.0
//! blkparse's default text (blkparse(1), "DEFAULT OUTPUT"): `device cpu sequence seconds pid action rwbs sector + sectors [process]`. One
//! action is read, queued (`Q`) unless chosen otherwise, or a request would count once for every stage of its life. A device becomes
//! a file. These are requests below the page cache: reads that readahead made are among them.

use super::error::TraceError;
use super::text::{Line, LineFormat, Step};
use super::{Access, FileTable, Kind};

const SECTOR: u64 = 512;

#[derive(Debug)]
pub(super) struct Blkparse {
    /// As blkparse prints it: `Q` queued, `D` issued, `C` completed.
    pub action: char,
}

impl LineFormat for Blkparse {
    fn step(&mut self, line: &Line<'_>, files: &mut FileTable) -> Result<Step, TraceError> {
        let ([device, _cpu, _sequence, at, pid, action, rwbs, sector, plus, sectors], count) = line.fields(None);
        // The summary: "CPU0 (sda):" and, with several processors or devices, "Total (sda):".
        if device.starts_with("CPU") || device == "Total" {
            return Ok(Step::End);
        }
        if !device.split_once(',').is_some_and(|(major, minor)| is_number(major) && is_number(minor)) {
            return Err(line.invalid(
                device,
                "a device",
                "major,minor is needed",
                "print it with blkparse and no options for its format",
            ));
        }
        if action.len() != 1 || !action.starts_with(self.action) {
            return Ok(Step::Skip);
        }
        let kind = match rwbs {
            _ if rwbs.contains('D') => Kind::Trim,
            _ if rwbs.contains('R') => Kind::Read,
            _ if rwbs.contains('W') => Kind::Write,
            _ => return Ok(Step::Skip),
        };
        // A flush without data names no sectors.
        if sector.starts_with('[') || (count < 8 && rwbs.starts_with('F')) {
            return Ok(Step::Skip);
        }
        if count < 10 || plus != "+" {
            return Err(line.invalid(
                line.text,
                "a line",
                "`sector + sectors` is needed behind the operation",
                "complete or remove it",
            ));
        }
        let at = line.seconds(at)?;
        let pid = line.number(pid, "a process", u32::MAX.into())? as u32;
        let (offset, bytes) = line.range(sector, sectors, SECTOR, kind)?;
        let file = line.file(device, files)?;
        Ok(Step::Access(Access { at, file, pid, offset, bytes, kind, took: None }))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
