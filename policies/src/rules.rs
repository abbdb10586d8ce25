// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rule policy: the baseline that learned policies must beat.
//!
//! It names the access pattern from demand alone, takes from it the direction that pays, and climbs: a step of four, then of two
//! where four went too far, then the other direction. Each step is a trial; what a trial rejected is not tried again while the
//! pattern lasts.

use crate::tenants::tenants;
use keepahead_core::event::{Outcome, Pattern, Proposal};
use keepahead_core::features::{Features, LONG_RUN};
use keepahead_core::policy::{Context, Decision, Policy, Tried};
use keepahead_core::units::Kib;

/// Share of pages in long runs from which a stream counts as sequential, and up to which it counts as short or random.
const LONG: f64 = 0.7;
const SHORT: f64 = 0.4;
/// Requests that continue the previous one: below this, reads are single requests at random places.
const CONTINUES: f64 = 0.25;
/// Mean run of faults up to which mapped access is random, pages.
const RANDOM_RUN: f64 = 2.0;
/// First value to try for random faults on more than a page, and nothing smaller is tried: one I/O of 16 KiB costs about what one of 4 KiB
/// does on any device in use (RocksDB's lookups on the testbed: 6.4 thousand a second at 8 as at 16 KiB, 3.3 at 4).
pub(crate) const SMALLEST: Kib = Kib(16);
/// Mean run of faults, pages, up to which each is for a single page. What is read beside it is not asked for, and takes the place of pages
/// that are: mapped lookups with a hot set do 134 MB/s at 4 KiB and 91 at 16, once the cache has turned over.
pub(crate) const SINGLE: f64 = 1.2;
const PAGE: Kib = Kib(4);
/// Share of the time spent waiting below which readers have a pace of their own; a scan at the device's bandwidth does little else.
const PACED: f64 = 0.5;
/// Share of requests for another file than the last, from which a task reads several in turn.
const ALONE: f64 = 0.1;
/// Pages read ahead that are evicted unused, per demanded page, from which they take the place of others.
const PUSHES_OUT: f64 = 0.5;
/// From here on a value was set by somebody, or by what the device says of itself, and a step of four may not be enough.
const INHERITED: Kib = Kib(4096);
/// A stall ratio this close to 1 is flat: a smaller step in the same direction has nothing to offer.
const FLAT: f64 = 0.05;

#[derive(Clone, Copy, Debug, Default)]
pub struct Rules;

impl Policy for Rules {
    fn name(&self) -> &'static str {
        "rules-1"
    }

    fn decide(&self, context: &Context) -> Decision {
        let f = context.features;
        let pattern = classify(f, context.min_demand);
        let abstain = |reason: &str| Decision::Abstain { pattern, reason: reason.into() };
        match pattern {
            Pattern::Idle => return abstain("too little is read"),
            // Measured: amplification 1.00 to 1.15 at 128 and at 4096 KiB alike.
            Pattern::RandomRead => return abstain("random read(2) does not depend on read_ahead_kb"),
            _ if f.stall_share < context.min_stall_share => return abstain("hardly anybody waits: nothing to gain"),
            _ if reads_nothing_ahead(f) => return abstain(NOTHING_AHEAD),
            _ => {}
        }
        match candidates(pattern, f, context)
            .into_iter()
            .find(|c| worth_trying(*c, context) && !beyond_worse(pattern, f, *c, context))
        {
            Some(to) => Decision::Propose(propose(pattern, f, context.current, to)),
            None => Decision::Settled { pattern },
        }
    }
}

pub(crate) const NOTHING_AHEAD: &str = "nothing is read ahead for these faults, so read_ahead_kb changes nothing: MADV_RANDOM, or the kernel found that none of it was used";

/// Whether faults miss and no window is read for them: the mapping is advised random, or the file's count of misses has passed the kernel's
/// limit (`MMAP_LOTSAMISS`, `do_sync_mmap_readahead`, `mm/filemap.c`).
pub(crate) fn reads_nothing_ahead(f: &Features) -> bool {
    f.mmap_share > 0.5 && f.window == 0.0 && f.hit_ratio < 1.0
}

/// Names the pattern. Only from what is asked for, so that it does not move with the knob.
pub fn classify(f: &Features, min_demand: f64) -> Pattern {
    let mapped = f.mmap_share > 0.5;
    let long = if mapped { f.mmap_long_share } else { f.read_long_share };
    if f.is_idle(min_demand) {
        Pattern::Idle
    } else if f.mmap_share > 0.2 && f.mmap_share < 0.8 && (f.mmap_long_share - f.read_long_share).abs() > 0.5 {
        Pattern::Mixed
    } else if long >= LONG {
        Pattern::Sequential
    } else if long > SHORT {
        Pattern::Mixed
    } else if mapped && f.mmap_run < RANDOM_RUN {
        Pattern::RandomMmap
    } else if !mapped && f.read_continues < CONTINUES {
        Pattern::RandomRead
    } else {
        Pattern::ShortRuns
    }
}

/// Values to try, best first.
fn candidates(pattern: Pattern, f: &Features, context: &Context) -> Vec<Kib> {
    let now = context.current.floor_power_of_two();
    let ceiling = context.ceiling.floor_power_of_two();
    let up = |factor: u32| Kib(now.0.saturating_mul(factor)).min(ceiling);
    let down = |factor: u32| Kib(now.0 / factor).min(ceiling).max(context.floor.max(SMALLEST.min(now)));
    // What is used of a window, where that is less than a quarter: stepping down to it fills the cache on the way with what hides the gain.
    let used = Kib((f64::from(now.0) * (1.0 - f.unused)).ceil() as u32);
    let used = Kib(used.0.next_power_of_two()).clamp(SMALLEST.min(down(4)), down(4));
    match pattern {
        // What does not fit in memory now fits no better if it is larger.
        Pattern::Sequential if thrashes(f) && now >= INHERITED => vec![used, down(4), down(2), down(16)],
        Pattern::Sequential if thrashes(f) => vec![used, down(4), down(2)],
        // Long runs, and yet most of what is read ahead is left unused: somebody else on the device pays for the window (lookups beside
        // compaction).
        Pattern::Sequential if f.unused > 0.5 => vec![used, down(4), down(2), up(4), up(2)],
        Pattern::Sequential => {
            // Up to its own size a request is read at once whatever the window is (`mm/readahead.c`), so a window that is not larger
            // than two of them cannot work ahead, and its neighbours look just like it.
            let two_requests = Kib((f.request * 8.0).min(f64::from(ceiling.0)) as u32).floor_power_of_two();
            let mut steps = vec![up(4).max(two_requests), up(2)];
            // A reader at a pace of its own waits where the device is busy otherwise (a log's flushes): a window is of no use before it is
            // longer than that, and then no wait is left. Where a scan waits for the device's bandwidth there is nothing beyond a plateau.
            if is_paced(f) {
                steps.insert(0, up(64));
            }
            // Inherited megabytes can be past the optimum too (NFS: 15360 KiB advised, 1024 measured best).
            if now >= INHERITED {
                steps.extend([down(4), down(16), down(2)]);
            }
            steps
        }
        // If 4 KiB is worse, only the first page of each run was seen to fault: then it is a search among short runs, from above.
        Pattern::RandomMmap if f.mmap_run < SINGLE && now > PAGE => vec![PAGE.max(context.floor), down(2), down(4), SMALLEST],
        Pattern::RandomMmap if now > SMALLEST => vec![SMALLEST, down(4), down(2)],
        // A large window hides the second page of each place, so that a page was tried: at 4 KiB it is seen.
        Pattern::RandomMmap if is_too_small(f, now) => vec![SMALLEST.min(ceiling)],
        Pattern::RandomMmap => vec![],
        _ if cuts_runs(f, now) => vec![up(2), up(4), used, down(4), down(2)],
        // Mixed and short runs: what is behind the end of a run is evicted unused whatever memory there is.
        _ if f.unused > 0.5 => vec![used, down(4), down(2), up(4), up(2)],
        _ => vec![up(4), up(2), down(4), down(2)],
    }
}

/// Whether a memory too small for all of them makes long runs' windows push each other out: each uses all that is read for it, if it is still
/// there. (24 streams at 1 MiB read 136 to 180 MB/s when their memory fell to 40 MiB, and 200 again at 256 KiB.) Not of mappings: half of a
/// window lies behind the fault, and is not used where a file is read backwards.
pub(crate) fn thrashes(f: &Features) -> bool {
    f.mmap_share.max(f.mapped_demand) <= 0.5 && f.evicted > PUSHES_OUT
}

/// Random faults on more than a page at each place, under a window that is smaller than what is worth an I/O of its own.
pub(crate) fn is_too_small(f: &Features, now: Kib) -> bool {
    now < SMALLEST && f.mmap_run >= SINGLE
}

/// A single reader with a pace of its own. Of streams that one task reads in turn each would get a window of that size (48 were tried at 16 MiB, and
/// the harm made the trial rarer that was needed when their memory shrank).
pub(crate) fn is_paced(f: &Features) -> bool {
    f.stall_share < PACED && f.run() >= LONG_RUN && f.turns < ALONE
}

/// Whether runs of faults are cut in two: half of a mapped window lies behind the fault (`do_sync_mmap_readahead`, `mm/filemap.c`), so
/// one that holds less than two runs, and a quarter more because they vary, is too small although most of it is left unused (77 % at
/// two runs). Not where what is unused pushes out what is used: there a smaller window may be worth two faults a run.
pub(crate) fn cuts_runs(f: &Features, now: Kib) -> bool {
    let holds = now.floor_power_of_two().pages() as f64;
    f.mmap_share > 0.5 && f.mmap_run >= RANDOM_RUN && f.evicted < PUSHES_OUT && holds < 2.5 * f.mmap_run
}

/// Not tried yet, not the present value, and not a half step where the full step already showed that nothing changes.
fn worth_trying(candidate: Kib, context: &Context) -> bool {
    let now = context.current.floor_power_of_two();
    if candidate == context.current || candidate < context.floor || context.is_tried(candidate) {
        return false;
    }
    let full = if candidate > now { Kib(now.0.saturating_mul(4)) } else { Kib(now.0 / 4) };
    let half = candidate.0 == now.0.saturating_mul(2) || candidate.0 == now.0 / 2;
    match context.tried.get(&full) {
        Some(tried) if half => tried.outcome == Outcome::Aborted || tried.stall_ratio.is_none_or(|r| (r - 1.0).abs() > FLAT),
        _ => true,
    }
}

/// Whether a larger window than this was worse for a scan already: what is too small for it is so in every smaller size.
fn beyond_worse(pattern: Pattern, f: &Features, candidate: Kib, context: &Context) -> bool {
    let worse = |tried: &Tried| tried.outcome == Outcome::Aborted || tried.stall_ratio.is_some_and(|r| r > 1.0 + FLAT);
    // Where windows are wasted now, what was too small then may not be; where they are evicted, not far below it.
    let again = f.unused > 0.5 || thrashes(f) && candidate.0 >= context.current.0 / 4;
    pattern == Pattern::Sequential
        && !again
        && candidate < context.current
        && context.tried.range(candidate..context.current).any(|(_, tried)| worse(tried))
}

/// Of long runs, which use all that is read for them sooner or later.
fn why_less(f: &Features) -> String {
    if thrashes(f) {
        format!("{:.1} pages that were read ahead are evicted unused for each one demanded", f.evicted)
    } else if f.unused > 0.5 {
        format!("{:.0} % of what was read ahead meanwhile is not used yet", f.unused * 100.0)
    } else {
        "a window this large may be past the optimum".into()
    }
}

fn propose(pattern: Pattern, f: &Features, from: Kib, to: Kib) -> Proposal {
    let factor = f64::from(to.0) / f64::from(from.0.max(1));
    let direction = if to > from { "raise" } else { "lower" };
    let (expected_stall_ratio, confidence, why) = match pattern {
        Pattern::Sequential if to < from => (0.9, f.long_share(), why_less(f)),
        // Until the bandwidth-delay product is covered each doubling halves the waits; half of the way is a fair guess.
        Pattern::Sequential => (
            factor.powf(-0.5),
            f.long_share(),
            format!("{:.0} % of pages are in runs of 256 KiB or more", f.long_share() * 100.0),
        ),
        Pattern::RandomMmap if to > from => {
            (0.9, 1.0 - f.mmap_long_share, format!("runs of {:.1} pages, and each page is a fault of its own", f.mmap_run))
        }
        Pattern::RandomMmap => (
            factor.powf(0.5),
            1.0 - f.mmap_long_share,
            format!("each random fault reads {:.0} KiB to use one page", f.window * 4.0),
        ),
        _ => (
            factor.powf(0.25).min(0.9),
            0.5,
            format!("runs of {:.0} pages; {:.0} % of what was read ahead meanwhile is not used yet", f.run(), f.unused * 100.0),
        ),
    };
    let two = match tenants(f, |part| Some(classify(part, 0.0))) {
        Some([reads, faults]) => format!("; two patterns, {reads} and {faults}"),
        None => String::new(),
    };
    Proposal { read_ahead: to, pattern, expected_stall_ratio, confidence, reason: format!("{direction}: {why}{two}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn sequential() -> Features {
        Features {
            demand: 30_000.0,
            read_long_share: 1.0,
            read_run: 1e5,
            read_continues: 1.0,
            stall_share: 0.8,
            ..Features::default()
        }
    }

    fn decide(features: &Features, current: u32, tried: &[(u32, Outcome, Option<f64>)]) -> Decision {
        let tried: BTreeMap<Kib, Tried> = tried
            .iter()
            .map(|(kib, outcome, stall_ratio)| (Kib(*kib), Tried { outcome: *outcome, stall_ratio: *stall_ratio }))
            .collect();
        Rules.decide(&Context {
            features,
            current: Kib(current),
            tried: &tried,
            known: &BTreeMap::new(),
            floor: Kib(4),
            ceiling: Kib(16384),
            min_demand: 25.0,
            min_stall_share: 0.02,
            whole: true,
        })
    }

    fn proposed(decision: Decision) -> Option<u32> {
        match decision {
            Decision::Propose(p) => Some(p.read_ahead.0),
            _ => None,
        }
    }

    #[test]
    fn the_three_regimes_are_told_apart() {
        let random_read = Features { demand: 1000.0, read_run: 1.0, request: 1.0, stall_share: 0.9, ..Features::default() };
        assert!(matches!(decide(&random_read, 128, &[]), Decision::Abstain { pattern: Pattern::RandomRead, .. }));
        let random_mmap =
            Features { demand: 1000.0, mmap_share: 1.0, mmap_run: 1.1, stall_share: 0.9, window: 512.0, ..Features::default() };
        assert_eq!(proposed(decide(&random_mmap, 2048, &[])), Some(4));
        let advised = Features { window: 0.0, hit_ratio: 0.3, ..random_mmap };
        assert!(matches!(decide(&advised, 2048, &[]), Decision::Abstain { pattern: Pattern::RandomMmap, .. }), "MADV_RANDOM");
        let blocks = Features { mmap_run: 1.9, ..random_mmap };
        assert_eq!(proposed(decide(&blocks, 2048, &[])), Some(16));
        // Seen only where the large window that hid it is gone.
        let at_a_page = Features { window: 1.0, ..blocks };
        let up = decide(&at_a_page, 4, &[]);
        assert!(
            matches!(&up, Decision::Propose(p) if p.expected_stall_ratio < 1.0 && p.reason.starts_with("raise: runs of 1.9 pages"))
        );
        assert_eq!(proposed(up), Some(16));
        assert_eq!(proposed(decide(&Features { window: 1.0, ..random_mmap }, 4, &[])), None);
        assert_eq!(proposed(decide(&sequential(), 128, &[])), Some(512));
        let runs = Features { read_run: 8.0, read_continues: 0.87, read_long_share: 0.0, unused: 0.6, ..sequential() };
        assert_eq!(proposed(decide(&runs, 128, &[])), Some(32));
    }

    #[test]
    fn nothing_is_proposed_where_nobody_waits() {
        let cached = Features { stall_share: 0.001, ..sequential() };
        assert!(matches!(decide(&cached, 128, &[]), Decision::Abstain { .. }));
    }

    #[test]
    fn who_hardly_gets_anything_for_waiting_is_not_idle() {
        let throttled =
            Features { demand: 18.0, mmap_share: 1.0, mmap_run: 1.0, stall_share: 1.0, window: 2048.0, ..Features::default() };
        assert_eq!(proposed(decide(&throttled, 8192, &[])), Some(4));
        let resting = Features { stall_share: 0.1, ..throttled };
        assert!(matches!(decide(&resting, 8192, &[]), Decision::Abstain { pattern: Pattern::Idle, .. }));
        let hung = Features { demand: 0.3, ..throttled };
        assert!(matches!(decide(&hung, 8192, &[]), Decision::Abstain { pattern: Pattern::Idle, .. }));
    }

    #[test]
    fn streams_that_one_task_reads_in_turn_are_no_reader_with_a_pace_of_its_own() {
        let alone = Features { stall_share: 0.2, ..sequential() };
        assert_eq!(proposed(decide(&alone, 128, &[])), Some(8192));
        assert_eq!(proposed(decide(&Features { turns: 1.0, ..alone }, 128, &[])), Some(512));
    }

    #[test]
    fn climbs_halves_the_step_after_harm_and_settles() {
        use Outcome::*;
        assert_eq!(proposed(decide(&sequential(), 512, &[(128, Reverted, Some(2.0))])), Some(2048));
        assert_eq!(proposed(decide(&sequential(), 512, &[(2048, Aborted, None)])), Some(1024));
        assert!(matches!(decide(&sequential(), 512, &[(2048, Reverted, Some(1.0))]), Decision::Settled { .. }));
    }

    #[test]
    fn an_insane_inherited_value_is_lowered() {
        let tried = [(16384, Outcome::Reverted, Some(1.0))];
        assert_eq!(proposed(decide(&sequential(), 15360, &tried)), Some(2048));
        assert_eq!(proposed(decide(&sequential(), 65536, &[])), Some(16384));
        assert_eq!(proposed(decide(&sequential(), 65536, &tried)), Some(4096));
    }

    #[test]
    fn windows_that_push_each_other_out_are_made_smaller() {
        let streams = Features { evicted: 0.6, unused: 0.4, ..sequential() };
        assert_eq!(proposed(decide(&streams, 1024, &[])), Some(256));
        let later = |tried: &[(u32, Outcome, Option<f64>)]| proposed(decide(&streams, 4096, tried));
        assert_eq!(later(&[]), Some(1024));
        let [worse, same] = [(1024, Outcome::Aborted, None), (1024, Outcome::Reverted, Some(1.0))];
        assert_eq!(later(&[worse]), Some(2048), "256 is further down than what was too small");
        let but_256 = later(&[worse, (2048, Outcome::Reverted, Some(1.0))]);
        assert_eq!(but_256, None, "and so it is where nothing else is left");
        assert_eq!(later(&[same, (2048, Outcome::Reverted, Some(1.0))]), Some(256));
        let all = [256, 512].map(|kib| (kib, Outcome::Aborted, None));
        assert!(matches!(decide(&streams, 1024, &all), Decision::Settled { .. }), "larger ones would fit no better");
        // Half of each window of a file that is mapped and read backwards.
        let backwards = Features { mmap_share: 1.0, mmap_run: 1e5, mmap_long_share: 1.0, window: 256.0, ..streams };
        assert_eq!(proposed(decide(&backwards, 1024, &[])), Some(4096));
        assert_eq!(proposed(decide(&Features { evicted: 0.1, ..streams }, 1024, &[])), Some(4096));
        // It hits, so that only readers beside it wait.
        assert_eq!(proposed(decide(&Features { mapped_demand: 0.8, ..streams }, 1024, &[])), Some(4096));
    }

    #[test]
    fn a_plateau_is_crossed_where_readers_have_a_pace_of_their_own() {
        let tried = [(512, Outcome::Reverted, Some(1.0))];
        let log = Features { stall_share: 0.03, ..sequential() };
        assert_eq!(proposed(decide(&log, 128, &tried)), Some(8192));
        assert!(matches!(decide(&sequential(), 128, &tried), Decision::Settled { .. }));
        // Streams that are read in turn: each would get a window of that size.
        let merge = Features { read_run: 4.0, ..log };
        assert!(matches!(decide(&merge, 128, &tried), Decision::Settled { .. }));
    }

    #[test]
    fn what_was_too_small_for_a_scan_is_not_tried_smaller_still() {
        use Outcome::*;
        let full = [(16384, Reverted, Some(1.0))];
        assert_eq!(proposed(decide(&sequential(), 8192, &full)), Some(2048));
        assert_eq!(proposed(decide(&sequential(), 8192, &[full[0], (2048, Aborted, None)])), Some(4096));
        // Kept, coming from 2048: 512 is smaller than what was worse.
        assert_eq!(proposed(decide(&sequential(), 8192, &[full[0], (2048, Reverted, Some(3.0))])), Some(4096));
        // Where most is wasted now, what was too small then may not be.
        let wasting = Features { unused: 0.95, ..sequential() };
        assert_eq!(proposed(decide(&wasting, 2048, &[(512, Reverted, Some(3.0))])), Some(128));
        // Flat is not worse.
        assert_eq!(proposed(decide(&sequential(), 8192, &[full[0], (2048, Reverted, Some(1.0))])), Some(512));
    }

    #[test]
    fn a_mapped_window_that_cuts_runs_in_two_is_raised_although_most_of_it_is_left_unused() {
        // Measured in the simulator: 16 pages a run, at 128 KiB 77 % unused, at 256 half the stall, at 64 and 32 twice as much.
        let mapped = Features { mmap_share: 1.0, mmap_run: 15.0, mmap_long_share: 0.0, window: 32.0, ..sequential() };
        let runs = Features { unused: 0.77, ..mapped };
        assert_eq!(proposed(decide(&runs, 128, &[])), Some(256));
        assert_eq!(proposed(decide(&runs, 512, &[])), Some(128));
        let evicting = Features { evicted: 2.2, ..runs };
        assert_eq!(proposed(decide(&evicting, 128, &[])), Some(32));
        let of_reads = Features { mmap_share: 0.0, read_run: 15.0, read_long_share: 0.0, ..runs };
        assert_eq!(proposed(decide(&of_reads, 128, &[])), Some(32));
    }

    #[test]
    fn what_was_left_undecided_may_be_tried_once_more() {
        use Outcome::*;
        assert_eq!(proposed(decide(&sequential(), 512, &[(2048, Void, Some(0.8))])), Some(2048));
    }

    #[test]
    fn long_runs_that_waste_their_windows_are_lowered() {
        // Compaction beside lookups: most pages are in long runs, and most of what is read ahead is for nothing.
        let compaction = Features { unused: 0.8, ..sequential() };
        assert_eq!(proposed(decide(&compaction, 128, &[])), Some(32));
    }

    #[test]
    fn the_first_step_up_is_past_the_requests_own_size() {
        // 128 KiB a request: 16 and 64 KiB of readahead are the same to it.
        let requests = Features { request: 32.0, ..sequential() };
        assert_eq!(proposed(decide(&requests, 16, &[])), Some(256));
        assert_eq!(proposed(decide(&requests, 128, &[])), Some(512));
    }

    proptest! {
        #[test]
        fn proposals_stay_in_bounds_and_end(long in 0.0..1.0f64, mmap in 0.0..1.0f64, run in 1.0..1000.0f64, request in 0.0..1e6f64, unused in 0.0..1.0f64, evicted in 0.0..3.0f64, start in 0u32..12) {
            let f = Features { mmap_share: mmap, mmap_long_share: long, mmap_run: run, read_run: run, request, unused, evicted, ..sequential() };
            let (current, mut tried) = (4u32 << start, Vec::new());
            for _ in 0..10 {
                let Some(to) = proposed(decide(&f, current, &tried)) else { return Ok(()) };
                prop_assert!((4..=16384).contains(&to) && to.is_power_of_two() && to != current);
                tried.push((to, Outcome::Reverted, Some(1.2)));
            }
            prop_assert!(false, "never settles: {tried:?}");
        }
    }
}
