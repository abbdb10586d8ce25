// SPDX-License-Identifier: MIT OR Apache-2.0
//! The entries of a block that was read whole: takes the reader's plain bytes, gives accesses, and files to its table.

use super::super::format::*;
use super::super::{ACCESS_BYTES_MAX, Access, FileEntry, FileName, Kind, NAME_BYTES_MAX, OFFSET_MAX, Position, TraceError};
use super::{Reader, damaged};
use keepahead_core::units::Nanos;
use std::io::Read;

impl<R: Read> Reader<R> {
    /// The next entry of the block; `None` for a file, which goes into the table.
    pub(super) fn entry(&mut self) -> Result<Option<Access>, TraceError> {
        let Some(&tag) = self.block.get(self.next) else { return Err(self.bad_entry("it ends early")) };
        self.next += 1;
        self.left -= 1;
        let access = match tag_kind(tag) {
            Some(kind) => Some(self.access(tag, kind)?),
            None if tag == TAG_FILE => {
                self.file()?;
                None
            }
            None => return Err(self.bad_entry("an entry has an unknown kind")),
        };
        if self.left == 0 && self.next != self.block.len() {
            return Err(self.bad_entry("bytes follow its last entry"));
        }
        Ok(access)
    }

    fn access(&mut self, tag: u8, kind: Kind) -> Result<Access, TraceError> {
        let at = unzigzag(self.context.at, self.varint()?);
        let file = if tag & SAME_FILE == 0 { self.varint()? } else { self.context.file };
        let pid = if tag & SAME_PID == 0 { self.varint32()? } else { self.context.pid };
        let last_end = self.context.ends.get(&file).copied().unwrap_or(0);
        let offset = unzigzag(last_end, self.varint()?);
        let bytes = if tag & SAME_BYTES == 0 { self.varint32()? } else { self.context.bytes };
        let took = if tag & HAS_TOOK == 0 { None } else { Some(Nanos(self.varint()?)) };
        if kind != Kind::Trim && u64::from(bytes) > ACCESS_BYTES_MAX {
            return Err(self.too_large("an access's length", bytes.into(), ACCESS_BYTES_MAX));
        }
        let end = offset.saturating_add(bytes.into());
        if end > OFFSET_MAX {
            return Err(self.too_large("an access's end", end, OFFSET_MAX));
        }
        let context = &mut self.context;
        (context.at, context.file, context.pid, context.bytes) = (at, file, pid, bytes);
        context.ends.insert(file, end);
        self.counted.accesses += 1;
        Ok(Access { at: Nanos(at), file, pid, offset, bytes, kind, took })
    }

    fn file(&mut self) -> Result<(), TraceError> {
        let (id, bytes) = (self.varint()?, self.varint()?);
        if bytes > OFFSET_MAX {
            return Err(self.too_large("a file's size", bytes, OFFSET_MAX));
        }
        let name = match self.take(1)?[0] {
            0 => FileName::Unknown,
            1 => {
                let mut hash = [0u8; 8];
                hash.copy_from_slice(self.take(8)?);
                FileName::Hashed(u64::from_le_bytes(hash))
            }
            2 => {
                let length = self.varint()?;
                if length > NAME_BYTES_MAX as u64 {
                    return Err(self.too_large("the length of a file's name", length, NAME_BYTES_MAX as u64));
                }
                FileName::Plain(String::from_utf8_lossy(self.take(length as usize)?).into_owned())
            }
            _ => return Err(self.bad_entry("a file's name has an unknown kind")),
        };
        self.counted.files += 1;
        self.files.insert(FileEntry { id, bytes, name }).map_err(|(what, value, limit)| self.too_large(what, value, limit))
    }

    fn varint(&mut self) -> Result<u64, TraceError> {
        take_varint(&self.block, &mut self.next)
            .ok_or_else(|| self.bad_entry("a number in it is cut off or has more than 64 bits"))
    }

    fn varint32(&mut self) -> Result<u32, TraceError> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.bad_entry("a number in it has more than 32 bits"))
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8], TraceError> {
        let end = self.next + bytes;
        if end > self.block.len() {
            return Err(self.bad_entry("a name in it is cut off"));
        }
        let taken = &self.block[self.next..end];
        self.next = end;
        Ok(taken)
    }

    fn bad_entry(&self, detail: &str) -> TraceError {
        damaged(self.block_at, "a block", format!("{detail}, at byte {} of its plain content", self.next))
    }

    fn too_large(&self, what: &'static str, value: u64, limit: u64) -> TraceError {
        let limit = format!("at most {limit} is possible");
        TraceError::invalid(Position::Byte(self.block_at), what, value, limit, "the trace was made wrongly; record it again")
    }
}
