// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sensor against this kernel. One at a time (see the Makefile): the tests share the page cache.
#![cfg(feature = "ebpf")]

#[path = "sensor/bed.rs"]
mod bed;
#[path = "sensor/real_kernel.rs"]
mod real_kernel;
