// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paired blocks in, a `Verdict` out: a group-sequential paired t-test.
//!
//! After each pair of blocks from `pairs_min` to `pairs_max` the test looks once. The error allowed (1 - confidence) is split evenly
//! over the looks (Bonferroni) and over the two ways to win (stall, hit ratio), so that looking often never makes a false keep more
//! likely than stated. Pairs alternate their order (new old, old new, …), which cancels linear drift.
//! Source of the rule: Student's paired t-test; Bonferroni's inequality for the looks. Conservative rather than clever.

use crate::event::{Interval, Outcome, Verdict};
use crate::matched::Comparison;
use crate::settings::TrialSettings;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Spread below which a handful of equal pairs would claim certainty: pairs agree by chance.
const STALL_SPREAD_MIN: f64 = 0.02;
const HIT_SPREAD_MIN: f64 = 0.002;
/// Another device counts as worse when its stall rose by more than this ratio beyond doubt.
const OTHERS_MARGIN: f64 = 1.10;

/// How much further the hit ratio of mapped access may seem to fall. It cannot be seen without bias: what fault-around has mapped (up
/// to 16 pages a fault, more of them under a larger window's value) is hit without any event, and what it has not shows as a hit. Lowering
/// the window from 2048 to 16 KiB cut the stall of random faults to a fortieth while the visible ratio went from 11 to 3 %.
const MAPPED_MARGIN: f64 = 0.25;

/// What the pairs say so far.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Another pair is needed.
    Undecided,
    Decided(Verdict),
}

/// Looks at all pairs so far. `before`: where the old value could only be measured before the trial, those blocks against their own
/// mean; `pairs` are then the new blocks against that mean, and the test is the two-sample one (Student, equal variances). `others`: log stall ratios of other devices in the same blocks, one list a device.
/// `wasted`: share of speculative pages left unused, new minus old. `stale`: share of the new blocks' windows that came from files
/// which still carry an old value.
pub fn judge(
    pairs: &[Comparison],
    before: &[Comparison],
    others: &[Vec<f64>],
    wasted: f64,
    stale: f64,
    settings: &TrialSettings,
) -> Finding {
    let n = pairs.len() as u32;
    let last = n >= settings.pairs_max;
    if n < settings.pairs_min.max(2) {
        return Finding::Undecided;
    }
    let looks = f64::from(settings.pairs_max - settings.pairs_min.max(2) + 1);
    let alpha = (1.0 - settings.confidence) / looks;
    let stalls = |of: &[Comparison]| of.iter().map(|p| p.log_stall).collect::<Vec<f64>>();
    let hits = |of: &[Comparison]| of.iter().map(|p| p.hit_change).collect::<Vec<f64>>();
    let stall_bounds = |alpha| bounds(&stalls(pairs), &stalls(before), alpha, STALL_SPREAD_MIN);
    let hit_bounds = |alpha| bounds(&hits(pairs), &hits(before), alpha, HIT_SPREAD_MIN);
    // Two ways to win share the error. "Not worse" is required besides: it can only prevent a keep, so it needs no correction.
    let (stall_win, hit_win) = (stall_bounds(alpha / 2.0), hit_bounds(alpha / 2.0));
    let plain = 1.0 - settings.confidence;
    let (stall, hit) = (stall_bounds(plain), hit_bounds(plain));

    let stall_fell = stall_win.high < 0.0 && stall.mean.exp() <= 1.0 - settings.min_gain;
    let hits_rose = hit_win.low > 0.0;
    let stall_not_worse = stall.high < settings.stall_margin.ln();
    let mapped = pairs.iter().map(|p| p.mapped).sum::<f64>() / f64::from(n);
    let hits_not_worse = hit.low > -(settings.hit_margin + MAPPED_MARGIN * mapped);
    let worse_elsewhere =
        others.iter().any(|logs| logs.len() >= 3 && bounds(logs, &[], plain, STALL_SPREAD_MIN).low > OTHERS_MARGIN.ln());
    let over_budget = wasted > settings.waste_budget;

    let improved = (stall_fell && hits_not_worse) || (hits_rose && stall_not_worse);
    // Giving up early can only revert. Medians, because one odd block must not keep a hopeless trial alive for ten more seconds.
    let no_gain_left = n >= settings.pairs_min + 2
        && !(stall_fell || hits_rose)
        && median(stalls(pairs)) > (1.0 - settings.min_gain).ln()
        && median(hits(pairs)) < HIT_SPREAD_MIN * 5.0;
    let decided = |outcome, reason: String| {
        Finding::Decided(Verdict {
            outcome,
            reason,
            pairs: n,
            confidence: settings.confidence,
            stall_ratio: Some(Interval { low: stall.low.exp(), mean: stall.mean.exp(), high: stall.high.exp() }),
            hit_change: Some(hit),
        })
    };
    if stall.low > settings.stall_margin.ln() {
        decided(Outcome::Reverted, "stall is worse".into())
    } else if worse_elsewhere {
        decided(Outcome::Reverted, "another device got worse".into())
    } else if improved && over_budget {
        decided(Outcome::Reverted, format!("improved, but {:.0} % more of what was read ahead is left unused", wasted * 100.0))
    } else if improved {
        decided(
            Outcome::Kept,
            if stall_fell { "stall fell, hit ratio not worse" } else { "hit ratio rose, stall not worse" }.into(),
        )
    } else if stale > 0.5 && (last || no_gain_left) {
        let share = stale * 100.0;
        decided(
            Outcome::Reverted,
            format!("no gain shown; {share:.0} % of windows came from open files that keep an old value"),
        )
    } else if no_gain_left {
        decided(Outcome::Reverted, "no gain worth keeping".into())
    } else if last {
        decided(Outcome::Reverted, "inconclusive".into())
    } else {
        Finding::Undecided
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Mean (over that of `reference`, where there is one) and its two one-sided bounds at error `alpha` each, by Student's t.
fn bounds(values: &[f64], reference: &[f64], alpha: f64, spread_min: f64) -> Interval {
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let squares = |of: &[f64]| of.iter().map(|v| (v - mean(of)).powi(2)).sum::<f64>();
    let (n, m) = (values.len() as f64, reference.len() as f64);
    let (freedom, share) = if reference.is_empty() { (n - 1.0, 1.0 / n) } else { (n + m - 2.0, 1.0 / n + 1.0 / m) };
    let variance = (squares(values) + squares(reference)) / freedom;
    let t = StudentsT::new(0.0, 1.0, freedom).map(|t| t.inverse_cdf(1.0 - alpha)).unwrap_or(f64::INFINITY);
    let (mean, half) = (mean(values) - mean(reference), t * variance.sqrt().max(spread_min) * share.sqrt());
    Interval { low: mean - half, mean, high: mean + half }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator, so that the pure crate needs no dependency for noise: xorshift64*, Box-Muller.
    struct Noise(u64);
    impl Noise {
        fn uniform(&mut self) -> f64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
        }
        fn normal(&mut self) -> f64 {
            (-2.0 * self.uniform().max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
        }
    }

    fn run(effect: f64, spread: f64, noise: &mut Noise) -> Verdict {
        let (mut pairs, settings) = (Vec::new(), TrialSettings::default());
        loop {
            let log_stall = effect + spread * noise.normal();
            pairs.push(Comparison { log_stall, hit_change: 0.01 * noise.normal(), mapped: 0.0 });
            if let Finding::Decided(verdict) = judge(&pairs, &[], &[], 0.0, 0.0, &settings) {
                return verdict;
            }
        }
    }

    #[test]
    fn false_keeps_stay_below_the_stated_error() {
        let mut noise = Noise(7);
        let kept = (0..4000).filter(|_| run(0.0, 0.1, &mut noise).outcome == Outcome::Kept).count();
        assert!(kept <= 200, "{kept} of 4000 trials without effect were kept, 5 % allowed");
    }

    #[test]
    fn large_effects_are_found_in_few_pairs_and_harm_is_never_kept() {
        let mut noise = Noise(11);
        let gains: Vec<Verdict> = (0..500).map(|_| run(-0.7, 0.1, &mut noise)).collect();
        assert!(gains.iter().all(|v| v.outcome == Outcome::Kept));
        assert!(gains.iter().map(|v| f64::from(v.pairs)).sum::<f64>() / 500.0 < 5.5);
        assert!((0..500).all(|_| run(0.3, 0.1, &mut noise).outcome != Outcome::Kept));
    }

    #[test]
    fn with_blocks_from_before_false_keeps_stay_below_the_stated_error_too() {
        let (mut noise, settings) = (Noise(13), TrialSettings::default());
        let mut block = |effect: f64| Comparison {
            log_stall: effect + 0.1 * noise.normal(),
            hit_change: 0.01 * noise.normal(),
            mapped: 0.0,
        };
        let mut kept = |effect: f64| {
            let before = [block(0.0), block(0.0), block(0.0)];
            let mut pairs = Vec::new();
            loop {
                pairs.push(block(effect));
                if let Finding::Decided(v) = judge(&pairs, &before, &[], 0.0, 0.0, &settings) {
                    return v.outcome == Outcome::Kept;
                }
            }
        };
        assert!((0..2000).filter(|_| kept(0.0)).count() <= 100);
        assert!((0..500).filter(|_| kept(-1.0)).count() >= 490);
    }

    #[test]
    fn waste_over_budget_and_harm_to_others_revert_a_gain() {
        let pairs = vec![Comparison { log_stall: -0.7, hit_change: 0.0, mapped: 0.0 }; 6];
        let outcome = |others: &[Vec<f64>], wasted| match judge(&pairs, &[], others, wasted, 0.0, &TrialSettings::default()) {
            Finding::Decided(v) => v.outcome,
            Finding::Undecided => panic!("undecided"),
        };
        assert_eq!(outcome(&[], 0.0), Outcome::Kept);
        assert_eq!(outcome(&[], 0.5), Outcome::Reverted);
        assert_eq!(outcome(&[vec![0.5; 6]], 0.0), Outcome::Reverted);
    }

    #[test]
    fn a_rise_of_the_hit_ratio_alone_is_enough_unless_stall_is_worse() {
        let outcome = |log_stall| match judge(
            &[Comparison { log_stall, hit_change: 0.03, mapped: 0.0 }; 6],
            &[],
            &[],
            0.0,
            0.0,
            &TrialSettings::default(),
        ) {
            Finding::Decided(v) => v.outcome,
            Finding::Undecided => panic!("undecided"),
        };
        assert_eq!(outcome(0.0), Outcome::Kept);
        assert_eq!(outcome(0.2), Outcome::Reverted);
    }
}
