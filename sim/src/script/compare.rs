// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares two lists of events one by one and shows the first that differs with what came before it.

use crate::event::Event;
use std::fmt;

/// Equal events shown before the first difference.
const BEFORE: usize = 6;
/// Events shown of each side from the difference on.
const AFTER: usize = 4;

/// The first difference. One side may have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Number of the event, from 0.
    pub at: usize,
    /// The equal events just before it.
    pub before: Vec<Event>,
    /// From the difference on, at most four.
    pub real: Vec<Event>,
    pub simulated: Vec<Event>,
}

/// The first event in which the two lists differ; `None` where they are the same.
pub fn compare(real: &[Event], simulated: &[Event]) -> Option<Mismatch> {
    let same = real.iter().zip(simulated).take_while(|(a, b)| a == b).count();
    if same == real.len() && same == simulated.len() {
        return None;
    }
    let from = |events: &[Event]| events[same..].iter().take(AFTER).copied().collect();
    Some(Mismatch {
        at: same,
        before: real[same.saturating_sub(BEFORE)..same].to_vec(),
        real: from(real),
        simulated: from(simulated),
    })
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.at - self.before.len();
        for (n, event) in self.before.iter().enumerate() {
            writeln!(f, "  {:5} both       {event}", first + n)?;
        }
        for (side, events) in [("real      ", &self.real), ("simulated ", &self.simulated)] {
            if events.is_empty() {
                writeln!(f, "- {:5} {side} (no more events)", self.at)?;
            }
            for (n, event) in events.iter().enumerate() {
                writeln!(f, "{} {:5} {side} {event}", if n == 0 { '-' } else { ' ' }, self.at + n)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(index: u64) -> Event {
        Event::Fault { file: 0, index }
    }

    #[test]
    fn equal_lists_have_no_mismatch() {
        assert_eq!(compare(&[fault(1), fault(2)], &[fault(1), fault(2)]), None);
        assert_eq!(compare(&[], &[]), None);
    }

    #[test]
    fn the_first_difference_is_shown_with_what_came_before() {
        let real: Vec<_> = (0..20).map(fault).collect();
        let mut simulated = real.clone();
        simulated[10] = fault(99);
        let found = compare(&real, &simulated).unwrap();
        assert_eq!((found.at, found.before.len(), found.real[0], found.simulated[0]), (10, 6, fault(10), fault(99)));
        assert!(found.to_string().contains("-    10 simulated  fault f0 index=99"), "{found}");
    }

    #[test]
    fn a_side_that_ends_early_differs_there() {
        let found = compare(&[fault(1)], &[fault(1), fault(2)]).unwrap();
        assert_eq!((found.at, found.real.len()), (1, 0));
        assert!(found.to_string().contains("no more events"));
    }
}
