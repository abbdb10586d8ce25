// SPDX-License-Identifier: MIT OR Apache-2.0
//! Placeholder until branch models is merged.
use keepahead_core::{features::Features, units::Kib};
pub const VERSION: u32 = 0;
pub const NAMES: [&str; 14] = ["demand","mmap_share","read_long_share","mmap_long_share","read_run","mmap_run","read_continues","request","hit_ratio","accuracy","unused","stall_share","window","kib"];
pub fn vector(f: &Features, kib: Kib) -> [f64; 14] {
    [f.demand,f.mmap_share,f.read_long_share,f.mmap_long_share,f.read_run,f.mmap_run,f.read_continues,f.request,f.hit_ratio,f.accuracy,f.unused,f.stall_share,f.window,f64::from(kib.0)]
}
