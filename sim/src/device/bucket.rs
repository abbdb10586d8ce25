// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cloud volume's limit with burst credits: takes what a request costs and when it comes, gives when it may go on. A credit refills
//! at the baseline rate and is spent at up to the burst rate (Amazon EBS user guide, "I/O credits and burst performance" of gp2).

use keepahead_core::units::Nanos;
use serde::{Deserialize, Serialize};

/// Baseline, burst and credit, in one unit: I/Os or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketLimits {
    /// Sustained rate a second.
    pub baseline: f64,
    /// Rate while credit lasts; the baseline where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<f64>,
    /// What can be saved up, and what there is at the start.
    #[serde(default)]
    pub credit: f64,
}

impl BucketLimits {
    pub(super) fn burst_rate(&self) -> f64 {
        self.burst.unwrap_or(self.baseline)
    }
}

#[derive(Clone, Debug)]
pub struct Bucket {
    limits: BucketLimits,
    /// Credit left at `at` (seconds); below zero where a request was larger than the whole credit.
    credit: f64,
    at: f64,
    /// The burst rate lets the next request on from here (seconds).
    next: f64,
    slowdown: f64,
}

impl Bucket {
    pub fn new(limits: BucketLimits) -> Bucket {
        Bucket { limits, credit: limits.credit, at: 0.0, next: 0.0, slowdown: 1.0 }
    }

    /// Divides both rates from the next request on.
    pub fn slow_down(&mut self, by: f64) {
        self.slowdown = by;
    }

    /// When a request that comes at `now` and costs `cost` goes on; requests go on in the order in which they came.
    pub fn admit(&mut self, now: Nanos, cost: f64) -> Nanos {
        let mut at = now.as_secs_f64().max(self.next);
        if self.limits.burst_rate() > self.limits.baseline {
            let baseline = self.limits.baseline / self.slowdown;
            let mut credit = (self.credit + (at - self.at) * baseline).min(self.limits.credit);
            let wanted = cost.min(self.limits.credit);
            if credit < wanted {
                at += (wanted - credit) / baseline;
                credit = wanted;
            }
            (self.credit, self.at) = (credit - cost, at);
        }
        self.next = at + cost * self.slowdown / self.limits.burst_rate();
        // Never early: a float of seconds is coarser than a nanosecond after some weeks.
        Nanos((at * 1e9).round() as u64).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// gp2 of 100 GiB: 300 IOPS, bursts to 3000 on 5.4 million credits, so for 5.4e6 / (3000 - 300) = 2000 s.
    #[test]
    fn a_burst_lasts_as_long_as_its_credit_and_then_the_baseline_holds() {
        let mut bucket = Bucket::new(BucketLimits { baseline: 300.0, burst: Some(3000.0), credit: 5.4e6 });
        let mut now = Nanos(0);
        let mut done = Vec::new();
        for _ in 0..6_100_000 {
            now = bucket.admit(now, 1.0);
            done.push(now.as_secs_f64());
        }
        let rate = |n: usize| 1000.0 / (done[n + 1000] - done[n]);
        assert!((rate(5_000_000) - 3000.0).abs() < 1.0, "{}", rate(5_000_000));
        assert!((rate(6_010_000) - 300.0).abs() < 1.0, "{}", rate(6_010_000));
        let ends = done.windows(2).position(|w| w[1] - w[0] > 0.003).map(|n| done[n]);
        assert!(ends.is_some_and(|s| (s - 2000.0).abs() < 1.0), "the burst ended at {ends:?} s");
    }

    #[test]
    fn a_flat_limit_spaces_requests_evenly() {
        let mut bucket = Bucket::new(BucketLimits { baseline: 3000.0, burst: None, credit: 0.0 });
        let last = (0..3001).map(|_| bucket.admit(Nanos(0), 1.0)).last();
        assert_eq!(last.map(|n| n.as_secs_f64().round()), Some(1.0));
    }
}
