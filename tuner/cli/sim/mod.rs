// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim …`: the simulator's verbs, a file each.

pub mod calibrate;
#[cfg(feature = "ebpf")]
pub mod validate;
