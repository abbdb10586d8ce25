// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection: reads calls, answers them in order, and ends with the client, whichever end of him the kernel tells of first: his
//! socket or his process. What he registered ends with it.

use super::Shared;
use super::access::{Class, Peer};
use super::error::ControlError;
use super::frame::{FrameError, Frames};
use super::workload::Workload;
use keepahead_client::call::Call;
use keepahead_client::frame::Message;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot};

/// A connected client and his workloads.
pub struct Client {
    pub shared: Rc<Shared>,
    pub peer: Peer,
    pub workloads: BTreeMap<u64, Arc<Workload>>,
    /// The process that connected, where the kernel tells; known from the first call on that wants something done. Those who only
    /// look take one descriptor each.
    pub process: Option<Rc<AsyncFd<OwnedFd>>>,
    met: Option<oneshot::Sender<Rc<AsyncFd<OwnedFd>>>>,
}

/// Serves a connection to its end.
pub async fn serve(shared: Rc<Shared>, stream: UnixStream) {
    let Ok(peer) = Peer::of(&stream) else { return };
    let connected = shared.registry.borrow_mut().connect(peer.uid);
    let large = match connected {
        Ok(large) => large,
        Err(refused) => {
            let _ = Frames::new(stream, Arc::new(Semaphore::new(0))).send(&refused.reply()).await;
            return;
        }
    };
    let (met, ended) = oneshot::channel();
    let mut client = Client { shared, peer, workloads: BTreeMap::new(), process: None, met: Some(met) };
    let mut frames = Frames::new(stream, large);
    let (pid, mut leaving) = (client.peer.pid, client.shared.leaving.clone());
    tokio::select! {
        _ = leaving.changed() => {}
        () = dies(ended) => tracing::debug!("control: process {pid} has ended"),
        result = converse(&mut client, &mut frames) => if let Err(e) = result {
            tracing::debug!("control: connection of process {pid} given up: {e}");
        },
    }
}

/// Returns when the process is gone; never where it is not watched.
async fn dies(met: oneshot::Receiver<Rc<AsyncFd<OwnedFd>>>) {
    match met.await {
        Ok(process) => _ = process.readable().await,
        Err(_) => std::future::pending().await,
    }
}

async fn converse(client: &mut Client, frames: &mut Frames) -> Result<(), FrameError> {
    while let Some(Message { body, fds }) = frames.receive().await? {
        let call: Call = match serde_json::from_slice(&body) {
            Ok(call) => call,
            Err(_) => {
                // Where the next message begins is anybody's guess after this.
                let refused = ControlError::service("InvalidParameter", "parameter", "the message is no call");
                return frames.send(&refused.reply()).await;
            }
        };
        answer(client, frames, call, fds).await?;
        // One call a turn, so that a client who calls without pause waits like everybody else.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn answer(client: &mut Client, frames: &Frames, call: Call, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
    crate::agent::panic_if_asked(&call.method);
    let oneway = call.oneway;
    let answer = match super::introspect::answer(&call) {
        Some(answer) => answer,
        None => match permitted(client, &call) {
            Ok("Stats") if call.more && !oneway => return super::methods::stream_stats(client, frames, &call).await,
            Ok("Orders") if !oneway => return super::orders::wait(client, frames, &call).await,
            Ok(method) => match client.meet(method, frames) {
                Ok(()) => super::methods::call(client, method, &call, fds).await,
                Err(e) => Err(e),
            },
            Err(e) => Err(e),
        },
    };
    match answer {
        _ if oneway => Ok(()),
        Ok(parameters) => frames.send(&json!({ "parameters": parameters })).await,
        Err(e) => frames.send(&e.reply()).await,
    }
}

/// The method's name inside the interface, where there is such a method and this client may call it.
fn permitted<'c>(client: &Client, call: &'c Call) -> Result<&'c str, ControlError> {
    let Some((interface, method)) = call.method.rsplit_once('.') else {
        return Err(ControlError::service("MethodNotFound", "method", &call.method));
    };
    if interface != super::INTERFACE {
        return Err(ControlError::service("InterfaceNotFound", "interface", interface));
    }
    let class = Class::of(method).ok_or_else(|| ControlError::service("MethodNotFound", "method", &call.method))?;
    client.peer.may(method, class, &client.shared.board.access())?;
    Ok(method)
}

impl Client {
    /// Watches the process of a client who wants something done for it.
    fn meet(&mut self, method: &str, frames: &Frames) -> Result<(), ControlError> {
        if Class::of(method) != Some(Class::Advise) || self.met.is_none() {
            return Ok(());
        }
        self.shared.registry.borrow_mut().meet()?;
        // SAFETY: an `OwnedFd` keeps its descriptor open for as long as it is registered.
        let watch = |fd| unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        self.process = self.peer.process(frames.socket()).and_then(|fd| watch(fd).ok()).map(Rc::new);
        let (met, process) = (self.met.take(), self.process.clone());
        // Fails where the connection has ended meanwhile.
        let _ = met.zip(process).map(|(met, process)| met.send(process));
        Ok(())
    }

    /// Ends a workload: nothing more is done for it, and what was advised is withdrawn, beside the socket's thread.
    pub fn end(&self, workload: Arc<Workload>) {
        workload.close();
        self.shared.registry.borrow_mut().remove(workload.id);
        self.shared.lanes.wake(&workload);
        // An agent that leaves has an end to its patience: what waits for a thread then is dropped by tokio, and never done.
        let leaving = self.shared.leaving.has_changed().is_err();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !leaving => _ = runtime.spawn_blocking(move || workload.withdraw()),
            _ => workload.withdraw(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for (_, workload) in std::mem::take(&mut self.workloads) {
            self.end(workload);
        }
        self.shared.registry.borrow_mut().disconnect(self.peer.uid, self.met.is_none());
    }
}
