// SPDX-License-Identifier: MIT OR Apache-2.0
//! What joins the socket's thread and the agent's: the agent pins its state up as a whole and never waits; orders to it lie in a
//! short queue, and an eventfd wakes it for them.

use super::error::ControlError;
use super::limits::RECORDS;
use super::window::Roll;
use crate::config;
use arc_swap::ArcSwap;
use keepahead_core::units::Kib;
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::Serialize;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;

/// Orders that wait for the agent's next wake, at most.
const ORDERS: usize = 32;

/// The agent's state at its last tick or order.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Name and version of the policy.
    pub policy: &'static str,
    pub paused: bool,
    pub on_trial: usize,
    pub devices: Vec<DeviceState>,
    /// Newest last; a record is shared by the snapshots that hold it.
    pub records: VecDeque<Arc<Value>>,
    /// Those that begin and end trials, which the records of many workloads would crowd out.
    pub trials: VecDeque<Arc<Value>>,
}

/// `Device` of the interface.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceState {
    pub name: String,
    pub bdi: String,
    pub identity: String,
    pub read_ahead_kib: u32,
    pub original_kib: u32,
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// What a person may ask of the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    Pause,
    Resume,
    TakeBack(Option<String>),
    Pin(String, Kib),
    Unpin(String),
    Reload,
    Restore,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Pause => f.write_str("pause"),
            Order::Resume => f.write_str("resume"),
            Order::TakeBack(None) => f.write_str("take back every device"),
            Order::TakeBack(Some(device)) => write!(f, "take back {device}"),
            Order::Pin(device, value) => write!(f, "pin {device} at {value}"),
            Order::Unpin(device) => write!(f, "unpin {device}"),
            Order::Reload => f.write_str("read the configuration anew"),
            Order::Restore => f.write_str("put every original back"),
        }
    }
}

pub type Answer = Result<Value, ControlError>;

/// An order and where its answer goes.
pub struct Asked {
    pub order: Order,
    pub answer: oneshot::Sender<Answer>,
}

/// PSI memory `some avg10`, percent, above which nothing is prefetched; both sides and the threads that prefetch have the same.
#[derive(Clone, Debug)]
pub struct PressureMost(Arc<AtomicU64>);

impl PressureMost {
    pub fn new(percent: f64) -> PressureMost {
        PressureMost(Arc::new(AtomicU64::new(percent.to_bits())))
    }

    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, percent: f64) {
        self.0.store(percent.to_bits(), Ordering::Relaxed);
    }
}

/// The socket's side.
pub struct Board {
    snapshot: Arc<ArcSwap<Snapshot>>,
    orders: SyncSender<Asked>,
    wake: Arc<EventFd>,
    access: Arc<ArcSwap<config::Control>>,
    pub pressure_most: PressureMost,
    /// Who has registered.
    pub roll: Roll,
}

/// The agent's side.
pub struct AgentEnd {
    snapshot: Arc<ArcSwap<Snapshot>>,
    orders: Receiver<Asked>,
    wake: Arc<EventFd>,
    records: VecDeque<Arc<Value>>,
    trials: VecDeque<Arc<Value>>,
    access: Arc<ArcSwap<config::Control>>,
    pressure_most: PressureMost,
    pub roll: Roll,
}

/// Both sides. `access`: who may do what; that and `pressure_most` hold until they are changed.
pub fn board(access: config::Control, pressure_most: PressureMost) -> io::Result<(Board, AgentEnd)> {
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
    let (send, orders) = sync_channel(ORDERS);
    let roll = Roll::default();
    let access = Arc::new(ArcSwap::from_pointee(access));
    let board = Board {
        snapshot: snapshot.clone(),
        orders: send,
        wake: wake.clone(),
        access: access.clone(),
        pressure_most: pressure_most.clone(),
        roll: roll.clone(),
    };
    let (records, trials) = (VecDeque::new(), VecDeque::new());
    Ok((board, AgentEnd { snapshot, orders, wake, records, trials, access, pressure_most, roll }))
}

impl Board {
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Who may do what now.
    pub fn access(&self) -> Arc<config::Control> {
        self.access.load_full()
    }

    /// Hands an order over; where the answer will come.
    pub fn order(&self, order: Order) -> Result<oneshot::Receiver<Answer>, ControlError> {
        let (answer, answered) = oneshot::channel();
        let full = || ControlError::Busy { reason: format!("{ORDERS} orders wait for the agent already, or it is leaving") };
        self.orders.try_send(Asked { order, answer }).map_err(|_| full())?;
        let _ = self.wake.write(1);
        Ok(answered)
    }
}

fn keep(last: &mut VecDeque<Arc<Value>>, record: Arc<Value>) {
    last.push_back(record);
    if last.len() > RECORDS {
        last.pop_front();
    }
}

impl AgentEnd {
    /// Readable when an order waits.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    pub fn next_order(&self) -> Option<Asked> {
        let _ = self.wake.read();
        self.orders.try_recv().ok()
    }

    pub fn note(&mut self, record: Value) {
        let record = Arc::new(record);
        if matches!(record["record"].as_str(), Some("trial_started" | "trial_ended")) {
            keep(&mut self.trials, record.clone());
        }
        keep(&mut self.records, record);
    }

    /// Calls from now on are judged by these lists, and prefetching by this pressure.
    pub fn permit(&self, access: config::Control, pressure_most: f64) {
        self.access.store(Arc::new(access));
        self.pressure_most.set(pressure_most);
    }

    pub fn publish(&self, mut snapshot: Snapshot) {
        (snapshot.records, snapshot.trials) = (self.records.clone(), self.trials.clone());
        self.snapshot.store(Arc::new(snapshot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_told_in_words() {
        assert_eq!(Order::Pin("sda".into(), Kib(65)).to_string(), "pin sda at 65 KiB");
        assert_eq!(Order::TakeBack(None).to_string(), "take back every device");
    }
}
