// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead: closed-loop adaptive readahead for Linux. This library is everything that touches the world; what decides is in
//! `keepahead-core` and `keepahead-policies`, which are pure. What touches the kernel exists on Linux only.

#[cfg(target_os = "linux")]
pub mod actuator;
#[cfg(target_os = "linux")]
pub mod agent;
#[cfg(target_os = "linux")]
pub mod calibrate;
pub mod cli;
#[cfg(target_os = "linux")]
pub mod config;
#[cfg(target_os = "linux")]
pub mod control;
#[cfg(target_os = "linux")]
pub mod journal;
pub mod policy;
#[cfg(all(target_os = "linux", feature = "ebpf"))]
pub mod record;
#[cfg(target_os = "linux")]
pub mod sensor;
#[cfg(all(target_os = "linux", feature = "ebpf"))]
pub mod validate;
