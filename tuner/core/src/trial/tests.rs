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
