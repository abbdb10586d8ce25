// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead-sim: the kernel's readahead, page cache and disks in virtual time, workloads and traces that run on them, and the agent's
//! own `step` in the loop.
//!
//! One way round: `scenario` or `trace` → `workload` (what tasks ask for) → `world` (time, tasks, the loop) → `kernel` (what the page
//! cache does about it) → `device` (how long that takes) → `report`. Nothing here reads a clock: equal seeds give equal bytes.

pub mod cache;
pub mod compare;
pub mod device;
pub mod event;
pub mod gate;
pub mod kernel;
pub mod output;
pub mod report;
pub mod scenario;
pub mod script;
pub mod spec;
pub mod sweep;
pub mod trace;
pub mod training;
pub mod workload;
pub mod world;
