// SPDX-License-Identifier: MIT OR Apache-2.0
//! A token bucket: so many a second, in bursts of at most one second's worth. Time is passed in.

use std::time::Instant;

#[derive(Debug)]
pub struct Throttle {
    per_second: f64,
    tokens: f64,
    last: Option<Instant>,
}

impl Throttle {
    pub fn new(per_second: u32) -> Throttle {
        Throttle { per_second: f64::from(per_second), tokens: f64::from(per_second), last: None }
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = self.last.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.per_second);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn so_many_a_second_and_no_more() {
        let (mut throttle, start) = (Throttle::new(10), Instant::now());
        assert_eq!((0..100).filter(|_| throttle.take(start)).count(), 10);
        assert_eq!((0..100).filter(|_| throttle.take(start + Duration::from_millis(500))).count(), 5);
        assert_eq!((0..100).filter(|_| throttle.take(start + Duration::from_secs(60))).count(), 10);
    }

    #[test]
    fn none_a_second_means_none() {
        assert!(!Throttle::new(0).take(Instant::now()));
    }
}
