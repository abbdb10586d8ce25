// SPDX-License-Identifier: MIT OR Apache-2.0
//! The methods of `io.keepahead.Control`: each takes a call's parameters, checked against the description, and gives its reply.
//! What may wait for a disk is done beside the socket's thread.

use super::board::Order;
use super::client::Client;
use super::error::ControlError;
use super::file::ClientFile;
use super::frame::{FrameError, Frames};
use super::limits::{AGENT_ANSWERS, RANGES_AT_ONCE};
use super::memory;
use super::plan::Range;
use super::transfer;
use super::workload::{Hint, Workload};
use keepahead_client::call::Call;
use keepahead_core::units::Kib;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

type Reply = Result<Value, ControlError>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    last: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfDevice {
    device: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfAnyDevice {
    device: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PinTo {
    device: String,
    value_kib: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    name: String,
    budget_bytes: u64,
    hint: Option<Hint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfWorkload {
    workload: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ranges {
    workload: u64,
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReaderAt {
    workload: u64,
    range: u64,
    offset: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Region {
    address: u64,
    length: u64,
    advice: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatsOf {
    workload: u64,
    interval_ms: Option<u64>,
}

/// The parameters of a call; serde's words for what is wrong name the field.
pub fn parameters<T: DeserializeOwned>(call: &Call) -> Result<T, ControlError> {
    let given = call.parameters.clone().unwrap_or_else(|| json!({}));
    serde_json::from_value(given).map_err(|e| ControlError::service("InvalidParameter", "parameter", e.to_string()))
}

/// Answers one call. Access was checked.
pub async fn call(client: &mut Client, method: &str, call: &Call, fds: Vec<OwnedFd>) -> Reply {
    match method {
        "Status" => parameters::<Nothing>(call).map(|_| status(client)),
        "Devices" => parameters::<Nothing>(call).map(|_| json!({ "devices": client.shared.board.snapshot().devices })),
        "History" => parameters::<Last>(call).map(|p| newest(&client.shared.board.snapshot().records, p.last)),
        "Trials" => parameters::<Last>(call).map(|p| newest(&client.shared.board.snapshot().trials, p.last)),
        "Pause" => order(client, parameters::<Nothing>(call).map(|_| Order::Pause)).await,
        "Resume" => order(client, parameters::<Nothing>(call).map(|_| Order::Resume)).await,
        "TakeBack" => order(client, parameters::<OfAnyDevice>(call).map(|p| Order::TakeBack(p.device))).await,
        "Pin" => order(client, parameters::<PinTo>(call).map(|p| Order::Pin(p.device, Kib(p.value_kib)))).await,
        "Unpin" => order(client, parameters::<OfDevice>(call).map(|p| Order::Unpin(p.device))).await,
        "Reload" => order(client, parameters::<Nothing>(call).map(|_| Order::Reload)).await,
        "Restore" => order(client, parameters::<Nothing>(call).map(|_| Order::Restore)).await,
        "Register" => register(client, parameters(call)?, fds).await,
        "AddFiles" => {
            let workload = own(client, parameters::<OfWorkload>(call)?.workload)?;
            let files = fds.len();
            add_files(client, &workload, fds).await.map(|first| json!({ "first": first, "files": files }))
        }
        "Unregister" => {
            let workload = own(client, parameters::<OfWorkload>(call)?.workload)?;
            client.workloads.remove(&workload.id);
            client.end(workload);
            Ok(json!({}))
        }
        "Plan" => plan(client, parameters(call)?).await,
        "Position" => position(client, &parameters(call)?),
        "Prefetch" => at_once(client, parameters(call)?, transfer::prefetch).await.map(|n| json!({ "cached_bytes": n })),
        "Discard" => at_once(client, parameters(call)?, transfer::discard).await.map(|n| json!({ "dropped_bytes": n })),
        "AddRegions" => super::orders::add_regions(client, &parameters(call)?),
        "RemoveRegion" => super::orders::remove_region(client, &parameters(call)?),
        "AdviseMemory" => advise_memory(client, parameters(call)?).await.map(|n| json!({ "advised_bytes": n })),
        "Stats" => stats_of(client, call).map(|(workload, _)| workload.stats()),
        _ => Err(ControlError::service("MethodNotFound", "method", &call.method)),
    }
}

fn status(client: &Client) -> Value {
    let (snapshot, registry) = (client.shared.board.snapshot(), client.shared.registry.borrow());
    json!({
        "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(), "uptime_s": client.shared.started.elapsed().as_secs(),
        "policy": snapshot.policy, "paused": snapshot.paused, "devices": snapshot.devices.len(), "on_trial": snapshot.on_trial,
        "connections": registry.connections(), "workloads": registry.workloads(),
    })
}

/// The last of these records, oldest first.
fn newest(records: &VecDeque<Arc<Value>>, last: Option<usize>) -> Value {
    let skip = records.len().saturating_sub(last.unwrap_or(usize::MAX));
    json!({ "records": records.iter().skip(skip).map(|r| &**r).collect::<Vec<&Value>>() })
}

async fn order(client: &Client, order: Result<Order, ControlError>) -> Reply {
    let answered = client.shared.board.order(order?)?;
    let late = |reason: &str| ControlError::Busy { reason: reason.into() };
    let answer = tokio::time::timeout(AGENT_ANSWERS, answered).await;
    answer.map_err(|_| late("the agent has the order and did not answer in time"))?.map_err(|_| late("the agent is leaving"))?
}

fn own(client: &Client, id: u64) -> Result<Arc<Workload>, ControlError> {
    client.workloads.get(&id).cloned().ok_or(ControlError::NoSuchWorkload { workload: id })
}

/// Runs what may wait for a disk.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, ControlError> + Send + 'static) -> Result<T, ControlError> {
    tokio::task::spawn_blocking(work).await.map_err(ControlError::failed)?
}

async fn register(client: &mut Client, asked: Registration, fds: Vec<OwnedFd>) -> Reply {
    let Registration { name, budget_bytes, hint } = asked;
    let own = client.workloads.len();
    let registered = client.shared.registry.borrow_mut().register(&client.peer, own, name, budget_bytes, hint);
    let workload = registered?;
    client.shared.board.roll.enter(&workload);
    client.workloads.insert(workload.id, workload.clone());
    let files = fds.len();
    match add_files(client, &workload, fds).await {
        Ok(_) => Ok(json!({ "workload": workload.id, "files": files })),
        Err(e) => {
            client.workloads.remove(&workload.id);
            client.end(workload);
            Err(e)
        }
    }
}

async fn add_files(client: &Client, workload: &Arc<Workload>, fds: Vec<OwnedFd>) -> Result<u64, ControlError> {
    client.shared.registry.borrow().room_for_files(fds.len())?;
    let (workload, peer) = (workload.clone(), client.peer.clone());
    beside(move || {
        let adopt = |(index, fd)| ClientFile::adopt(index as u64, fd, &peer);
        let files = fds.into_iter().enumerate().map(adopt).collect::<Result<Vec<_>, _>>()?;
        workload.add(files)
    })
    .await
}

async fn plan(client: &Client, asked: Ranges) -> Reply {
    let workload = own(client, asked.workload)?;
    client.shared.registry.borrow().room_for_ranges(&workload, asked.ranges.len())?;
    let resolving = workload.clone();
    let ranges = beside(move || resolving.resolve(&asked.ranges)).await?;
    let total = {
        let mut progress = workload.progress();
        progress.plan.append(ranges);
        progress.plan.total()
    };
    client.shared.lanes.wake(&workload);
    Ok(json!({ "ranges_total": total }))
}

fn position(client: &Client, at: &ReaderAt) -> Reply {
    let workload = own(client, at.workload)?;
    {
        let mut progress = workload.progress();
        let total = progress.plan.total();
        if at.range > total {
            let (value, allowed) = (at.range.to_string(), format!("0 to {total}, the plan's ranges"));
            return Err(ControlError::InvalidValue { parameter: "range", value, allowed });
        }
        progress.plan.advance(at.range, at.offset.unwrap_or(0));
    }
    client.shared.lanes.wake(&workload);
    Ok(json!({}))
}

/// `Prefetch` and `Discard`: done when answered. Few of them are under way at once, so that the threads for other calls stay free.
async fn at_once(
    client: &Client,
    asked: Ranges,
    work: fn(&Workload, &[Range]) -> Result<u64, ControlError>,
) -> Result<u64, ControlError> {
    let workload = own(client, asked.workload)?;
    if asked.ranges.len() > RANGES_AT_ONCE {
        return Err(ControlError::LimitReached { what: "ranges of one call", limit: RANGES_AT_ONCE as u64 });
    }
    let _turn = client.shared.transfers.acquire().await.map_err(ControlError::failed)?;
    beside(move || work(&workload, &workload.resolve(&asked.ranges)?)).await
}

/// Of the process that connected, and no other.
async fn advise_memory(client: &Client, asked: Region) -> Result<u64, ControlError> {
    let gone = || ControlError::failed("the kernel does not tell which process connected (pidfd_open, 5.3 and later)");
    let process = client.process.as_ref().and_then(|p| p.get_ref().try_clone().ok()).ok_or_else(gone)?;
    let _turn = client.shared.transfers.acquire().await.map_err(ControlError::failed)?;
    beside(move || memory::advise(&process, asked.address, asked.length, &asked.advice)).await
}

fn stats_of(client: &Client, call: &Call) -> Result<(Arc<Workload>, Duration), ControlError> {
    let StatsOf { workload, interval_ms } = parameters(call)?;
    let interval = interval_ms.unwrap_or(1000);
    if !(100..=60_000).contains(&interval) {
        let (value, allowed) = (interval.to_string(), "100 to 60000".into());
        return Err(ControlError::InvalidValue { parameter: "interval_ms", value, allowed });
    }
    let workload = client.shared.registry.borrow().visible(workload, &client.peer)?;
    Ok((workload, Duration::from_millis(interval)))
}

/// `Stats` with `more`: a reply each interval, and the last when the workload has ended.
pub async fn stream_stats(client: &Client, frames: &Frames, call: &Call) -> Result<(), FrameError> {
    let (workload, interval) = match stats_of(client, call) {
        Ok(found) => found,
        Err(e) => return frames.send(&e.reply()).await,
    };
    loop {
        let goes_on = !workload.is_closed();
        frames.send(&json!({ "parameters": workload.stats(), "continues": goes_on })).await?;
        if !goes_on {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            gone = frames.closed() => return gone,
        }
    }
}
