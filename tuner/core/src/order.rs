// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which value the next block of a trial runs with: takes the trial's seed and the blocks so far, gives the arm and whether a coin
//! chose it.
//!
//! The verdict stands on this coin and on nothing else: whatever the workload does, and however its noise hangs together, it does
//! not know how the coin will fall. (Fisher, "The Design of Experiments", 1935: randomisation as the basis of inference.)

use crate::event::Arm;

/// Blocks of the same value in a row after which the other's turn comes without a coin: a trial needs both, and soon.
const RUN_MOST: usize = 4;

/// The arm of the block after `so_far`, and whether it was tossed for. The first block is the new value's: the old one's level is
/// known from before the trial.
pub fn next_arm(seed: u64, so_far: &[Arm]) -> (Arm, bool) {
    let Some(last) = so_far.last() else { return (Arm::New, false) };
    let run = so_far.iter().rev().take_while(|arm| *arm == last).count();
    if run >= RUN_MOST {
        return (if *last == Arm::New { Arm::Old } else { Arm::New }, false);
    }
    let toss = mix(seed.wrapping_add((so_far.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    (if toss >> 63 == 0 { Arm::New } else { Arm::Old }, true)
}

/// A seed from what identifies a trial and could not be foreseen by its workload: its number and the nanosecond of its start.
pub fn seed(trial: u64, start: u64) -> u64 {
    mix(mix(trial) ^ start)
}

/// The output function of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64, blocks: usize) -> Vec<(Arm, bool)> {
        let mut arms = Vec::new();
        (0..blocks)
            .map(|_| {
                let next = next_arm(seed, &arms);
                arms.push(next.0);
                next
            })
            .collect()
    }

    #[test]
    fn the_coin_is_fair_and_knows_nothing_of_the_toss_before() {
        let (mut new, mut same, mut tossed) = (0, 0, 0);
        for trial in 0..10_000 {
            let blocks = order(seed(trial, trial * 1_000_000_007), 24);
            for pair in blocks.windows(2).filter(|pair| pair[1].1) {
                tossed += 1;
                new += i32::from(pair[1].0 == Arm::New);
                same += i32::from(pair[0].0 == pair[1].0);
            }
        }
        // Five standard deviations of a fair coin.
        let off = |heads: i32| (f64::from(heads) - f64::from(tossed) / 2.0).abs() / (f64::from(tossed) / 4.0).sqrt();
        assert!(off(new) < 5.0 && off(same) < 5.0, "{new} new, {same} the same, of {tossed}");
    }

    #[test]
    fn both_values_come_within_four_blocks_and_a_seed_gives_one_order() {
        for seed in 0..1000 {
            let blocks = order(seed, 24);
            assert!(blocks.windows(RUN_MOST + 1).all(|w| w.iter().any(|b| b.0 != w[0].0)));
            assert_eq!(blocks, order(seed, 24));
        }
    }
}
