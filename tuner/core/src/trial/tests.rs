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
        let proposal = Proposal {
            read_ahead: Kib(512),
            pattern: Pattern::Sequential,
            expected_stall_ratio: 0.5,
            confidence: 1.0,
            reason: String::new(),
        };
        let mut mark = Mark { at: Nanos::from_secs(id), counters: Counters::default() };
        let before = vec![Span { seconds: 1.0, counters: second }; 3];
        let mut trial = Trial::begin(id, Kib(128), proposal, before, mark);
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

/// Seconds of a trial from 64 MiB, under which a task that faults at random gets four faults a second, to 16 KiB, which is `times` as fast.
fn seconds_from_slow_faults(times: u64) -> f64 {
    let add = |c: &mut Counters, faults: u64, window: u64, stall_ms: u64| {
        (c.faults, c.mmap_pages, c.mmap_miss) = (c.faults + faults, c.mmap_pages + faults, c.mmap_miss + faults);
        (c.windows, c.window_pages, c.mmap_run_hist[0]) =
            (c.windows + faults, c.window_pages + faults * window, c.mmap_run_hist[0] + faults);
        (c.mmap_stall_ns, c.mmap_think_ns) = (c.mmap_stall_ns + stall_ms * 1_000_000, c.mmap_think_ns + faults * 10_000);
    };
    let mut second = Counters::default();
    add(&mut second, 4, 16_384, 1000);
    let proposal = Proposal {
        read_ahead: Kib(16),
        pattern: Pattern::RandomMmap,
        expected_stall_ratio: 0.01,
        confidence: 1.0,
        reason: String::new(),
    };
    let begin = Mark { at: Nanos::from_secs(10), counters: Counters::default() };
    let (mut mark, mut wait) = (begin, 0);
    let mut trial = Trial::begin(1, Kib(65_536), proposal, vec![Span { seconds: 1.0, counters: second }; 3], begin);
    for _ in 0..600 {
        mark.at = mark.at + Nanos::from_millis(100);
        match trial.arm {
            // The fault that the old window has begun is waited for under the new value too.
            Arm::New if wait == 0 => add(&mut mark.counters, times * 4 / 10, 4, 100),
            _ => {
                wait += 100;
                if wait >= 250 {
                    add(&mut mark.counters, 1, 16_384, 250);
                    wait = 0;
                }
            }
        }
        match trial.tick(mark, &[], &TrialSettings::default()).next {
            Next::End(verdict) => {
                assert_eq!(verdict.outcome, Outcome::Kept, "{}", verdict.reason);
                return mark.at.since(begin.at).as_secs_f64();
            }
            Next::Switch(_) if trial.arm == Arm::Old => wait = 100,
            _ => {}
        }
    }
    panic!("a trial without an end");
}

#[test]
fn a_block_needs_no_more_faults_than_tell_its_value_from_the_other() {
    let seconds = seconds_from_slow_faults(100);
    assert!(seconds < 5.0, "{seconds} s; 6.5 where each block of the old value lasts its two seconds");
}

/// A trial of streams in which the new value waits `ratios[n]` times as long as the old one in its n-th block, the last for all that follow, and
/// gets hardly a page in the first two ticks of each, when all streams wait in one queue. Gives the verdict and how many blocks of the new value ended.
fn streams(id: u64, ratios: &[f64]) -> (Verdict, usize) {
    let tick = |c: &mut Counters, pages: u64, stall_ms: f64| {
        (c.read_pages, c.read_miss, c.read_requests) =
            (c.read_pages + pages, c.read_miss + pages / 32, c.read_requests + pages / 4);
        (c.windows, c.window_pages) = (c.windows + pages / 32, c.window_pages + pages);
        c.read_stall_ns += (stall_ms * 1e6) as u64;
    };
    let mut second = Counters::default();
    tick(&mut second, 10_000, 1000.0);
    let proposal = Proposal {
        read_ahead: Kib(64),
        pattern: Pattern::Sequential,
        expected_stall_ratio: 0.4,
        confidence: 1.0,
        reason: String::new(),
    };
    let mut mark = Mark { at: Nanos::from_secs(id), counters: Counters::default() };
    let mut trial = Trial::begin(id, Kib(128), proposal, vec![Span { seconds: 1.0, counters: second }; 3], mark);
    let mut since_switch = 0;
    for _ in 0..600 {
        mark.at = mark.at + Nanos::from_millis(100);
        since_switch += 1;
        let ended = trial.blocks_of(Arm::New).len();
        let ratio = if trial.arm == Arm::New { ratios[ended.min(ratios.len() - 1)] } else { 1.0 };
        match trial.arm {
            Arm::New if since_switch <= 2 && ended > 0 => tick(&mut mark.counters, 32, 100.0),
            _ => tick(&mut mark.counters, 1000, 100.0 * ratio),
        }
        match trial.tick(mark, &[], &TrialSettings::default()).next {
            Next::End(verdict) => return (verdict, trial.blocks_of(Arm::New).len()),
            Next::Switch(_) => since_switch = 0,
            Next::Wait => {}
        }
    }
    panic!("a trial without an end");
}

#[test]
fn two_ticks_without_a_page_are_no_harm_where_all_blocks_were_better() {
    for id in 1..20 {
        let (verdict, _) = streams(id, &[0.3]);
        assert_eq!(verdict.outcome, Outcome::Kept, "trial {id}: {}", verdict.reason);
    }
}

#[test]
fn harm_that_begins_after_good_blocks_is_ended_all_the_same() {
    for id in 1..20 {
        let (verdict, blocks) = streams(id, &[0.9, 0.9, 4.0]);
        assert!(verdict.outcome != Outcome::Kept && blocks <= 4, "trial {id}: {blocks} blocks, {}", verdict.reason);
    }
}
