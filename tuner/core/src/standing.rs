// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kept value and the one that it replaced: says when the two are compared again, so that a value that has become wrong is noticed.
//!
//! The comparison is a trial like any other with the replaced value as its candidate: a few blocks, ended at the second if nothing
//! about it is better. Each check is paid for by a wait after it, so that checks take no more than the budgeted share of the time.
//! Why at all: what one observes under a kept value never shows what the other would have done (the counterfactual), and the demand
//! that patterns are named from need not change when the device or the memory does.

use crate::event::{Pattern, Proposal};
use crate::units::{Kib, Nanos};
use serde::{Deserialize, Serialize};

/// What a check is expected to take before one was made: two blocks of half a second.
const EXPECTED: Nanos = Nanos::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    pub replaced: Kib,
    /// Speculative pages evicted unused per demanded page while the kept value was proven.
    #[serde(default)]
    pub evicted: f64,
    /// Mean window while the kept value was proven, pages; 0 where that was not measured.
    #[serde(default)]
    pub window: f64,
    /// The pattern that the value was kept for.
    #[serde(default)]
    pub pattern: Option<Pattern>,
    kept: Nanos,
    next: Nanos,
    /// Since when a check runs.
    begun: Option<Nanos>,
}

/// The wait that pays for `spent` out of `share` of the time. A share of 0 pays for nothing, ever.
fn after(now: Nanos, spent: Nanos, share: f64) -> Nanos {
    if share <= 0.0 { Nanos(u64::MAX) } else { Nanos(now.0.saturating_add((spent.0 as f64 / share) as u64)) }
}

impl Standing {
    /// A trial has put a value in the place of `replaced`. `share`: of the time that checks may take, 0 to 1.
    pub fn new(replaced: Kib, pattern: Pattern, now: Nanos, share: f64) -> Standing {
        let next = after(now, EXPECTED, share);
        Standing { replaced, evicted: 0.0, window: 0.0, pattern: Some(pattern), kept: now, next, begun: None }
    }

    /// What was seen of the kept value while it was proven.
    pub fn proven_with(self, evicted: f64, window: f64) -> Standing {
        Standing { evicted, window, ..self }
    }

    pub fn due(&self, now: Nanos) -> bool {
        now >= self.next
    }

    pub fn begin(&mut self, now: Nanos) {
        self.begun = Some(now);
    }

    /// A trial has ended; `true` if it was a check.
    pub fn end(&mut self, now: Nanos, share: f64) -> bool {
        let Some(begun) = self.begun.take() else { return false };
        self.next = after(now, now.since(begun).max(EXPECTED), share);
        true
    }

    /// The check as a trial's proposal.
    pub fn proposal(&self, pattern: Pattern, current: Kib, now: Nanos) -> Proposal {
        let seconds = now.since(self.kept).as_secs_f64();
        Proposal {
            read_ahead: self.replaced,
            pattern,
            expected_stall_ratio: 1.0,
            confidence: 0.5,
            reason: format!("check: is {} still worse than {current}, kept {seconds:.0} s ago?", self.replaced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn checks_stay_within_their_share(share in 0.001..0.2f64, lengths in proptest::collection::vec(1u64..30, 1..50)) {
            let start = Nanos::from_secs(10);
            let mut standing = Standing::new(Kib(128), Pattern::Sequential, start, share);
            let (mut now, mut spent) = (start, Nanos(0));
            for length in lengths {
                now = now.max(standing.next);
                prop_assert!(standing.due(now));
                standing.begin(now);
                now = now + Nanos::from_secs(length);
                spent = spent + Nanos::from_secs(length);
                prop_assert!(standing.end(now, share) && !standing.due(now));
                prop_assert!(spent.0 as f64 <= share * 1.000001 * standing.next.since(start).0 as f64);
            }
        }
    }

    #[test]
    fn without_a_budget_nothing_is_checked_and_other_trials_are_no_checks() {
        let mut standing = Standing::new(Kib(128), Pattern::Sequential, Nanos(0), 0.0);
        assert!(!standing.due(Nanos::from_secs(1 << 30)));
        assert!(!standing.end(Nanos(5), 0.01));
    }
}
