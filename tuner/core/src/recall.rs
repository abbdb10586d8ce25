// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the loop makes of a pattern that returns: a policy's decision and the device's memory in, the proven value as the proposal out.
//!
//! A search begins at the present value, and the proven one may be several trials away. It is asked for at once instead, whatever
//! the policy is, and still as a trial: one that refutes it makes the memory forget it (`known.rs`), and then the policy searches as ever.

use crate::event::{Pattern, Proposal};
use crate::policy::{Context, Decision};
use crate::units::Kib;

/// Expectation of a proven value: not more than a trial asks for (`min_gain`), because it was proven against another value than
/// the present one.
const EXPECTED: f64 = 0.95;
const CONFIDENCE: f64 = 0.9;

/// `decision`, or the value to go back to. An abstention stays one: where nothing can be gained, nothing is tried.
pub fn recall(decision: Decision, context: &Context) -> Decision {
    let pattern = decision.pattern();
    let wanted = match &decision {
        Decision::Abstain { .. } => return decision,
        Decision::Propose(p) => Some(p.read_ahead),
        Decision::Settled { .. } => None,
    };
    // What stands already is no proposal.
    match proven(pattern, context).filter(|(to, _)| *to != context.current) {
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
    let when = known.day.as_ref().map_or("earlier in this run".into(), |day| format!("last on {day}"));
    let why = format!("was proven here for {pattern} access ({}, {when})", count(known.trials));
    Some((known.proven?, why))
}

fn count(trials: u32) -> String {
    if trials == 1 { "1 trial".into() } else { format!("{trials} trials") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Outcome;
    use crate::features::Features;
    use crate::known::Known;
    use crate::policy::Tried;
    use std::collections::BTreeMap;

    fn wanted(decision: Decision, proven: Option<u32>, tried: &[u32], ceiling: u32) -> Option<u32> {
        let tried: BTreeMap<Kib, Tried> =
            tried.iter().map(|kib| (Kib(*kib), Tried { outcome: Outcome::Reverted, stall_ratio: None })).collect();
        let mut known = BTreeMap::<Pattern, Known>::new();
        known.entry(Pattern::Sequential).or_default().proven = proven.map(Kib);
        let context = Context {
            features: &Features::default(),
            current: Kib(16),
            tried: &tried,
            known: &known,
            floor: Kib(4),
            ceiling: Kib(ceiling),
            min_demand: 25.0,
            min_stall_share: 0.02,
            whole: true,
        };
        match recall(decision, &context) {
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
}
