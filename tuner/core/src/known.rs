// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device's own trials have taught of a pattern: verdicts in, a correction of the policy's expectation and the proven value
//! out. Kept while the pattern is away, so that a phase that returns is answered at once.
//!
//! The correction is recursive least squares with a forgetting factor (Ljung, System Identification, 1999, 11.2) over a line and a
//! parabola in log2 of the size: what a trial shows at one size says something of its neighbours.

use crate::event::{Outcome, Proposal, Verdict};
use crate::units::Kib;
use serde::{Deserialize, Serialize};

/// Weight of the past at each trial: about ten trials are remembered.
const FORGET: f64 = 0.9;
/// Variance of one trial's log2 stall ratio: the testbed's repeats differ by some 15 %.
const NOISE: f64 = 0.04;
/// Variance of the correction before the first trial, and the most it may become by forgetting.
const PRIOR: f64 = 0.1;
/// Largest correction, doublings of stall per doubling of the size.
const BOUND: f64 = 1.0;
/// An expectation off by more than a factor of two was wrong.
const WRONG: f64 = 1.0;
/// Least ratio that a trial has shown which ended within a block (`harm_ratio`).
const HARM: f64 = 2.0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The value that a trial has last kept and none has refuted since.
    pub proven: Option<Kib>,
    /// Trials learned from.
    pub trials: u32,
    /// Day of the last of them, where that was in an earlier run.
    #[serde(default)]
    pub day: Option<String>,
    /// The value whose last trial was ended for harm against a single second, and not held against it: the next one is.
    #[serde(default)]
    spared: Option<Kib>,
    /// Coefficients of the correction.
    weights: [f64; 2],
    /// Their covariance: variances, then what they share.
    covariance: [f64; 3],
    /// Share of wrong expectations, recent ones first.
    wrong: f64,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            proven: None,
            trials: 0,
            day: None,
            spared: None,
            weights: [0.0; 2],
            covariance: [PRIOR, PRIOR, 0.0],
            wrong: 0.0,
        }
    }
}

impl Known {
    /// Takes what a trial of `proposal` against `from` has shown. A void one shows nothing, nor the first that was ended for harm against a single second.
    pub fn learn(&mut self, from: Kib, proposal: &Proposal, verdict: &Verdict) {
        let to = proposal.read_ahead;
        if verdict.outcome == Outcome::Void {
            return;
        }
        let spared = self.spared.take();
        if verdict.undecided && verdict.outcome == Outcome::Aborted && spared != Some(to) {
            self.spared = Some(to);
            return;
        }
        self.day = None;
        let again = self.proven == Some(to);
        match verdict.outcome {
            Outcome::Kept => self.proven = Some(to),
            _ if again => self.proven = None,
            _ => {}
        }
        if again {
            // Expected from memory, not by the policy's model: it says nothing of how right that is.
            self.trials = self.trials.saturating_add(1);
            return;
        }
        let seen = verdict.stall_ratio.map(|ratio| ratio.mean).or(verdict.looked);
        let shown = match (seen, verdict.outcome) {
            (Some(ratio), _) => ratio,
            // Ended within a block: at least that bad.
            (None, Outcome::Aborted) => HARM.max(proposal.expected_stall_ratio),
            (None, _) => return,
        };
        let surprise = shown.max(1e-3).log2() - proposal.expected_stall_ratio.max(1e-3).log2();
        if !surprise.is_finite() {
            return;
        }
        self.trials = self.trials.saturating_add(1);
        self.wrong = 0.6 * self.wrong + if surprise.abs() > WRONG { 0.4 } else { 0.0 };
        self.correct(difference(from, to), surprise);
        if self.drifted() {
            // What was true is not any more: learn anew. What was proven was shown by a trial, not expected, and only a trial refutes it.
            (self.weights, self.covariance) = ([0.0; 2], [PRIOR, PRIOR, 0.0]);
        }
    }

    /// Added to the expected log2 stall ratio of `to` against `from`.
    pub fn correction(&self, from: Kib, to: Kib) -> f64 {
        let d = difference(from, to);
        self.weights[0] * d[0] + self.weights[1] * d[1]
    }

    /// Two wrong expectations of the last few: the policy's model does not hold here.
    pub fn drifted(&self) -> bool {
        self.wrong > 0.6
    }

    /// Finite, and within the bounds that learning keeps.
    pub fn is_sound(&self) -> bool {
        let bound = |w: f64| w.abs() <= BOUND;
        self.weights.iter().all(|w| bound(*w))
            && self.covariance.iter().all(|c| c.abs() <= PRIOR)
            && (0.0..=1.0).contains(&self.wrong)
    }

    fn correct(&mut self, d: [f64; 2], surprise: f64) {
        let [a, b, c] = self.covariance;
        let pd = [a * d[0] + c * d[1], c * d[0] + b * d[1]];
        let gain = pd.map(|p| p / (FORGET * NOISE + d[0] * pd[0] + d[1] * pd[1]));
        for (w, gain) in self.weights.iter_mut().zip(gain) {
            *w = (*w + gain * surprise).clamp(-BOUND, BOUND);
        }
        let after = [a - gain[0] * pd[0], b - gain[1] * pd[1], c - gain[0] * pd[1]].map(|p| p / FORGET);
        // Scaled as a whole, so that it stays a covariance.
        let scale = (PRIOR / after[0].max(after[1])).min(1.0);
        self.covariance = after.map(|p| p * scale);
    }
}

/// How far the line and the parabola move from one size to the other.
fn difference(from: Kib, to: Kib) -> [f64; 2] {
    // Around 128 KiB, the kernel's default; the parabola is as steep as the line four doublings away.
    let at = |kib: Kib| f64::from(kib.0.max(1)).log2() - 7.0;
    let (a, b) = (at(from), at(to));
    [b - a, (b * b - a * a) / 8.0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Interval, Pattern};
    use proptest::prelude::*;

    fn proposal(to: u32, expected: f64) -> Proposal {
        let reason = String::new();
        Proposal { read_ahead: Kib(to), pattern: Pattern::Sequential, expected_stall_ratio: expected, confidence: 0.9, reason }
    }

    fn verdict(outcome: Outcome, ratio: Option<f64>) -> Verdict {
        let stall_ratio = ratio.map(|mean| Interval { low: mean, mean, high: mean });
        Verdict { stall_ratio, ..Verdict::new(outcome, String::new(), 3, 0.95) }
    }

    #[test]
    fn a_trial_corrects_its_size_and_its_neighbours() {
        let mut known = Known::default();
        known.learn(Kib(128), &proposal(512, 0.8), &verdict(Outcome::Kept, Some(0.5)));
        assert_eq!((known.proven, known.trials), (Some(Kib(512)), 1));
        let (near, same) = (known.correction(Kib(128), Kib(256)), known.correction(Kib(128), Kib(128)));
        let there = known.correction(Kib(128), Kib(512));
        assert!(there < -0.4 && there > -0.68, "towards log2(0.5 / 0.8): {there}");
        assert!(near < 0.0 && near > there && same == 0.0);
        assert!((there + known.correction(Kib(512), Kib(128))).abs() < 1e-12, "the way back is the opposite");
    }

    #[test]
    fn a_refuted_value_is_not_proven_any_more() {
        let mut known = Known::default();
        known.learn(Kib(128), &proposal(512, 0.5), &verdict(Outcome::Kept, Some(0.5)));
        known.learn(Kib(64), &proposal(512, 0.5), &verdict(Outcome::Void, None));
        assert_eq!(known.proven, Some(Kib(512)));
        known.learn(Kib(64), &proposal(512, 0.5), &verdict(Outcome::Reverted, Some(1.1)));
        assert_eq!(known.proven, None);
    }

    #[test]
    fn harm_against_a_single_second_is_held_against_a_value_the_second_time() {
        let thin = Verdict { undecided: true, ..verdict(Outcome::Aborted, None) };
        let mut known = Known::default();
        known.learn(Kib(128), &proposal(512, 0.5), &verdict(Outcome::Kept, Some(0.5)));
        known.learn(Kib(128), &proposal(512, 0.5), &thin);
        assert_eq!(known.proven, Some(Kib(512)));
        known.learn(Kib(128), &proposal(512, 0.5), &verdict(Outcome::Void, None));
        known.learn(Kib(128), &proposal(512, 0.5), &thin);
        assert_eq!(known.proven, None);
        known.learn(Kib(128), &proposal(512, 0.5), &verdict(Outcome::Kept, Some(0.5)));
        known.learn(Kib(128), &proposal(512, 0.5), &thin);
        assert_eq!(known.proven, Some(Kib(512)), "a keep between them starts anew");
    }

    #[test]
    fn expectations_that_stay_wrong_are_drift_and_right_ones_end_it() {
        let mut known = Known::default();
        known.learn(Kib(128), &proposal(512, 0.5), &verdict(Outcome::Kept, Some(0.5)));
        known.learn(Kib(512), &proposal(1024, 0.5), &verdict(Outcome::Aborted, None));
        assert!(!known.drifted());
        known.learn(Kib(512), &proposal(2048, 0.5), &verdict(Outcome::Aborted, None));
        assert!(known.drifted() && known.correction(Kib(128), Kib(512)) == 0.0);
        assert_eq!(known.proven, Some(Kib(512)), "trials showed it, and neighbours that harm do not refute it");
        known.learn(Kib(512), &proposal(256, 1.0), &verdict(Outcome::Reverted, Some(1.1)));
        assert!(!known.drifted());
    }

    #[test]
    fn what_looked_a_little_worse_is_not_taken_for_twice_as_bad() {
        let after_two = |verdict: Verdict| {
            let mut known = Known::default();
            [512, 256].iter().for_each(|to| known.learn(Kib(128), &proposal(*to, 0.76), &verdict));
            known
        };
        let little = after_two(Verdict { looked: Some(1.07), ..verdict(Outcome::Aborted, None) });
        let within_a_block = after_two(verdict(Outcome::Aborted, None));
        assert!(!little.drifted() && within_a_block.drifted());
        assert!(little.correction(Kib(128), Kib(512)) > 0.0, "and it is learnt");
    }

    proptest! {
        #[test]
        fn stays_bounded_and_converges(ratios in proptest::collection::vec((0.01..10.0f64, 2u32..15, 2u32..15), 1..60), slope in -0.5..0.5f64) {
            let mut known = Known::default();
            for (ratio, from, to) in ratios {
                known.learn(Kib(1 << from), &proposal(1 << to, 1.0), &verdict(Outcome::Reverted, Some(ratio)));
                prop_assert!(known.is_sound(), "{known:?}");
            }
            let mut known = Known::default();
            for step in 0..12 {
                let (from, to) = (Kib(128), Kib(32 << (step % 6)));
                let truth = (slope * difference(from, to)[0]).exp2();
                let expected = known.correction(from, to).exp2();
                known.learn(from, &proposal(to.0, expected), &verdict(Outcome::Reverted, Some(truth)));
            }
            let off = known.correction(Kib(128), Kib(1024)) - slope * 3.0;
            prop_assert!(off.abs() < 0.3, "{off}");
        }
    }
}
