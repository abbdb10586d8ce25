// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a trial's blocks say so far: whether the difference is plain, whether the running block does harm, what there is to be judged.

use super::{ONE_WAY_GAIN, Trial, load};
use crate::event::{Arm, Outcome, Verdict};
use crate::features::Features;
use crate::matched::{Comparison, compare};
use crate::order::next_arm;
use crate::sample::Counters;
use crate::settings::TrialSettings;
use crate::units::Nanos;
use crate::verdict::{Finding, Measured, Seen, judge};
use crate::window::{Mark, Span};

/// Demand this far from the baseline's (in share of mapped or of long-run pages), and from that of each of its seconds, is another workload. (RocksDB's
/// updates are mostly lookups in one second and mostly compaction in the next.)
const CHANGED: f64 = 0.4;
/// With less than this share of the reference's load after [`STARVED_AFTER`], the candidate has stopped the workload.
const STARVED: f64 = 0.2;
const STARVED_AFTER: Nanos = Nanos::from_millis(300);
/// So long after a switch what a value did in earlier blocks speaks for it.
const QUEUED_MOST: Nanos = Nanos::from_secs(1);
/// Waits that make a harm ratio believable.
const HARM_WAITS: u64 = 8;
/// Stall ratio, the new value's worst block over the old one's best, up to which a gain is plain: ten times the spread of a block.
const PLAIN: f64 = 0.6;
/// Share of the waiting through mappings up to which a workload is one of `read(2)`.
const READ_MOST: f64 = 0.1;

impl Trial {
    /// What was measured of an arm, block by block.
    pub fn blocks_of(&self, arm: Arm) -> Vec<Span> {
        self.blocks.iter().filter(|(a, _)| *a == arm).map(|(_, span)| *span).collect()
    }

    /// The same as one span.
    pub fn whole(&self, arm: Arm) -> Option<Span> {
        self.blocks_of(arm).into_iter().reduce(|a, b| a.plus(&b))
    }

    /// Where it did harm: no block of the new value could end.
    pub(crate) fn hurt_at_once(&self) -> bool {
        self.whole(Arm::New).is_none()
    }

    /// How far the new value's blocks so far are below the old one's level where that is plain, in times of [`PLAIN`] in the logarithm. Only
    /// blocks that have ended count, so the coin of the one that runs knows nothing of its length; but no coin has chosen the first, and it may end
    /// as soon as it looks like that.
    pub(super) fn plain(&self, mark: &Mark) -> Option<f64> {
        if self.turnover != Nanos(0) {
            return None;
        }
        let times = match self.measured {
            Some(start) if self.blocks.is_empty() => (self.log_stall(&start.until(mark)) / PLAIN.ln()).min(1.0),
            _ => self.lead() / PLAIN.ln(),
        };
        // Where some read and some fault a block must hold both.
        let mapped = Features::of(&self.baseline).mmap_share;
        let mixed = mapped > READ_MOST && mapped < 1.0 - READ_MOST;
        (times >= 1.0).then_some(if mixed { 1.0 } else { times })
    }

    /// ln(stall) of the new value's worst block over the old one's best, or over what was before; below 0 where all are better.
    fn lead(&self) -> f64 {
        let worst = |arm, of: fn(f64, f64) -> f64| self.blocks_of(arm).iter().map(|span| self.log_stall(span)).reduce(of);
        let (new, old) = (worst(Arm::New, f64::max).unwrap_or(0.0), worst(Arm::Old, f64::min).unwrap_or(0.0));
        new - old.min(0.0)
    }

    /// Against what was before the trial; 0 where the two cannot be compared.
    fn log_stall(&self, span: &Span) -> f64 {
        compare(span, &self.baseline).map_or(0.0, |c| c.log_stall)
    }

    /// Why the block with the new value must end now, if it must.
    pub(super) fn harm(&self, mark: &Mark, settings: &TrialSettings) -> Option<String> {
        let (span, elapsed) = (self.switched.until(mark), mark.at.since(self.switched.at));
        if elapsed < settings.washout {
            return None;
        }
        let reference = self.reference();
        // Two ticks of many streams in one queue may show waits and hardly a page. Where the value did better in every block that ended, what
        // it did there counts too. (48 streams: 0.3 to 0.5 times in four blocks, 44.7 times in 0.2 s of the fifth.)
        let did_well = self.earlier().filter(|_| elapsed < QUEUED_MOST && self.lead() < 0.0);
        let tried = did_well.map_or(span, |before| before.plus(&span));
        let waits = waited(&span.counters);
        let ratio = compare(&tried, &reference).map_or(1.0, |c| c.log_stall.exp());
        if ratio > settings.harm_ratio && self.turnover == Nanos(0) && (waits >= HARM_WAITS || elapsed >= STARVED_AFTER) {
            return Some(format!("stall at equal load is {ratio:.1} times the old value's"));
        }
        let expected = reference.per_second(load(&reference.counters)) * span.seconds;
        // A value under which a block has just been read has stopped nobody.
        let is_first = self.blocks.last().is_none_or(|(arm, _)| *arm == Arm::Old);
        let starved =
            is_first && elapsed >= STARVED_AFTER && expected >= 64.0 && (load(&span.counters) as f64) < STARVED * expected;
        // Several tasks in long waits show no stall before they wake: little progress is all there is to see.
        (starved && reference.counters.stall_ns() > 0).then(|| "the workload all but stopped".to_string())
    }

    /// The new value's blocks before the latest switch to it.
    fn earlier(&self) -> Option<Span> {
        let last_old = self.blocks.iter().rposition(|(arm, _)| *arm == Arm::Old)?;
        let new = self.blocks[..last_old].iter().filter(|(arm, _)| *arm == Arm::New).map(|(_, span)| *span);
        new.reduce(|a, b| a.plus(&b))
    }

    /// A second alone was seen before, and a program's first may be like none that follows: a volume gives its burst away, a file is opened.
    pub(super) fn is_thin(&self) -> bool {
        self.before.len() < 2
    }

    /// And no block of the old value since.
    pub(super) fn only_a_second(&self) -> bool {
        self.is_thin() && self.whole(Arm::Old).is_none()
    }

    /// All old blocks so far, or the baseline before the first one.
    fn reference(&self) -> Span {
        self.whole(Arm::Old).unwrap_or(self.baseline)
    }

    pub(super) fn judge(&self, blocks: &[Measured], settings: &TrialSettings) -> Finding {
        let before: Vec<Comparison> = self.before.iter().filter_map(|piece| compare(piece, &self.baseline)).collect();
        let others = if self.one_way { Vec::new() } else { self.others.log_stalls(&self.arms()) };
        let wasted = self.unused(Arm::New) - self.unused(Arm::Old);
        let seen = Seen {
            blocks,
            before: &before,
            one_way: self.one_way,
            only_a_second: self.only_a_second(),
            others: &others,
            delivered: &self.delivered(),
            wasted,
            stale: self.stale(),
        };
        match judge(&seen, settings) {
            Finding::Decided(verdict) if self.one_way => {
                Finding::Decided(doubt(verdict, self.is_thin(), self.change.is_some()))
            }
            finding => finding,
        }
    }

    /// How what an old block shows differs from all that was seen before the trial.
    pub(super) fn another_workload(&self, latest: &Span) -> Option<String> {
        let all = self.before.iter().all(|piece| changed(piece, latest).is_some());
        changed(&self.baseline, latest).filter(|_| all)
    }

    /// Pages a second that were read, block by block; of the old value before the trial where it could only be measured there. Nothing where many wait for
    /// mapped pages: what is read beside lookups comes in bursts (a database's compaction), and says nothing of them.
    pub(super) fn delivered(&self) -> Vec<(Arm, f64)> {
        if self.change.is_some() || Features::of(&self.baseline).mmap_share > READ_MOST {
            return Vec::new();
        }
        let rate = |span: &Span| span.per_second(span.counters.read_pages);
        let blocks = self.counted().map(|(_, arm, span)| (arm, rate(&span)));
        let before = self.before.iter().filter(|_| self.one_way).map(|span| (Arm::Old, rate(span)));
        blocks.chain(before).collect()
    }

    pub(super) fn arms(&self) -> Vec<Arm> {
        self.blocks.iter().map(|(arm, _)| *arm).collect()
    }

    /// Each block against what was before the trial; `None` as soon as one cannot be compared.
    pub(super) fn measured_blocks(&self) -> Option<Vec<Measured>> {
        let arms = self.arms();
        let measured = |(i, arm, span): (usize, Arm, Span)| {
            let tossed = next_arm(self.seed, &arms[..i]).1;
            compare(&span, &self.baseline).map(|against| Measured { arm, tossed, against })
        };
        self.counted().map(measured).collect()
    }

    /// The blocks that are judged, with their numbers. One way the first is none: it may have ended because it looked good, and no coin makes up for that
    /// where there is none.
    fn counted(&self) -> impl Iterator<Item = (usize, Arm, Span)> {
        let all = self.blocks.iter().enumerate().map(|(i, (arm, span))| (i, *arm, *span));
        all.filter(|(i, arm, _)| !self.one_way || *arm == Arm::New && *i > 0)
    }

    /// Share of the speculative pages that an arm brought in and nobody has used.
    fn unused(&self, arm: Arm) -> f64 {
        self.whole(arm).map_or_else(|| Features::of(&self.baseline).unused, |span| Features::of(&span).unused)
    }

    fn stale(&self) -> f64 {
        self.whole(Arm::New).map_or(0.0, |span| Features::of(&span).stale_share)
    }
}

/// A gain that was only seen one way must be large: a drift of the workload is not cancelled. It must be plain where one second alone
/// was seen before: a program's first may be slow by itself.
fn doubt(mut verdict: Verdict, thin: bool, region: bool) -> Verdict {
    if verdict.outcome == Outcome::Kept {
        let above = |enough: f64| verdict.stall_ratio.is_some_and(|r| r.high > enough);
        if thin && above(PLAIN) {
            verdict.outcome = Outcome::Void;
            verdict.reason =
                format!("the gain is too small to believe after a second (the upper end of stall must be below x{PLAIN:.2})");
        } else if above(ONE_WAY_GAIN) {
            verdict.outcome = Outcome::Reverted;
            verdict.reason =
                format!("the gain is too small to believe (the upper end of stall must be below x{ONE_WAY_GAIN:.2})");
        }
        verdict.reason += match region {
            true => "; without it was measured before only, because the cache takes time to change",
            false => "; the old value was measured before only, because running streams keep their window",
        };
    }
    verdict
}

fn waited(c: &Counters) -> u64 {
    c.read_miss + c.read_late + c.mmap_miss + c.mmap_late
}

fn changed(baseline: &Span, now: &Span) -> Option<String> {
    let (a, b) = (Features::of(baseline), Features::of(now));
    let moved = |what: &str, from: f64, to: f64| {
        ((from - to).abs() > CHANGED)
            .then(|| format!("the workload changed: {what} went from {:.0} to {:.0} %", from * 100.0, to * 100.0))
    };
    moved("the share of waiting through mappings", a.mmap_share, b.mmap_share)
        .or_else(|| moved("the share of long runs", a.long_share(), b.long_share()))
}
