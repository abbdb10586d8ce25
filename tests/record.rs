// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead record` against this kernel. One at a time (see the Makefile): the tests share the page cache.
#![cfg(feature = "ebpf")]

#[path = "record/bed.rs"]
mod bed;
#[path = "record/real_kernel.rs"]
mod real_kernel;
