// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: one file a verb.

pub mod devices;

/// Text for people on a terminal, JSON lines for machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}
