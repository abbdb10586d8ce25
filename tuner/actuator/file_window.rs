// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives open files a readahead window of their own, of any size. Takes descriptors that share the client's open file description.
//!
//! `POSIX_FADV_NORMAL` copies the bdi's `ra_pages` into the open file (`mm/fadvise.c`), and nothing else changes it afterwards. So the
//! knob is set to the window for the few microseconds that the advice takes, and back. It reaches `read(2)` and mappings alike, which
//! `POSIX_FADV_RANDOM` does not (it leaves read-around alone), and needs no help from the client, which `MADV_RANDOM` would. A file of
//! somebody else that is opened in just these microseconds gets the window too, until its next refresh.

use super::error::ActuatorError;
use super::knob::Knob;
use keepahead_core::device::BdiName;
use keepahead_core::units::Kib;
use rustix::fs::Advice;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whoever gives `POSIX_FADV_NORMAL` from another thread holds this meanwhile, or a file may get a window that is meant for another.
static KNOB: Mutex<()> = Mutex::new(());

/// The knobs read what they should while this is held.
pub fn knobs_at_rest() -> MutexGuard<'static, ()> {
    KNOB.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives `files` the window, if their owner is `still` there once it is his turn. `present`: what the knob reads and reads again
/// afterwards. How many files took it.
///
/// # Errors
/// The knob reads something else, cannot be written, or could not be put back.
pub fn give<F: AsFd>(
    knob: &Knob,
    bdi: &BdiName,
    present: Kib,
    window: Kib,
    files: &[F],
    still: impl Fn() -> bool,
) -> Result<usize, ActuatorError> {
    let _swapped = knobs_at_rest();
    if !still() {
        return Ok(0);
    }
    // Even where it was written in part: what stands there then is put back below.
    let written = knob.restore(bdi, present, window);
    let normal = |file: &&F| rustix::fs::fadvise(file, 0, None, Advice::Normal).is_ok();
    let taken = if written.as_ref().is_ok_and(|found| *found == window) { files.iter().filter(normal).count() } else { 0 };
    let found = written?;
    knob.restore(bdi, found, present)?;
    Ok(taken)
}
