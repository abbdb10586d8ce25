// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions handed over and given back, and `Orders`: takes a process's wait for advice that it must give itself, with what it did about the last; gives the next orders as soon
//! as there are any. A call that waits is cheap, and either end notices at once when the other is gone.

use super::client::Client;
use super::error::ControlError;
use super::frame::{FrameError, Frames};
use super::limits::ORDERS_WAIT;
use super::methods::parameters;
use super::regions::{Done, Order, Region};
use super::workload::Workload;
use keepahead_client::call::Call;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Waits {
    workload: u64,
    #[serde(default)]
    done: Option<Vec<Done>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapped {
    workload: u64,
    regions: Vec<Region>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfRegion {
    workload: u64,
    region: u32,
}

/// What concerns the memory of a process concerns all of its connections.
fn of_process(client: &Client, id: u64) -> Result<Arc<Workload>, ControlError> {
    client.shared.registry.borrow().of_process(id, &client.peer)
}

pub fn add_regions(client: &Client, asked: &Mapped) -> Result<Value, ControlError> {
    let workload = of_process(client, asked.workload)?;
    for region in &asked.regions {
        workload.file(region.file)?;
    }
    let first = workload.regions.add(&asked.regions, rustix::param::page_size() as u64)?;
    Ok(json!({ "first": first }))
}

pub fn remove_region(client: &Client, asked: &OfRegion) -> Result<Value, ControlError> {
    of_process(client, asked.workload)?.regions.remove(asked.region).map(|()| json!({}))
}

/// Answers one call, which may take [`ORDERS_WAIT`].
pub async fn wait(client: &Client, frames: &Frames, call: &Call) -> Result<(), FrameError> {
    let asked = parameters::<Waits>(call).and_then(|asked| {
        let workload = of_process(client, asked.workload)?;
        Ok((workload, asked.done.unwrap_or_default()))
    });
    let (workload, done) = match asked {
        Ok(found) => found,
        Err(e) => return frames.send(&e.reply()).await,
    };
    workload.regions.done(&done);
    let orders = tokio::select! {
        orders = next(&workload) => orders,
        gone = frames.closed() => {
            workload.regions.forsaken();
            return gone;
        }
    };
    let sent = match orders {
        Ok(orders) => frames.send(&json!({ "parameters": { "orders": orders } })).await,
        Err(e) => return frames.send(&e.reply()).await,
    };
    if sent.is_err() {
        workload.regions.forsaken();
    }
    sent
}

async fn next(workload: &Arc<Workload>) -> Result<Vec<Order>, ControlError> {
    let _listener = workload.regions.listen()?;
    let end = tokio::time::Instant::now() + ORDERS_WAIT;
    loop {
        if workload.is_closed() {
            return Err(ControlError::NoSuchWorkload { workload: workload.id });
        }
        let orders = workload.regions.take_orders();
        if !orders.is_empty() || tokio::time::timeout_at(end, workload.regions.ready.notified()).await.is_err() {
            return Ok(orders);
        }
    }
}
