// SPDX-License-Identifier: MIT OR Apache-2.0
//! fio's iolog, versions 2 and 3 (fio(1), "TRACE FILE FORMAT"): `filename action [offset length]`, from version 3 on with a timestamp
//! before it. fio does not say which job made an access, so all belong to process 0.

use super::error::TraceError;
use super::text::{Line, LineFormat, Step};
use super::{Access, FileTable, Kind};
use keepahead_core::units::Nanos;

/// Numbers in the log are µs: the manual says so for `wait`; for version 3's timestamps a run with `thinktime` shows it.
const TICK: u64 = 1000;

#[derive(Debug, Default)]
pub(super) struct FioIolog {
    /// 0 before the first line.
    version: u8,
    /// Version 2 has no times, only waits, each counted from the one before.
    waited: Nanos,
}

impl LineFormat for FioIolog {
    fn step(&mut self, line: &Line<'_>, files: &mut FileTable) -> Result<Step, TraceError> {
        match self.version {
            0 => self.version_line(line),
            2 => {
                let ([name, action, offset, length], count) = line.fields(None);
                self.action(line, files, self.waited, [name, action, offset, length], count)
            }
            _ => {
                let ([at, name, action, offset, length], count) = line.fields(None);
                let at = Nanos(line.number(at, "a timestamp", u64::MAX / TICK)? * TICK);
                self.action(line, files, at, [name, action, offset, length], count.saturating_sub(1))
            }
        }
    }
}

impl FioIolog {
    fn version_line(&mut self, line: &Line<'_>) -> Result<Step, TraceError> {
        self.version = match line.text.trim() {
            "fio version 2 iolog" => 2,
            "fio version 3 iolog" => 3,
            other => {
                let limit = "`fio version 2 iolog` or `fio version 3 iolog` is needed";
                return Err(line.invalid(other, "the first line", limit, "write the log anew with fio --write_iolog"));
            }
        };
        Ok(Step::Skip)
    }

    fn action(
        &mut self,
        line: &Line<'_>,
        files: &mut FileTable,
        at: Nanos,
        [name, action, offset, length]: [&str; 4],
        count: usize,
    ) -> Result<Step, TraceError> {
        let kind = match action {
            "read" => Kind::Read,
            "write" => Kind::Write,
            "trim" => Kind::Trim,
            "add" | "open" | "close" | "sync" | "datasync" => return Ok(Step::Skip),
            "wait" if self.version == 2 => {
                self.waited = self.waited + Nanos(line.number(offset, "a wait", u64::MAX / TICK)? * TICK);
                return Ok(Step::Skip);
            }
            _ => {
                let known = "add, open, close, read, write, trim, sync, datasync and, in version 2, wait are known";
                return Err(line.invalid(action, "an action", known, "correct or remove the line"));
            }
        };
        if count < 4 {
            return Err(line.invalid(
                line.text,
                "a line",
                "an offset and a length are needed behind the action",
                "complete or remove it",
            ));
        }
        let (offset, bytes) = line.range(offset, length, 1, kind)?;
        let file = line.file(name, files)?;
        Ok(Step::Access(Access { at, file, pid: 0, offset, bytes, kind, took: None }))
    }
}
