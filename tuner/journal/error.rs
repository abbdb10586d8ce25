// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong with the journal, and what was set right on opening it. Every text names the file and the way out, because
//! an agent that cannot journal must not write to a device and a person has to be able to end that state.

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum JournalError {
    #[error("state directory {path}: cannot be created or written: {source}{}, or choose another --state-dir", way_out(source))]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "journal {path} has format {found}, this keepahead knows up to {known}: a newer version wrote it; use that version, or move the \
         file away to start a new one (the values to put back stay in restore.json beside it)"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("journal {path}: cannot be opened: {source}; is another program holding it, or is it not readable for this user?")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error(
        "there is no journal at {path}: `keepahead run` writes one in its state directory (--state-dir, or agent.state_dir)"
    )]
    Absent { path: PathBuf },
    #[error(
        "journal {path}: {what} could not be committed ({source}); the file has {size_kib} KiB, its file system {free_kib} KiB free{way_out}"
    )]
    Write {
        path: PathBuf,
        what: &'static str,
        size_kib: u64,
        free_kib: u64,
        way_out: &'static str,
        source: Box<rusqlite::Error>,
    },
    #[error("journal {path}: cannot be read: {source}")]
    Read { path: PathBuf, source: rusqlite::Error },
    #[error("journal {path}: row {row} does not parse: {source}; the file was changed by hand or damaged")]
    Parse { path: PathBuf, row: String, source: serde_json::Error },
    #[error(
        "restore file {path}: cannot be replaced: {source}; no device was written; free space there or choose another --state-dir"
    )]
    RestoreFile { path: PathBuf, source: io::Error },
    #[error("{path} could not be set aside as {to}: {source}; move it away by hand")]
    SetAside { path: PathBuf, to: PathBuf, source: io::Error },
}

/// What a person can do about a file that cannot be written, after a semicolon.
pub(super) fn way_out(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run as root",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space there",
        io::ErrorKind::ReadOnlyFilesystem => "; remount it writable",
        _ => "",
    }
}

impl JournalError {
    /// A failed commit, with how full the file and its file system are.
    pub(super) fn write(path: &Path, what: &'static str, source: rusqlite::Error) -> JournalError {
        let size_kib = std::fs::metadata(path).map_or(0, |m| m.len() / 1024);
        let free_kib = path.parent().and_then(|d| rustix::fs::statvfs(d).ok()).map_or(0, |s| s.f_bavail * s.f_frsize / 1024);
        let way_out = match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => ": free space there, or choose another --state-dir",
            Some(rusqlite::ErrorCode::ReadOnly) => ": it is read-only; remount it, or choose another --state-dir",
            _ => "; devices are left as they are until the journal can be written again",
        };
        JournalError::Write { path: path.into(), what, size_kib, free_kib, way_out, source: Box::new(source) }
    }

    /// The disk (or a quota) under the journal is full.
    pub fn is_full(&self) -> bool {
        match self {
            JournalError::Write { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            JournalError::RestoreFile { source, .. } | JournalError::Directory { source, .. } => {
                source.kind() == io::ErrorKind::StorageFull
            }
            _ => false,
        }
    }
}

/// Something that opening the journal found and survived; said to the person, never fatal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The database was unusable and renamed.
    SetAside { path: PathBuf, to: PathBuf, why: String },
    /// The restore file was unusable; the database has the values.
    RestoreFileTorn { path: PathBuf, why: String },
    /// The restore file knew more than the database: its values are taken.
    RestoreFileAhead { devices: usize },
    /// Neither can say which values were written: nothing will be put back.
    NothingKnown,
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Notice::SetAside { path, to, why } => {
                write!(f, "journal {} is unusable ({why}): set aside as {}, a new one is begun", path.display(), to.display())
            }
            Notice::RestoreFileTorn { path, why } => {
                write!(f, "restore file {} is unusable ({why}): it will be written anew", path.display())
            }
            Notice::RestoreFileAhead { devices } => {
                write!(f, "the restore file is newer than the journal: taking its {devices} device(s) with values to put back")
            }
            Notice::NothingKnown => f.write_str(
                "neither the journal nor the restore file can say which values were changed: nothing is put back; \
                 compare `keepahead devices` with what you expect",
            ),
        }
    }
}
