// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures a block device and makes a simulator profile of it: takes a device and a time, gives what was measured, the profile, and
//! what the profile's model does in the same situations. Reads only, with direct I/O, and not for longer than it was told.

mod fit;
mod probe;
mod target;

pub use fit::{compare, fit};
pub use probe::{PLAN, Point, Spot, measure};
pub use target::Target;

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    #[error("{0} is no block device; name a whole disk or a partition, such as /dev/nvme0n1")]
    NotBlock(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: reading {bytes} bytes at {offset} with direct I/O: {source}")]
    Read { path: PathBuf, offset: u64, bytes: u64, source: io::Error },
    #[error("{path} has {bytes} bytes: too small to measure, it takes at least {least}")]
    TooSmall { path: PathBuf, bytes: u64, least: u64 },
    #[error("{path}: no read of {bytes} bytes ended within {seconds} s; give it more time with --seconds")]
    TooSlow { path: PathBuf, bytes: u64, seconds: f64 },
    #[error("what was measured makes no profile: {0}")]
    Profile(#[from] keepahead_sim::device::ProfileError),
}
