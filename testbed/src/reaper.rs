// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes a testbed down when its program cannot: Ctrl-C, SIGTERM, `kill -9`, an abort. A shell waits for the end of a pipe that only
//! that program holds open; no signal handler has to be installed in the benches and tests that set up a testbed.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = include_str!("reaper.sh");

/// Sent home when dropped; drop it after the directory is gone.
pub struct Reaper(Child);

impl Reaper {
    pub fn start(dir: &Path, late: bool, groups: &[PathBuf]) -> io::Result<Reaper> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "keepahead-testbed-reaper"]).arg(dir).arg(if late { "late" } else { "prompt" }).args(groups);
        // A terminal's Ctrl-C goes to the whole foreground group, which must not include this.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Reaper(shell.spawn()?))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
