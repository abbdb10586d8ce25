// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripts on this kernel. One at a time (see the Makefile): the tests share the page cache.
#![cfg(feature = "ebpf")]

#[path = "validate/real_kernel.rs"]
mod real_kernel;
