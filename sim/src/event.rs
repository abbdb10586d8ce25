// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel's tracepoints would say about what the simulated kernel does. Recorded from a real kernel and from the simulator,
//! two lists of these are compared one by one (`script`).
//!
//! Source of the fields: `include/trace/events/readahead.h` and `filemap.h` of Linux 6.18. Pages are 4 KiB, indices count pages.

use serde::{Deserialize, Serialize};

/// `struct file_ra_state` (`include/linux/fs.h`): what an open file remembers of its last readahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaState {
    pub start: u64,
    pub size: u32,
    pub async_size: u32,
    /// Largest window, copied from the bdi at `open(2)` and by advice only.
    pub ra_pages: u32,
    /// Order of the folios of the last window (since 6.16).
    pub order: u8,
    pub mmap_miss: u16,
    /// Byte after the last read; -1 before the first.
    pub prev_pos: i64,
}

/// One event of one file. `file` counts the files of a world or script from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// `page_cache_sync_ra`: a demand miss; `ra` is the state before the decision.
    SyncRa { file: u32, index: u64, req_count: u64, ra: RaState },
    /// `page_cache_async_ra`: the marker was reached; `ra` is the state before the decision.
    AsyncRa { file: u32, index: u64, req_count: u64, ra: RaState },
    /// `page_cache_ra_order`: the window that was chosen.
    RaOrder { file: u32, index: u64, order: u8, size: u32, async_size: u32, ra_pages: u32 },
    /// `page_cache_ra_unbounded`: pages asked for one by one.
    RaUnbounded { file: u32, index: u64, nr_to_read: u64, lookahead: u64 },
    /// `mm_filemap_add_to_page_cache`: a folio of `1 << order` pages.
    Add { file: u32, index: u64, order: u8 },
    /// `mm_filemap_delete_from_page_cache`.
    Delete { file: u32, index: u64, order: u8 },
    /// `mm_filemap_fault`: a fault that fault-around did not answer.
    Fault { file: u32, index: u64 },
    /// `mm_filemap_map_pages`: fault-around mapped pages of this window, both ends included.
    MapPages { file: u32, first: u64, last: u64 },
}
