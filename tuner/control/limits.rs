// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one client, and all together, may take of the daemon. Fixed numbers, so that the protocol's reference can state them; the
//! memory for prefetched data alone is a matter of the configuration (`control.budget_mib`).

pub use keepahead_client::frame::{MESSAGE_BYTES, MESSAGE_FDS};
use std::time::Duration;

/// Files of a workload that can have a window of their own; one with more is a stream of files, for which a plan does more.
pub const FILES_WITH_WINDOW: usize = 256;
/// Beyond this a message counts as large, and a user may have only so many of those under way at once.
pub const LARGE_MESSAGE: usize = 16 << 10;
pub const LARGE_MESSAGES_PER_USER: usize = 32;
/// Connections in all, and of one user other than root.
pub const CONNECTIONS: usize = 16_384;
pub const CONNECTIONS_PER_USER: usize = 4_096;
/// Workloads of one connection, and in all.
pub const WORKLOADS_PER_CLIENT: usize = 16;
pub const WORKLOADS: usize = 4_096;
/// Files of one workload; all together may take three quarters of the process's descriptors.
pub const FILES_PER_WORKLOAD: usize = 65_536;
/// Ranges of one workload's plan that still lie ahead, and of all: 56 bytes each.
pub const RANGES_PER_WORKLOAD: usize = 262_144;
pub const RANGES: usize = 2_097_152;
/// Ranges of one call of `Prefetch` or `Discard`, which is answered when it is done.
pub const RANGES_AT_ONCE: usize = 4_096;
/// Regions of one workload: as many as the sensor counts apart in one file.
pub const REGIONS_PER_WORKLOAD: usize = crate::sensor::FILE_PARTS;
/// A wait for orders is answered with none after this, so that either side notices where the other hangs.
pub const ORDERS_WAIT: Duration = Duration::from_secs(20);
/// Characters of a workload's name.
pub const NAME_CHARS: usize = 64;
/// A message that has begun must be complete, and a reply be taken, within this.
pub const STALLED: Duration = Duration::from_secs(10);
/// The agent answers an order within this: a tick with a scan of open files can take a second.
pub const AGENT_ANSWERS: Duration = Duration::from_secs(15);
/// Records kept for `History` and `Trials`.
pub const RECORDS: usize = 512;
