// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trace file of a recording: takes demand, gives a file that is complete or not there. While it grows it is a hidden neighbour
//! of its final name; where it cannot be finished, what it holds is kept as `FILE.partial`.

use super::RecordError;
use super::names::Names;
use super::touch::{Demand, FileKey};
use keepahead_core::units::Nanos;
use keepahead_sim::trace::{
    ACCESS_BYTES_MAX, Access, FILES_MAX, FileEntry, FileName, Header, NAMES_BYTES_MAX, OFFSET_MAX, Reader, Totals, TraceError,
    Writer,
};
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use tempfile::TempPath;

/// Processes asked for a file's name before it stays unknown.
const TRIES: u8 = 3;

struct Known {
    id: u64,
    /// The last process asked in vain, and how many were.
    asked: u32,
    tries: u8,
}

pub struct Sink {
    writer: Writer<File>,
    temp: TempPath,
    path: PathBuf,
    names: Names,
    files: HashMap<FileKey, Known>,
    name_bytes: usize,
    /// CLOCK_MONOTONIC at time 0 of the trace.
    start: u64,
}

impl Sink {
    /// # Errors
    /// There is a file of that name, or its directory takes none.
    pub fn create(path: &Path, header: &Header, names: Names, start: u64) -> Result<Sink, RecordError> {
        if path.symlink_metadata().is_ok() {
            return Err(RecordError::Exists { path: path.into() });
        }
        let create = |source| RecordError::Create { path: path.into(), source };
        let name = path.file_name().ok_or_else(|| create(std::io::ErrorKind::InvalidFilename.into()))?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let prefix = format!(".{}.", name.to_string_lossy());
        let (file, temp) =
            tempfile::Builder::new().prefix(&prefix).suffix(".tmp").tempfile_in(dir).map_err(create)?.into_parts();
        let writer = Writer::new(file, header).map_err(|e| RecordError::Create { path: path.into(), source: io(e) })?;
        Ok(Sink { writer, temp, path: path.into(), names, files: HashMap::new(), name_bytes: 0, start })
    }

    /// Bytes in the file so far.
    pub fn written(&self) -> u64 {
        self.writer.written()
    }

    pub fn accesses(&self) -> u64 {
        self.writer.totals().accesses
    }

    /// Different files met so far.
    pub fn files(&self) -> u64 {
        self.files.len() as u64
    }

    /// Whether a reader would take no more files.
    pub fn full(&self) -> bool {
        self.writer.totals().files as usize >= FILES_MAX
    }

    /// Adds one request or touch, its file before it where it is new. Nothing is added once [`Sink::full`] is true.
    pub fn put(&mut self, demand: &Demand) -> Result<(), TraceError> {
        if self.full() {
            return Ok(());
        }
        let file = self.file(demand)?;
        self.writer.access(&Access {
            at: Nanos(demand.at.saturating_sub(self.start)),
            file,
            pid: demand.pid,
            offset: demand.offset,
            bytes: demand.bytes.min(ACCESS_BYTES_MAX) as u32,
            kind: demand.kind,
            took: None,
        })
    }

    /// The file's id in the trace. A name that could not be had is asked for again when another process comes.
    fn file(&mut self, demand: &Demand) -> Result<u64, TraceError> {
        let next = self.files.len() as u64;
        let fresh = !self.files.contains_key(&demand.file);
        let known = self.files.entry(demand.file).or_insert(Known { id: next, asked: 0, tries: 0 });
        if known.tries >= TRIES || known.asked == demand.pid {
            return Ok(known.id);
        }
        let mut name = self.names.of(demand.file, demand.pid);
        if let FileName::Plain(plain) = &name {
            self.name_bytes += plain.len();
            if self.name_bytes > NAMES_BYTES_MAX {
                name = FileName::Unknown;
            }
        }
        known.asked = demand.pid;
        known.tries = if name == FileName::Unknown { known.tries + 1 } else { TRIES };
        if fresh || name != FileName::Unknown {
            self.writer.file(&FileEntry { id: known.id, bytes: demand.file_bytes.min(OFFSET_MAX), name })?;
        }
        Ok(known.id)
    }

    /// Closes the present block, so that a kill loses nothing before it.
    pub fn flush(&mut self) -> Result<(), TraceError> {
        self.writer.flush()
    }

    /// Writes the totals and gives the file its name.
    pub fn finish(self, events_lost: u64, files_sampled_out: u64) -> Result<Totals, RecordError> {
        let totals = Totals { events_lost, files_sampled_out, ..self.writer.totals() };
        let Sink { writer, temp, path, .. } = self;
        match writer.finish(events_lost, files_sampled_out).map_err(io).and_then(|file| file.sync_all()) {
            Ok(()) => {}
            Err(source) => return Err(keep(temp, path, source)),
        }
        temp.persist_noclobber(&path).map_err(|e| keep(e.path, path, e.error))?;
        Ok(totals)
    }

    /// Keeps what was written before `error`.
    pub fn rescue(self, error: TraceError) -> RecordError {
        keep(self.temp, self.path, io(error))
    }
}

/// The cause, where the file itself failed.
fn io(error: TraceError) -> std::io::Error {
    match error {
        TraceError::Io { source, .. } => source,
        other => std::io::Error::other(other),
    }
}

fn keep(temp: TempPath, path: PathBuf, source: std::io::Error) -> RecordError {
    let saved = readable(&temp);
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    match saved {
        0 => RecordError::Nothing { path, source },
        saved => match temp.persist(&partial) {
            Ok(()) => RecordError::Partial { path, source, saved, partial },
            Err(_) => RecordError::Nothing { path, source },
        },
    }
}

/// Accesses that a reader gets out of an unfinished trace.
fn readable(path: &Path) -> u64 {
    let Ok(file) = File::open(path) else { return 0 };
    let Ok(reader) = Reader::new(BufReader::new(file)) else { return 0 };
    reader.map_while(Result::ok).count() as u64
}
