// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a window to a trial, a suggestion, or the reason why there is neither.

use super::{Said, Watched};
use crate::event::{Because, Hold, Outcome, Pattern, Proposal, SetReason, What};
use crate::features::{Features, evidence};
use crate::guard::{admit, bears, ceiling, fills, limit_step, within_step};
use crate::known::Known;
use crate::policy::{Context, Decision, Tried};
use crate::recall::recall;
use crate::sample::Completeness;
use crate::settings::Settings;
use crate::standing::Standing;
use crate::step::{Output, Surroundings};
use crate::trial::LEFT_OVER;
use crate::units::{Kib, Nanos};
use crate::window::{Mark, Span, Window};

/// A pattern that has lasted so long, a window, a trial that failed and one that did not, makes room for trials of the next at once.
const LASTING: Nanos = Nanos::from_secs(8);

/// Longest hold for streams that keep a larger window than the present value gives.
const LEFT_OVER_MOST: Nanos = Nanos::from_secs(15);

/// Share of what is read ahead that is evicted unused, above that in the trial, from which a raised value gives way: what a trial may keep
/// (`waste_budget`) is wasted again.
const POLLUTES: f64 = 0.25;

impl Watched {
    pub(super) fn decide(
        &mut self,
        window: &Window,
        mark: Mark,
        around: &Surroundings,
        next_trial: &mut u64,
        out: &mut Output,
    ) {
        let features = Features::of(&window.span);
        if self.is_left_over(&features, around.now) {
            return self.hold(around.now, Hold::LeftOver, out);
        }
        let (mut decision, before) = (self.ask(&features, around), self.pattern);
        // In a window across a change of phase, what another pattern wasted is no fault of the scan's.
        let scans = before == Some(Pattern::Sequential) && decision.pattern() == Pattern::Sequential;
        if scans && self.pollutes(&features, window, around, out) {
            return;
        }
        if self.pattern_changed(decision.pattern(), around.now) {
            return;
        }
        if self.pattern != before {
            // Asked with what was tried in the old pattern.
            decision = self.ask(&features, around);
        }
        if self.goes_home(&decision, &features, around, out) {
            return;
        }
        if self.tend_regions(window, mark, around, next_trial, out) {
            return;
        }
        match decision {
            Decision::Propose(proposal) => self.take_up(proposal, &features, window, mark, around, next_trial, out),
            Decision::Abstain { pattern: Pattern::Idle, .. } => return self.hold(around.now, Hold::NoDemand, out),
            Decision::Abstain { pattern, reason } => self.hold(around.now, Hold::Abstained { pattern, reason }, out),
            Decision::Settled { pattern } => self.hold(around.now, Hold::Settled { pattern }, out),
        }
        // Also where a proposal was vetoed: under memory pressure a larger value may be asked for, and not be tried, for hours.
        if self.on_trial() {
            return;
        }
        if let Some(check) = self.due_check(window, &features, around) {
            self.begin_trial(check, None, window, mark, around, next_trial, out);
        }
    }

    /// Where a value was raised for long runs, and what it reads ahead is evicted unused (memory has shrunk, or more is read at once): the one
    /// that it replaced is put back. Long runs use all that is read ahead, unless their windows evict each other; and in a cache that
    /// thrashes, a trial's blocks show anything.
    fn pollutes(&mut self, features: &Features, window: &Window, around: &Surroundings, out: &mut Output) -> bool {
        if !self.windows_are_its_own(window, around.now) {
            return false;
        }
        let share = |evicted: f64| evicted / (1.0 + evicted);
        let beyond = |s: &Standing| {
            let raised = s.pattern == Some(Pattern::Sequential) && self.current() > s.replaced;
            raised && share(features.evicted) > share(s.evicted) + POLLUTES
        };
        let Some(standing) = self.standing.filter(beyond) else { return false };
        let (back, kept, now, original) = (standing.replaced, standing.evicted, features.evicted, self.device.original);
        if let Some(known) = self.known.get_mut(&Pattern::Sequential) {
            known.proven = None;
        }
        self.tried.insert(self.current(), Tried { outcome: Outcome::Aborted, stall_ratio: None });
        self.cool.reverted(around.now, around.settings);
        self.pattern_next = None;
        self.may_leave_over(back.pages() as f64, around.now);
        // What it goes back to was kept itself, then: it gives way to the original if it is no better.
        let check_share = around.settings.check_share;
        let scaled = standing.window * back.0 as f64 / self.current().0 as f64;
        let new = || Standing::new(original, Pattern::Sequential, around.now, check_share).proven_with(kept, scaled);
        self.standing = (back != original).then(new);
        self.give_way(back, Because::Polluting { kept, now }, around.now, out);
        true
    }

    /// Whether what is evicted now was brought in by windows of the kept value. After a larger one was rejected its streams keep their windows until they end, and
    /// what those brought in goes as the cache turns over. (A mapped scan in a cache of 256 MiB gave up the 512 KiB that had doubled its throughput after
    /// 8 MiB were rejected.) Few large windows hold more pages than many small ones, so each slot is looked at by itself.
    fn windows_are_its_own(&mut self, window: &Window, now: Nanos) -> bool {
        let own = self.standing.map_or(0.0, |s| s.window).max(self.current().pages() as f64);
        let oversized = |slot: &Span| Features::of(slot).window > LEFT_OVER * own;
        if self.slots.spans().iter().any(oversized) {
            self.oversized = Some(now);
        }
        self.oversized.is_none_or(|seen| now.since(seen).as_secs_f64() > window.span.seconds)
    }

    /// From fewer slots than a window has: only what a policy is sure of counts, and only for the pattern that is known, for the first one, or
    /// where another one than the known was seen already.
    pub(super) fn decide_early(
        &mut self,
        window: &Window,
        mark: Mark,
        around: &Surroundings,
        next_trial: &mut u64,
        out: &mut Output,
    ) {
        let features = Features::of(&window.span);
        if self.is_left_over(&features, around.now) {
            return self.hold(around.now, Hold::LeftOver, out);
        }
        let decision = self.ask_of(&features, false, around);
        let pattern = decision.pattern();
        let same = self.pattern.is_none_or(|p| p == pattern);
        let turned = match self.standing {
            Some(_) => self.pattern_next.is_some(),
            None => self.pattern_next == Some(pattern),
        };
        if !matches!(decision, Decision::Propose(_)) || !(same || turned) {
            return self.hold(around.now, Hold::Gathering, out);
        }
        match same {
            true => self.remains(pattern, around.now),
            false => self.turn_to_pattern(pattern, around.now),
        }
        let decision = self.ask_of(&features, false, around);
        if self.goes_home(&decision, &features, around, out) {
            return;
        }
        if let Decision::Propose(proposal) = decision {
            self.take_up(proposal, &features, window, mark, around, next_trial, out);
        }
    }

    /// Puts the original back where the value that stands was kept for another pattern than is seen now, and none is proven for this one: the
    /// original is the only value that needs no proof, and a search may take long to find that out, or never. (Mapped runs that came
    /// after random faults waited 3.7 times as long at their 4 KiB as at the original, and no block showed it: what the larger window leaves in
    /// the cache is hit in both values' blocks.)
    fn goes_home(&mut self, decision: &Decision, features: &Features, around: &Surroundings, out: &mut Output) -> bool {
        let (Some(seen), Some(kept_for)) = (self.pattern, self.standing.and_then(|s| s.pattern)) else { return false };
        let (kept, back) = (self.current(), self.device.original);
        // Names flicker between a mixture and its parts.
        let lasts = around.now.since(self.pattern_since) >= LASTING;
        let other = kept_for != seen && seen != Pattern::Mixed && (kept_for != Pattern::Mixed || lasts);
        let proven = self.known.get(&seen).and_then(|known| known.proven);
        let is_proven = |value: Kib| proven == Some(value);
        let recalled = matches!(decision, Decision::Propose(proposal) if is_proven(proposal.read_ahead));
        // Where nothing depends on the value there is nothing to go back for.
        let depends = !matches!(decision, Decision::Abstain { .. });
        // Random faults never want more than the original, nor long runs less where memory holds their windows: going back would only lose
        // what is there. (RocksDB's mixgraph is named a mixture at one time and random faults at the next, and both wait half as long at 16 KiB.)
        let its_way = match seen {
            Pattern::RandomMmap => kept < back,
            Pattern::Sequential => kept > back,
            _ => false,
        };
        if !other || !depends || kept == back || recalled || is_proven(kept) || its_way {
            return false;
        }
        let memory_bears = bears(back, kept, &around.pressure, around.settings).is_ok()
            && (back < kept || back <= ceiling(features, &around.pressure, around.settings));
        // The other's blocks would see it, or those seconds by which a region's advice is judged.
        let disturbs = self.shared_trial(around).is_some() || self.regions.on_probation().is_some();
        // By a trial for this pattern, while something else was in the way.
        let was_worse = |tried: &Tried| tried.outcome == Outcome::Aborted || tried.stall_ratio.is_some_and(|ratio| ratio > 1.0);
        if !memory_bears || disturbs || self.tried.get(&back).is_some_and(was_worse) {
            return false;
        }
        if back < kept {
            self.may_leave_over(back.pages() as f64, around.now);
        }
        self.standing = None;
        self.give_way(back, Because::OtherPattern { kept_for, seen }, around.now, out);
        self.tried.clear();
        self.recall_tried(seen);
        true
    }

    /// A kept value that new bounds leave out gives way to the original, which needs no proof.
    pub(super) fn is_out_of_bounds(&mut self, around: &Surroundings, out: &mut Output) -> bool {
        let (kept, back) = (self.current(), self.device.original);
        let (floor, ceiling) = (around.settings.floor, around.settings.ceiling);
        if (floor..=ceiling).contains(&kept) || kept == back || self.standing.is_none() || self.pinned() {
            return false;
        }
        self.standing = None;
        self.tried.clear();
        if back < kept {
            self.may_leave_over(back.pages() as f64, around.now);
        }
        self.give_way(back, Because::Bounds { floor, ceiling }, around.now, out);
        true
    }

    fn give_way(&mut self, to: Kib, because: Because, now: Nanos, out: &mut Output) {
        let from = self.current();
        self.home = to;
        self.rewritten = 0;
        self.said = None;
        self.slots.clear();
        self.set(to, SetReason::Revert, out);
        out.records.push(self.record(now, What::GaveWay { from, to, because }));
    }

    #[allow(clippy::too_many_arguments)] // What a trial begins from, each of another kind.
    fn take_up(
        &mut self,
        proposal: Proposal,
        features: &Features,
        window: &Window,
        mark: Mark,
        around: &Surroundings,
        next_trial: &mut u64,
        out: &mut Output,
    ) {
        match self.admit(proposal, window, features, around) {
            Err(hold) => self.hold(around.now, hold, out),
            Ok(proposal) if around.dry_run => self.suggest(proposal, window, around, out),
            Ok(proposal) => self.begin_trial(proposal, None, window, mark, around, next_trial, out),
        }
    }

    /// The kept value against the one it replaced, where that is due and nothing forbids a trial.
    pub(super) fn due_check(&mut self, window: &Window, features: &Features, around: &Surroundings) -> Option<Proposal> {
        let standing = self.standing.filter(|s| s.due(around.now) && !around.dry_run && around.may_start)?;
        let wanted = standing.proposal(self.pattern?, self.current(), around.now);
        let replaced = wanted.read_ahead;
        // A bound may have moved since: another value than the replaced one is no check.
        let check = self.admit(wanted, window, features, around).ok().filter(|p| p.read_ahead == replaced)?;
        self.standing.as_mut()?.begin(around.now);
        Some(check)
    }

    /// A larger value was taken back: streams that run may keep its windows, above `window` pages.
    pub(super) fn may_leave_over(&mut self, window: f64, now: Nanos) {
        (self.left_over, self.oversized) = (Some((window, now + LEFT_OVER_MOST)), Some(now));
    }

    pub(super) fn is_left_over(&mut self, features: &Features, now: Nanos) -> bool {
        self.left_over = self.left_over.filter(|(window, until)| now < *until && features.window > LEFT_OVER * window);
        self.left_over.is_some()
    }

    /// The policy's decision, or the memory's.
    pub(super) fn ask(&self, features: &Features, around: &Surroundings) -> Decision {
        self.ask_of(features, true, around)
    }

    fn ask_of(&self, features: &Features, whole: bool, around: &Surroundings) -> Decision {
        // What memory does not allow is no candidate: it would come back smaller, and be asked for again.
        let ceiling = ceiling(features, &around.pressure, around.settings).max(around.settings.floor);
        let all = Context { whole, ceiling, ..self.context(features, around.settings) };
        let (floor, ceiling) = within_step(self.current(), all.floor, all.ceiling, around.settings.max_step);
        // What was proven may be any step away.
        recall(around.policy.decide(&Context { floor, ceiling, ..all }), &all)
    }

    pub(crate) fn context<'a>(&'a self, features: &'a Features, settings: &Settings) -> Context<'a> {
        Context {
            features,
            current: self.current(),
            tried: &self.tried,
            known: &self.known,
            floor: settings.floor,
            ceiling: settings.ceiling,
            min_demand: settings.min_demand_pages_per_s,
            min_stall_share: settings.min_stall_share,
            whole: true,
        }
    }

    /// A new pattern puts what was tried in the old one aside once it is confirmed: by the same pattern in the next window, or, where
    /// a kept value is at stake, by any other than the old one in a window that lies wholly after the change. `true` while it waits
    /// for that.
    pub(super) fn pattern_changed(&mut self, pattern: Pattern, now: Nanos) -> bool {
        if pattern == Pattern::Idle || self.pattern.is_none_or(|p| p == pattern) {
            self.remains(pattern, now);
            return false;
        }
        if self.standing.is_some() {
            if self.pattern_next.is_none() {
                self.pattern_next = Some(pattern);
                // A value proven for one pattern is at stake, and this window lies across the change: what it shows is neither
                // pattern. The next one is all of the new.
                self.slots.keep_latest(0);
                return true;
            }
        } else if self.pattern_next != Some(pattern) {
            self.pattern_next = Some(pattern);
            return true;
        }
        self.turn_to_pattern(pattern, now);
        false
    }

    /// What a slot shows by itself, where a value is at stake: one that stands was kept, or another one is proven for some pattern.
    pub(super) fn shown(&self, slot: &Window, around: &Surroundings) -> Option<Decision> {
        let at_stake = self.standing.is_some() || self.known.iter().any(|(pattern, known)| self.is_another(*pattern, known));
        at_stake.then(|| self.ask(&Features::of(&slot.span), around))
    }

    /// Not the pattern that is seen, and another value than the present one is proven for it.
    fn is_another(&self, pattern: Pattern, known: &Known) -> bool {
        self.pattern != Some(pattern) && known.proven.is_some_and(|value| value != self.current())
    }

    /// Whether two slots in a row have shown another pattern than before, for which another value is proven: the memory says what to
    /// do and a trial whether that is still right, so that no whole window is needed. The slots before it are forgotten. One slot will do
    /// before any pattern was seen.
    pub(super) fn has_returned(&mut self, shown: Option<&Decision>, now: Nanos) -> bool {
        let returning = shown.filter(|decision| !matches!(decision, Decision::Abstain { .. })).map(Decision::pattern);
        let returning = returning.filter(|p| self.known.get(p).is_some_and(|known| self.is_another(*p, known)));
        let before = std::mem::replace(&mut self.returning, returning);
        let Some(pattern) = returning.filter(|_| before == returning || self.pattern.is_none()) else { return false };
        self.returning = None;
        self.slots.keep_latest(1);
        self.turn_to_pattern(pattern, now);
        true
    }

    /// Counts the latest slots in a row that show, each by itself, another pattern than the one that a value was kept for. Whoever reads more pages
    /// gives every window its name that has a second of his, a scan for as long as a window after it has ended. A scan itself does not count: no
    /// others hide it, and seconds of compaction beside lookups are none (two of them took 16 KiB from RocksDB's, which waited 4 % longer).
    pub(super) fn count_turned(&mut self, shown: Option<&Decision>) {
        let turned = shown.map(Decision::pattern).is_some_and(|pattern| {
            let nameable = !matches!(pattern, Pattern::Idle | Pattern::Mixed | Pattern::Sequential);
            nameable && self.standing.is_some() && self.pattern.is_some_and(|known| known != pattern)
        });
        self.turned = if turned { self.turned + 1 } else { 0 };
    }

    /// The pattern is what it was, or the first that is seen.
    fn remains(&mut self, pattern: Pattern, now: Nanos) {
        (self.pattern_next, self.turned) = (None, 0);
        if pattern != Pattern::Idle && self.pattern.replace(pattern).is_none() {
            self.pattern_since = now;
        }
    }

    fn turn_to_pattern(&mut self, pattern: Pattern, now: Nanos) {
        (self.pattern_next, self.turned) = (None, 0);
        let tried = std::mem::take(&mut self.tried);
        if let Some(old) = self.pattern.replace(pattern) {
            self.tried_before.insert(old, (self.home, tried));
        }
        self.recall_tried(pattern);
        // Patterns that come and go faster than a value can be found for them are no reason to try again and again.
        if now.since(self.pattern_since) >= LASTING {
            self.cool.reset(now);
        }
        self.pattern_since = now;
    }

    /// A pattern has its value back: what was tried beside it is not tried again.
    pub(super) fn recall_tried(&mut self, pattern: Pattern) {
        if self.tried_before.get(&pattern).is_some_and(|(beside, _)| *beside == self.home) {
            self.tried.extend(self.tried_before.remove(&pattern).into_iter().flat_map(|(_, tried)| tried));
        }
    }

    pub(super) fn admit(
        &mut self,
        mut proposal: Proposal,
        window: &Window,
        features: &Features,
        around: &Surroundings,
    ) -> Result<Proposal, Hold> {
        let wanted = match window.completeness {
            // No trial will prove it: one step at a time.
            Completeness::Coarse => limit_step(proposal.read_ahead, self.current(), around.settings),
            _ => proposal.read_ahead,
        };
        proposal.read_ahead = admit(wanted, self.current(), features, &around.pressure, around.settings)?;
        let proven = self.known.get(&proposal.pattern).and_then(|known| known.proven) == Some(proposal.read_ahead);
        if proposal.read_ahead < self.current() && !proven && fills(features, &self.slots.spans(), &around.pressure) {
            return Err(Hold::Filling);
        }
        if !around.dry_run {
            self.may_try(window, around)?;
        }
        Ok(proposal)
    }

    /// Whether nothing but the candidate's own merits is against a trial.
    pub(crate) fn may_try(&mut self, window: &Window, around: &Surroundings) -> Result<(), Hold> {
        if window.completeness != Completeness::Full {
            return Err(Hold::Sensor { missing: "hits, misses, stall or eviction are not all seen".into() });
        }
        if let Some(with) = self.shared_trial(around) {
            return Err(Hold::SharedDisk { with: with.clone() });
        }
        self.cool.ready(around.now, around.settings)
    }

    pub(super) fn suggest(&mut self, proposal: Proposal, window: &Window, around: &Surroundings, out: &mut Output) {
        let to = proposal.read_ahead;
        if self.said != Some(Said::Proposed(to)) {
            self.said = Some(Said::Proposed(to));
            let evidence = evidence(&window.span);
            let what = What::Proposed { from: self.current(), to, proposal, evidence, policy: around.policy.name().into() };
            out.records.push(self.record(around.now, what));
        }
    }
}
