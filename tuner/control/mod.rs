// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control socket: programs ask what keepahead does, tell what they are about to read and have it prefetched; people pause, pin
//! and restore. Varlink over a Unix socket, in threads of its own, so that neither side delays the agent's loop.

mod access;
pub mod board;
mod client;
mod error;
mod file;
mod frame;
mod introspect;
mod lane;
mod limits;
mod listen;
mod memory;
mod methods;
mod orders;
mod plan;
mod regions;
mod registry;
mod transfer;
mod window;
mod workload;

pub use access::names_nobody;
pub use board::{AgentEnd, Board, DeviceState, Order, PressureMost, Snapshot, board};
pub use error::ControlError;
pub use limits::FILES_WITH_WINDOW;
pub use listen::{ListenError, Listening, group};
pub use regions::{Held, Region};
pub use window::{OwnWindow, Roll};
pub use workload::{Hint, Workload};

use lane::Lanes;
use registry::Registry;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

pub use keepahead_client::INTERFACE;

/// Threads for what may wait for a disk; half of them at most for `Prefetch` and `Discard`.
const BLOCKING_THREADS: usize = 16;
/// Descriptors that clients never get: the agent's own, for its devices, probes and journal, some hundred.
const OWN_DESCRIPTORS: usize = 1024;

/// Time to withdraw what was advised when the agent leaves.
const LEAVING: Duration = Duration::from_secs(2);

/// What the connections share; of the socket's thread alone.
pub(crate) struct Shared {
    board: Board,
    registry: RefCell<Registry>,
    lanes: Lanes,
    transfers: Semaphore,
    started: Instant,
    leaving: watch::Receiver<()>,
}

/// The running socket; ends with it.
pub struct Control {
    leave: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Starts to serve.
    pub fn start(listening: Listening, board: Board) -> io::Result<Control> {
        let (leave, leaving) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("control-disk")
            .build()?;
        let limit = raise_descriptors();
        let descriptors_most = limit - OWN_DESCRIPTORS.min(limit / 4);
        let serve = move || {
            let shared = Rc::new(Shared {
                registry: RefCell::new(Registry::new(u64::from(board.access().budget_mib) << 20, descriptors_most)),
                lanes: Lanes::new(board.pressure_most.clone()),
                board,
                transfers: Semaphore::new(BLOCKING_THREADS / 2),
                started: Instant::now(),
                leaving,
            });
            LocalSet::new().block_on(&runtime, accept(listening, shared));
            runtime.shutdown_timeout(LEAVING);
        };
        let thread = std::thread::Builder::new().name("control".into()).spawn(serve)?;
        Ok(Control { leave: Some(leave), thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.leave = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts until the agent leaves; then every connection ends, and what it advised is withdrawn.
async fn accept(listening: Listening, shared: Rc<Shared>) {
    let listener = match listening.listener.try_clone().and_then(UnixListener::from_std) {
        Ok(listener) => listener,
        Err(e) => return tracing::error!("control socket: {e}"),
    };
    let mut leaving = shared.leaving.clone();
    loop {
        tokio::select! {
            _ = leaving.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = tokio::task::spawn_local(client::serve(shared.clone(), stream)),
                Err(e) => {
                    // Out of descriptors, most likely: those that are connected will give some back.
                    tracing::warn!("control socket: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listening);
    let end = Instant::now() + LEAVING;
    while shared.registry.borrow().connections() > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// As many descriptors as the hard limit allows: each file of a workload takes one. The limit then.
fn raise_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!("descriptor limit: {e}");
    }
    getrlimit(Resource::Nofile).current.map_or(1 << 20, |n| usize::try_from(n).unwrap_or(1 << 20))
}
