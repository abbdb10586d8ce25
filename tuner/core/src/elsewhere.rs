// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other active devices during a trial: takes their counters at the borders of the trial's blocks, gives each one's log stall by block,
//! so that a gain here that is paid for there is seen.

use crate::device::BdiName;
use crate::event::Arm;
use crate::matched::compare;
use crate::window::{Mark, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Elsewhere(BTreeMap<BdiName, Other>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Other {
    since: Option<Mark>,
    blocks: Vec<Span>,
}

impl Elsewhere {
    /// A block of the trial begins to be measured.
    pub fn begin(&mut self, others: &[(BdiName, Mark)]) {
        self.0.values_mut().for_each(|other| other.since = None);
        for (bdi, at) in others {
            self.0.entry(bdi.clone()).or_default().since = Some(*at);
        }
    }

    /// Block `number`, from 0, has ended. A device whose counters stand still is not among `others`: that block of it is empty, and is compared with nothing.
    pub fn end(&mut self, number: usize, others: &[(BdiName, Mark)]) {
        for (bdi, at) in others {
            let other = self.0.entry(bdi.clone()).or_default();
            other.blocks.resize(number, Span::default());
            let span = other.since.take().map_or(Span::default(), |since| since.until(at));
            other.blocks.push(span);
        }
    }

    /// Log stall of every device's blocks against all its blocks of the old value, where they can be compared.
    pub fn log_stalls(&self, arms: &[Arm]) -> Vec<Vec<(Arm, f64)>> {
        let of = |other: &Other| {
            let blocks = || arms.iter().copied().zip(&other.blocks);
            let old = blocks().filter(|(arm, _)| *arm == Arm::Old).fold(Span::default(), |sum, (_, span)| sum.plus(span));
            blocks().filter_map(|(arm, span)| compare(span, &old).map(|c| (arm, c.log_stall))).collect()
        };
        self.0.values().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Counters;
    use crate::units::Nanos;

    #[test]
    fn a_block_in_which_another_device_rests_does_not_shift_its_others() {
        let name = BdiName("8:0".into());
        let mark = |second: u64, pages, stall_ms: u64| Mark {
            at: Nanos::from_secs(second),
            counters: Counters { read_pages: pages, read_stall_ns: stall_ms * 1_000_000, ..Counters::default() },
        };
        let arms = [Arm::New, Arm::New, Arm::Old, Arm::New, Arm::Old];
        let mut elsewhere = Elsewhere::default();
        let (mut pages, mut stall) = (0, 0);
        for (number, arm) in arms.into_iter().enumerate() {
            let at = number as u64 * 2;
            elsewhere.begin(&[(name.clone(), mark(at, pages, stall))]);
            // Its counters stand still in the second block, so it is in no tick.
            if number == 1 {
                elsewhere.end(number, &[]);
                continue;
            }
            (pages, stall) = (pages + 1000, stall + if arm == Arm::New { 300 } else { 100 });
            elsewhere.end(number, &[(name.clone(), mark(at + 1, pages, stall))]);
        }
        let logs = elsewhere.log_stalls(&arms).remove(0);
        assert_eq!(logs.iter().map(|(arm, _)| *arm).collect::<Vec<_>>(), [Arm::New, Arm::Old, Arm::New, Arm::Old]);
        assert!(logs.iter().all(|(arm, log)| if *arm == Arm::New { *log > 0.8 } else { log.abs() < 0.1 }), "{logs:?}");
    }
}
