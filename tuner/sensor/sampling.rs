// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many chunks are in the sample: one in `2^shift`. Takes the load of the last interval, gives a new shift when the present one
//! costs too much or shows too little.

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

#[cfg(test)]
mod tests {
    use super::*;

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
