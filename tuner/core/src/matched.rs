// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two spans of the same workload under two values, compared at matched load: what would the old span's load have cost at the
//! new span's rates? (A Laspeyres index; a workload that runs faster asks for more pages, so totals mean nothing.)
//!
//! Load through `read(2)` is counted in demanded pages. Load through mappings is counted in the time that the faulting tasks spent
//! between faults: pages that fault-around has mapped are touched without any event, so the number of visible faults itself
//! depends on the window (up to 16 pages are mapped by one fault, `fault_around_bytes`, `mm/memory.c`), while the computation
//! between two faults does not. What the kernel may take of that time is added for each run and page that is seen ([`RUN_NS`]): where a program does next to
//! nothing between its faults, what is left there is noise, and the number of places that it went to is all there is to go by. In long runs the pages between two
//! faults are known to be touched, and the pages are counted there too: a scan waits for nearly all of its time, and what lies
//! between its faults is for the most part the kernel's work for them.
//!
//! What a load costs is what tasks lose to reading: the time asleep for a page, and the time that the kernel works before, on allocating the window,
//! making room for it and submitting it. A task that faults at random under 128 KiB, in a group that has used up its memory, loses 200 µs a fault to that on a virtual
//! machine, and sleeps for 110 (Linux 6.18, 250 MB/s). Without it blocks of RocksDB's lookups under 16 KiB, which got nearly twice as far, waited 0.8 times as long.

use crate::features::Features;
use crate::sample::Counters;
use crate::window::Span;

/// Time lost below this share of the old span's time is nothing: keeps ratios of two near-zero stalls from meaning something.
pub(crate) const STALL_FLOOR: f64 = 0.005;

/// Work that each demanded page stands for at least, ns: reading its 4 KiB takes half of that to all of it.
const PAGE_NS: u64 = 1_000;

/// The same of each run, a single fault being one: what the kernel, and a hypervisor below it, may take between two faults of a program that does
/// next to nothing there. On a virtual machine that was 6 to 14 µs, more of it under larger windows, and it moved by half within seconds. Without
/// this, blocks of random faults under one value spread by 0.18 at 4 KiB and by 0.29 at 128; with it, by 0.13 and 0.24. More would hide the
/// work of programs that do 30 µs of it for each fault, as databases do. Not for each fault: a smaller window has more of them in the same run.
const RUN_NS: u64 = 5_000;

/// Share of mapped pages in long runs from which they are the load.
const LONG: f64 = 0.9;

/// The new span against the old one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// ln(stall and fill per matched load, new / old); below 0 is better.
    pub log_stall: f64,
    /// Hit ratio, new - old, at matched load; above 0 is better.
    pub hit_change: f64,
    /// Variance of the new span's hit ratio by chance alone, for as few pages as it demanded.
    pub hit_variance: f64,
    /// Share of the old span's demand that came through mappings, 0 to 1.
    pub mapped: f64,
}

/// One way of reading: its load, the time lost to it, and the share of its demanded pages that somebody waited for.
struct Way {
    load: f64,
    lost: f64,
    demanded: f64,
    waited: f64,
}

fn ways(c: &Counters, scan: bool) -> [Way; 2] {
    let way = |load: u64, lost: u64, demanded: u64, waits: u64| {
        let (load, lost, demanded) = (load as f64, lost as f64, demanded as f64);
        Way { load, lost, demanded, waited: if demanded > 0.0 { (waits as f64 / demanded).min(1.0) } else { 0.0 } }
    };
    [
        way(c.read_pages, c.read_stall_ns + c.read_fill_ns, c.read_pages, c.read_miss + c.read_late),
        way(
            if scan { c.mmap_pages } else { c.mmap_think_ns + c.mmap_pages * PAGE_NS + c.mmap_runs() * RUN_NS },
            c.mmap_stall_ns + c.mmap_fill_ns,
            c.mmap_pages,
            c.mmap_miss + c.mmap_late,
        ),
    ]
}

/// `None` where one span lacks a way of reading that matters in the other: then no load is matched.
pub fn compare(new: &Span, old: &Span) -> Option<Comparison> {
    let (mut lost_new, mut lost_old, mut waited_new, mut waited_old, mut demanded) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let (mut skipped, mut all) = (0.0, 0.0);
    let scan = [new, old].iter().all(|span| Features::of(span).mmap_long_share >= LONG);
    let (new_ways, old_ways) = (ways(&new.counters, scan), ways(&old.counters, scan));
    for (n, o) in new_ways.iter().zip(&old_ways) {
        all += n.lost + o.lost;
        if n.load > 0.0 && o.load > 0.0 {
            lost_new += n.lost * o.load / n.load;
            lost_old += o.lost;
            waited_new += n.waited * o.demanded;
            waited_old += o.waited * o.demanded;
            demanded += o.demanded;
        } else {
            skipped += n.lost + o.lost;
        }
    }
    if skipped > 0.2 * all || old.seconds <= 0.0 || demanded <= 0.0 {
        return None;
    }
    let floor = STALL_FLOOR * old.seconds * 1e9;
    Some(Comparison {
        log_stall: ((lost_new + floor) / (lost_old + floor)).ln(),
        hit_change: (waited_old - waited_new) / demanded,
        hit_variance: hit_variance(&new_ways),
        mapped: old_ways[1].demanded / demanded,
    })
}

/// Of a binomial share, with one hit and one miss more than were seen: two misses of two prove nothing.
fn hit_variance(ways: &[Way]) -> f64 {
    let demanded = ways.iter().map(|way| way.demanded).sum::<f64>() + 2.0;
    let waited = ways.iter().map(|way| way.waited * way.demanded).sum::<f64>() + 1.0;
    let share = waited / demanded;
    share * (1.0 - share) / demanded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reads(pages: u64, stall_ms: u64, miss: u64) -> Span {
        let counters =
            Counters { read_pages: pages, read_stall_ns: stall_ms * 1_000_000, read_miss: miss, ..Counters::default() };
        Span { seconds: 1.0, counters }
    }

    #[test]
    fn a_faster_run_with_the_same_total_stall_is_better() {
        let c = compare(&reads(4000, 900, 100), &reads(1000, 900, 100)).unwrap();
        assert!((c.log_stall.exp() - 0.25).abs() < 0.01, "{c:?}");
        assert!((c.hit_change - 0.075).abs() < 1e-9, "{c:?}");
    }

    #[test]
    fn mapped_load_is_matched_by_time_between_faults() {
        let span = |think, stall, faults| Span {
            seconds: 1.0,
            counters: Counters {
                mmap_think_ns: think,
                mmap_stall_ns: stall,
                faults,
                mmap_pages: faults,
                mmap_miss: faults,
                mmap_run_hist: std::array::from_fn(|slot| if slot == 0 { faults } else { 0 }),
                ..Counters::default()
            },
        };
        // Same work, a third of the visible faults, half the stall: better, though stall per fault rose.
        let c = compare(&span(10_000_000, 400_000_000, 100), &span(10_000_000, 800_000_000, 300)).unwrap();
        assert!(c.log_stall < -0.58 && c.mapped == 1.0, "{c:?}");
        // Where next to nothing is done between faults, these are the work, and not the noise of what is seen between them.
        let c = compare(&span(4_000, 400_000_000, 300), &span(2_000, 400_000_000, 400)).unwrap();
        assert!((c.log_stall - (400.0f64 / 300.0).ln()).abs() < 0.03, "{c:?}");
    }

    #[test]
    fn what_the_kernel_works_for_a_window_is_lost_like_the_wait_for_it() {
        // RocksDB's lookups on a device of 250 MB/s in memory, 0.4 s under 16 KiB and under 128: nearly twice as many pages, by the sleep alone no gain.
        let span = |demanded: u64, think_ms: u64, stall_ms: u64, fill_ms: u64| Span {
            seconds: 0.4,
            counters: Counters {
                faults: demanded,
                mmap_pages: demanded,
                mmap_think_ns: think_ms * 1_000_000,
                mmap_stall_ns: stall_ms * 1_000_000,
                mmap_fill_ns: fill_ms * 1_000_000,
                mmap_run_hist: std::array::from_fn(|slot| if slot == 0 { demanded } else { 0 }),
                ..Counters::default()
            },
        };
        let ratio = |new: Span, old: Span| compare(&new, &old).unwrap().log_stall.exp();
        let (whole, asleep) = (
            ratio(span(3300, 136, 160, 96), span(1700, 100, 112, 184)),
            ratio(span(3300, 136, 160, 0), span(1700, 100, 112, 0)),
        );
        assert!((whole - 0.61).abs() < 0.01 && asleep > 0.95, "{whole}, {asleep}");
    }

    #[test]
    fn more_faults_in_the_same_runs_are_no_more_work() {
        // A thousand runs of 32 pages under two windows: the smaller one's faults are four times as many.
        let span = |faults: u64| Span {
            seconds: 1.0,
            counters: Counters {
                faults,
                seq_faults: faults - 1000,
                mmap_pages: 32_000,
                mmap_think_ns: 16_000_000,
                mmap_stall_ns: 400_000_000,
                mmap_run_hist: std::array::from_fn(|slot| if slot == 5 { 1000 } else { 0 }),
                ..Counters::default()
            },
        };
        let c = compare(&span(8000), &span(2000)).unwrap();
        assert!(c.log_stall.abs() < 0.01, "{}", c.log_stall);
    }

    #[test]
    fn what_a_virtual_machine_takes_between_two_faults_is_hardly_work() {
        let span = |think_us: u64| Span {
            seconds: 0.4,
            counters: Counters {
                faults: 1300,
                mmap_pages: 1300,
                mmap_think_ns: 1300 * think_us * 1000,
                mmap_stall_ns: 365_000_000,
                mmap_run_hist: std::array::from_fn(|slot| if slot == 0 { 1300 } else { 0 }),
                ..Counters::default()
            },
        };
        let c = compare(&span(6), &span(14)).unwrap();
        assert!(c.log_stall > 0.0 && c.log_stall < 0.6, "{}", c.log_stall);
    }

    #[test]
    fn a_mapped_scan_is_matched_by_its_pages() {
        // 128 against 512 KiB on a volume that answers after 3 ms: 77 and 148 MB/s. Between the faults lies little but the kernel's work.
        let span = |seconds, pages, stall_ms: u64, think_ms: u64| {
            let (mmap_stall_ns, mmap_think_ns) = (stall_ms * 1_000_000, think_ms * 1_000_000);
            Span {
                seconds,
                counters: Counters {
                    mmap_pages: pages,
                    faults: pages / 32,
                    mmap_stall_ns,
                    mmap_think_ns,
                    ..Counters::default()
                },
            }
        };
        let c = compare(&span(0.4, 15_104, 386, 11), &span(3.0, 58_752, 2925, 75)).unwrap();
        assert!((c.log_stall.exp() - 0.51).abs() < 0.01, "{}", c.log_stall.exp());
    }

    #[test]
    fn a_way_of_reading_that_vanished_cannot_be_matched() {
        let mapped = Span {
            seconds: 1.0,
            counters: Counters { mmap_think_ns: 9, mmap_stall_ns: 900_000_000, mmap_pages: 9, ..Counters::default() },
        };
        assert_eq!(compare(&reads(1000, 900, 100), &mapped), None);
    }

    proptest! {
        #[test]
        fn a_span_compared_with_itself_is_equal(pages in 1u64..1_000_000, stall in 0u64..1000, miss in 0u64..1000) {
            let span = reads(pages, stall, miss.min(pages));
            let c = compare(&span, &span).unwrap();
            prop_assert!(c.log_stall.abs() < 1e-9 && c.hit_change.abs() < 1e-9);
        }

        #[test]
        fn scaling_the_new_load_changes_nothing(pages in 1000u64..10_000, stall in 10u64..900, factor in 1u64..50) {
            let old = reads(pages, 500, 100);
            let (a, b) = (reads(pages, stall, 50), reads(pages * factor, stall * factor, 50 * factor));
            let (a, b) = (compare(&a, &old).unwrap(), compare(&b, &old).unwrap());
            prop_assert!((a.log_stall - b.log_stall).abs() < 1e-6 && (a.hit_change - b.hit_change).abs() < 1e-6);
        }
    }
}
