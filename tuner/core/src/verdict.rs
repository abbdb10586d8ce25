// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks in, a `Verdict` out, and no later than the second block of the new value a first look for harm.
//!
//! Whether the new value is better is decided by betting on the coin that chose each block's value ([`crate::betting`]): exact under
//! any noise, however often one looks. The allowed error (1 - confidence) is split between the two ways to win: 90 % for a
//! fall of stall, of which five tosses can prove a large one, and the rest for a rise of the hit ratio. All other conditions can only
//! prevent a keep, so they need no such care: Student's two-sample t.
//! Where running streams keep the new window no coin can be tossed; then new blocks are compared with those from before the trial, the
//! error split evenly over looks and ways (Bonferroni), and [`crate::trial`] asks for a large gain besides.

use crate::betting::{Belief, Shown, capital, mean, squares};
use crate::event::{Arm, Interval, Outcome, Verdict};
use crate::matched::Comparison;
use crate::settings::TrialSettings;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Spread of a block below which a handful of equal blocks would claim certainty: they agree by chance.
const STALL_SPREAD_MIN: f64 = 0.02;
const HIT_SPREAD_MIN: f64 = 0.002;
/// What is believed of a block before any is seen. Blocks of the testbed's scenarios spread by 0.003 to 0.060, in the median 0.033.
const STALL_SPREAD: f64 = 0.05;
/// Smallest gain that is bet on, however small a one is to be kept: from below 0.2 % bets never end.
const STALL_GAIN_MIN: f64 = 0.02;
const HIT_BELIEF: Belief = Belief { spread: 0.005, gain: 0.005 };
/// Share of the allowed error that goes to a fall of stall: 1 / (0.05 × 0.9) is below what five tosses can show,
/// 0.85 × 1.96^5.
const STALL_SHARE: f64 = 0.9;
/// Harm that is to be excluded (by `harm_errors`) once two blocks of the new value were seen.
const HARM: f64 = 1.10;
/// Where the standard error is above that of the testbed's noise, harm must show by so many of what is above it: in a wild workload
/// two blocks that look worse mean nothing.
const HARM_QUIET: f64 = 0.06;
const HARM_WILD: f64 = 3.0;
/// Standard errors, and most in all, by which the gain may be larger than it seems before a trial is given up.
const HOPE_ERRORS: f64 = 1.5;
const HOPE_MOST: f64 = 0.1;
/// A new block that waits less than this share is counted as if it waited so much, where it is compared with what was before the trial:
/// next to nothing varies by large factors from block to block (0.05 to 0.6 on a busy machine), and the one is as good as the other.
const ONE_WAY_ENOUGH: f64 = 0.25;
/// Where a gain worth keeping is in sight, the last pair is so many times later: a wild workload's blocks spread by 0.5 and more
/// (RocksDB's mixgraph: 32 KiB seemed to save a quarter of the stall and was given up after 12 pairs), and 13 pairs do not show 9 % where they
/// spread by 0.08. The bet stays exact however long it takes, and half of the blocks have the gain.
const IN_SIGHT: u32 = 2;
/// Where the coin was tossed: where it was not, streams keep the new window, and what comes next is measured with it.
const UNDECIDED: &str = "inconclusive, but a gain was in sight";
/// With more than this share of windows from files that keep an old value, what changed is not the new value's doing.
/// No reason not to try: a trial's write takes along the files that were opened under any value that keepahead has seen (a person's, before a
/// take-back).
const STALE_MOST: f64 = 0.9;
/// Readers who wait less and yet get less than this share of what the old value's blocks deliver lose elsewhere what they gain, and what they lose is no
/// wait: under windows of 2 MiB a copy at 1.1 GB/s took twice as long on a virtual machine, in kernel work that is neither sleep nor fill.
const DELIVERED_LEAST: f64 = 0.9;
/// And a new block reads more than an old one in at most this share of all pairs of the two (Mann and Whitney 1947): of three to six blocks of each, whose
/// order is chance, 5 to 12 % look like that. Of less than three of either none may be overtaken.
const OVERTAKEN_MOST: f64 = 0.2;
const OVERTAKEN_FROM: usize = 3;
/// Another device counts as worse when its stall rose by more than this ratio beyond doubt.
const OTHERS_MARGIN: f64 = 1.10;

/// How much further the hit ratio of mapped access may seem to fall. It cannot be seen without bias: what fault-around has mapped (up
/// to 16 pages a fault, more of them under a larger window's value) is hit without any event, and what it has not shows as a hit. Lowering
/// the window from 2048 to 16 KiB cut the stall of random faults to a fortieth while the visible ratio went from 11 to 3 %.
const MAPPED_MARGIN: f64 = 0.25;

/// And by so many standard errors of chance more. In blocks of two faults each (64 MiB, four a second) the hit ratio was 50 % three times, and a value
/// that waited a hundredth as long was called worse for its own 25 %. In three blocks of 512 pages each it is two to four points.
const CHANCE_ERRORS: f64 = 2.0;

/// What the pairs say so far.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Another pair is needed.
    Undecided,
    Decided(Verdict),
}

/// One block against what the workload was before the trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub arm: Arm,
    /// A coin chose the arm.
    pub tossed: bool,
    pub against: Comparison,
}

/// All that was measured so far.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub blocks: &'a [Measured],
    /// Pieces of the time before the trial, against their own whole.
    pub before: &'a [Comparison],
    /// The old value could only be measured before the trial: all blocks are the new value's.
    pub one_way: bool,
    /// Nothing of the old value was seen but a second before the trial, which may be like none that follows.
    pub only_a_second: bool,
    /// Of each other device: its blocks' log stall, with the arm that this device ran with.
    pub others: &'a [Vec<(Arm, f64)>],
    /// Pages a second that each block delivered through `read(2)`, by the value that it ran with; empty where many wait for mapped ones.
    pub delivered: &'a [(Arm, f64)],
    /// Share of speculative pages left unused, new minus old.
    pub wasted: f64,
    /// Share of the new blocks' windows that came from files which still carry an old value.
    pub stale: f64,
}

/// One quantity of all blocks, by arm.
struct Samples {
    new: Vec<f64>,
    old: Vec<f64>,
    before: Vec<f64>,
    spread_min: f64,
}

impl Samples {
    fn of(seen: &Seen, what: impl Fn(&Comparison) -> f64, spread_min: f64) -> Samples {
        let arm = |arm| seen.blocks.iter().filter(|b| b.arm == arm).map(|b| what(&b.against)).collect();
        Samples { new: arm(Arm::New), old: arm(Arm::Old), before: seen.before.iter().map(&what).collect(), spread_min }
    }

    /// New minus old, with one-sided bounds at error `alpha` each.
    fn bounds(&self, one_way: bool, alpha: f64) -> Interval {
        bounds(&self.new, if one_way { &self.before } else { &self.old }, alpha, self.spread_min)
    }
}

/// One look: what all blocks so far say of stall and hits.
struct Look<'a> {
    seen: &'a Seen<'a>,
    settings: &'a TrialSettings,
    pairs: u32,
    stalls: Samples,
    hits: Samples,
    stall: Interval,
    hit: Interval,
}

/// Looks at all blocks so far.
pub fn judge(seen: &Seen, settings: &TrialSettings) -> Finding {
    let (mut stalls, hits) =
        (Samples::of(seen, |c| c.log_stall, STALL_SPREAD_MIN), Samples::of(seen, |c| c.hit_change, HIT_SPREAD_MIN));
    if seen.one_way {
        stalls.new.iter_mut().for_each(|log| *log = log.max(ONE_WAY_ENOUGH.ln()));
    }
    let plain = 1.0 - settings.confidence;
    let (stall, hit) = (stalls.bounds(seen.one_way, plain), hits.bounds(seen.one_way, plain));
    let pairs = (seen.blocks.len() / if seen.one_way { 1 } else { 2 }) as u32;
    let look = Look { seen, settings, pairs, stalls, hits, stall, hit };
    let verdict = look.harm().or_else(|| {
        let (outcome, reason) = if pairs < settings.pairs_min.max(2) { None } else { look.decide() }?;
        Some(look.verdict(outcome, reason))
    });
    verdict.map_or(Finding::Undecided, Finding::Decided)
}

impl Look<'_> {
    fn verdict(&self, outcome: Outcome, reason: String) -> Verdict {
        let stall = Interval { low: self.stall.low.exp(), mean: self.stall.mean.exp(), high: self.stall.high.exp() };
        let known = stall.mean.is_finite() && stall.high.is_finite();
        Verdict {
            outcome,
            undecided: reason == UNDECIDED,
            reason,
            pairs: self.pairs,
            confidence: self.settings.confidence,
            stall_ratio: known.then_some(stall),
            hit_change: known.then_some(self.hit),
            looked: None,
        }
    }

    fn harm(&self) -> Option<Verdict> {
        let ratio = harm(&self.stalls, self.settings.harm_errors)?.exp();
        let percent = (ratio - 1.0) * 100.0;
        let (outcome, reason) = match ratio > self.settings.stall_margin {
            true => (Outcome::Aborted, format!("stall seems {percent:.0} % worse than {}", self.old_ones())),
            false => (Outcome::Reverted, "no gain in sight, and harm cannot be excluded".into()),
        };
        let undecided = outcome == Outcome::Aborted && self.seen.only_a_second;
        Some(Verdict { undecided, looked: Some(ratio), ..self.verdict(outcome, reason) })
    }

    /// What the new blocks were compared with.
    fn old_ones(&self) -> &'static str {
        if self.stalls.old.is_empty() { "before the trial" } else { "in the old blocks and before them" }
    }

    /// Why the new value stays, if it was shown to improve cache hits.
    fn improved(&self) -> Option<&'static str> {
        let (stall_fell, hits_rose) = proven(self.seen, &self.stalls, &self.hits, self.settings);
        let stall_fell = stall_fell && self.stall.mean.exp() <= 1.0 - self.settings.min_gain;
        let stall_not_worse = self.stall.high < self.settings.stall_margin.ln();
        let hits_not_worse = self.hit.low > -self.hit_margin();
        if self.seen.stale > STALE_MOST {
            None
        } else if stall_fell && hits_not_worse {
            Some("stall fell, hit ratio not worse")
        } else {
            (hits_rose && stall_not_worse).then_some("hit ratio rose, stall not worse")
        }
    }

    /// How far the hit ratio may seem to fall.
    fn hit_margin(&self) -> f64 {
        let blocks = self.seen.blocks;
        let mapped = blocks.iter().map(|b| b.against.mapped).sum::<f64>() / blocks.len() as f64;
        let of = |arm| blocks.iter().filter(|b| b.arm == arm).map(|b| b.against.hit_variance).collect::<Vec<_>>();
        let before = || self.seen.before.iter().map(|piece| piece.hit_variance).collect();
        let old = if self.seen.one_way { before() } else { of(Arm::Old) };
        let of_mean = |variances: &[f64]| mean(variances) / variances.len().max(1) as f64;
        self.settings.hit_margin + mapped * (MAPPED_MARGIN + CHANCE_ERRORS * (of_mean(&of(Arm::New)) + of_mean(&old)).sqrt())
    }

    /// So that whatever else gets better, it would not be kept.
    fn hits_are_worse(&self) -> bool {
        self.hit.high < -self.hit_margin()
    }

    /// Giving up early can only revert. Without standard errors of doubt one true gain of 10 % in ten would be given up.
    fn no_gain_left(&self) -> bool {
        let old = if self.seen.one_way { &self.stalls.before } else { &self.stalls.old };
        let doubt = (HOPE_ERRORS * error(&self.stalls.new, old, STALL_SPREAD_MIN)).min(HOPE_MOST);
        self.pairs >= self.settings.pairs_min + 2
            && self.stall.mean - doubt > (1.0 - self.settings.min_gain).ln()
            && self.hit.mean < HIT_SPREAD_MIN * 5.0
    }

    /// Whether stall seems to have fallen by what is worth keeping, blocks of both values being compared.
    fn is_in_sight(&self) -> bool {
        let may_be_kept = !self.seen.one_way && self.seen.stale <= STALE_MOST;
        may_be_kept && self.stall.mean <= (1.0 - self.settings.min_gain).ln()
    }

    fn pairs_max(&self) -> u32 {
        let more = if self.is_in_sight() { IN_SIGHT } else { 1 };
        self.settings.pairs_max.saturating_mul(more)
    }

    fn decide(&self) -> Option<(Outcome, String)> {
        let (wasted, stale) = (self.seen.wasted, self.seen.stale * 100.0);
        if self.stall.low > self.settings.stall_margin.ln() {
            return Some((Outcome::Reverted, "stall is worse".into()));
        }
        if worse_elsewhere(self.seen.others, 1.0 - self.settings.confidence) {
            return Some((Outcome::Reverted, "another device got worse".into()));
        }
        if self.improved().is_some() && self.pairs < self.pairs_max() && !known_elsewhere(self.seen) {
            return None;
        }
        if let Some(reason) = self.improved() {
            if let Some(share) = delivers_less(self.seen.delivered) {
                return Some((Outcome::Reverted, format!("{reason}, but {:.0} % less was read", 100.0 * (1.0 - share))));
            }
            let percent = wasted * 100.0;
            return Some(match wasted > self.settings.waste_budget {
                true => (Outcome::Reverted, format!("improved, but {percent:.0} % more of what is read ahead is left unused")),
                false => (Outcome::Kept, reason.into()),
            });
        }
        if self.hits_are_worse() {
            return Some((Outcome::Reverted, "the hit ratio is worse".into()));
        }
        let (no_gain_left, last) = (self.no_gain_left(), self.pairs >= self.pairs_max());
        let reason = match no_gain_left {
            _ if !no_gain_left && !last => return None,
            _ if stale > 50.0 => {
                format!("no gain shown; {stale:.0} % of windows came from open files that keep an old value")
            }
            true => "no gain worth keeping".into(),
            false if self.is_in_sight() => UNDECIDED.into(),
            false => "inconclusive".into(),
        };
        Some((Outcome::Reverted, reason))
    }
}

/// Whether stall fell and whether the hit ratio rose, beyond the allowed error.
fn proven(seen: &Seen, stalls: &Samples, hits: &Samples, settings: &TrialSettings) -> (bool, bool) {
    let allowed = 1.0 - settings.confidence;
    if seen.one_way {
        let looks = f64::from(settings.pairs_max - settings.pairs_min.max(2) + 1);
        let alpha = allowed / looks / 2.0;
        return (stalls.bounds(true, alpha).high < 0.0, hits.bounds(true, alpha).low > 0.0);
    }
    let shown = |what: fn(&Comparison) -> f64| -> Vec<Shown> {
        seen.blocks.iter().map(|b| Shown { arm: b.arm, tossed: b.tossed, value: what(&b.against) }).collect()
    };
    let before = |what: fn(&Comparison) -> f64| seen.before.iter().map(what).collect::<Vec<f64>>();
    let less_stall = |c: &Comparison| -c.log_stall;
    let more_hits = |c: &Comparison| c.hit_change;
    let belief = Belief { spread: STALL_SPREAD, gain: settings.min_gain.max(STALL_GAIN_MIN) };
    (
        capital(&shown(less_stall), &before(less_stall), belief) >= 1.0 / (allowed * STALL_SHARE),
        capital(&shown(more_hits), &before(more_hits), HIT_BELIEF) >= 1.0 / (allowed * (1.0 - STALL_SHARE)),
    )
}

/// From the second block of the new value on: the log stall ratio, where it looks no better than before and harm of 10 % is not
/// excluded. A trial that looks better goes on whatever its noise; one that does not costs nothing when it ends.
fn harm(stalls: &Samples, errors: f64) -> Option<f64> {
    if stalls.new.len() < 2 {
        return None;
    }
    let old: Vec<f64> = stalls.before.iter().chain(&stalls.old).copied().collect();
    let ratio = mean(&stalls.new) - mean(&old);
    let error = error(&stalls.new, &old, STALL_SPREAD);
    let allowed = (HARM.ln() - errors * error).max(HARM_WILD * (error - HARM_QUIET)).max(0.0);
    (ratio > allowed).then_some(ratio)
}

/// What the new value's blocks deliver of what the old one's do, block against block in the median, where that is clearly less.
fn delivers_less(rates: &[(Arm, f64)]) -> Option<f64> {
    let (new, old) = by_arm(rates);
    let overtaken_most = if new.len().min(old.len()) < OVERTAKEN_FROM { 0.0 } else { OVERTAKEN_MOST };
    // Of each pair of a new block and an old one (the median of these is Hodges and Lehmann's estimate, 1963): one slow block says nothing.
    let mut ratios: Vec<f64> =
        new.iter().flat_map(|n| old.iter().map(move |o| n / o)).filter(|ratio| !ratio.is_nan()).collect();
    ratios.sort_by(f64::total_cmp);
    let share = *ratios.get(ratios.len() / 2)?;
    let overtaken = ratios.iter().filter(|ratio| **ratio > 1.0).count() as f64 / ratios.len() as f64;
    (share < DELIVERED_LEAST && overtaken <= overtaken_most).then_some(share)
}

fn worse_elsewhere(others: &[Vec<(Arm, f64)>], alpha: f64) -> bool {
    others.iter().any(|logs| {
        let (new, old) = by_arm(logs);
        enough(&new, &old) && bounds(&new, &old, alpha, STALL_SPREAD_MIN).low > OTHERS_MARGIN.ln()
    })
}

/// Blocks of another device from which it is told whether it got worse.
fn enough(new: &[f64], old: &[f64]) -> bool {
    new.len() >= 3 && old.len() >= 2
}

/// Whether that can be told of every device that was busy in most blocks.
fn known_elsewhere(seen: &Seen) -> bool {
    let mut busy = seen.others.iter().filter(|logs| logs.len() * 2 > seen.blocks.len());
    busy.all(|logs| {
        let (new, old) = by_arm(logs);
        enough(&new, &old)
    })
}

/// Of the new value's blocks, and of the old one's.
fn by_arm(logs: &[(Arm, f64)]) -> (Vec<f64>, Vec<f64>) {
    let of = |arm| logs.iter().filter(|(a, _)| *a == arm).map(|(_, log)| *log).collect();
    (of(Arm::New), of(Arm::Old))
}

/// Standard error of the difference of the two means, with the spread that both share.
fn error(values: &[f64], reference: &[f64], spread_min: f64) -> f64 {
    let (n, m) = (values.len() as f64, reference.len() as f64);
    let freedom = (n + m - 2.0).max(1.0);
    ((squares(values) + squares(reference)) / freedom).sqrt().max(spread_min) * (1.0 / n + 1.0 / m.max(1.0)).sqrt()
}

/// Difference of the means and its two one-sided bounds at error `alpha` each, by Student's t.
fn bounds(values: &[f64], reference: &[f64], alpha: f64, spread_min: f64) -> Interval {
    let freedom = (values.len() + reference.len()) as f64 - 2.0;
    let t = match StudentsT::new(0.0, 1.0, freedom) {
        Ok(t) if !values.is_empty() && !reference.is_empty() => t.inverse_cdf(1.0 - alpha),
        _ => f64::INFINITY,
    };
    let (mean, half) = (mean(values) - mean(reference), t * error(values, reference, spread_min));
    Interval { low: mean - half, mean, high: mean + half }
}

#[cfg(test)]
#[path = "verdict/tests.rs"]
mod tests;
