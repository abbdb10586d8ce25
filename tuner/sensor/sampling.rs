// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many chunks are in the sample: one in `2^shift`. Takes the load of the last interval, gives a new shift when the present one
//! costs too much or shows too little.

use std::collections::BTreeMap;
use std::time::Instant;

/// Sampled events a second above which the rate falls: at some 500 ns each, 1 % of one CPU.
const EVENTS_MAX: f64 = 20_000.0;
/// A rate comes back up only where the load would stay well below the limit: two steps of two and a margin.
const HYSTERESIS: f64 = 8.0;
/// Fill of the map of speculative chunks above which the rate falls.
const FILL_MAX: f64 = 0.75;
/// One chunk in 4096 still sees 16 MiB of every 64 GiB.
const SHIFT_MAX: u8 = 12;

/// The load of an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub events_per_s: f64,
    /// Of the map of speculative chunks, 0 to 1.
    pub fill: f64,
    pub overflowed: bool,
}

/// The shift for the next interval.
pub(super) fn adapt(shift: u8, load: Load) -> u8 {
    if load.events_per_s > EVENTS_MAX {
        let steps = (load.events_per_s / EVENTS_MAX).log2().ceil() as u8;
        return shift.saturating_add(steps).min(SHIFT_MAX);
    }
    if load.overflowed || load.fill > FILL_MAX {
        return (shift + 1).min(SHIFT_MAX);
    }
    if load.events_per_s * HYSTERESIS < EVENTS_MAX && load.fill * HYSTERESIS < FILL_MAX {
        return shift.saturating_sub(1);
    }
    shift
}

/// Slots that the programs know rates for (`KA_MAX_SLOTS`).
pub(super) const SLOTS: usize = 256;

/// The rate at which each slot's reads are counted: a device with a million cached reads a second must not coarsen another's counts.
pub(super) struct DemandRates {
    at: Instant,
    requests: BTreeMap<u32, u64>,
    pub shifts: [u8; SLOTS],
}

impl DemandRates {
    pub fn new() -> DemandRates {
        DemandRates { at: Instant::now(), requests: BTreeMap::new(), shifts: [0; SLOTS] }
    }

    /// Takes each slot's cumulative (weighted) read requests; `true` where a rate changed.
    pub fn judge(&mut self, requests: BTreeMap<u32, u64>) -> bool {
        let seconds = self.at.elapsed().as_secs_f64();
        let before = (std::mem::replace(&mut self.requests, requests), self.shifts);
        self.at = Instant::now();
        for (slot, now) in &self.requests {
            let (Some(then), Some(shift)) = (before.0.get(slot), self.shifts.get_mut(*slot as usize)) else { continue };
            let counted = (now.saturating_sub(*then) >> *shift) as f64;
            *shift = adapt(*shift, Load { events_per_s: counted / seconds, fill: 0.0, overflowed: false });
        }
        self.shifts != before.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_its_own_rate() {
        let mut rates = DemandRates::new();
        rates.judge(BTreeMap::from([(0, 0), (1, 0)]));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(rates.judge(BTreeMap::from([(0, 1_000_000), (1, 10)])));
        assert!(rates.shifts[0] > 4 && rates.shifts[1] == 0);
    }

    fn load(events_per_s: f64) -> Load {
        Load { events_per_s, fill: 0.0, overflowed: false }
    }

    #[test]
    fn a_burst_is_answered_at_once_and_stays_answered() {
        let shift = adapt(0, load(1_500_000.0));
        assert_eq!(shift, 7);
        assert_eq!(adapt(shift, load(1_500_000.0 / 128.0)), 7);
    }

    #[test]
    fn a_full_map_lowers_the_rate_and_a_quiet_machine_raises_it() {
        assert_eq!(adapt(2, Load { fill: 0.8, ..load(10.0) }), 3);
        assert_eq!(adapt(2, Load { overflowed: true, ..load(10.0) }), 3);
        assert_eq!(adapt(2, load(10.0)), 1);
        assert_eq!(adapt(0, load(0.0)), 0);
        assert_eq!(adapt(SHIFT_MAX, load(1e12)), SHIFT_MAX);
    }

    #[test]
    fn no_load_makes_it_swing() {
        for step in 0..200 {
            let rate = 1000.0 * 1.1f64.powi(step);
            let mut shift = 0;
            for _ in 0..40 {
                shift = adapt(shift, load(rate / f64::from(1u32 << shift)));
            }
            assert_eq!(adapt(shift, load(rate / f64::from(1u32 << shift))), shift, "at {rate} events a second");
        }
    }
}
