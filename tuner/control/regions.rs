// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions of a client's memory that his process may be told to advise: takes them from the socket's thread and advice from the
//! agent's, gives orders to the process and what became of them to the agent.
//!
//! The kernel takes `MADV_NORMAL`, `RANDOM` and `SEQUENTIAL` from a process itself alone (`process_madvise_remote_valid`,
//! `mm/madvise.c`). No other advice is ever ordered: these three change what is read and kept, never what a program reads.

use super::error::ControlError;
use super::limits::{REGIONS_PER_WORKLOAD, STALLED};
use keepahead_core::region::Advice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// `Region` of the interface: where a file of the workload is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    pub address: u64,
    pub length: u64,
    pub file: u64,
    pub offset: u64,
}

/// `Order` of the interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Order {
    pub order: u64,
    pub region: u32,
    pub address: u64,
    pub length: u64,
    pub advice: &'static str,
    pub why: String,
}

/// `Done` of the interface.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    pub order: u64,
    pub errno: i32,
}

/// What stands of a region, for the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub region: Region,
    /// `None` while an order is under way.
    pub in_force: Option<Advice>,
    /// The errno of an order that could not be carried out.
    pub refused: Option<i32>,
    pub why: String,
    wanted: Advice,
    /// The number of the last order, once it was handed out.
    given: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u32,
    orders: u64,
    held: BTreeMap<u32, Held>,
    waiting: bool,
    /// When the process last had or asked for orders.
    heard: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct Regions {
    inner: Mutex<Inner>,
    /// Orders lie ready, or the workload ends.
    pub ready: Notify,
}

impl Regions {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes regions over; the number of the first. `page`: addresses and offsets are multiples of it.
    pub fn add(&self, regions: &[Region], page: u64) -> Result<u32, ControlError> {
        let mut inner = self.inner();
        if inner.held.len() + regions.len() > REGIONS_PER_WORKLOAD {
            return Err(ControlError::LimitReached { what: "regions of a workload", limit: REGIONS_PER_WORKLOAD as u64 });
        }
        for region in regions {
            region.check(page)?;
        }
        let first = inner.next;
        for region in regions {
            let number = inner.next;
            inner.next += 1;
            let (in_force, wanted) = (Some(Advice::Normal), Advice::Normal);
            inner
                .held
                .insert(number, Held { region: *region, in_force, refused: None, why: String::new(), wanted, given: None });
        }
        Ok(first)
    }

    pub fn remove(&self, number: u32) -> Result<(), ControlError> {
        let mut inner = self.inner();
        let regions = inner.held.len() as u64;
        let gone = || ControlError::NoSuchRegion { region: u64::from(number), regions };
        inner.held.remove(&number).map(|_| ()).ok_or_else(gone)
    }

    /// All of them, where their process takes orders; none where it does not, or no longer.
    pub fn standing(&self) -> BTreeMap<u32, Held> {
        let inner = self.inner();
        let listens = inner.waiting || inner.heard.is_some_and(|at| at.elapsed() < STALLED);
        if listens { inner.held.clone() } else { BTreeMap::new() }
    }

    /// The agent wants this advice in force.
    pub fn order(&self, number: u32, advice: Advice, why: &str) {
        let mut inner = self.inner();
        let Some(held) = inner.held.get_mut(&number) else { return };
        held.why = why.to_owned();
        if held.wanted != advice {
            (held.wanted, held.in_force, held.given) = (advice, None, None);
            self.ready.notify_one();
        }
    }

    /// What the process did with its orders. Those that were overtaken meanwhile say nothing.
    pub fn done(&self, all: &[Done]) {
        let mut inner = self.inner();
        inner.heard = Some(Instant::now());
        for done in all {
            let Some(held) = inner.held.values_mut().find(|h| h.given == Some(done.order)) else { continue };
            match done.errno {
                0 => held.in_force = Some(held.wanted),
                errno => held.refused = Some(errno),
            }
        }
    }

    /// Orders that the process does not have yet.
    pub fn take_orders(&self) -> Vec<Order> {
        let mut inner = self.inner();
        inner.heard = Some(Instant::now());
        let Inner { orders: count, held, .. } = &mut *inner;
        let mut orders = Vec::new();
        for (number, held) in held.iter_mut().filter(|(_, h)| h.in_force.is_none() && h.given.is_none()) {
            *count += 1;
            held.given = Some(*count);
            let Region { address, length, .. } = held.region;
            let (order, advice, why) = (*count, held.wanted.word(), held.why.clone());
            orders.push(Order { order, region: *number, address, length, advice, why });
        }
        orders
    }

    /// The process waits for orders from now on, until what comes back is dropped. One connection may.
    pub fn listen(&self) -> Result<Listener<'_>, ControlError> {
        let mut inner = self.inner();
        if inner.waiting {
            return Err(ControlError::Busy { reason: "another connection waits for the orders of this workload".into() });
        }
        inner.waiting = true;
        Ok(Listener(self))
    }

    /// The process has gone from its orders, and has taken all advice back.
    pub fn forsaken(&self) {
        let mut inner = self.inner();
        inner.heard = None;
        for held in inner.held.values_mut() {
            (held.wanted, held.in_force, held.given) = (Advice::Normal, Some(Advice::Normal), None);
        }
    }

    /// For `Stats`: what is advised now.
    pub fn advised(&self) -> Vec<serde_json::Value> {
        let given = |held: &Held| held.in_force.filter(|advice| *advice != Advice::Normal);
        let line = |(number, held): (&u32, &Held)| {
            let advice = format!("MADV_{} region {number}", given(held)?.word().to_uppercase());
            Some(serde_json::json!({ "advice": advice, "files": 1, "why": held.why }))
        };
        self.inner().held.iter().filter_map(line).collect()
    }
}

impl Region {
    fn check(&self, page: u64) -> Result<(), ControlError> {
        let whole = |parameter, value: u64| match value.is_multiple_of(page) {
            true => Ok(()),
            false => Err(ControlError::InvalidValue {
                parameter,
                value: value.to_string(),
                allowed: format!("a multiple of {page}"),
            }),
        };
        whole("address", self.address)?;
        whole("offset", self.offset)?;
        let fits = self.address.checked_add(self.length).is_some() && self.offset.checked_add(self.length).is_some();
        if self.length == 0 || !fits {
            let (value, allowed) = (self.length.to_string(), "1 byte or more, and no more than there are addresses".into());
            return Err(ControlError::InvalidValue { parameter: "length", value, allowed });
        }
        Ok(())
    }
}

/// A connection that waits for orders.
pub struct Listener<'a>(&'a Regions);

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.0.inner().waiting = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: Region = Region { address: 1 << 20, length: 8192, file: 0, offset: 4096 };

    #[test]
    fn orders_go_out_once_and_only_the_last_ones_answer_counts() {
        let regions = Regions::default();
        assert_eq!(regions.add(&[REGION, REGION], 4096).unwrap(), 0);
        assert!(regions.standing().is_empty(), "nobody listens");
        regions.order(1, Advice::Random, "trial");
        let first = regions.take_orders();
        assert_eq!((first.len(), first[0].region, first[0].advice), (1, 1, "random"));
        assert!(regions.take_orders().is_empty());
        regions.order(1, Advice::Normal, "trial");
        regions.done(&[Done { order: first[0].order, errno: 0 }]);
        assert_eq!(regions.standing()[&1].in_force, None, "that was the order before");
        let second = regions.take_orders();
        regions.done(&[Done { order: second[0].order, errno: 0 }, Done { order: 99, errno: 0 }]);
        assert_eq!(regions.standing()[&1].in_force, Some(Advice::Normal));
        assert!(regions.advised().is_empty());
    }

    #[test]
    fn a_refusal_is_kept_and_a_process_that_goes_takes_its_advice_along() {
        let regions = Regions::default();
        regions.add(&[REGION], 4096).unwrap();
        regions.order(0, Advice::Sequential, "it is scanned");
        let order = regions.take_orders()[0].order;
        regions.done(&[Done { order, errno: 12 }]);
        assert_eq!(regions.standing()[&0].refused, Some(12));
        regions.forsaken();
        assert!(regions.standing().is_empty());
        let listener = regions.listen().unwrap();
        assert!(matches!(regions.listen(), Err(ControlError::Busy { .. })));
        assert_eq!(regions.standing()[&0].in_force, Some(Advice::Normal));
        drop(listener);
        assert!(regions.standing().is_empty() && regions.listen().is_ok());
    }

    #[test]
    fn regions_are_checked_and_bounded() {
        let regions = Regions::default();
        let refused = |region: Region| regions.add(&[region], 4096).unwrap_err().to_string();
        assert!(refused(Region { address: 5, ..REGION }).contains("address = 5"));
        assert!(refused(Region { offset: 5, ..REGION }).contains("multiple of 4096"));
        assert!(refused(Region { length: 0, ..REGION }).contains("1 byte"));
        assert!(refused(Region { length: u64::MAX - 4096, ..REGION }).contains("length"));
        assert!(regions.remove(0).unwrap_err().to_string().contains("no region 0"));
        regions.add(&[REGION; REGIONS_PER_WORKLOAD], 4096).unwrap();
        assert!(refused(REGION).contains("limit is 8"));
        regions.remove(3).unwrap();
        assert_eq!(regions.add(&[REGION], 4096).unwrap(), 8, "numbers are not used again");
    }
}
