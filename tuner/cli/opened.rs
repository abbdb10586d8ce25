// SPDX-License-Identifier: MIT OR Apache-2.0
//! A journal as the verbs that read it want it: takes a path, gives a read-only connection with the journal's tables, or says what the
//! file is instead.

use crate::journal::{self, JournalError};
use rusqlite::{Connection, ErrorCode};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("journal {path}: is empty: no run of keepahead has written to it")]
    Empty { path: PathBuf },
    #[error("{path}: is no journal of keepahead's: its tables are others")]
    Foreign { path: PathBuf },
    #[error(
        "{path}: is no SQLite database: damaged, or no journal; where it is that of a state directory, `keepahead run` and `restore` set \
         it aside and take the values to put back from restore.json beside it"
    )]
    NoDatabase { path: PathBuf },
}

pub fn open(path: &Path) -> Result<Connection, OpenError> {
    let connection = journal::open_read_only(path).map_err(|e| match e {
        JournalError::Open { source, .. } if source.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            OpenError::NoDatabase { path: path.into() }
        }
        other => other.into(),
    })?;
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let read = |source| JournalError::Read { path: path.into(), source };
    if count("SELECT count(*) FROM sqlite_schema").map_err(read)? == 0 {
        return Err(OpenError::Empty { path: path.into() });
    }
    let ours = "SELECT count(*) FROM sqlite_schema WHERE name IN ('run', 'record', 'release', 'segment', 'input')";
    if count(ours).map_err(read)? < 5 {
        return Err(OpenError::Foreign { path: path.into() });
    }
    Ok(connection)
}
