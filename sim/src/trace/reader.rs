// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads keepahead's trace format: takes a `Read`, gives accesses. Holds one block and the table of files; yields nothing of a block
//! whose CRC or length is wrong.

use super::error::{Position, TraceError};
use super::format::*;
use super::{ACCESS_BYTES_MAX, Access, FileEntry, FileName, FileTable, Kind, NAME_BYTES_MAX, OFFSET_MAX, Source};
use keepahead_core::units::Nanos;
use std::io::{ErrorKind, Read};

/// A trace that is being read.
pub struct Reader<R: Read> {
    input: R,
    header: Header,
    /// Bytes taken from `input`.
    at: u64,
    /// Where the present block's frame begins.
    block_at: u64,
    packed: Vec<u8>,
    block: Vec<u8>,
    next: usize,
    left: u32,
    context: Context,
    files: FileTable,
    counted: Totals,
    totals: Option<Totals>,
    decompressor: zstd::bulk::Decompressor<'static>,
    over: bool,
}

/// Head of a frame.
struct Frame {
    kind: u8,
    plain: u32,
    records: u32,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Not a trace of keepahead, of another version, damaged or cut off within the header; `input` fails.
    pub fn new(input: R) -> Result<Reader<R>, TraceError> {
        let io = |source| TraceError::Io { position: Position::Byte(0), source };
        let decompressor = zstd::bulk::Decompressor::new().map_err(io)?;
        let mut reader = Reader {
            input,
            header: Header::default(),
            at: 0,
            block_at: 0,
            packed: Vec::new(),
            block: Vec::new(),
            next: 0,
            left: 0,
            context: Context::default(),
            files: FileTable::default(),
            counted: Totals::default(),
            totals: None,
            decompressor,
            over: false,
        };
        reader.read_header()?;
        Ok(reader)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    fn read_header(&mut self) -> Result<(), TraceError> {
        let mut head = [0u8; PREAMBLE];
        self.fill(&mut head, "the header")?;
        if head[..8] != MAGIC {
            let value = super::error::shown(&String::from_utf8_lossy(&head[..8]));
            return Err(TraceError::UnknownFormat { position: Position::Byte(0), value, known: "keepahead's own".into() });
        }
        let version = u16::from_le_bytes([head[8], head[9]]);
        if version != VERSION {
            return Err(TraceError::Version { position: Position::Byte(8), found: version, known: VERSION });
        }
        let length = le32(&head, 10);
        if length > JSON_MAX {
            return Err(damaged(
                10,
                "the header",
                format!("it says that it has {length} bytes, at most {JSON_MAX} are allowed"),
            ));
        }
        self.fill_packed(length, "the header")?;
        if crc32fast::hash(&self.packed) != le32(&head, 14) {
            return Err(damaged(PREAMBLE as u64, "the header", "its CRC is wrong".into()));
        }
        self.header =
            serde_json::from_slice(&self.packed).map_err(|e| damaged(PREAMBLE as u64, "the header", e.to_string()))?;
        Ok(())
    }

    /// The next block with records in it; `false` after the footer.
    fn next_block(&mut self) -> Result<bool, TraceError> {
        let frame = self.read_frame()?;
        match frame.kind {
            FRAME_BLOCK => self.unpack(&frame).map(|()| true),
            FRAME_FOOTER => self.read_footer().map(|()| false),
            kind => Err(damaged(self.block_at, "a frame", format!("its kind is {kind}, known are 1 and 2"))),
        }
    }

    fn read_frame(&mut self) -> Result<Frame, TraceError> {
        self.block_at = self.at;
        let mut head = [0u8; FRAME_HEAD];
        self.fill(&mut head, "a block, before the totals")?;
        let (packed, plain) = (le32(&head, 1), le32(&head, 5));
        for (what, bytes) in [("compressed", packed), ("plain", plain)] {
            if bytes > BLOCK_MAX {
                let detail = format!("it says that it has {bytes} bytes {what}, at most {BLOCK_MAX} are allowed");
                return Err(damaged(self.block_at, "a block", detail));
            }
        }
        self.fill_packed(packed, "a block")?;
        if frame_crc(&head, &self.packed) != le32(&head, 13) {
            return Err(damaged(self.block_at, "a block", "its CRC is wrong".into()));
        }
        Ok(Frame { kind: head[0], plain, records: le32(&head, 9) })
    }

    fn unpack(&mut self, frame: &Frame) -> Result<(), TraceError> {
        self.block.clear();
        self.block.reserve(frame.plain as usize);
        let unpacked = self.decompressor.decompress_to_buffer(&self.packed, &mut self.block);
        match unpacked {
            Ok(bytes) if bytes == frame.plain as usize => {}
            Ok(bytes) => {
                let detail = format!("it has {bytes} bytes plain, its head says {}", frame.plain);
                return Err(damaged(self.block_at, "a block", detail));
            }
            Err(e) => return Err(damaged(self.block_at, "a block", e.to_string())),
        }
        self.context.clear();
        self.next = 0;
        self.left = frame.records;
        Ok(())
    }

    fn read_footer(&mut self) -> Result<(), TraceError> {
        let totals: Totals =
            serde_json::from_slice(&self.packed).map_err(|e| damaged(self.block_at, "the totals", e.to_string()))?;
        if (totals.accesses, totals.files) != (self.counted.accesses, self.counted.files) {
            let detail = format!(
                "they say {} accesses and {} files, the trace has {} and {}",
                totals.accesses, totals.files, self.counted.accesses, self.counted.files
            );
            return Err(damaged(self.block_at, "the totals", detail));
        }
        let end = self.at;
        self.packed.clear();
        let more = (&mut self.input).take(1).read_to_end(&mut self.packed);
        if more.map_err(|source| TraceError::Io { position: Position::Byte(end), source })? > 0 {
            return Err(damaged(end, "the end", "bytes follow the totals; are two traces joined?".into()));
        }
        self.totals = Some(totals);
        Ok(())
    }

    /// The next entry of the block; `None` for a file, which goes into the table.
    fn entry(&mut self) -> Result<Option<Access>, TraceError> {
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

    /// Exactly as many bytes as `to` has.
    fn fill(&mut self, to: &mut [u8], what: &'static str) -> Result<(), TraceError> {
        let filled = self.input.read_exact(to);
        self.filled(filled, what)?;
        self.at += to.len() as u64;
        Ok(())
    }

    /// `bytes` bytes into `packed`, which grows with what is really there.
    fn fill_packed(&mut self, bytes: u32, what: &'static str) -> Result<(), TraceError> {
        self.packed.clear();
        let filled = (&mut self.input).take(bytes.into()).read_to_end(&mut self.packed);
        let whole = filled.and_then(|n| if n == bytes as usize { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) });
        self.filled(whole, what)?;
        self.at += u64::from(bytes);
        Ok(())
    }

    fn filled(&self, result: std::io::Result<()>, what: &'static str) -> Result<(), TraceError> {
        let position = Position::Byte(self.at);
        result.map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => TraceError::Truncated { position, what, records: self.counted.accesses },
            _ => TraceError::Io { position, source },
        })
    }

    fn bad_entry(&self, detail: &str) -> TraceError {
        damaged(self.block_at, "a block", format!("{detail}, at byte {} of its plain content", self.next))
    }

    fn too_large(&self, what: &'static str, value: u64, limit: u64) -> TraceError {
        let limit = format!("at most {limit} is possible");
        TraceError::invalid(Position::Byte(self.block_at), what, value, limit, "the trace was made wrongly; record it again")
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Access, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            let step = if self.left > 0 {
                self.entry()
            } else {
                self.next_block().map(|more| {
                    self.over = !more;
                    None
                })
            };
            match step {
                Ok(Some(access)) => return Some(Ok(access)),
                Ok(None) => {}
                Err(e) => {
                    self.over = true;
                    return Some(Err(e));
                }
            }
        }
        None
    }
}

impl<R: Read + Send> Source for Reader<R> {
    fn files(&self) -> &FileTable {
        &self.files
    }
    fn totals(&self) -> Option<&Totals> {
        self.totals.as_ref()
    }
}

fn damaged(at: u64, what: &'static str, detail: String) -> TraceError {
    TraceError::Damaged { position: Position::Byte(at), what, detail }
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
