// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the loop makes of a pattern that returns: a policy's decision and the device's memory in, the proven value as the proposal out.
//!
//! A search begins at the present value, and after a change of phase that is the value of another pattern: the proven one may be
//! several trials away. It is asked for at once instead, whatever the policy is, and still as a trial: one that fails makes the
//! memory forget it (`known.rs`), and then the policy searches as ever.

use crate::event::{Pattern, Proposal};
use crate::policy::{Context, Decision};
use crate::units::Kib;

/// Expectation of a proven value: not more than a trial asks for (`min_gain`), because it was proven against another value than
/// the present one.
const EXPECTED: f64 = 0.95;
const CONFIDENCE: f64 = 0.9;

/// The pattern that the present value was kept for, and what the device had before keepahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Present {
    pub kept_for: Option<Pattern>,
    pub original: Kib,
}

/// `decision`, or the value to go back to. An abstention stays one: where nothing can be gained, nothing is tried.
pub fn recall(decision: Decision, context: &Context, present: Present) -> Decision {
    let pattern = decision.pattern();
    let wanted = match &decision {
        Decision::Abstain { .. } => return decision,
        Decision::Propose(p) => Some(p.read_ahead),
        Decision::Settled { .. } => None,
    };
    // A search that the policy still has for this pattern is better than the original.
    let back = || before_us(pattern, context, present).filter(|_| wanted.is_none());
    // What stands already is no proposal.
    let proven = proven(pattern, context).filter(|(to, _)| *to != context.current);
    match proven.or_else(back) {
        Some((to, why)) if wanted != Some(to) && context.may_try(to) => Decision::Propose(Proposal {
            read_ahead: to,
            pattern,
            expected_stall_ratio: EXPECTED,
            confidence: CONFIDENCE,
            reason: format!("{to} {why}"),
        }),
        // The policy has come to it by itself.
        Some((to, why)) if wanted == Some(to) => said_too(decision, &format!("{to} {why}")),
        _ => decision,
    }
}

fn said_too(mut decision: Decision, why: &str) -> Decision {
    if let Decision::Propose(proposal) = &mut decision {
        proposal.reason = format!("{}; {why}", proposal.reason);
    }
    decision
}

fn proven(pattern: Pattern, context: &Context) -> Option<(Kib, String)> {
    let known = context.known.get(&pattern)?;
    let when = known.day.as_ref().map_or("earlier in this run".into(), |day| format!("until {day}"));
    let why = format!("was proven here for {pattern} access ({}, {when})", count(known.trials));
    Some((known.proven?, why))
}

fn count(trials: u32) -> String {
    if trials == 1 { "1 trial".into() } else { format!("{trials} trials") }
}

fn before_us(pattern: Pattern, context: &Context, present: Present) -> Option<(Kib, String)> {
    let why = match present.kept_for? {
        // The search began at another pattern's value, and has not come by it.
        kept_for if kept_for == pattern => {
            format!("is what was set before keepahead, and was not tried for {pattern} access yet")
        }
        other => {
            format!("is what was set before keepahead; {} was kept for {other} access, not for {pattern}", context.current)
        }
    };
    Some((present.original, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Outcome;
    use crate::features::Features;
    use crate::known::Known;
    use crate::policy::Tried;
    use std::collections::BTreeMap;

    const PRESENT: Present = Present { kept_for: Some(Pattern::RandomMmap), original: Kib(128) };

    fn wanted(decision: Decision, proven: Option<u32>, tried: &[u32], ceiling: u32) -> Option<u32> {
        wanted_at(Kib(16), decision, proven, tried, ceiling)
    }

    fn wanted_at(current: Kib, decision: Decision, proven: Option<u32>, tried: &[u32], ceiling: u32) -> Option<u32> {
        let tried: BTreeMap<Kib, Tried> =
            tried.iter().map(|kib| (Kib(*kib), Tried { outcome: Outcome::Reverted, stall_ratio: None })).collect();
        let mut known = BTreeMap::<Pattern, Known>::new();
        known.entry(Pattern::Sequential).or_default().proven = proven.map(Kib);
        let context = Context {
            features: &Features::default(),
            current,
            tried: &tried,
            known: &known,
            floor: Kib(4),
            ceiling: Kib(ceiling),
            min_demand: 25.0,
            min_stall_share: 0.02,
            whole: true,
        };
        match recall(decision, &context, PRESENT) {
            Decision::Propose(p) => Some(p.read_ahead.0),
            _ => None,
        }
    }

    fn settled() -> Decision {
        Decision::Settled { pattern: Pattern::Sequential }
    }

    #[test]
    fn a_proven_value_is_asked_for_before_any_search_and_whatever_the_policy_wants() {
        let search = Proposal {
            read_ahead: Kib(64),
            pattern: Pattern::Sequential,
            expected_stall_ratio: 0.5,
            confidence: 1.0,
            reason: String::new(),
        };
        assert_eq!(wanted(Decision::Propose(search), Some(2048), &[], 16384), Some(2048));
        assert_eq!(wanted(settled(), Some(2048), &[], 16384), Some(2048));
    }

    #[test]
    fn what_was_tried_is_out_of_bounds_or_is_of_no_use_is_left_alone() {
        assert_eq!(wanted(settled(), Some(2048), &[2048], 16384), None);
        assert_eq!(wanted(settled(), Some(2048), &[], 1024), None);
        let idle = Decision::Abstain { pattern: Pattern::Sequential, reason: "hardly anybody waits".into() };
        assert_eq!(wanted(idle, Some(2048), &[], 16384), None);
    }

    #[test]
    fn where_a_search_ends_the_original_is_tried_unless_it_was_already() {
        assert_eq!(wanted(settled(), None, &[], 16384), Some(128));
        assert_eq!(wanted(settled(), None, &[128], 16384), None);
        let same = Decision::Settled { pattern: Pattern::RandomMmap };
        assert_eq!(wanted(same.clone(), None, &[], 16384), Some(128));
        assert_eq!(wanted(same, None, &[128], 16384), None);
        let stands = |tried: &[u32]| wanted_at(Kib(512), settled(), Some(512), tried, 16384);
        assert_eq!((stands(&[]), stands(&[128])), (Some(128), None));
    }
}
