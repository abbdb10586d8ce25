// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Span` in, `Features` out: named ratios in a fixed order. Keeps no state.
//!
//! Features describe what the programs ask for (and so should not move with the knob), plus how well the present value serves
//! them. None identifies a run: no time, inode, pid or offset.

use crate::event::Evidence;
use crate::sample::{Hist, ratio};
use crate::units::{PAGE_BYTES, mib};
use crate::window::Span;
use serde::{Deserialize, Serialize};

/// Raised whenever a feature is added, removed, reordered or changes its meaning.
pub const VERSION: u32 = 4;

/// Runs of at least 2^6 pages (256 KiB) count as long: from there on a window of the default size pays.
const LONG_RUN_SLOT: usize = 6;
/// From so many pages on, 256 KiB, a run is long.
pub const LONG_RUN: f64 = (1 << LONG_RUN_SLOT) as f64;
/// Share of pages in runs that were not cut, from which the others say nothing.
const KNOWN_LEAST: f64 = 0.2;
/// Time waited per second from which somebody is kept waiting, and by how much less demand such a device is idle: at 8 MiB of readahead and
/// 150 MB/s random faults get 18 pages a second, at 64 MiB two.
const KEPT_WAITING: f64 = 0.5;
const SLOWED: f64 = 25.0;

/// Fields that a record of an older version lacks are read as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// Pages demanded a second.
    pub demand: f64,
    /// Share of the stall (of the demand, where nobody waited) that came through mappings, 0 to 1.
    pub mmap_share: f64,
    /// Share of read pages in runs of 64 pages and more, 0 to 1.
    pub read_long_share: f64,
    /// Share of pages demanded by faults in runs of 64 pages and more, 0 to 1.
    pub mmap_long_share: f64,
    /// Mean run of `read(2)`, pages.
    pub read_run: f64,
    /// Mean run of faults, pages.
    pub mmap_run: f64,
    /// Share of read requests that continue the one before, 0 to 1.
    pub read_continues: f64,
    /// Mean read request, pages.
    pub request: f64,
    /// Hits per demanded page, 0 to 1; 1 where nothing was demanded.
    pub hit_ratio: f64,
    /// Speculative pages used per page retired, 0 to 1; 1 where none retired.
    pub accuracy: f64,
    /// Speculative pages left unused per speculative page added, 0 to 1.
    pub unused: f64,
    /// Time waited per second, summed over tasks.
    pub stall_share: f64,
    /// Mean readahead window, pages.
    pub window: f64,
    /// Share of windows from files with an old `ra_pages`, 0 to 1.
    pub stale_share: f64,
    /// Pages that were still being read when they were demanded, per demanded page, 0 to 1.
    pub late_share: f64,
    /// Hits that no readahead explains, per demanded page, 0 to 1: what the cache holds anyway.
    pub reuse: f64,
    /// Time waited per demanded MiB, ms.
    pub stall_ms_per_mib: f64,
    /// Speculative pages evicted unused, per demanded page: what the memory has no room for.
    pub evicted: f64,
    /// Median distance of the jumps between runs in one file, pages; 0 where there was none.
    pub jump: f64,
    /// Share of demanded pages that came through mappings, 0 to 1: who asks, where `mmap_share` says who waits.
    pub mapped_demand: f64,
    /// Mean latency of the device's reads, µs.
    pub device_latency_us: f64,
    /// Mean size of the device's reads, KiB.
    pub device_request_kib: f64,
    /// What the device delivered, MiB/s.
    pub device_mib_per_s: f64,
    /// Share of requests and faults that are for another file than their task's last one, 0 to 1: streams that one task reads in turn.
    pub turns: f64,
}

impl Features {
    pub fn of(span: &Span) -> Features {
        let c = &span.counters;
        let share = |part: u64, whole: u64| ratio(part, whole).unwrap_or(0.0).min(1.0);
        let mean = |sum: u64, count: u64| ratio(sum, count.max(1)).unwrap_or(0.0);
        let mmap_share = match c.stall_ns() {
            0 => share(c.mmap_pages, c.demanded()),
            stall => share(c.mmap_stall_ns, stall),
        };
        let reads = Runs::known(c.read_pages, c.read_requests.saturating_sub(c.seq_requests), c.read_cuts, c.read_cut_pages);
        let faults = Runs::known(c.mmap_pages, c.mmap_runs(), c.mmap_cuts, c.mmap_cut_pages);
        Features {
            demand: span.per_second(c.demanded()),
            mmap_share,
            read_long_share: reads.long_share(&c.read_run_hist),
            mmap_long_share: faults.long_share(&c.mmap_run_hist),
            read_run: mean(reads.pages, reads.count),
            mmap_run: mean(faults.pages, faults.count),
            read_continues: share(c.seq_requests, c.read_requests),
            request: mean(c.read_pages, c.read_requests),
            hit_ratio: c.hit_ratio().unwrap_or(1.0),
            accuracy: c.accuracy().unwrap_or(1.0),
            unused: share(c.spec_added.saturating_sub(c.spec_used), c.spec_added),
            stall_share: span.per_second(c.stall_ns()) / 1e9,
            window: mean(c.window_pages, c.windows),
            stale_share: share(c.stale_windows, c.windows),
            late_share: share(c.read_late + c.mmap_late, c.demanded()),
            reuse: share(c.hits().saturating_sub(c.spec_used.saturating_sub(c.spec_used_late)), c.demanded()),
            stall_ms_per_mib: mean(c.stall_ns(), c.demanded() * PAGE_BYTES) * 1024.0 * 1024.0 / 1e6,
            evicted: mean(c.spec_evicted, c.demanded()),
            jump: median(&c.jump_hist),
            mapped_demand: share(c.mmap_pages, c.demanded()),
            device_latency_us: mean(c.dev_read_ns, c.dev_reads) / 1e3,
            device_request_kib: mean(c.dev_read_bytes, c.dev_reads) / 1024.0,
            device_mib_per_s: mib(span.per_second(c.dev_read_bytes)),
            turns: share(c.read_turns + c.mmap_turns, c.read_requests + c.faults),
        }
    }

    /// Whether too little is read for a value to matter: fewer than `min_demand` pages a second. Where somebody is kept waiting, little demand is
    /// what a bad value looks like, and a 25th of that is enough.
    pub fn is_idle(&self, min_demand: f64) -> bool {
        self.demand < if self.stall_share < KEPT_WAITING { min_demand } else { min_demand / SLOWED }
    }

    /// Share of pages in long runs, over both ways to read, weighted by where the waiting is.
    pub fn long_share(&self) -> f64 {
        self.mmap_share * self.mmap_long_share + (1.0 - self.mmap_share) * self.read_long_share
    }

    /// Mean run, pages, of the way to read that waits most.
    pub fn run(&self) -> f64 {
        if self.mmap_share > 0.5 { self.mmap_run } else { self.read_run }
    }
}

/// Runs of one way to read.
struct Runs {
    pages: u64,
    /// How many began.
    count: u64,
    /// Of the pages, those in runs that were cut, where these count as ended.
    cut: u64,
}

impl Runs {
    /// Without those that were cut, as they are no sample of the others' lengths: whoever takes turns with more files than are followed is cut
    /// after each turn. But where hardly any other is left, they ended: lookups in hundreds of files leave none.
    fn known(pages: u64, count: u64, cuts: u64, cut_pages: u64) -> Runs {
        let rest = pages.saturating_sub(cut_pages);
        if rest as f64 >= KNOWN_LEAST * pages as f64 {
            Runs { pages: rest, count: count.saturating_sub(cuts), cut: 0 }
        } else {
            Runs { pages, count, cut: cut_pages }
        }
    }

    /// Share of pages that is not accounted for by ended runs below the long ones. A long run that has not ended yet is in no slot.
    fn long_share(&self, ended: &Hist) -> f64 {
        // Slot n holds [2^n, 2^(n+1)): 1.5 × 2^n on average, but slot 0 holds runs of exactly one page.
        let short: f64 = (0..LONG_RUN_SLOT).map(|n| ended[n] as f64 * if n == 0 { 1.0 } else { 1.5 * f64::from(1 << n) }).sum();
        let pages = self.pages as f64;
        if self.pages == 0 { 0.0 } else { (1.0 - (short + self.cut as f64) / pages).clamp(0.0, 1.0) }
    }
}

/// Middle of the slot that holds the median; 0 for an empty histogram.
fn median(hist: &Hist) -> f64 {
    let total: u64 = hist.iter().sum();
    let mut below = 0;
    for (slot, count) in hist.iter().enumerate() {
        below += count;
        if total > 0 && 2 * below >= total {
            return if slot == 0 { 1.0 } else { 1.5 * (1u64 << slot) as f64 };
        }
    }
    0.0
}

/// The figures that a person wants to see beside a decision.
pub fn evidence(span: &Span) -> Evidence {
    let (c, f) = (&span.counters, Features::of(span));
    let demanded_mib = mib((c.demanded() * PAGE_BYTES) as f64);
    let uncached = (c.read_miss + c.mmap_miss + c.spec_used) * PAGE_BYTES;
    Evidence {
        seconds: span.seconds,
        demanded_mib_per_s: if span.seconds > 0.0 { demanded_mib / span.seconds } else { 0.0 },
        hit_ratio: c.hit_ratio(),
        accuracy: c.accuracy(),
        coverage: c.coverage(),
        timeliness: c.timeliness(),
        waste_mib_per_s: mib(span.per_second(c.spec_evicted * PAGE_BYTES)),
        // What a workload's files read is not seen at the disk.
        amplification: (c.dev_read_bytes > 0).then(|| ratio(c.dev_read_bytes, uncached)).flatten(),
        stall_ms_per_mib: (demanded_mib > 0.0).then(|| c.stall_ns() as f64 / 1e6 / demanded_mib),
        fill_ms_per_mib: (demanded_mib > 0.0 && c.fill_ns() > 0).then(|| c.fill_ns() as f64 / 1e6 / demanded_mib),
        stall_share: f.stall_share,
        run_pages: f.run(),
        mmap_share: f.mmap_share,
        stale_share: f.stale_share,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Counters;

    #[test]
    fn an_unfinished_long_run_is_long_and_short_runs_are_short() {
        let scan = Counters { read_requests: 100, seq_requests: 100, read_pages: 3200, ..Counters::default() };
        assert_eq!(Features::of(&Span { seconds: 1.0, counters: scan }).read_long_share, 1.0);

        let mut runs = Counters { read_requests: 800, seq_requests: 700, read_pages: 800, ..Counters::default() };
        runs.read_run_hist[3] = 100;
        let f = Features::of(&Span { seconds: 1.0, counters: runs });
        assert_eq!((f.read_run, f.read_long_share), (8.0, 0.0));
    }

    #[test]
    fn runs_that_were_cut_say_nothing_of_the_others_unless_they_are_nearly_all() {
        let of = |c: Counters| {
            let f = Features::of(&Span { seconds: 1.0, counters: c });
            (f.read_long_share, f.read_run)
        };
        // A merge: half of the streams are followed from end to end, the others cut after each request of 4 pages.
        let merge = Counters { read_requests: 500, seq_requests: 248, read_pages: 2000, ..Counters::default() };
        assert_eq!(of(Counters { read_cuts: 250, read_cut_pages: 1000, ..merge }), (1.0, 500.0));
        // Lookups: a tenth return to a file that is still followed and end a run, all others cut one.
        let mut lookups =
            Counters { read_requests: 500, read_pages: 500, read_cuts: 450, read_cut_pages: 450, ..Counters::default() };
        lookups.read_run_hist[0] = 50;
        assert_eq!(of(lookups), (0.0, 1.0));
    }

    #[test]
    fn little_demand_is_rest_only_where_nobody_waits() {
        let f = |demand, stall_share| Features { demand, stall_share, ..Features::default() };
        assert!(f(24.0, 0.4).is_idle(25.0) && !f(25.0, 0.0).is_idle(25.0));
        assert!(!f(2.3, 1.0).is_idle(25.0) && f(0.9, 1.0).is_idle(25.0));
    }

    #[test]
    fn hits_that_readahead_does_not_explain_are_reuse() {
        let c = Counters {
            read_pages: 1000,
            read_miss: 100,
            read_late: 50,
            spec_used: 650,
            spec_used_late: 50,
            read_stall_ns: 4_000_000,
            ..Counters::default()
        };
        let f = Features::of(&Span { seconds: 1.0, counters: c });
        assert_eq!((f.late_share, f.reuse), (0.05, 0.25));
        assert!((f.stall_ms_per_mib - 1.024).abs() < 1e-9, "4 ms over 1000 pages: {}", f.stall_ms_per_mib);
    }

    #[test]
    fn the_median_jump_is_in_the_middle_of_its_slot() {
        let mut c = Counters::default();
        assert_eq!(Features::of(&Span { seconds: 1.0, counters: c }).jump, 0.0);
        (c.jump_hist[2], c.jump_hist[10]) = (4, 5);
        assert_eq!(Features::of(&Span { seconds: 1.0, counters: c }).jump, 1536.0);
    }

    #[test]
    fn features_of_an_older_version_are_still_read() {
        let mut old = serde_json::to_value(Features { demand: 7.0, ..Features::default() }).unwrap();
        old.as_object_mut().unwrap().retain(|name, _| !name.starts_with("device_"));
        assert_eq!(serde_json::from_value::<Features>(old).unwrap().demand, 7.0);
    }

    #[test]
    fn the_way_to_read_that_waits_decides_the_share() {
        let c = Counters { read_pages: 1000, mmap_pages: 10, mmap_stall_ns: 900, read_stall_ns: 100, ..Counters::default() };
        assert_eq!(Features::of(&Span { seconds: 1.0, counters: c }).mmap_share, 0.9);
    }
}
