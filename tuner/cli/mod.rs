// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verbs of the command line, one file each: they take parsed arguments and a place to print, and give what the exit code needs.

pub mod history;
pub mod replay;
pub mod restore;
mod story;
