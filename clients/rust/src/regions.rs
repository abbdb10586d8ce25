// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions of this process's memory: takes maps of a workload's files, and gives the kernel the advice that the agent orders for them,
//! because nobody else may (`process_madvise(2)` refuses it). Without an agent, and after it has gone, they have none.
//!
//! ```no_run
//! # use keepahead_client::{Client, Orders};
//! # fn advised(map: &[u8], index: std::fs::File) -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::connect();
//! let work = client.register("index", 1 << 20, None, &[index])?;
//! let orders = Orders::start(work);
//! let keys = orders.add(&map[..1 << 30], 0, 0)?; // the first GiB of file 0 is mapped there
//! # Ok(())
//! # }
//! ```

use crate::call::{Call, ClientError, Workload, number};
use crate::connection::Connection;
use nix::sys::mman::{MmapAdvise, madvise};
use nix::sys::signal::SigSet;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// All that is ever carried out: what changes nothing but what is read ahead and what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    Normal,
    Random,
    Sequential,
}

/// The agent's orders for the regions of one workload: a thread with a line of its own waits for them and carries them out, whether the
/// program is async or not. Ends when dropped, with all advice taken back.
#[derive(Debug)]
pub struct Orders {
    shared: Option<Arc<Shared>>,
    thread: Option<JoinHandle<()>>,
}

/// Memory that may be advised. Advice is taken back when it is dropped.
#[derive(Debug)]
pub struct Region<'m> {
    held: Option<(Arc<Shared>, u64)>,
    memory: PhantomData<&'m [u8]>,
}

#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    workload: u64,
    regions: Mutex<BTreeMap<u64, Memory>>,
    /// The thread's line, to wake it.
    line: Mutex<Option<UnixStream>>,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Memory {
    address: usize,
    length: usize,
    advice: Advice,
}

#[derive(Deserialize)]
struct Order {
    order: u64,
    region: u64,
    advice: Value,
}

impl Orders {
    /// For a workload that was registered at [`crate::socket_path`].
    pub fn start(work: Workload) -> Orders {
        Orders::start_at(&crate::socket_path(), work)
    }

    /// For a workload that was registered at this socket. Without an agent nothing is started.
    pub fn start_at(socket: &Path, work: Workload) -> Orders {
        let Some(workload) = work.0 else { return Orders { shared: None, thread: None } };
        let shared = Arc::new(Shared {
            socket: socket.into(),
            workload,
            regions: Mutex::default(),
            line: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let served = shared.clone();
        let serve = move || {
            // The program's signals are for its own threads.
            let _ = SigSet::all().thread_block();
            served.serve();
        };
        let spawned = std::thread::Builder::new().name("keepahead-orders".into()).spawn(serve);
        if let Err(e) = &spawned {
            crate::say_once(&format_args!("no thread for orders: {e}"));
        }
        Orders { shared: Some(shared), thread: spawned.ok() }
    }

    /// Hands memory over in which file number `file` of the workload is mapped from byte `offset` on. Its whole pages count.
    /// One short call to the agent, no disk.
    ///
    /// # Errors
    /// The agent refuses it: too many regions, no such file, or `offset` is not on a page's border where the memory is.
    pub fn add<'m>(&self, memory: &'m [u8], file: u64, offset: u64) -> Result<Region<'m>, ClientError> {
        let none = Region { held: None, memory: PhantomData };
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |page| page as usize);
        let (start, before) = (memory.as_ptr() as usize, (memory.as_ptr() as usize).wrapping_neg() % page);
        let (Some(shared), true) = (&self.shared, memory.len() > before) else { return Ok(none) };
        let (address, length) = (start + before, memory.len() - before);
        let region = json!({ "address": address, "length": length, "file": file, "offset": offset + before as u64 });
        let asked = Call::new("AddRegions", json!({ "workload": shared.workload, "regions": [region] }));
        let reply = match Connection::open(&shared.socket).map_err(ClientError::from).and_then(|mut c| c.ask(&asked, &[])) {
            Ok(reply) => reply,
            Err(refused @ ClientError::Refused { .. }) => return Err(refused),
            Err(gone) => {
                crate::say_once(&gone);
                return Ok(none);
            }
        };
        let first = number("AddRegions", &reply, "first")?;
        // Orders follow some seconds of watching, never at once.
        shared.regions().insert(first, Memory { address, length, advice: Advice::Normal });
        Ok(Region { held: Some((shared.clone(), first)), memory: PhantomData })
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        shared.ended.store(true, Ordering::SeqCst);
        if let Some(line) = &*shared.line.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = line.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Region<'_> {
    /// What is in force now.
    pub fn advice(&self) -> Advice {
        let in_force = |(shared, number): &(Arc<Shared>, u64)| shared.regions().get(number).map(|m| m.advice);
        self.held.as_ref().and_then(in_force).unwrap_or(Advice::Normal)
    }
}

impl Drop for Region<'_> {
    fn drop(&mut self) {
        let Some((shared, number)) = self.held.take() else { return };
        if let Some(mut memory) = shared.regions().remove(&number) {
            memory.withdraw();
        }
        if !shared.ended.load(Ordering::SeqCst)
            && let Ok(mut line) = Connection::open(&shared.socket)
        {
            // An agent that is gone, or has ended the workload, has no region left either.
            let gone = json!({ "workload": shared.workload, "region": number });
            let _ = line.ask(&Call { oneway: true, ..Call::new("RemoveRegion", gone) }, &[]);
        }
    }
}

impl Shared {
    fn regions(&self) -> MutexGuard<'_, BTreeMap<u64, Memory>> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out orders until either side ends.
    fn serve(&self) {
        if let Err(gone) = self.take_orders()
            && !self.ended.load(Ordering::SeqCst)
            && !matches!(&gone, ClientError::Refused { error, .. } if error == "NoSuchWorkload")
        {
            crate::say_once(&gone);
        }
        self.regions().values_mut().for_each(Memory::withdraw);
    }

    fn take_orders(&self) -> Result<(), ClientError> {
        let mut line = Connection::open(&self.socket)?;
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.another()?);
        let mut done = Vec::new();
        while !self.ended.load(Ordering::SeqCst) {
            let mut reply = line.ask(&Call::new("Orders", json!({ "workload": self.workload, "done": done })), &[])?;
            let answer = |reason: String| ClientError::Answer { method: "Orders".into(), reason };
            let orders: Vec<Order> = serde_json::from_value(reply["orders"].take()).map_err(|e| answer(e.to_string()))?;
            done = orders.iter().map(|order| json!({ "order": order.order, "errno": self.carry_out(order) })).collect();
        }
        Ok(())
    }

    /// The errno; 0 where it was done. Only of what was handed over, at the addresses noted here.
    fn carry_out(&self, order: &Order) -> i32 {
        let mut regions = self.regions();
        let Some(memory) = regions.get_mut(&order.region) else { return nix::Error::ENOENT as i32 };
        match Advice::deserialize(&order.advice) {
            Ok(advice) => memory.advise(advice),
            Err(_) => nix::Error::EPERM as i32,
        }
    }
}

impl Memory {
    fn advise(&mut self, advice: Advice) -> i32 {
        let Some(address) = NonNull::new(self.address as *mut std::ffi::c_void) else { return nix::Error::EINVAL as i32 };
        let flag = match advice {
            Advice::Normal => MmapAdvise::MADV_NORMAL,
            Advice::Random => MmapAdvise::MADV_RANDOM,
            Advice::Sequential => MmapAdvise::MADV_SEQUENTIAL,
        };
        // SAFETY: these three never change what the memory holds, whatever may have been mapped there since a region was leaked.
        match unsafe { madvise(address, self.length, flag) } {
            Ok(()) => {
                self.advice = advice;
                0
            }
            Err(e) => e as i32,
        }
    }

    fn withdraw(&mut self) {
        if self.advice != Advice::Normal {
            self.advise(Advice::Normal);
        }
    }
}
