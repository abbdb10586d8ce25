// SPDX-License-Identifier: MIT OR Apache-2.0
//! One trial: candidate and present value take turns in short blocks on the live workload, in an order that a coin decides.
//!
//! Takes a tick's counters, gives what to do next: wait, switch the knob, or end with a verdict. A block begins when the knob is
//! switched; its start is washed out, because windows of the other value are still in flight (the kernel keeps a stream's window
//! until its next readahead call, `mm/readahead.c`); it ends by demanded pages and time.

use crate::device::BdiName;
use crate::elsewhere::Elsewhere;
use crate::event::{Arm, Block, Outcome, Proposal, Verdict};
use crate::features::{Features, evidence};
use crate::matched::compare;
use crate::order::{next_arm, seed};
use crate::region::{Advice, Change};
use crate::sample::Counters;
use crate::settings::TrialSettings;
use crate::units::{Kib, Nanos, PAGE_BYTES, mib};
use crate::verdict::Finding;
use crate::window::{Mark, Span};
use serde::{Deserialize, Serialize};

/// Windows this much above what a value allows are left over from a larger one.
pub(crate) const LEFT_OVER: f64 = 1.25;
/// How long a block waits for left-over windows to go. A stream never shrinks its window while it runs (async readahead takes the
/// larger of the old and the new size since Linux 6.12, `mm/readahead.c`); it starts anew with the next file or the next miss.
const RETURN_MOST: Nanos = Nanos::from_secs(2);
/// The same where the gain is plain: it is far above what is asked for where the old value was measured before only.
const RETURN_PLAIN: Nanos = Nanos::from_millis(800);
/// How long a block waits for any window, whichever its value: one of 16 MiB lasts so long at 2 MB/s.
const SILENT_MOST: Nanos = Nanos::from_secs(8);
/// Sequential advice for a region shows what it is good for when the cache has turned over: the others' pages, which the scan had pushed
/// out, must come back first. Measured at 128 KiB beside a scan that does 150 MB/s: 160 MiB of hot pages took 10 to 15 s, in which stall was up
/// to twice what it was before, and all of it was gone afterwards.
const TURNOVER: Nanos = Nanos::from_secs(20);
/// Stall ratio above which a gain is not believed where the old value could only be measured before the trial.
pub(crate) const ONE_WAY_GAIN: f64 = 0.8;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub id: u64,
    pub from: Kib,
    pub to: Kib,
    pub proposal: Proposal,
    /// Advice for a region is tried, and the window stays as it is.
    #[serde(default)]
    pub change: Option<Change>,
    /// Washout of a trial that needs a long one, and so has a single block before and only new ones after it.
    #[serde(default)]
    turnover: Nanos,
    /// What the workload was before the trial, under the present value; and the same in pieces of a second.
    baseline: Span,
    before: Vec<Span>,
    /// Streams keep the new window although the old value is back, so the old value cannot be measured again: the new blocks are
    /// compared with those from before the trial.
    one_way: bool,
    /// Streams keep a larger window although the new value is in force.
    #[serde(default)]
    stubborn: bool,
    pub arm: Arm,
    /// The knob was switched here.
    switched: Mark,
    /// The last tick.
    seen: Mark,
    /// The latest windows since the switch were no larger than the arm's value makes them; `None` before the first.
    #[serde(default)]
    fits: Option<bool>,
    /// When the latest of them was seen.
    #[serde(default)]
    window_seen: Option<Mark>,
    /// One was seen in this tick.
    #[serde(default)]
    window_now: bool,
    /// The washout ended here.
    measured: Option<Mark>,
    blocks: Vec<(Arm, Span)>,
    /// Of the coin.
    #[serde(default)]
    seed: u64,
    others: Elsewhere,
    /// What is read is another pattern than before the trial: seen under the old value, or nothing of it can be compared.
    #[serde(default)]
    pub changed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Wait,
    Switch(Kib),
    End(Verdict),
}

/// What one tick did to a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    pub block: Option<Block>,
    pub next: Next,
}

impl Trial {
    /// Begins with a block of the new value; the caller switches the knob now.
    pub fn begin(id: u64, from: Kib, proposal: Proposal, before: Vec<Span>, now: Mark) -> Trial {
        Trial {
            id,
            from,
            to: proposal.read_ahead,
            proposal,
            change: None,
            turnover: Nanos(0),
            baseline: before.iter().fold(Span::default(), |sum, span| sum.plus(span)),
            before,
            one_way: false,
            stubborn: false,
            arm: Arm::New,
            switched: now,
            seen: now,
            fits: None,
            window_seen: None,
            window_now: false,
            measured: None,
            blocks: Vec::new(),
            seed: seed(id, now.at.0),
            others: Elsewhere::default(),
            changed: false,
        }
    }

    /// The same of advice for a region, as its new arm.
    pub fn of_region(mut self, change: Option<Change>) -> Trial {
        if change.is_some_and(|change| change.to == Advice::Sequential) {
            (self.one_way, self.turnover) = (true, TURNOVER);
        }
        self.change = change;
        self
    }

    /// What the workload was before the trial.
    pub fn before(&self) -> Span {
        self.baseline
    }

    /// Mean window before the trial, pages.
    pub fn window_before(&self) -> f64 {
        Features::of(&self.baseline).window
    }

    pub fn value(&self) -> Kib {
        match self.arm {
            Arm::Old => self.from,
            Arm::New => self.to,
        }
    }

    /// Takes the counters of this tick, of the device and of the others.
    pub fn tick(&mut self, mark: Mark, others: &[(BdiName, Mark)], settings: &TrialSettings) -> Turn {
        match self.plain(&mark) {
            Some(times) => self.advance(mark, others, &settings.of_plain(times), RETURN_PLAIN),
            None => self.advance(mark, others, settings, RETURN_MOST),
        }
    }

    /// `patience`: for windows of the new value to go where the old one is back.
    fn advance(&mut self, mark: Mark, others: &[(BdiName, Mark)], settings: &TrialSettings, patience: Nanos) -> Turn {
        self.look_for_window(&mark);
        if self.arm == Arm::New
            && let Some(reason) = self.harm(&mark, settings)
        {
            let undecided = self.only_a_second();
            let verdict = Verdict { undecided, ..self.verdict(Outcome::Aborted, reason, settings) };
            return Turn { block: None, next: Next::End(verdict) };
        }
        let Some(start) = self.measured else {
            if !self.in_force(&mark) {
                return self.wait_for_windows(mark, patience, settings);
            }
            if self.washed_out(&mark, settings) {
                self.measured = Some(mark);
                self.others.begin(others);
            }
            return Turn { block: None, next: Next::Wait };
        };
        let span = start.until(&mark);
        let elapsed = mark.at.since(start.at);
        let enough = load(&span.counters) >= settings.block_pages;
        if elapsed < settings.block_min || (!enough && elapsed < settings.block_max) {
            return Turn { block: None, next: Next::Wait };
        }
        if load(&span.counters) < settings.block_pages / 16 {
            return Turn {
                block: None,
                next: Next::End(self.verdict(Outcome::Void, "the workload went quiet".into(), settings)),
            };
        }
        self.others.end(self.blocks.len(), others);
        self.blocks.push((self.arm, span));
        let stall_ratio = compare(&span, &self.baseline).map(|against| against.log_stall.exp());
        Turn { block: Some(block(self.arm, self.value(), stall_ratio, &span)), next: self.after_block(mark, others, settings) }
    }

    fn washed_out(&self, mark: &Mark, settings: &TrialSettings) -> bool {
        let elapsed = mark.at.since(self.switched.at);
        elapsed >= settings.washout.max(self.turnover)
            && (load(&self.switched.until(mark).counters) >= self.in_flight() || elapsed.0 >= 3 * settings.washout.0)
    }

    /// Two windows of the larger value, pages: the one in use and the one on its way.
    fn in_flight(&self) -> u64 {
        2 * self.from.pages().max(self.to.pages())
    }

    /// Whether a window was read since the last tick, and was no larger than the arm's value makes it.
    fn look_for_window(&mut self, mark: &Mark) {
        let recent = std::mem::replace(&mut self.seen, *mark).until(mark).counters;
        let mean = |c: &Counters| c.window_pages as f64 / c.windows.max(1) as f64;
        let allowed = match self.arm {
            // A request larger than the value has a window of its own size.
            Arm::Old => mean(&self.baseline.counters).max(self.from.pages() as f64),
            Arm::New if self.to < self.from => self.to.pages() as f64,
            Arm::New => f64::INFINITY,
        };
        self.window_now = recent.windows > 0;
        if self.window_now {
            // Where the value stays, nothing is left over from another, and one large window is none of the other's.
            let stays = self.blocks.last().is_some_and(|(arm, _)| *arm == self.arm);
            (self.fits, self.window_seen) = (Some(stays || mean(&recent) <= LEFT_OVER * allowed), Some(*mark));
        }
    }

    /// Whether the latest windows are no larger than the arm's value makes them. One must be seen first, whatever the block's value and that of the one
    /// before, or some would begin right after a window, in the waits for it, and others at any time, and which of them would be the coin's choice: a
    /// log that is read at 30 MB/s with windows of 8 MiB gets one in three ticks. (Where one came every two to three seconds, 7 % of trials of
    /// no effect were kept.)
    fn in_force(&mut self, mark: &Mark) -> bool {
        if self.fits.unwrap_or(self.may_be_unseen()) {
            return true;
        }
        let waited = mark.at.since(self.switched.at);
        // Streams that did not take a smaller window in the first block of it will not in the others.
        self.stubborn |= self.arm == Arm::New && self.fits == Some(false) && waited >= RETURN_MOST;
        self.arm == Arm::New && self.stubborn
    }

    /// Advice for a region takes its windows away, and the others' go on as they were.
    fn may_be_unseen(&self) -> bool {
        self.change.is_some() || self.baseline.counters.windows == 0
    }

    /// The value is in force, its windows are not there. Streams that keep the new value's larger ones are one thing; that nothing is read from the
    /// device any more, or by nobody, is another, and says nothing of either value.
    fn wait_for_windows(&mut self, mark: Mark, patience: Nanos, settings: &TrialSettings) -> Turn {
        let waited = mark.at.since(self.switched.at);
        let since_window = self.window_seen.unwrap_or(self.switched).until(&mark);
        let silent = since_window.seconds / patience.as_secs_f64();
        let long = if self.fits.is_none() { since_window.seconds } else { waited.as_secs_f64() };
        let next = if long >= SILENT_MOST.as_secs_f64() {
            Next::End(self.verdict(Outcome::Void, "the workload went quiet".into(), settings))
        } else if silent >= 1.0 && self.shows_no_window(&since_window.counters) {
            self.end_changed("what is read is not read from the device any more", settings)
        } else if self.arm == Arm::Old && self.fits == Some(false) && waited >= patience && silent < 0.5 {
            self.one_way = true;
            self.turn(Arm::New, mark)
        } else {
            Next::Wait
        };
        Turn { block: None, next }
    }

    /// Whether more was demanded without a window than two of the larger value hold, or one where an application has doubled its own
    /// (`POSIX_FADV_SEQUENTIAL`).
    fn shows_no_window(&self, c: &Counters) -> bool {
        self.change.is_none() && self.baseline.counters.windows > 0 && c.windows == 0 && load(c) > self.in_flight()
    }

    fn end_changed(&mut self, reason: &str, settings: &TrialSettings) -> Next {
        self.changed = true;
        Next::End(self.verdict(Outcome::Void, reason.into(), settings))
    }

    fn turn(&mut self, arm: Arm, mark: Mark) -> Next {
        (self.arm, self.switched, self.seen) = (arm, mark, mark);
        (self.fits, self.window_seen) = (None, None);
        Next::Switch(self.value())
    }

    fn after_block(&mut self, mark: Mark, others: &[(BdiName, Mark)], settings: &TrialSettings) -> Next {
        let latest = self.blocks[self.blocks.len() - 1].1;
        if self.arm == Arm::Old
            && let Some(reason) = self.another_workload(&latest)
        {
            return self.end_changed(&reason, settings);
        }
        let Some(measured) = self.measured_blocks() else {
            return self.end_changed("the workload changed between blocks", settings);
        };
        if let Finding::Decided(verdict) = self.judge(&measured, settings) {
            return Next::End(verdict);
        }
        let arm = if self.one_way { Arm::New } else { next_arm(self.seed, &self.arms()).0 };
        if arm == self.arm {
            // Nothing is in flight that is not this value's: no washout, but the same beginning.
            self.measured = (self.window_now || self.may_be_unseen()).then_some(mark);
            (self.fits, self.window_seen) = (None, Some(mark));
            self.others.begin(others);
            return Next::Wait;
        }
        self.measured = None;
        self.turn(arm, mark)
    }

    /// A verdict that the test did not give.
    pub fn verdict(&self, outcome: Outcome, reason: String, settings: &TrialSettings) -> Verdict {
        let pairs = self.blocks.len() as u32 / 2;
        Verdict::new(outcome, reason, pairs, settings.confidence)
    }
}

/// Demand in pages. A fault counts as 16: that is what one fault can map (`fault_around_bytes`), and random faults are slow.
fn load(c: &Counters) -> u64 {
    c.read_pages + c.mmap_pages.max(16 * c.faults)
}

fn block(arm: Arm, read_ahead: Kib, stall_ratio: Option<f64>, span: &Span) -> Block {
    let (c, e) = (&span.counters, evidence(span));
    Block {
        arm,
        read_ahead,
        seconds: span.seconds,
        demanded_mib: mib((c.demanded() * PAGE_BYTES) as f64),
        hit_ratio: e.hit_ratio,
        stall_ms_per_mib: e.stall_ms_per_mib,
        fill_ms_per_mib: e.fill_ms_per_mib,
        stall_ratio,
        device_mib: mib(c.dev_read_bytes as f64),
        waste_mib: mib((c.spec_evicted * PAGE_BYTES) as f64),
    }
}

mod blocks;
#[cfg(test)]
mod tests;
