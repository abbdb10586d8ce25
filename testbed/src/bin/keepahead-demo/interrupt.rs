// SPDX-License-Identifier: MIT OR Apache-2.0
//! SIGINT, SIGTERM and SIGHUP as a flag, looked at twice a second: everything is then cleaned up by dropping it, as at a normal end.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static CAME: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    CAME.store(true, Ordering::Relaxed);
}

pub fn catch() {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does one atomic store, which is async-signal-safe.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

pub fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// An error once a signal came, so that `?` unwinds to the clean-up.
pub fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!came(), "interrupted");
    Ok(())
}

/// A terminal's Ctrl-C ends the workload too, maybe a moment before this process hears of it.
pub fn settle() -> anyhow::Result<()> {
    std::thread::sleep(Duration::from_millis(50));
    check()
}
