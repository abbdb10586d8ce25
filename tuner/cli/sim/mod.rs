// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim …`: the simulator's verbs, a file each.

#[cfg(feature = "ebpf")]
pub mod validate;
