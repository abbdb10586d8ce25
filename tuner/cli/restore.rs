// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead restore`: puts back by hand what a killed agent left behind. Takes a state directory and a way to find devices, prints
//! what became of each; refuses while an agent runs, because that one would not know.

use super::Format;
use crate::journal::recover::{self, Knobs};
use crate::journal::{AgentLock, Journal, JournalError, LockError, Notice, Outcome, Restored, RunInfo};
use keepahead_core::device::BdiName;
use keepahead_core::units::Kib;
use serde_json::json;
use std::collections::BTreeMap;
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
    #[error(
        "there is no record of changed values in {}: whether a device has a value of keepahead's is not known. {}; `keepahead devices` shows the \
         present values",
        .0.display(), elsewhere(.0)
    )]
    NoRecord(PathBuf),
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
    let lock = Journal::lock_path(state_dir);
    // Before anything is made there: a new journal would know of nothing, and the next `restore` believe it.
    if !has_record(state_dir) {
        // An agent that has just begun.
        if lock.exists() {
            AgentLock::take(&lock)?;
        }
        return Err(RestoreError::NoRecord(state_dir.into()));
    }
    let _lock = AgentLock::take(&lock)?;
    let (restored, kept) = match Journal::open(state_dir, info.clone()) {
        Ok((mut journal, notices)) => {
            for notice in &notices {
                said.note(&notice.to_string())?;
            }
            if notices.contains(&Notice::NothingKnown) {
                return Err(RestoreError::NothingKnown);
            }
            let (restored, noted) = journal.restore(device, knobs);
            // Before the journal is closed: a reader that is the last leaves files beside it.
            let kept = kept(state_dir, device, &info.boot_id, knobs).unwrap_or_default();
            if let Err(e) = noted.and_then(|()| journal.close()) {
                said.note(&format!("the restoring could not be noted: {e}"))?;
            }
            (restored, kept)
        }
        Err(e) => (without_journal(state_dir, device, &info, knobs, &e, &mut said)?, Vec::new()),
    };
    report(state_dir, device, &restored, &kept, &mut said)
}

/// Where the record may be instead.
fn elsewhere(state_dir: &Path) -> String {
    match crate::agent::other_state_dir(state_dir).filter(|dir| has_record(dir)) {
        Some(dir) => format!("The last keepahead on this machine had another state directory: --state-dir {}", dir.display()),
        None => {
            "If it ran with another state directory, name that (--state-dir, or --config FILE for its agent.state_dir)".into()
        }
    }
}

/// Whether a run has left a journal or a restore file, readable or not.
fn has_record(state_dir: &Path) -> bool {
    let journal = Journal::path(state_dir);
    let log = PathBuf::from(format!("{}-wal", journal.display()));
    [journal, log, state_dir.join("restore.json")].iter().any(|file| match file.metadata() {
        Ok(found) => found.len() > 0,
        Err(e) => !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    })
}

/// A value that `on_exit = "keep"` has left in this boot and that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    label: String,
    bdi: BdiName,
    value: Kib,
    before: Kib,
}

/// As far as the journal can be read: this is told beside the restoring and never fails it.
fn kept(state_dir: &Path, device: Option<&str>, boot_id: &str, knobs: &dyn Knobs) -> Option<Vec<Kept>> {
    let connection = super::opened::open(&Journal::path(state_dir)).ok()?;
    let sql = "SELECT identity, bdi, label, original_kib, last_written_kib, how FROM release JOIN run USING (run) \
               WHERE run.boot_id = ?1 ORDER BY release.id";
    let mut query = connection.prepare(sql).ok()?;
    let mut rows = query.query([boot_id]).ok()?;
    let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
    while let Some(row) = rows.next().ok()? {
        let read = || -> rusqlite::Result<(String, Kept, String)> {
            let (bdi, label) = (BdiName(row.get(1)?), row.get(2)?);
            Ok((row.get(0)?, Kept { label, bdi, before: Kib(row.get(3)?), value: Kib(row.get(4)?) }, row.get(5)?))
        };
        let (identity, mut one, how) = read().ok()?;
        match how.as_str() {
            "kept_on_exit" => {
                // Of a value that was kept twice, what was there before the first.
                if let Some(earlier) = kept.get(&identity).filter(|earlier| earlier.value == one.before) {
                    one.before = earlier.before;
                }
                kept.insert(identity, one);
            }
            // A later run has found the kept value and put it back.
            "restored" => {}
            _ => _ = kept.remove(&identity),
        }
    }
    let still_there = |(identity, one): (String, Kept)| {
        let named = device.is_none_or(|name| [&one.label, &one.bdi.0, &identity].iter().any(|n| *n == name));
        let bdi = knobs.find(&identity, &one.bdi).filter(|_| named && one.value != one.before)?;
        (knobs.read(&bdi).ok()? == one.value).then_some(Kept { bdi, ..one })
    };
    Some(kept.into_iter().filter_map(still_there).collect())
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

fn report(
    state_dir: &Path,
    device: Option<&str>,
    restored: &[Restored],
    kept: &[Kept],
    said: &mut Said<'_>,
) -> Result<(), RestoreError> {
    for Kept { label, bdi, value, before } in kept {
        said.note(&format!(
            "{label}: kept on purpose at {value} by `on_exit = \"keep\"`; write {before} back by hand: \
             echo {} > /sys/class/bdi/{}/read_ahead_kb",
            before.0, bdi.0
        ))?;
    }
    if restored.is_empty() {
        if let Some(name) = device.filter(|_| kept.is_empty()) {
            return Err(RestoreError::NoSuchDevice(name.into()));
        }
        let but = if kept.is_empty() { "" } else { " but what was kept on purpose" };
        said.note(&format!("Nothing to restore: no device has a value of keepahead's{but}."))?;
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
