// SPDX-License-Identifier: MIT OR Apache-2.0
//! The database file: made, checked before it is trusted, and set aside when it cannot be. Takes a directory, gives a connection and
//! what the database says is outstanding. A damaged journal must never keep the agent from putting values back.

use super::clock;
use super::error::{JournalError, Notice};
use super::restore_file::Ledger;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SCHEMA: &str = concat!(include_str!("schema.sql"), include_str!("known.sql"));
/// Format 1 had no table of what is known.
const FORMAT: i64 = 2;
const SINCE_2: &str = include_str!("known.sql");
/// "keep": marks the file as ours in the header (`file` and SQLite show it).
const APPLICATION_ID: i64 = 0x6b65_6570;

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("journal.sqlite")
}

/// Why a file cannot be used as it is.
enum Unusable {
    Damaged(String),
    Fatal(JournalError),
}

pub(super) struct Opened {
    pub conn: Connection,
    /// What the database, or the readable part of a damaged one, says is outstanding. `None`: it does not say.
    pub ledger: Option<Ledger>,
}

/// Opens the journal of `dir`, or sets a damaged one aside and begins anew.
pub(super) fn open(dir: &Path, notices: &mut Vec<Notice>) -> Result<Opened, JournalError> {
    let path = path(dir);
    let why = match open_whole(&path) {
        Ok(opened) => return Ok(opened),
        Err(Unusable::Fatal(e)) => return Err(e),
        Err(Unusable::Damaged(why)) => why,
    };
    let ledger = salvage(&path);
    let to = set_aside(&path)?;
    notices.push(Notice::SetAside { path: path.clone(), to, why });
    match open_whole(&path) {
        Ok(opened) => Ok(Opened { conn: opened.conn, ledger }),
        Err(Unusable::Fatal(e)) => Err(e),
        Err(Unusable::Damaged(why)) => {
            let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(why));
            Err(JournalError::Open { path, source })
        }
    }
}

fn open_whole(path: &Path) -> Result<Opened, Unusable> {
    check_header(path)?;
    let sort = |e: rusqlite::Error| sort_error(path, e);
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).map_err(sort)?;
    // Until the file is trusted: closing it would otherwise write a log that still lies there into whatever file this is.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sort)?;
    let is_new = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get::<_, i64>(0)).map_err(sort)? == 0;
    if is_new {
        make(&conn).map_err(sort)?;
    } else {
        check(&conn, path)?;
    }
    conn.pragma_update(None, "synchronous", "FULL").map_err(sort)?;
    // A reader that stays long in `history` must not let the log grow without bound once it is gone.
    conn.pragma_update(None, "journal_size_limit", 4 << 20).map_err(sort)?;
    let body: Option<String> = conn.query_row("SELECT body FROM restore", [], |r| r.get(0)).optional().map_err(sort)?;
    let ledger = match body {
        None => None,
        Some(text) => Some(
            Ledger::unseal(text.as_bytes())
                .map_err(|why| Unusable::Damaged(format!("its list of values to restore: {why}")))?,
        ),
    };
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(sort)?;
    Ok(Opened { conn, ledger })
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(Duration::from_secs(2))?;
    Ok(conn)
}

fn make(conn: &Connection) -> rusqlite::Result<()> {
    // Before the first table: afterwards it would need a full VACUUM. Deleted pages can then go back a few at a time.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
    ))?;
    // The schema moves into the database file at once, so that losing the log alone leaves a readable journal.
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Byte 18: the format that writing needs, 1 or 2 (SQLite's file format, 1.3.3). SQLite reads a file of a later one and refuses to write to it, which
/// looks like a read-only disk. To be called without a connection: closing any descriptor of the file drops the process's locks on it.
fn check_header(path: &Path) -> Result<(), Unusable> {
    let mut header = [0; 19];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut header));
    match header[18] {
        format if read.is_ok() && header.starts_with(b"SQLite format 3\0") && format > 2 => {
            Err(Unusable::Damaged(format!("its header says that format {format} is needed to write to it")))
        }
        _ => Ok(()),
    }
}

fn check(conn: &Connection, path: &Path) -> Result<(), Unusable> {
    let sort = |e: rusqlite::Error| sort_error(path, e);
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |r| r.get::<_, i64>(0)).map_err(sort);
    if number("application_id")? != APPLICATION_ID {
        return Err(Unusable::Damaged("it is a database of some other program".into()));
    }
    let found = number("user_version")?;
    if found > FORMAT {
        return Err(Unusable::Fatal(JournalError::Newer { path: path.into(), found, known: FORMAT }));
    }
    let said: String = conn.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(sort)?;
    if said != "ok" {
        return Err(Unusable::Damaged(format!("quick_check: {}", said.replace('\n', " "))));
    }
    if found < FORMAT {
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {SINCE_2} PRAGMA user_version = {FORMAT}; COMMIT;")).map_err(sort)?;
    }
    let wanted = Connection::open_in_memory().and_then(|m| m.execute_batch(SCHEMA).and_then(|()| statements(&m)));
    if statements(conn).map_err(sort)? != wanted.map_err(sort)? {
        return Err(Unusable::Damaged(format!("its tables are not those of format {FORMAT}")));
    }
    Ok(())
}

fn statements(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut q = conn.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")?;
    q.query_map([], |r| r.get(0))?.collect()
}

/// Tells a damaged file from a place where no file would work.
fn sort_error(path: &Path, e: rusqlite::Error) -> Unusable {
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Unusable::Fatal(JournalError::write(path, "the opening of the journal", e)),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::PermissionDenied | ErrorCode::OutOfMemory) => {
            Unusable::Fatal(JournalError::Open { path: path.into(), source: e })
        }
        _ => Unusable::Damaged(e.to_string()),
    }
}

/// The list of values to restore out of a damaged database: its checksum says whether it can be trusted.
fn salvage(path: &Path) -> Option<Ledger> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let body: String = conn.query_row("SELECT body FROM restore", [], |r| r.get(0)).ok()?;
    Ledger::unseal(body.as_bytes()).ok()
}

fn set_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let stamp = clock::utc_now().replace([':', '-'], "");
    let aside = |suffix: &str| PathBuf::from(format!("{}.damaged-{stamp}{suffix}", path.display()));
    for suffix in ["-wal", "-shm", ""] {
        let (from, to) = (PathBuf::from(format!("{}{suffix}", path.display())), aside(suffix));
        match std::fs::rename(&from, &to) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(JournalError::SetAside { path: from, to, source: e });
            }
            _ => {}
        }
    }
    Ok(aside(""))
}

/// Opens a journal for reading only, also while the agent writes, also on a read-only file system.
pub fn open_read_only(path: &Path) -> Result<Connection, JournalError> {
    let opened = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(probe).or_else(|e| {
        // Without its -shm file a WAL database can be read only as immutable, where nothing else can write it.
        let cannot = matches!(e.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly));
        if cannot && is_at_rest(path) { immutable(path) } else { Err(e) }
    });
    of_known_format(path, opened)
}

/// The same, and where no agent runs no file (`-wal`, `-shm`) is left beside it. For a quick look: an agent that starts meanwhile is not noticed.
pub(super) fn glance(path: &Path) -> Result<Connection, JournalError> {
    if !is_at_rest(path) {
        return open_read_only(path);
    }
    of_known_format(path, immutable(path))
}

/// Whether all that was written is in the file itself.
fn is_at_rest(path: &Path) -> bool {
    !Path::new(&format!("{}-wal", path.display())).exists()
}

fn immutable(path: &Path) -> rusqlite::Result<(Connection, i64)> {
    let uri =
        format!("file:{}?immutable=1", path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23"));
    Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).and_then(probe)
}

/// The connection, if it can be read, and the format.
fn probe(conn: Connection) -> rusqlite::Result<(Connection, i64)> {
    let format = conn.pragma_query_value(None, "user_version", |r| r.get::<_, i64>(0))?;
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok((conn, format))
}

fn of_known_format(path: &Path, opened: rusqlite::Result<(Connection, i64)>) -> Result<Connection, JournalError> {
    if !path.exists() {
        return Err(JournalError::Absent { path: path.into() });
    }
    match opened.map_err(|source| JournalError::Open { path: path.into(), source })? {
        (_, found) if found > FORMAT => Err(JournalError::Newer { path: path.into(), found, known: FORMAT }),
        (conn, _) => Ok(conn),
    }
}
