// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who else writes a knob: fanotify on both sysfs files of each tunable bdi. Events carry the writer's pid.
//!
//! It sees writes by user space to the files. `blockdev --setra` (an ioctl) and the kernel's own recomputations make no event:
//! the compare of values, done at every tick and before every write, finds those, without a name.

use super::capability::{self, Capability};
use super::error::ActuatorError;
use keepahead_core::device::BdiName;
use keepahead_core::event::Writer;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

/// Watches the knobs of the bdis added to it.
pub struct Watch {
    fanotify: Fanotify,
    /// Real path of each marked file (events name files by it) to the bdi.
    files: HashMap<PathBuf, BdiName>,
    sys: PathBuf,
    me: i32,
}

impl Watch {
    /// Needs `CAP_SYS_ADMIN` (unprivileged fanotify, Linux 5.13 and later, gives no pid of others).
    pub fn new(sys: impl Into<PathBuf>) -> Result<Watch, ActuatorError> {
        if let Some(missing) = capability::effective().and_then(|caps| capability::missing(caps, &[Capability::SysAdmin])) {
            return Err(ActuatorError::Capability { what: "naming who else writes read_ahead_kb", missing });
        }
        let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let fanotify =
            Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC).map_err(ActuatorError::Fanotify)?;
        let me = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        Ok(Watch { fanotify, files: HashMap::new(), sys: sys.into(), me })
    }

    /// Starts to watch a bdi: its own file, and its queue's where it has one (two inodes, one value).
    pub fn add(&mut self, bdi: &BdiName) -> Result<(), ActuatorError> {
        let own = self.sys.join("class/bdi").join(&bdi.0).join("read_ahead_kb");
        let queue = self.sys.join("dev/block").join(&bdi.0).join("queue/read_ahead_kb");
        let own = fs::canonicalize(&own).map_err(|e| ActuatorError::knob(bdi, own, e))?;
        self.mark(own, bdi)?;
        match fs::canonicalize(queue) {
            Ok(queue) => self.mark(queue, bdi),
            Err(_) => Ok(()),
        }
    }

    fn mark(&mut self, file: PathBuf, bdi: &BdiName) -> Result<(), ActuatorError> {
        self.fanotify
            .mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_MODIFY, AT_FDCWD, Some(&file))
            .map_err(ActuatorError::Fanotify)?;
        self.files.insert(file, bdi.clone());
        Ok(())
    }

    /// Stops to watch a bdi, there or gone.
    pub fn remove(&mut self, bdi: &BdiName) {
        let files: Vec<PathBuf> = self.files.iter().filter(|(_, b)| *b == bdi).map(|(file, _)| file.clone()).collect();
        for file in files {
            // The mark went with the file where the device is gone.
            let _ = self.fanotify.mark(MarkFlags::FAN_MARK_REMOVE, MaskFlags::FAN_MODIFY, AT_FDCWD, Some(&file));
            self.files.remove(&file);
        }
    }

    /// The writes by others since the last call, in order. Never blocks.
    pub fn drain(&mut self) -> Vec<(BdiName, Writer)> {
        let mut writers = Vec::new();
        loop {
            match self.fanotify.read_events() {
                Ok(events) => {
                    for event in &events {
                        let Some(fd) = event.fd() else { continue };
                        if event.pid() == self.me {
                            continue;
                        }
                        let file = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
                        if let Some(bdi) = self.files.get(&file) {
                            writers.push((bdi.clone(), writer(event.pid())));
                        }
                    }
                }
                Err(Errno::EINTR) => {}
                // EAGAIN: nothing left. Anything else loses names only: the compare of values goes on.
                Err(_) => return writers,
            }
        }
    }
}

fn writer(pid: i32) -> Writer {
    let comm = match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(comm) => comm.trim_end().to_owned(),
        Err(_) => "a process that has exited".to_owned(),
    };
    Writer { pid: u32::try_from(pid).unwrap_or(0), comm }
}

impl AsFd for Watch {
    /// Readable when somebody wrote: polled, so that the writer is still there to be named.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fanotify.as_fd()
    }
}
