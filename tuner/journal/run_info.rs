// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which run of the agent writes: on what kernel and boot, with which settings, so that a story can be read years later.

use super::clock;
use super::tape::Retention;
use rusqlite::{Connection, params};
use std::path::Path;

#[derive(Clone, Debug)]
pub struct RunInfo {
    pub version: String,
    pub kernel: String,
    /// A new one each boot: values in sysfs of another boot are not ours.
    pub boot_id: String,
    pub pid: u32,
    /// The effective settings, as JSON.
    pub settings: String,
    pub retention: Retention,
}

impl RunInfo {
    /// This process, on the machine under `proc` (`/proc`). What cannot be read is "unknown": no reason not to run.
    pub fn here(proc: &Path, settings: String, retention: Retention) -> RunInfo {
        RunInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: read(proc, "osrelease"),
            boot_id: boot_id(proc),
            pid: std::process::id(),
            settings,
            retention,
        }
    }

    pub(super) fn insert(&self, conn: &Connection) -> rusqlite::Result<i64> {
        conn.execute(
            "INSERT INTO run (started_utc, boot_id, pid, version, kernel, settings) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![clock::utc_now(), self.boot_id, self.pid, self.version, self.kernel, self.settings],
        )?;
        Ok(conn.last_insert_rowid())
    }
}

/// See [`RunInfo::boot_id`].
pub fn boot_id(proc: &Path) -> String {
    read(proc, "random/boot_id")
}

fn read(proc: &Path, name: &str) -> String {
    std::fs::read_to_string(proc.join("sys/kernel").join(name)).map_or("unknown".into(), |text| text.trim().to_string())
}
