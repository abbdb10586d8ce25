// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long work under a watching eye: a bar where standard error is a terminal, and Ctrl-C, which ends runs at their next virtual second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keepahead_core::units::Nanos;
use keepahead_sim::world::Watch;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Looks on at all runs of a command at once.
pub struct Progress {
    stop: Arc<AtomicBool>,
    bar: ProgressBar,
}

impl Progress {
    /// `seconds`: virtual seconds of all runs together, where known.
    pub fn new(seconds: Option<u64>) -> anyhow::Result<Progress> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal asks, a second one ends the program on the spot (128 + the signal's number).
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())?;
            signal_hook::flag::register(signal, stop.clone())?;
        }
        // Draws nothing where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(seconds, ProgressDrawTarget::stderr_with_hz(5));
        bar.set_style(match seconds {
            Some(_) => ProgressStyle::with_template("{bar:40} {pos}/{len} simulated s, {eta} left")?,
            None => ProgressStyle::with_template("{spinner} {pos} simulated s")?,
        });
        Ok(Progress { stop, bar })
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Watch for Progress {
    fn stop(&self) -> bool {
        self.stopped()
    }
    fn progress(&self, _now: Nanos) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
