// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead restore`: puts back by hand what a killed agent left behind. Takes a state directory and a way to find devices, prints
//! what became of each; refuses while an agent runs, because that one would not know.

use super::Format;
use crate::journal::recover::{self, Knobs};
use crate::journal::{AgentLock, Journal, JournalError, LockError, Notice, Outcome, Restored, RunInfo};
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("output: {0}")]
    Output(#[from] io::Error),
    #[error("{failed} of {all} devices could not be restored; they stay noted for the next try")]
    Failed { failed: usize, all: usize },
    #[error("which values were changed is not known")]
    NothingKnown,
    #[error("{0}: has no value of keepahead's; see `keepahead devices` for the names")]
    NoSuchDevice(String),
}

/// Restores all devices, or the one of that label, bdi or identity.
pub fn run(
    state_dir: &Path,
    device: Option<&str>,
    info: RunInfo,
    knobs: &dyn Knobs,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), RestoreError> {
    let mut said = Said { format, out };
    if !state_dir.is_dir() {
        said.note(&format!("Nothing to restore: there is no {}.", state_dir.display()))?;
        return Ok(());
    }
    let _lock = AgentLock::take(&Journal::lock_path(state_dir))?;
    let restored = match Journal::open(state_dir, info.clone()) {
        Ok((mut journal, notices)) => {
            for notice in &notices {
                said.note(&notice.to_string())?;
            }
            if notices.contains(&Notice::NothingKnown) {
                return Err(RestoreError::NothingKnown);
            }
            let (restored, noted) = journal.restore(device, knobs);
            if let Err(e) = noted.and_then(|()| journal.close()) {
                said.note(&format!("the restoring could not be noted: {e}"))?;
            }
            restored
        }
        Err(e) => without_journal(state_dir, device, &info, knobs, &e, &mut said)?,
    };
    report(state_dir, device, &restored, &mut said)
}

/// Where what becomes of each device is said.
struct Said<'a> {
    format: Format,
    out: &'a mut dyn Write,
}

impl Said<'_> {
    fn note(&mut self, text: &str) -> io::Result<()> {
        match self.format {
            Format::Text => writeln!(self.out, "{text}"),
            Format::Json => writeln!(self.out, "{}", json!({ "record": "note", "text": text })),
        }
    }

    fn restored(&mut self, one: &Restored) -> io::Result<()> {
        match self.format {
            Format::Text => writeln!(self.out, "{one}"),
            Format::Json => writeln!(self.out, "{}", one.json()),
        }
    }
}

/// A journal that cannot be opened (full disk, newer version) is no reason to leave values behind: the restore file has them.
fn without_journal(
    state_dir: &Path,
    device: Option<&str>,
    info: &RunInfo,
    knobs: &dyn Knobs,
    why: &JournalError,
    said: &mut Said<'_>,
) -> io::Result<Vec<Restored>> {
    said.note(&format!("{why}\nrestoring from restore.json alone"))?;
    let mut items = Journal::emergency_restore_file(state_dir);
    items.retain(|o| device.is_none_or(|name| o.is_named(name)));
    Ok(recover::restore(&items, &info.boot_id, knobs))
}

/// Journals that were set aside.
fn damaged(state_dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(state_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.to_string_lossy().contains(".sqlite.damaged-")).collect()
}

fn report(state_dir: &Path, device: Option<&str>, restored: &[Restored], said: &mut Said<'_>) -> Result<(), RestoreError> {
    if restored.is_empty() {
        if let Some(name) = device {
            return Err(RestoreError::NoSuchDevice(name.into()));
        }
        said.note("Nothing to restore: no device has a value of keepahead's.")?;
        for damaged in damaged(state_dir) {
            said.note(&format!(
                "{}: a damaged journal; where restore.json was damaged too, values may be left: compare `keepahead devices`",
                damaged.display()
            ))?;
        }
    }
    for one in restored {
        said.restored(one)?;
    }
    match restored.iter().filter(|r| matches!(r.outcome, Outcome::Failed { .. })).count() {
        0 => Ok(()),
        failed => Err(RestoreError::Failed { failed, all: restored.len() }),
    }
}
