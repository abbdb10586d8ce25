// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the agent leaves, in order or not: originals are back afterwards, and every device's fate is said.

use super::{Agent, Plan};
use crate::cli::{Exit, Refused};
use crate::journal::{Outcome, boot_id, recover};
use keepahead_core::event::Input;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, Ordering};

/// Another thread than the agent's own has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

impl Agent {
    /// Ends what runs, puts the originals back, says what became of each device.
    pub(super) fn leave(mut self) -> anyhow::Result<Exit> {
        let printed = self.feed(Input::Stop { now: super::now() });
        let Some(hands) = self.hands.take() else { return printed.map(|()| Exit::Ok) };
        let restored = hands.leave(&self.state);
        let printed = restored.iter().fold(printed, |printed, one| printed.and(self.say_restored(one)));
        match restored.iter().filter(|r| matches!(r.outcome, Outcome::Failed { .. })).count() {
            0 if PANICKED.load(Ordering::Relaxed) => {
                Err(Refused::new(Exit::Failure, "a thread of keepahead panicked, so it has left; please report what it said")
                    .into())
            }
            0 => printed.map(|()| Exit::Ok),
            failed => {
                Err(Refused::new(Exit::Failure, format!("{failed} values could not be put back; run `keepahead restore`"))
                    .into())
            }
        }
    }

    fn say_restored(&self, one: &recover::Restored) -> anyhow::Result<()> {
        match self.plan.format {
            crate::cli::Format::Text => crate::cli::output::text(&format!("{one}\n")),
            crate::cli::Format::Json => crate::cli::output::json_line(&one.json()),
        }
    }
}

/// A panic between two ticks must not leave a value behind: the restore file has all that is needed, without locks or database. On another
/// thread than this, the agent's own, it is no reason for haste: the agent leaves in order, windows of open files included, and fails.
pub fn on_panic(plan: &Plan) {
    if plan.dry_run {
        return;
    }
    let (state_dir, before, own) = (plan.state_dir.clone(), std::panic::take_hook(), std::thread::current().id());
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if std::thread::current().id() != own {
            PANICKED.store(true, Ordering::Relaxed);
            let _ = kill(Pid::this(), Signal::SIGTERM);
            return;
        }
        for restored in put_back(&state_dir) {
            eprintln!("keepahead: after the panic: {restored}");
        }
    }));
}

fn put_back(state_dir: &std::path::Path) -> Vec<recover::Restored> {
    recover::emergency(state_dir, std::path::Path::new("/sys"), &boot_id(std::path::Path::new("/proc")))
}

/// Tests of the panic hook need a panic with a value of ours on a device, `at` a write or a call of the socket; only debug builds listen.
pub fn panic_if_asked(at: &str) {
    if cfg!(debug_assertions) && std::env::var_os("KEEPAHEAD_TEST_PANIC").is_some_and(|asked| asked == at) {
        panic!("asked for by KEEPAHEAD_TEST_PANIC");
    }
}
