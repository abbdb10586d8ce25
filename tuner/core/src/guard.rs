// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Proposal` and the state of device and machine in, a value that may be tried or the reason to hold out. Never raises risk.

use crate::event::{Hold, Outcome};
use crate::features::Features;
use crate::settings::Settings;
use crate::units::{Kib, Nanos, PAGE_BYTES};
use crate::window::Span;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const HOUR: Nanos = Nanos::from_secs(3600);

/// What the guard remembers of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CoolDown {
    until: Nanos,
    span: Nanos,
    /// Trials in a row that came to nothing.
    #[serde(default)]
    void: u32,
    /// A trial in this row has hurt at once.
    #[serde(default)]
    hurt: bool,
    /// Starts of trials within the last hour.
    starts: VecDeque<Nanos>,
}

impl CoolDown {
    /// A trial starts.
    pub fn started(&mut self, now: Nanos) {
        self.starts.push_back(now);
    }

    /// A trial has ended; `at_once`: within its first block.
    pub fn ended(&mut self, outcome: Outcome, at_once: bool, now: Nanos, settings: &Settings) {
        match outcome {
            Outcome::Kept => self.reset(now),
            Outcome::Void => self.paused(now, settings),
            Outcome::Reverted => self.reverted(now, settings),
            Outcome::Aborted => self.aborted(at_once, now, settings),
        }
    }

    /// A trial, or something like it, was not kept: wait, and twice as long the next time.
    pub fn reverted(&mut self, now: Nanos, settings: &Settings) {
        self.longer(2, now, settings);
    }

    /// A trial did harm. Where one in a row has already hurt at once, the next is four times as far: the value in force is no bad one then,
    /// and trials cost more than is still to gain.
    fn aborted(&mut self, at_once: bool, now: Nanos, settings: &Settings) {
        self.longer(if self.hurt { 4 } else { 2 }, now, settings);
        self.hurt |= at_once;
    }

    fn longer(&mut self, factor: u64, now: Nanos, settings: &Settings) {
        let longer = Nanos(self.span.0.saturating_mul(factor));
        self.span = longer.max(settings.cool_down).min(settings.cool_down_max);
        self.void = 0;
        self.until = now + self.span;
    }

    /// A trial came to nothing through no fault of the candidate. If the next one does too, the workload changes faster than a trial can tell.
    fn paused(&mut self, now: Nanos, settings: &Settings) {
        let doubled = Nanos(settings.cool_down.0.saturating_mul(1 << self.void.min(32)));
        self.void += 1;
        self.until = now + doubled.min(settings.cool_down_max.min(VOID_MOST)).max(self.span);
    }

    /// A trial was kept, or the pattern changed: what was learnt of the old one says nothing now. The trials an hour still bind.
    pub fn reset(&mut self, now: Nanos) {
        self.span = Nanos(0);
        self.void = 0;
        self.hurt = false;
        self.until = self.until.min(now + Nanos::from_secs(1));
    }

    /// `Err` with the reason while no trial may start.
    pub fn ready(&mut self, now: Nanos, settings: &Settings) -> Result<(), Hold> {
        while self.starts.front().is_some_and(|start| now.since(*start) >= HOUR) {
            self.starts.pop_front();
        }
        if now < self.until {
            return Err(Hold::CoolingDown { until: self.until });
        }
        if self.starts.len() >= settings.trials_per_hour as usize {
            return Err(Hold::TrialsPerHour { limit: settings.trials_per_hour });
        }
        Ok(())
    }
}

/// Largest step of a suggestion without a trial behind it.
const UNPROVEN_STEP: u32 = 4;
/// Longest pause after trials that came to nothing: the candidates are no worse for that.
const VOID_MOST: Nanos = Nanos::from_secs(60);
/// Evicted speculative pages per demanded page up to which nothing is evicted.
const EVICTED: f64 = 0.01;
/// Distance of two pages drawn at random from a file, median, over its length: 1 - sqrt(1/2).
const JUMP: f64 = 0.293;
/// Rise of the hit ratio, from a window's first second to its last, from which a cache fills.
const RISE: f64 = 0.02;

/// The machine as the guard sees it: rates, not counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    pub memory_available: u64,
    pub memory_pressure: Option<f64>,
    pub refaults_per_s: f64,
}

/// Whether memory bears the value. A smaller window is what pressure calls for, so only a raise is vetoed.
pub fn bears(wanted: Kib, current: Kib, pressure: &Pressure, settings: &Settings) -> Result<(), Hold> {
    let pressed = pressure.memory_pressure.filter(|p| wanted > current && *p > settings.memory_pressure_max);
    if let Some(some_avg10) = pressed {
        return Err(Hold::MemoryPressure { some_avg10, limit: settings.memory_pressure_max });
    }
    if wanted > current && pressure.refaults_per_s > settings.refaults_per_s_max {
        return Err(Hold::Refaults { per_s: pressure.refaults_per_s, limit: settings.refaults_per_s_max });
    }
    Ok(())
}

/// Bounds, memory and pressure. Gives the value to try: a power of two within the bounds.
pub fn admit(wanted: Kib, current: Kib, features: &Features, pressure: &Pressure, settings: &Settings) -> Result<Kib, Hold> {
    bears(wanted, current, pressure, settings)?;
    let ceiling = ceiling(features, pressure, settings);
    let value = wanted.min(ceiling).max(settings.floor).floor_power_of_two();
    if value < settings.floor || value > ceiling || value == current {
        return Err(Hold::Bounds { wanted, floor: settings.floor, ceiling });
    }
    Ok(value)
}

/// Whether a cache fills that may hold all that is demanded through mappings. Then every page that is read beside the wanted one is a later
/// hit: a smaller window wins each block of a trial and loses the minutes after it (`caches-dropped`: 1.8 times the waiting). How much is demanded is
/// estimated from the jumps. `seconds`: the window's, oldest first; of one alone no rise can be seen, and it is taken for granted.
pub fn fills(features: &Features, seconds: &[Span], pressure: &Pressure) -> bool {
    let bytes = features.jump / JUMP * PAGE_BYTES as f64;
    // Without a jump nothing is known of it.
    let fits = bytes > 0.0 && bytes <= pressure.memory_available as f64;
    let hits: Vec<f64> = seconds.iter().filter_map(|span| span.counters.hit_ratio()).collect();
    let rises = match hits[..] {
        [first, .., last] => last >= first + RISE,
        _ => true,
    };
    features.mmap_share > 0.5 && features.evicted <= EVICTED && fits && rises
}

/// Bounds of a candidate that no trial has proven: within those given, at most `max_step` away from the present value. Never empty where
/// those given are not: a value far outside of them may be brought back to the nearest.
pub fn within_step(current: Kib, floor: Kib, ceiling: Kib, max_step: u32) -> (Kib, Kib) {
    let step = max_step.max(2);
    let (low, high) = (Kib(current.0 / step).max(floor).min(ceiling), Kib(current.0.saturating_mul(step)).min(ceiling));
    (low, high.max(low))
}

/// The value as a suggestion that no trial will prove may have it.
pub fn limit_step(wanted: Kib, current: Kib, settings: &Settings) -> Kib {
    let (low, high) = within_step(current, settings.floor, settings.ceiling, settings.max_step.min(UNPROVEN_STEP));
    wanted.clamp(low, high)
}

/// Largest value that may be tried: the configured one, or available memory over the streams that are active. A stream can have two windows in the cache: the one that is being used and
/// the one that is on its way. Streams are counted by the tasks that wait at once (stall a second), at least one.
pub fn ceiling(features: &Features, pressure: &Pressure, settings: &Settings) -> Kib {
    let streams = features.stall_share.ceil().max(1.0);
    let bytes = pressure.memory_available as f64 * settings.memory_share / streams / 2.0;
    settings.ceiling.min(Kib((bytes / 1024.0).min(f64::from(u32::MAX)) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calm() -> Pressure {
        Pressure { memory_available: 8 << 30, memory_pressure: None, refaults_per_s: 0.0 }
    }

    proptest! {
        #[test]
        fn whatever_is_admitted_is_a_power_of_two_within_bounds(wanted: u32, current in 1u32..1 << 20, memory: u64, streams in 0.0..500.0f64) {
            let settings = Settings::default();
            let features = Features { stall_share: streams, ..Features::default() };
            let pressure = Pressure { memory_available: memory, ..calm() };
            if let Ok(value) = admit(Kib(wanted), Kib(current), &features, &pressure, &settings) {
                prop_assert!(value.0.is_power_of_two() && value >= settings.floor && value <= settings.ceiling);
            }
        }

        #[test]
        fn cool_downs_grow_and_trials_an_hour_bind(reverts in 1usize..40) {
            let settings = Settings { trials_per_hour: 20, ..Settings::default() };
            let (mut cool, mut now, mut last) = (CoolDown::default(), Nanos(0), Nanos(0));
            let mut started = Vec::new();
            for _ in 0..reverts {
                match cool.ready(now, &settings) {
                    Ok(()) => {
                        cool.started(now);
                        started.push(now);
                        cool.reverted(now, &settings);
                        prop_assert!(cool.span >= last && cool.span <= settings.cool_down_max);
                        last = cool.span;
                    }
                    Err(Hold::CoolingDown { until }) => now = until,
                    Err(_) => now = now + Nanos::from_secs(60),
                }
            }
            for (i, start) in started.iter().enumerate() {
                prop_assert!(started[..i].iter().filter(|s| start.since(**s) < HOUR).count() < 20);
            }
        }
    }

    #[test]
    fn after_harm_at_once_further_harm_makes_trials_rarer_than_failures_do() {
        let settings = Settings::default();
        let pauses = |at_once: bool| {
            let mut cool = CoolDown::default();
            cool.ended(Outcome::Aborted, at_once, Nanos(0), &settings);
            cool.ended(Outcome::Aborted, false, Nanos(0), &settings);
            let hurt = cool.span;
            cool.ended(Outcome::Reverted, true, Nanos(0), &settings);
            let failed = cool.span;
            cool.ended(Outcome::Kept, false, Nanos(0), &settings);
            cool.ended(Outcome::Aborted, false, Nanos(0), &settings);
            cool.ended(Outcome::Aborted, false, Nanos(0), &settings);
            [hurt, failed, cool.span].map(|span| span.0 / settings.cool_down.0)
        };
        assert_eq!((pauses(false), pauses(true)), ([2, 4, 2], [4, 8, 2]));
    }

    #[test]
    fn little_memory_and_many_streams_lower_the_ceiling() {
        let pressure = Pressure { memory_available: 64 << 20, ..calm() };
        let features = Features { stall_share: 3.2, ..Features::default() };
        let value = admit(Kib(4096), Kib(128), &features, &pressure, &Settings::default()).unwrap();
        assert_eq!(value, Kib(1024)); // 64 MiB × 12.5 % / 4 streams / 2 windows
    }

    #[test]
    fn pressure_vetoes() {
        let settings = Settings::default();
        let psi = Pressure { memory_pressure: Some(50.0), ..calm() };
        assert!(matches!(admit(Kib(512), Kib(128), &Features::default(), &psi, &settings), Err(Hold::MemoryPressure { .. })));
        assert_eq!(admit(Kib(16), Kib(128), &Features::default(), &psi, &settings), Ok(Kib(16)));
        let thrash = Pressure { refaults_per_s: 1e7, ..calm() };
        assert!(matches!(admit(Kib(512), Kib(128), &Features::default(), &thrash, &settings), Err(Hold::Refaults { .. })));
        assert_eq!(admit(Kib(16), Kib(128), &Features::default(), &thrash, &settings), Ok(Kib(16)));
    }

    #[test]
    fn a_cache_that_fills_and_may_hold_everything_is_left_to() {
        let second = |hits: u64| {
            let counters = crate::sample::Counters { mmap_pages: 1000, mmap_miss: 1000 - hits, ..Default::default() };
            Span { seconds: 1.0, counters }
        };
        // 100,000 pages apart: 1.3 GiB are demanded.
        let faults = Features { mmap_share: 1.0, jump: 1e5, ..Features::default() };
        let (filling, steady) = ([second(100), second(140), second(200)], [second(200), second(190), second(210)]);
        assert!(fills(&faults, &filling, &calm()) && fills(&faults, &filling[..1], &calm()));
        assert!(!fills(&faults, &steady, &calm()), "it does not fill");
        assert!(!fills(&Features { evicted: 0.5, ..faults }, &filling, &calm()), "it is full");
        assert!(!fills(&faults, &filling, &Pressure { memory_available: 1 << 30, ..calm() }), "it cannot hold everything");
        assert!(!fills(&Features { mmap_share: 0.2, ..faults }, &filling, &calm()), "read(2) reads what it asks for");
    }

    #[test]
    fn steps_without_a_trial_are_limited() {
        assert_eq!(limit_step(Kib(4096), Kib(128), &Settings::default()), Kib(512));
        assert_eq!(limit_step(Kib(4), Kib(128), &Settings::default()), Kib(32));
    }

    #[test]
    fn steps_of_trials_are_limited_and_a_value_outside_the_bounds_comes_back_to_them() {
        let within = |current, step| within_step(Kib(current), Kib(4), Kib(16384), step);
        assert_eq!(within(128, 4), (Kib(32), Kib(512)));
        assert_eq!(within(128, 4096), (Kib(4), Kib(16384)));
        assert_eq!(within(131_072, 4), (Kib(16384), Kib(16384)));
        assert_eq!(within(0, 4), (Kib(4), Kib(4)));
    }
}
