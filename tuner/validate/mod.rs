// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real half of `keepahead sim validate`: executes scripts on a file system of its own and records the kernel's readahead events.
//! Takes a script, gives a recording; what it sets up it removes. The simulated half and the comparison are in `keepahead-sim`.

mod execute;
mod files;
mod recorder;
mod session;

pub use session::Session;

use std::path::PathBuf;

/// Why nothing could be recorded.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("operation {number} ({op}): {source}")]
    Operation { number: usize, op: String, source: std::io::Error },
    #[error("the recorder needs the readahead tracepoints of Linux 6.18 or later, as root: {0}")]
    Recorder(String),
    #[error("the device for the scripts: {0}")]
    Device(String),
    #[error("operation {number} of the script: {trouble}")]
    Script { number: usize, trouble: keepahead_sim::script::Trouble },
    #[error("{path}: {pages} pages stay in the page cache though nobody uses the file; is somebody else reading it?")]
    NotDropped { path: PathBuf, pages: u64 },
    #[error("{path}: pages {first}..{end} were not read within {seconds} s of I/O")]
    NotSettled { path: PathBuf, first: u64, end: u64, seconds: u64 },
    #[error("disturbed {times} times in a row, last by {by}; try again on a quieter machine")]
    Disturbed { times: u32, by: String },
}
