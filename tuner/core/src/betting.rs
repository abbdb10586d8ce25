// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measured blocks in, evidence out: the capital of somebody who starts with 1 and bets, block by block, that the coin can be told
//! from the measurement.
//!
//! Before a block a coin chose its value ([`crate::order`]). The bettor sees the block's measurement, not the coin, and stakes a
//! share on "this was the new value". If the knob does nothing, the measurement is the same whichever way the coin fell, so no bet on
//! a fair coin gains on average, however the noise is correlated, drifts or bursts: the capital is a nonnegative martingale, and by
//! Ville's inequality it ever reaches 1/a with probability at most a. Looking after every block costs nothing. If the new value is
//! worse in every block, betting on "better" loses on average, so the same holds.
//! Sources: Ville 1939; Ramdas, Ruf, Larsson, Koolen, "Admissible anytime-valid sequential inference must rely on nonnegative
//! martingales" (2020); Waudby-Smith, Ramdas, "Estimating means of bounded random variables by betting" (2024); the optimal stake for
//! Gaussian noise is the posterior probability of the arm. The stakes use past blocks only; a bad stake costs power, never validity.

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

/// Blocks' worth of the belief about the spread.
const BELIEF_BLOCKS: f64 = 10.0;
/// Log odds are cut here: a burst must not cost the capital, and a sure bet gains 1.96 of 2.
const ODDS_MOST: f64 = 4.0;
/// Variance by which the workload's level is thought to move from block to block, in variances of a block.
const DRIFT: f64 = 0.02;
/// Squared errors above so many variances count as that many.
const ERROR_MOST: f64 = 9.0;

/// What the bettor thinks: a Kalman filter of the old value's level and of the gain over it (Kalman 1960; two states, one measurement
/// a block). Variances and the covariance are in variances of a block.
struct Bettor {
    belief: Belief,
    level: f64,
    gain: f64,
    level_var: f64,
    gain_var: f64,
    both: f64,
    squares: f64,
    weight: f64,
}

impl Bettor {
    fn new(before: &[f64], belief: Belief) -> Bettor {
        let mean = before.iter().sum::<f64>() / before.len().max(1) as f64;
        let spread = belief.spread.powi(2);
        Bettor {
            belief,
            level: mean,
            gain: 2.0 * belief.gain,
            // A piece is a second, a block less than half of one.
            level_var: 0.4 / before.len().max(1) as f64 + DRIFT,
            gain_var: belief.gain.powi(2) / spread,
            both: 0.0,
            squares: BELIEF_BLOCKS * spread + before.iter().map(|v| (v - mean).powi(2)).sum::<f64>(),
            weight: BELIEF_BLOCKS + before.len().saturating_sub(1) as f64,
        }
    }

    /// Variance of the next measurement under the new (1) or the old value (0).
    fn variance(&self, new: f64) -> f64 {
        1.0 + self.level_var + new * (2.0 * self.both + self.gain_var)
    }

    /// Log odds that `value` was measured under the new value. They rise with it: without that, harm could be mistaken for gain.
    fn odds(&self, value: f64) -> f64 {
        let gain = self.gain.max(self.belief.gain);
        let variance = (self.variance(0.0) + self.variance(1.0)) / 2.0 * self.squares / self.weight;
        (gain * (value - self.level - gain / 2.0) / variance).clamp(-ODDS_MOST, ODDS_MOST)
    }

    fn learn(&mut self, value: f64, arm: Arm) {
        let new = if arm == Arm::New { 1.0 } else { 0.0 };
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

/// The second bettor thinks of spread and gain as so many times as large, and has this share of the capital. In quiet workloads the first
/// wins alone, and the share is small enough for five tosses still to do; in wild ones the first loses early what it never wins back.
const WILD: f64 = 6.0;
const WILD_SHARE: f64 = 0.1;

/// The capital after all blocks; 1 before the first bet. `before`: pieces of the time before the trial.
pub fn capital(blocks: &[Shown], before: &[f64], belief: Belief) -> f64 {
    let wild = Belief { spread: WILD * belief.spread, gain: WILD * belief.gain };
    (1.0 - WILD_SHARE) * won(blocks, Bettor::new(before, belief)) + WILD_SHARE * won(blocks, Bettor::new(before, wild))
}

/// What one bettor makes of 1.
fn won(blocks: &[Shown], mut bettor: Bettor) -> f64 {
    let mut capital = 1.0;
    for block in blocks {
        if block.tossed {
            let odds = bettor.odds(block.value);
            capital *= 2.0 / (1.0 + if block.arm == Arm::New { -odds } else { odds }.exp());
        }
        bettor.learn(block.value, block.arm);
    }
    capital
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
        assert!(capital > 25.0 && capital <= 32.0, "{capital}");
    }
}
