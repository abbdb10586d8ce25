// SPDX-License-Identifier: MIT OR Apache-2.0
//! The actuator against this kernel. One at a time (see the Makefile): the tests share the machine's devices.

#[path = "actuator/real_kernel.rs"]
mod real_kernel;
