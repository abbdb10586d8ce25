// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measured blocks in, evidence out: the capital of somebody who starts with 1 and bets, block by block, that the coin can be told
//! from the measurement.
//!
//! Before a block a coin chose its value ([`crate::order`]). The bettor sees the block's measurement, not the coin, and stakes a
//! share on "this was the new value". If the knob does nothing, the measurement is the same whichever way the coin fell, so no bet on
//! a fair coin gains on average, however the noise is correlated, drifts or bursts: the capital is a nonnegative martingale, and by
//! Ville's inequality it ever reaches 1/a with probability at most a. Looking after every block costs nothing. If the new value is
//! worse in every block, betting on "better" loses on average, so the same holds.
//! How wild the workload is and how large the gain is not known, so several bettors think differently of it ([`KINDS`]), and the stake is
//! theirs in the shares in which past blocks were likely to each (Bayesian model averaging, with a fixed share dealt out anew at each block).
//! Sources: Ville 1939; Ramdas, Ruf, Larsson, Koolen, "Admissible anytime-valid sequential inference must rely on nonnegative
//! martingales" (2020); Waudby-Smith, Ramdas, "Estimating means of bounded random variables by betting" (2024); the optimal stake for
//! Gaussian noise is the posterior probability of the arm; Herbster, Warmuth, "Tracking the best expert" (1998). The stakes use past blocks only; a bad stake costs power, never validity.

use crate::event::Arm;

/// One block as the bettor sees it. `value`: higher is better for whoever proposed the change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    pub arm: Arm,
    pub tossed: bool,
    pub value: f64,
}

/// What is believed before the first block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Belief {
    /// Standard deviation of a block.
    pub spread: f64,
    /// Smallest difference worth betting on.
    pub gain: f64,
}

/// What may be true of a workload.
#[derive(Clone, Copy)]
struct Kind {
    /// Its spread, and the gains to expect, in those of the belief.
    spread: f64,
    gain: f64,
    /// How far its level may have moved since before the trial, in its spreads: a program's first second is slow, a cache fills.
    moved: f64,
    /// Share in which it is thought to be true before anything is seen.
    trust: f64,
}

/// Quiet with a small gain, which is the hardest to show; quiet with a large one; and two wilder ones. A block of RocksDB's updates, whose
/// stall fell to 0.4, spread by 0.15 around a level a third below that before the trial: without the second and third, 11 tosses
/// were needed where now 5 or 6 are.
const KINDS: [Kind; 4] = [
    Kind { spread: 1.0, gain: 1.0, moved: 0.0, trust: 0.8 },
    Kind { spread: 1.0, gain: 12.0, moved: 6.0, trust: 0.08 },
    Kind { spread: 2.5, gain: 5.0, moved: 2.0, trust: 0.06 },
    Kind { spread: 6.0, gain: 6.0, moved: 1.0, trust: 0.06 },
];
/// Part of all trust that is dealt out anew at each block, so that a burst is followed.
const DEALT: f64 = 0.02;

/// Parts of the capital, and the block from which each is at stake: what is lost while the level still moves is not lost with the rest. Five tosses
/// still do: 0.85 × 1.96^5 is 24.6.
const PARTS: [(usize, f64); 4] = [(0, 0.85), (5, 0.05), (10, 0.05), (15, 0.05)];

/// Blocks' worth of the belief about the spread.
const BELIEF_BLOCKS: f64 = 10.0;
/// Log odds are cut here: a burst must not cost the capital, and a sure bet gains 1.96 of 2.
const ODDS_MOST: f64 = 4.0;
/// Variance by which the workload's level is thought to move from block to block, in variances of a block.
const DRIFT: f64 = 0.02;
/// Variance of a piece of the time before the trial, in variances of a block: a second, where a block is less than half of one.
const PIECE: f64 = 0.4;
/// Squared errors above so many variances count as that many.
const ERROR_MOST: f64 = 9.0;
/// The same where they speak against a kind of workload: far beyond any trust, and no capital is lost in zeros.
const UNLIKELY_MOST: f64 = 100.0;

/// What one bettor thinks: a Kalman filter of the old value's level and of the gain over it (Kalman 1960; two states, one measurement
/// a block). Variances and the covariance are in variances of a block.
struct Bettor {
    /// Smallest gain worth betting on: of a smaller one, or a loss, nothing is thought, so that odds rise with the value.
    least: f64,
    level: f64,
    gain: f64,
    level_var: f64,
    gain_var: f64,
    both: f64,
    squares: f64,
    weight: f64,
}

impl Bettor {
    fn new(before: &[f64], belief: Belief, kind: Kind) -> Bettor {
        let (spread, gain) = ((kind.spread * belief.spread).powi(2), kind.gain * belief.gain);
        Bettor {
            least: belief.gain,
            level: mean(before),
            gain: 2.0 * gain,
            level_var: PIECE / before.len().max(1) as f64 + DRIFT + kind.moved.powi(2),
            gain_var: gain.powi(2) / spread,
            both: 0.0,
            squares: BELIEF_BLOCKS * spread + squares(before),
            weight: BELIEF_BLOCKS + before.len().saturating_sub(1) as f64,
        }
    }

    /// Mean and variance of the next measurement under the new (1) or the old value (0).
    fn next(&self, new: f64, gain: f64) -> (f64, f64) {
        (self.level + new * gain, self.variance(new) * self.squares / self.weight)
    }

    /// The same in variances of a block.
    fn variance(&self, new: f64) -> f64 {
        1.0 + self.level_var + new * (2.0 * self.both + self.gain_var)
    }

    /// Log odds that `value` was measured under the new value. They rise with it: without that, harm could be mistaken for gain. By
    /// themselves they are a parabola, whose vertex lies beyond the mean of the value that is known better; they are held from there on.
    fn odds(&self, value: f64) -> f64 {
        let gain = self.gain.max(self.least);
        let ((low, old), (high, new)) = (self.next(0.0, gain), self.next(1.0, gain));
        let vertex = (high * old - low * new) / (old - new);
        let value = if new < old {
            value.min(vertex)
        } else if new > old {
            value.max(vertex)
        } else {
            value
        };
        (log_likelihood(value, high, new) - log_likelihood(value, low, old)).clamp(-ODDS_MOST, ODDS_MOST)
    }

    /// How likely a block was.
    fn likelihood(&self, value: f64, arm: Arm) -> f64 {
        let (mean, variance) = self.next(is_new(arm), self.gain);
        let least = -0.5 * (UNLIKELY_MOST + variance.ln());
        log_likelihood(value, mean, variance).max(least).exp()
    }

    fn learn(&mut self, value: f64, arm: Arm) {
        let new = is_new(arm);
        let variance = self.variance(new);
        let error = value - self.level - new * self.gain;
        let (to_level, to_gain) = (self.level_var + new * self.both, self.both + new * self.gain_var);
        self.level += to_level / variance * error;
        self.gain += to_gain / variance * error;
        self.level_var += DRIFT - to_level * to_level / variance;
        self.both -= to_level * to_gain / variance;
        self.gain_var -= to_gain * to_gain / variance;
        self.squares += (error * error / variance).min(ERROR_MOST * self.squares / self.weight);
        self.weight += 1.0;
    }
}

fn is_new(arm: Arm) -> f64 {
    if arm == Arm::New { 1.0 } else { 0.0 }
}

pub(crate) fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len().max(1) as f64
}

/// Of the deviations from the mean, summed.
pub(crate) fn squares(of: &[f64]) -> f64 {
    of.iter().map(|v| (v - mean(of)).powi(2)).sum()
}

/// But for a constant.
fn log_likelihood(value: f64, mean: f64, variance: f64) -> f64 {
    -0.5 * ((value - mean).powi(2) / variance + variance.ln())
}

/// How likely a spread of a block makes what the pieces before the trial differ from their mean.
fn likelihood_before(before: &[f64], spread: f64) -> f64 {
    let freedom = before.len().saturating_sub(1) as f64;
    spread.powf(-freedom) * (-0.5 * (squares(before) / (PIECE * spread.powi(2))).min(UNLIKELY_MOST)).exp()
}

/// The capital after all blocks; 1 before the first bet. `before`: pieces of the time before the trial.
pub fn capital(blocks: &[Shown], before: &[f64], belief: Belief) -> f64 {
    let mut bettors = KINDS.map(|kind| Bettor::new(before, belief, kind));
    let mut trusts = KINDS.map(|kind| kind.trust * likelihood_before(before, kind.spread * belief.spread));
    let mut parts = PARTS.map(|(_, part)| part);
    for (passed, block) in blocks.iter().enumerate() {
        let all: f64 = trusts.iter().sum();
        trusts.iter_mut().zip(KINDS).for_each(|(trust, kind)| *trust = (1.0 - DEALT) * *trust / all + DEALT * kind.trust);
        if block.tossed {
            // Who is trusted how far follows from past blocks alone, so all together think the likelier of the new value the higher this one is.
            let new: f64 = bettors.iter().zip(trusts).map(|(b, trust)| trust / (1.0 + (-b.odds(block.value)).exp())).sum();
            let won = 2.0 * if block.arm == Arm::New { new } else { 1.0 - new };
            parts.iter_mut().zip(PARTS).filter(|(_, (from, _))| passed >= *from).for_each(|(part, _)| *part *= won);
        }
        for (bettor, trust) in bettors.iter_mut().zip(&mut trusts) {
            *trust *= bettor.likelihood(block.value, block.arm);
            bettor.learn(block.value, block.arm);
        }
    }
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BELIEF: Belief = Belief { spread: 0.05, gain: 0.05 };

    proptest! {
        /// Exact, not by sampling: over all 2^n ways the coin can fall, the mean capital of a workload that does not answer is 1.
        #[test]
        fn nobody_gains_on_average_where_the_knob_does_nothing(values in proptest::collection::vec(-3.0..3.0f64, 2..11)) {
            let tosses = values.len() - 1;
            let total: f64 = (0u32..1 << tosses)
                .map(|coins| {
                    let arm = |i: usize| if i == 0 || coins >> (i - 1) & 1 == 1 { Arm::New } else { Arm::Old };
                    let blocks: Vec<Shown> =
                        values.iter().enumerate().map(|(i, v)| Shown { arm: arm(i), tossed: i > 0, value: *v }).collect();
                    capital(&blocks, &[0.0, 0.1, -0.1], BELIEF)
                })
                .sum();
            prop_assert!((total / f64::from(1u32 << tosses) - 1.0).abs() < 1e-9);
        }

        /// The same where the new value is worse by whatever it likes in each block: the mean is at most 1.
        #[test]
        fn nobody_gains_on_average_where_the_new_value_is_worse(
            values in proptest::collection::vec((-1.0..1.0f64, 0.0..2.0f64), 2..11),
        ) {
            let tosses = values.len() - 1;
            let total: f64 = (0u32..1 << tosses)
                .map(|coins| {
                    let new = |i: usize| i == 0 || coins >> (i - 1) & 1 == 1;
                    let blocks: Vec<Shown> = values
                        .iter()
                        .enumerate()
                        .map(|(i, (v, harm))| match new(i) {
                            true => Shown { arm: Arm::New, tossed: i > 0, value: v - harm },
                            false => Shown { arm: Arm::Old, tossed: true, value: *v },
                        })
                        .collect();
                    capital(&blocks, &[], BELIEF)
                })
                .sum();
            prop_assert!(total / f64::from(1u32 << tosses) <= 1.0 + 1e-9);
        }
    }

    #[test]
    fn five_tosses_prove_a_large_effect() {
        let arms = [Arm::New, Arm::Old, Arm::Old, Arm::New, Arm::Old, Arm::New];
        let blocks: Vec<Shown> = (arms.iter().enumerate())
            .map(|(i, arm)| Shown { arm: *arm, tossed: i > 0, value: if *arm == Arm::New { 0.7 } else { 0.01 * i as f64 } })
            .collect();
        let capital = capital(&blocks, &[0.02, -0.02], BELIEF);
        assert!(capital > 1.0 / (0.05 * 0.9) && capital <= 32.0, "{capital}");
    }

    /// Blocks of RocksDB's updates, 128 against 32 KiB: the old value's blocks wait a fifth to a half less than before the trial, as the cache fills.
    #[test]
    fn a_level_that_has_moved_since_before_the_trial_costs_no_bets() {
        let capital = |arms: &str, ratios: &[f64], before: &[f64]| {
            let shown = |(i, (arm, ratio)): (usize, (char, &f64))| Shown {
                arm: if arm == 'N' { Arm::New } else { Arm::Old },
                tossed: i > 0,
                value: -ratio.ln(),
            };
            capital(&arms.chars().zip(ratios).enumerate().map(shown).collect::<Vec<_>>(), before, BELIEF)
        };
        let searched = capital("NOOONOO", &[0.33, 0.56, 0.77, 0.82, 0.36, 0.59, 0.79], &[0.02, -0.02]);
        assert!(searched > 25.0, "{searched}");
        let known = capital("NNOO", &[0.20, 0.22, 0.42, 0.55], &[]);
        assert!(known > 6.0, "{known}");
        // Runs of 32 pages, 128 against 512 KiB: a gain far below what is expected of large ones.
        let smaller = [
            0.737, 0.810, 0.812, 0.635, 0.679, 0.751, 0.838, 0.672, 0.677, 0.766, 0.663, 0.840, 0.648, 0.780, 0.664, 0.871,
            0.825, 0.817,
        ];
        let smaller = capital("NOONNOONNONONONOOO", &smaller, &[0.02, -0.02, 0.0]);
        assert!(smaller > 1000.0, "{smaller}");
        // Short runs, 32 against 64 KiB: a gain of a tenth while the level falls by a third, which the first tosses lose by.
        let falling = [
            0.895, 0.844, 0.847, 0.814, 0.855, 0.717, 0.809, 0.726, 0.742, 0.743, 0.624, 0.735, 0.67, 0.799, 0.643, 0.795,
            0.715, 0.781, 0.711, 0.787, 0.684, 0.767, 0.811, 0.737, 0.777, 0.815, 0.801, 0.729, 0.726, 0.776, 0.687,
        ];
        let falling = capital("NOOOONOOOONONONONONONNONOOONNON", &falling, &[0.02, -0.02, 0.0]);
        assert!(falling > 1.0 / (0.05 * 0.9), "{falling}");
    }
}
