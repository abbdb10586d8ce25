// SPDX-License-Identifier: MIT OR Apache-2.0
//! Refuses profiles that no device can have: takes a [`Profile`], gives the first figure that is impossible and what it must be.

use super::bucket::BucketLimits;
use super::profile::{Latency, Profile, ProfileError, Rotational};
use std::fmt::Display;

fn hold(holds: bool, field: &'static str, value: impl Display, wanted: &'static str) -> Result<(), ProfileError> {
    if holds { Ok(()) } else { Err(ProfileError::Value { field, value: value.to_string(), wanted }) }
}

/// A finite figure above zero. The upper bound keeps sums of times within 64 bits of nanoseconds.
fn positive(field: &'static str, value: f64) -> Result<(), ProfileError> {
    hold(value > 0.0 && value <= 1e15, field, value, "above 0 (and finite)")
}

/// A time of at most an hour.
fn time(field: &'static str, value: f64, per_second: f64) -> Result<(), ProfileError> {
    hold(value >= 0.0 && value <= 3600.0 * per_second, field, value, "at least 0 and at most an hour")
}

impl Profile {
    /// Refuses values that no device can have.
    pub fn check(&self) -> Result<(), ProfileError> {
        hold((1..=65_536).contains(&self.channels), "channels", self.channels, "1 to 65536")?;
        positive("bandwidth_mb", self.bandwidth_mb)?;
        if let Some(rate) = self.request_mb {
            positive("request_mb", rate)?;
            hold(rate <= self.bandwidth_mb, "request_mb", rate, "at most bandwidth_mb")?;
        }
        let kb = self.max_sectors_kb;
        hold(kb >= 4 && kb.is_multiple_of(4), "max_sectors_kb", kb, "a multiple of 4 (one page)")?;
        time("plug_us", self.plug_us, 1e6)?;
        latency("latency", &self.latency)?;
        self.random_latency.as_ref().map_or(Ok(()), |l| latency("random_latency", l))?;
        self.rotational.as_ref().map_or(Ok(()), rotational)?;
        if let Some(throttle) = &self.throttle {
            hold((10..=10_000).contains(&throttle.hz), "throttle.hz", throttle.hz, "10 to 10000")?;
        }
        self.iops.as_ref().map_or(Ok(()), |b| bucket(["iops.baseline", "iops.burst", "iops.credit"], b))?;
        self.bytes.as_ref().map_or(Ok(()), |b| bucket(["bytes.baseline", "bytes.burst", "bytes.credit"], b))?;
        if let Some(touch) = &self.first_touch {
            hold(touch.block_kb >= 4, "first_touch.block_kb", touch.block_kb, "at least 4")?;
            time("first_touch.latency_ms", touch.latency_ms, 1e3)?;
        }
        Ok(())
    }
}

fn latency(field: &'static str, latency: &Latency) -> Result<(), ProfileError> {
    time(field, latency.fixed_us, 1e6)?;
    time(field, latency.median_us, 1e6)?;
    hold((0.0..=4.0).contains(&latency.sigma), field, format!("{{ sigma = {} }}", latency.sigma), "a sigma of 0 to 4")?;
    let q = &latency.quantiles;
    if q.is_empty() {
        return hold(latency.fixed_us + latency.median_us > 0.0, field, "0", "above 0: set fixed_us, median_us or quantiles");
    }
    let alone = latency.fixed_us + latency.median_us + latency.sigma == 0.0;
    hold(alone, field, "quantiles and more", "either quantiles or fixed_us, median_us and sigma")?;
    let within = q.iter().all(|[p, us]| (0.0..=1.0).contains(p) && (0.0..=3.6e9).contains(us));
    let ascending = q.windows(2).all(|w| w[0][0] < w[1][0] && w[0][1] <= w[1][1]);
    hold(within && ascending, field, format!("{q:?}"), "[probability 0 to 1, µs] in ascending order")
}

fn rotational(arm: &Rotational) -> Result<(), ProfileError> {
    time("rotational.track_seek_ms", arm.track_seek_ms, 1e3)?;
    time("rotational.full_seek_ms", arm.full_seek_ms, 1e3)?;
    let ordered = arm.track_seek_ms <= arm.full_seek_ms;
    hold(ordered, "rotational.full_seek_ms", arm.full_seek_ms, "at least track_seek_ms")?;
    hold((60.0..=60_000.0).contains(&arm.rpm), "rotational.rpm", arm.rpm, "60 to 60000")?;
    positive("rotational.capacity_gb", arm.capacity_gb)
}

fn bucket([baseline, burst, credit]: [&'static str; 3], limits: &BucketLimits) -> Result<(), ProfileError> {
    positive(baseline, limits.baseline)?;
    positive(burst, limits.burst_rate())?;
    hold(limits.burst_rate() >= limits.baseline, burst, limits.burst_rate(), "at least the baseline")?;
    hold((0.0..=1e15).contains(&limits.credit), credit, limits.credit, "at least 0 (and finite)")?;
    let has_credit = limits.burst_rate() <= limits.baseline || limits.credit >= 1.0;
    hold(has_credit, credit, limits.credit, "at least 1, or a burst has nothing to live on")
}
