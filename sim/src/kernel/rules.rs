// SPDX-License-Identifier: MIT OR Apache-2.0
//! What kernels and file systems do differently about readahead, as flags that the algorithm asks. Read in the sources of 5.10, 6.1,
//! 6.12 and 7.x (`mm/readahead.c`, `mm/filemap.c`); 6.18 is settled by events recorded from it.

use crate::spec::{FileSystem, Generation};
use keepahead_core::units::Nanos;

/// Highest order of a page-cache folio: a huge page of 2 MiB.
pub const MAX_ORDER: u8 = 9;

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub generation: Generation,
    /// Readahead for marker hits and misses is one function that also takes a miss at the end of the window as sequential, and
    /// merges a window that would hit its own marker with the next one (before 6.10).
    pub one_function: bool,
    /// A window is never smaller than the one before it, also where the limit has fallen since (5.18 and later).
    pub never_shrinks: bool,
    /// A read that reaches a page boundary at or beyond the end of the file still looks for that page: it is added and read (5.10).
    pub reads_beyond_end: bool,
    /// The order of folios is kept in the file's state, windows end aligned to it, and a fallback reads only what is left of the
    /// window (6.16 and later).
    pub order_in_state: bool,
    /// No marker in a window that reaches the end of the file (7.x).
    pub no_marker_at_eof: bool,
    /// Folios of two pages do not exist (before 6.8).
    pub no_order_one: bool,
    /// Windows below four pages are read page by page (before 6.16).
    pub small_by_page: bool,
    /// `page_cache_next_miss` gives a page beyond the range where it found no hole (6.6 and later), else the last one within.
    pub next_miss_beyond: bool,
    /// `page_cache_prev_miss` gives the page before the range where it found no hole (7.x), else the first one within.
    pub prev_miss_beyond: bool,
    /// `prev_pos` follows every copied folio, not the end of the whole read (6.1).
    pub prev_pos_by_folio: bool,
    /// Fault-around and faults map the whole large folio, not 16 pages of it (6.18 and later).
    pub maps_whole_folio: bool,
    /// Fault-around makes no page table for the last folio of a file.
    pub no_table_at_eof: bool,
    /// Only a fault that fault-around answers takes one off `mmap_miss` (7.x); before, every page it finds does.
    pub miss_by_fault: bool,
    /// A refaulted page found by fault-around does not take from `mmap_miss` (6.12 and later).
    pub miss_spares_workingset: bool,
    /// A page still being read does not take from `mmap_miss` when a fault finds it (6.18 and later).
    pub miss_spares_locked: bool,
    /// References through `MADV_RANDOM` mappings and `NOREUSE` files do not count for recency (6.3; `MADV_SEQUENTIAL` never did).
    pub advice_drops_recency: bool,
    /// Reclaim goes by statistics of memory cgroups that are brought up to date every two seconds only (6.12 and later; before, it
    /// did that itself each time).
    pub stats_period: Nanos,
}

impl Rules {
    pub const fn of(generation: Generation) -> Rules {
        use Generation::*;
        let rank = generation as u8;
        Rules {
            generation,
            one_function: rank < V6_12 as u8,
            never_shrinks: rank >= V6_1 as u8,
            reads_beyond_end: rank < V6_1 as u8,
            order_in_state: rank >= V6_18 as u8,
            no_marker_at_eof: rank >= V7_2 as u8,
            no_order_one: rank < V6_12 as u8,
            small_by_page: rank < V6_18 as u8,
            next_miss_beyond: rank >= V6_6 as u8,
            prev_miss_beyond: rank >= V7_2 as u8,
            prev_pos_by_folio: matches!(generation, V6_1),
            maps_whole_folio: rank >= V6_18 as u8,
            no_table_at_eof: rank >= V6_12 as u8,
            miss_by_fault: rank >= V7_2 as u8,
            miss_spares_workingset: rank >= V6_12 as u8,
            miss_spares_locked: rank >= V6_18 as u8,
            advice_drops_recency: rank >= V6_6 as u8,
            stats_period: if rank >= V6_12 as u8 { Nanos::from_secs(2) } else { Nanos(0) },
        }
    }

    /// Whether the file system's page cache takes large folios: XFS since 5.18, NFS since 6.11, ext4 since 6.16, btrfs by default
    /// since 7.x.
    pub const fn large_folios(&self, filesystem: FileSystem) -> bool {
        let rank = self.generation as u8;
        match filesystem {
            FileSystem::Xfs => rank >= Generation::V6_1 as u8,
            FileSystem::Nfs => rank >= Generation::V6_12 as u8,
            FileSystem::Ext4 => rank >= Generation::V6_18 as u8,
            FileSystem::Btrfs => rank >= Generation::V7_2 as u8,
        }
    }
}
