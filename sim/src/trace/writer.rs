// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes keepahead's trace format: takes accesses and file entries, gives blocks to a `Write`. Memory is one block, whatever the length.

use super::error::{Position, TraceError};
use super::format::*;
use super::{ACCESS_BYTES_MAX, Access, FileEntry, FileName, Kind, NAME_BYTES_MAX, OFFSET_MAX};
use std::io::Write;

/// zstd's default: about 300 MB/s on one core, far above what a recorder takes in.
const LEVEL: i32 = 3;

/// A trace that is being written. Without [`Writer::finish`] it has no totals and reads as truncated after its last whole block.
pub struct Writer<W: Write> {
    out: W,
    block: Vec<u8>,
    records: u32,
    context: Context,
    totals: Totals,
    compressor: zstd::bulk::Compressor<'static>,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header. `out` is best buffered: a block is written in two pieces.
    ///
    /// # Errors
    /// `out` fails, or the header's JSON is longer than 64 KiB.
    pub fn new(mut out: W, header: &Header) -> Result<Writer<W>, TraceError> {
        let json = json(header)?;
        let mut head = Vec::with_capacity(PREAMBLE + json.len());
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(json.len() as u32).to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(&json).to_le_bytes());
        head.extend_from_slice(&json);
        out.write_all(&head).map_err(|source| TraceError::Io { position: Position::Byte(0), source })?;
        let compressor =
            zstd::bulk::Compressor::new(LEVEL).map_err(|source| TraceError::Io { position: Position::Byte(0), source })?;
        let written = head.len() as u64;
        let block = Vec::with_capacity(BLOCK_TARGET + 2 * NAME_BYTES_MAX);
        Ok(Writer { out, block, records: 0, context: Context::default(), totals: Totals::default(), compressor, written })
    }

    /// A file; best before its first access. A second entry with the same id replaces the first (the file has grown, say).
    ///
    /// # Errors
    /// A name longer than [`NAME_BYTES_MAX`], a size above [`OFFSET_MAX`]; `out` fails.
    pub fn file(&mut self, entry: &FileEntry) -> Result<(), TraceError> {
        if entry.bytes > OFFSET_MAX {
            return Err(self.refuse("a file's size", entry.bytes, OFFSET_MAX));
        }
        if let FileName::Plain(name) = &entry.name
            && name.len() > NAME_BYTES_MAX
        {
            return Err(self.refuse("the length of a file's name", name.len() as u64, NAME_BYTES_MAX as u64));
        }
        self.block.push(TAG_FILE);
        put_varint(&mut self.block, entry.id);
        put_varint(&mut self.block, entry.bytes);
        match &entry.name {
            FileName::Unknown => self.block.push(0),
            FileName::Hashed(hash) => {
                self.block.push(1);
                self.block.extend_from_slice(&hash.to_le_bytes());
            }
            FileName::Plain(name) => {
                self.block.push(2);
                put_varint(&mut self.block, name.len() as u64);
                self.block.extend_from_slice(name.as_bytes());
            }
        }
        self.totals.files += 1;
        self.count()
    }

    /// # Errors
    /// A range that no file has (see [`Access`]); `out` fails.
    pub fn access(&mut self, access: &Access) -> Result<(), TraceError> {
        if access.kind != Kind::Trim && u64::from(access.bytes) > ACCESS_BYTES_MAX {
            return Err(self.refuse("an access's length", access.bytes.into(), ACCESS_BYTES_MAX));
        }
        let end = access.offset.saturating_add(access.bytes.into());
        if end > OFFSET_MAX {
            return Err(self.refuse("an access's end", end, OFFSET_MAX));
        }
        let context = &mut self.context;
        let mut tag = kind_tag(access.kind);
        tag |= if access.file == context.file { SAME_FILE } else { 0 };
        tag |= if access.pid == context.pid { SAME_PID } else { 0 };
        tag |= if access.bytes == context.bytes { SAME_BYTES } else { 0 };
        tag |= if access.took.is_some() { HAS_TOOK } else { 0 };
        self.block.push(tag);
        put_varint(&mut self.block, zigzag(context.at, access.at.0));
        if tag & SAME_FILE == 0 {
            put_varint(&mut self.block, access.file);
        }
        if tag & SAME_PID == 0 {
            put_varint(&mut self.block, access.pid.into());
        }
        let last_end = context.ends.insert(access.file, end).unwrap_or(0);
        put_varint(&mut self.block, zigzag(last_end, access.offset));
        if tag & SAME_BYTES == 0 {
            put_varint(&mut self.block, access.bytes.into());
        }
        if let Some(took) = access.took {
            put_varint(&mut self.block, took.0);
        }
        (context.at, context.file, context.pid, context.bytes) = (access.at.0, access.file, access.pid, access.bytes);
        self.totals.accesses += 1;
        self.count()
    }

    /// Accesses and files written so far, losses not included.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes given to `out` so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Closes the block and flushes `out`: what was recorded up to here survives a kill. Costs compression when called often.
    ///
    /// # Errors
    /// `out` fails.
    pub fn flush(&mut self) -> Result<(), TraceError> {
        self.close_block()?;
        self.out.flush().map_err(|source| self.io(source))
    }

    /// Writes the footer and gives `out` back, flushed.
    ///
    /// # Errors
    /// `out` fails.
    pub fn finish(mut self, events_lost: u64, files_sampled_out: u64) -> Result<W, TraceError> {
        self.close_block()?;
        let totals = Totals { events_lost, files_sampled_out, ..self.totals };
        let json = json(&totals)?;
        self.frame(FRAME_FOOTER, json.len(), 0, &json)?;
        self.out.flush().map_err(|source| self.io(source))?;
        Ok(self.out)
    }

    fn count(&mut self) -> Result<(), TraceError> {
        self.records += 1;
        if self.block.len() >= BLOCK_TARGET { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> Result<(), TraceError> {
        if self.records == 0 {
            return Ok(());
        }
        let packed = self.compressor.compress(&self.block).map_err(|source| self.io(source))?;
        self.frame(FRAME_BLOCK, self.block.len(), self.records, &packed)?;
        self.block.clear();
        self.records = 0;
        self.context.clear();
        Ok(())
    }

    fn frame(&mut self, kind: u8, plain: usize, records: u32, payload: &[u8]) -> Result<(), TraceError> {
        let mut head = [0u8; FRAME_HEAD];
        head[0] = kind;
        head[1..5].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[5..9].copy_from_slice(&(plain as u32).to_le_bytes());
        head[9..13].copy_from_slice(&records.to_le_bytes());
        let crc = frame_crc(&head, payload);
        head[13..].copy_from_slice(&crc.to_le_bytes());
        self.out.write_all(&head).map_err(|source| self.io(source))?;
        self.out.write_all(payload).map_err(|source| self.io(source))?;
        self.written += (FRAME_HEAD + payload.len()) as u64;
        Ok(())
    }

    fn io(&self, source: std::io::Error) -> TraceError {
        TraceError::Io { position: Position::Byte(self.written), source }
    }

    fn refuse(&self, what: &'static str, value: u64, limit: u64) -> TraceError {
        let limit = format!("the trace format takes at most {limit}");
        TraceError::invalid(Position::Byte(self.written), what, value, limit, "leave it out")
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, TraceError> {
    let json = serde_json::to_vec(value)
        .map_err(|e| TraceError::Io { position: Position::Byte(0), source: std::io::Error::other(e) })?;
    if json.len() > JSON_MAX as usize {
        let limit = format!("the trace format takes at most {JSON_MAX} bytes");
        return Err(TraceError::invalid(Position::Byte(0), "the header's length", json.len(), limit, "shorten the label"));
    }
    Ok(json)
}
