// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a trial takes its blocks from, tick by tick.

use super::*;
use crate::event::Pattern;

#[test]
fn one_large_window_where_the_old_value_stays_is_not_left_over_from_the_new_one() {
    let mut stayed = 0;
    for id in 1..20 {
        let second =
            Counters { read_pages: 100, windows: 2, window_pages: 64, read_stall_ns: 10_000_000, ..Counters::default() };
        let mut mark = Mark { at: Nanos::from_secs(id), counters: Counters::default() };
        let before = vec![Span { seconds: 1.0, counters: second }; 3];
        let mut trial = Trial::begin(id, Kib(128), proposal(512, Pattern::Sequential), before, mark);
        for tick in 1..200 {
            let stays = trial.arm == Arm::Old && trial.blocks.last().is_some_and(|(arm, _)| *arm == Arm::Old);
            stayed += u32::from(stays);
            mark.at = mark.at + Nanos::from_millis(100);
            let c = &mut mark.counters;
            (c.read_pages, c.read_stall_ns) = (c.read_pages + 10, c.read_stall_ns + 1_000_000);
            if tick % 7 == 0 {
                (c.windows, c.window_pages) = (c.windows + 1, c.window_pages + if stays { 200 } else { 32 });
            }
            if matches!(trial.tick(mark, &[], &TrialSettings::default()).next, Next::End(_)) {
                break;
            }
        }
        assert!(!trial.one_way, "trial {id}");
    }
    assert!(stayed > 100, "{stayed}");
}

/// What is known before: a value that is far better.
fn proposal(to: u32, pattern: Pattern) -> Proposal {
    Proposal { read_ahead: Kib(to), pattern, expected_stall_ratio: 0.1, confidence: 1.0, reason: String::new() }
}

/// Runs a trial whose ticks add what `add` says, given how long its value has been in force, ms. Gives the verdict, and how long the last value was.
fn run(mut trial: Trial, mut add: impl FnMut(&Trial, u64, &mut Counters)) -> (Verdict, f64) {
    let mut mark = trial.switched;
    for _ in 0..1000 {
        let switched = trial.switched.at;
        mark.at = mark.at + Nanos::from_millis(100);
        add(&trial, mark.at.since(switched).0 / 1_000_000, &mut mark.counters);
        if let Next::End(verdict) = trial.tick(mark, &[], &TrialSettings::default()).next {
            return (verdict, mark.at.since(switched).as_secs_f64());
        }
    }
    panic!("a trial without an end");
}

fn start(id: u64) -> Mark {
    Mark { at: Nanos::from_secs(id), counters: Counters::default() }
}

/// Random faults, one window of so many pages each.
fn fault(c: &mut Counters, faults: u64, window: u64, stall_ms: u64) {
    (c.faults, c.mmap_pages, c.mmap_miss) = (c.faults + faults, c.mmap_pages + faults, c.mmap_miss + faults);
    (c.windows, c.window_pages) = (c.windows + faults, c.window_pages + faults * window);
    c.mmap_run_hist[0] += faults;
    (c.mmap_stall_ns, c.mmap_think_ns) = (c.mmap_stall_ns + stall_ms * 1_000_000, c.mmap_think_ns + faults * 10_000);
}

fn read(c: &mut Counters, pages: u64, stall_ms: f64) {
    (c.read_pages, c.read_miss, c.read_requests) =
        (c.read_pages + pages, c.read_miss + pages / 32, c.read_requests + pages / 4);
    (c.windows, c.window_pages) = (c.windows + pages.div_ceil(32), c.window_pages + pages);
    c.read_stall_ns += (stall_ms * 1e6) as u64;
}

fn second(add: impl Fn(&mut Counters)) -> Vec<Span> {
    let mut counters = Counters::default();
    add(&mut counters);
    vec![Span { seconds: 1.0, counters }; 3]
}

/// From 64 MiB, under which a task that faults at random gets four faults a second, to 16 KiB, which is a hundred times as fast.
/// `reads`: pages that another task reads in each tick, 10 ms of waiting each.
fn from_64_mib(reads: u64) -> f64 {
    let also = |c: &mut Counters, ticks: u64| read(c, ticks * reads, if reads > 0 { 40.0 * ticks as f64 } else { 0.0 });
    let before = second(|c| {
        fault(c, 4, 16_384, 1000);
        also(c, 10);
    });
    let trial = Trial::begin(1, Kib(65_536), proposal(16, Pattern::RandomMmap), before, start(10));
    let mut old_blocks = Vec::new();
    let (verdict, _) = run(trial, |trial, ms, c| {
        old_blocks = trial.blocks_of(Arm::Old);
        also(c, 1);
        match trial.arm {
            Arm::New => fault(c, 40, 4, 100),
            Arm::Old if ms % 300 == 0 => fault(c, 1, 16_384, 300),
            Arm::Old => {}
        }
    });
    assert_eq!(verdict.outcome, Outcome::Kept, "{}", verdict.reason);
    old_blocks.iter().map(|span| span.seconds).fold(0.0, f64::max)
}

#[test]
fn a_block_needs_no_more_faults_than_tell_its_value_from_the_other() {
    let longest = from_64_mib(0);
    assert!(longest < 1.0, "{longest} s; 2.0 where a block of the old value needs 32 faults");
}

#[test]
fn where_some_read_and_some_fault_a_block_holds_both() {
    let longest = from_64_mib(5);
    assert!(longest > 1.0, "{longest} s: two faults of one are nothing of the other");
}

/// A trial of 48 streams, each block of which begins with 200 ms in which all wait in one queue, whatever the value.
#[test]
fn two_ticks_without_a_page_are_no_harm_where_all_blocks_were_better() {
    for id in 1..20 {
        let before = second(|c| read(c, 10_000, 1000.0));
        let trial = Trial::begin(id, Kib(128), proposal(64, Pattern::Sequential), before, start(id));
        let (verdict, _) = run(trial, |trial, ms, c| match trial.arm {
            Arm::New if ms <= 200 && !trial.blocks.is_empty() => read(c, 32, 100.0),
            Arm::New => read(c, 1000, 30.0),
            Arm::Old => read(c, 1000, 100.0),
        });
        assert_eq!(verdict.outcome, Outcome::Kept, "trial {id}: {}", verdict.reason);
    }
}

#[test]
fn good_blocks_before_speak_for_a_value_for_a_second_and_no_longer() {
    let mut ended = 0;
    for id in 1..40 {
        // So slow that a block lasts its two seconds.
        let before = second(|c| read(c, 200, 1000.0));
        let trial = Trial::begin(id, Kib(128), proposal(64, Pattern::Sequential), before, start(id));
        let (verdict, lasted) = run(trial, |trial, _, c| {
            let old = trial.blocks_of(Arm::Old).len();
            match trial.arm {
                Arm::New if old > 0 => read(c, 20, 500.0),
                Arm::New => read(c, 20, 95.0),
                Arm::Old => read(c, 20, 100.0),
            }
        });
        if verdict.reason.starts_with("stall at equal load") {
            assert!(lasted <= 1.1, "trial {id}: {lasted} s, {}", verdict.reason);
            ended += 1;
        }
    }
    assert!(ended > 20, "{ended}");
}

#[test]
fn what_is_read_beside_lookups_or_tried_for_a_region_is_no_measure_of_a_value() {
    let trial = |mapped: u64| {
        let before = second(|c| {
            read(c, 1000, 100.0);
            fault(c, 10, 32, mapped);
        });
        let mut trial = Trial::begin(1, Kib(128), proposal(64, Pattern::Sequential), before.clone(), start(1));
        trial.blocks = vec![(Arm::New, before[0]), (Arm::Old, before[0]), (Arm::New, before[0])];
        trial
    };
    assert_eq!(trial(0).delivered(), [(Arm::New, 1000.0), (Arm::Old, 1000.0), (Arm::New, 1000.0)]);
    assert_eq!(trial(900).delivered(), []);
    assert_eq!(trial(0).of_region(Some(Change { region: 1, to: Advice::Random })).delivered(), []);
    // One way, what was before stands for the old value, and the first block may have ended because it looked good.
    let one_way = Trial { one_way: true, ..trial(0) }.delivered();
    assert_eq!(one_way.iter().filter(|(arm, _)| *arm == Arm::New).count(), 1, "{one_way:?}");
    assert_eq!(one_way.iter().filter(|(arm, _)| *arm == Arm::Old).count(), 3, "{one_way:?}");
}

#[test]
fn harm_before_any_block_of_the_old_value_may_be_tried_once_more_where_only_a_second_was_seen() {
    let mut undecided = [0, 0];
    for id in 1..40 {
        for pieces in [1, 3] {
            let mut before = second(|c| read(c, 10_000, 1000.0));
            before.truncate(pieces);
            let trial = Trial::begin(id, Kib(128), proposal(64, Pattern::Sequential), before, start(id));
            let mut old = 0;
            let (verdict, _) = run(trial, |trial, _, c| {
                old = trial.blocks_of(Arm::Old).len();
                match trial.arm {
                    Arm::New if !trial.blocks.is_empty() => read(c, 1000, 2000.0),
                    Arm::New => read(c, 1000, 95.0),
                    Arm::Old => read(c, 1000, 100.0),
                }
            });
            assert_eq!(verdict.outcome, Outcome::Aborted, "trial {id}: {}", verdict.reason);
            assert_eq!(verdict.undecided, pieces == 1 && old == 0, "trial {id}, {pieces} s before, {old} old blocks");
            undecided[usize::from(verdict.undecided)] += 1;
        }
    }
    assert!(undecided[0] > 40 && undecided[1] > 5, "{undecided:?}");
}
