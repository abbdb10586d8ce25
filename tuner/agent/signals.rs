// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals as events: blocked for the whole process and read from a signalfd, so that they come between ticks and never inside one.

use crate::actuator::watch::Watch;
use keepahead_core::units::Nanos;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal as Unix};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// What ended the sleep.
pub enum Wake {
    Time,
    /// A knob was written, by whomever.
    Knob,
    /// An order waits on the control socket.
    Order,
    /// SIGTERM, SIGINT or SIGQUIT; SIGHUP where there was a terminal, which has gone then.
    Leave(&'static str),
    /// SIGUSR1: take back the devices that somebody else wrote to.
    TakeBack,
    /// SIGHUP to an agent without a terminal.
    Reload,
}

pub struct Signals {
    fd: SignalFd,
    terminal: bool,
}

impl Signals {
    pub fn block() -> nix::Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Unix::SIGTERM, Unix::SIGINT, Unix::SIGHUP, Unix::SIGQUIT, Unix::SIGUSR1] {
            set.add(signal);
        }
        set.thread_block()?;
        let terminal = std::fs::File::open("/dev/tty").is_ok();
        Ok(Signals { terminal, fd: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    /// Sleeps until `deadline`, a signal, an order, or somebody else's write to a knob, whichever comes first.
    pub fn wait_until(&self, deadline: Nanos, watch: Option<&Watch>, orders: Option<BorrowedFd<'_>>) -> nix::Result<Wake> {
        if let Some(signal) = self.next()? {
            return Ok(signal);
        }
        let left = Duration::from(deadline.since(super::now()));
        // Rounded up: a poll that ends a little early would spin.
        let timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        for fd in [watch.map(AsFd::as_fd), orders].into_iter().flatten() {
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
        let woke = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
        let order = orders.is_some() && woke(fds.len() - 1);
        let written = watch.is_some() && woke(1);
        // A knob's writer is looked for at the next tick as well; an order is looked for only when it is told of.
        let other = match (order, written) {
            (true, _) => Wake::Order,
            (false, true) => Wake::Knob,
            (false, false) => Wake::Time,
        };
        Ok(self.next()?.unwrap_or(other))
    }

    fn next(&self) -> nix::Result<Option<Wake>> {
        let Some(info) = self.fd.read_signal()? else { return Ok(None) };
        let signal = Unix::try_from(info.ssi_signo as i32)?;
        Ok(Some(match signal {
            Unix::SIGUSR1 => Wake::TakeBack,
            Unix::SIGHUP if !self.terminal => Wake::Reload,
            signal => Wake::Leave(signal.as_str()),
        }))
    }
}
