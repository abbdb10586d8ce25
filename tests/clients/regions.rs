// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions of memory through the protocol itself and through each client: orders are carried out where the memory is, answered, and
//! taken back with the region, the workload, the line and the agent. The test is the agent.

use crate::client::{Server, file, python};
use keepahead::control::Workload;
use keepahead_client::{Advice as Advised, Client, Orders, Region, Workload as Work};
use keepahead_core::region::Advice;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use serde_json::json;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BYTES: usize = 1 << 20;

/// A read-only map of a file.
struct Map(std::ptr::NonNull<std::ffi::c_void>);

impl Map {
    fn of(file: &File) -> Map {
        let length = std::num::NonZeroUsize::new(BYTES).unwrap();
        // SAFETY: a fresh mapping of its own, unmapped when dropped.
        Map(unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }.unwrap())
    }

    fn memory(&self) -> &[u8] {
        // SAFETY: BYTES of a file of that length, mapped for as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), BYTES) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: nobody has borrowed it any more.
        unsafe { munmap(self.0, BYTES) }.unwrap();
    }
}

/// Flags of the mapping of this process that begins there (`VmFlags`, proc(5)).
fn flags(address: usize) -> String {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (begin, mut here) = (format!("{address:08x}-"), false);
    for line in smaps.lines() {
        here |= line.starts_with(&begin);
        if let (true, Some(flags)) = (here, line.strip_prefix("VmFlags:")) {
            return format!("{flags} ");
        }
    }
    panic!("no mapping at {begin}: {smaps}");
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Gives an order as the agent does, once somebody listens, and waits for it.
fn order(workload: &Workload, region: u32, advice: Advice) {
    until("nobody listens", || workload.regions.standing().contains_key(&region));
    workload.regions.order(region, advice, "the test wants it");
    // A program may be done with a region before its answer is looked at.
    let carried_out = || workload.regions.standing().get(&region).is_none_or(|held| held.in_force == Some(advice));
    until("it was not carried out", carried_out);
}

fn only(server: &Server) -> Arc<Workload> {
    let mut all = server.workloads();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn registered(server: &Server, file: &File) -> (Client, Work) {
    let mut client = Client::connect_to(&server.path);
    let work = client.register("regions", 1 << 20, None, &[file]).unwrap();
    (client, work)
}

#[test]
fn orders_wait_for_the_process_that_registered_and_for_nobody_else() {
    let (server, (_dir, file)) = (Server::start(), file(BYTES));
    let (mut client, mut line) = (server.client(), server.client());
    let asked = json!({ "name": "regions", "budget_bytes": 4096 });
    let work = client.call_with("Register", asked, &[file.as_fd()]).unwrap()["workload"].clone();
    let region =
        |file: u64| json!({ "workload": work, "regions": [{ "address": 8192, "length": 5, "file": file, "offset": 0 }] });
    assert_eq!(client.call("AddRegions", region(0)).unwrap()["first"], 0);
    assert_eq!(client.call("AddRegions", region(1)).unwrap_err()["error"], "io.keepahead.Control.NoSuchFile");
    let other =
        python(&server, &format!("try: k.call('Orders', workload={work})\nexcept RuntimeError as e: print(e.name)"), None);
    assert_eq!(other.trim(), "NoSuchWorkload", "of another process");

    line.send("Orders", json!({ "workload": work }), &[], json!({}));
    let agent = only(&server);
    until("nobody listens", || !agent.regions.standing().is_empty());
    let busy = client.call("Orders", json!({ "workload": work })).unwrap_err();
    assert_eq!(busy["error"], "io.keepahead.Control.Busy");
    agent.regions.order(0, Advice::Random, "because");
    let got = line.receive()["parameters"]["orders"][0].clone();
    assert_eq!((&got["address"], &got["advice"], &got["why"]), (&json!(8192), &json!("random"), &json!("because")));
    assert_eq!(agent.regions.standing()[&0].in_force, None);
    let done = json!({ "workload": work, "done": [{ "order": got["order"], "errno": 0 }] });
    line.send("Orders", done, &[], json!({}));
    let stats = client.wait(&work, |s| s["advised"][0]["advice"] == "MADV_RANDOM region 0");
    assert_eq!(stats["advised"][0]["why"], "because");

    drop(line);
    client.wait(&work, |s| s["advised"] == json!([]));
    assert!(agent.regions.standing().is_empty(), "who lost the line gets no orders");
    client.call("RemoveRegion", json!({ "workload": work, "region": 0 })).unwrap();
    let gone = client.call("RemoveRegion", json!({ "workload": work, "region": 0 })).unwrap_err();
    assert_eq!(gone["error"], "io.keepahead.Control.NoSuchRegion");
}

#[test]
fn a_wait_ends_with_the_workload() {
    let (server, (_dir, file)) = (Server::start(), file(BYTES));
    let (mut client, mut line) = (server.client(), server.client());
    let asked = json!({ "name": "regions", "budget_bytes": 4096 });
    let work = client.call_with("Register", asked, &[file.as_fd()]).unwrap()["workload"].clone();
    line.send("Orders", json!({ "workload": work }), &[], json!({}));
    server.settle(|s| s["connections"] == 3);
    client.call("Unregister", json!({ "workload": work })).unwrap();
    assert_eq!(line.receive()["error"], "io.keepahead.Control.NoSuchWorkload");
}

#[test]
fn the_rust_crate_advises_its_own_memory_and_takes_it_back() {
    let (server, (_dir, file)) = (Server::start(), file(BYTES));
    let (map, (_client, work)) = (Map::of(&file), registered(&server, &file));
    let (at, orders) = (map.memory().as_ptr() as usize, Orders::start_at(&server.path, work));
    // Its whole pages: those from 4096 on.
    let region = orders.add(&map.memory()[1..], 0, 1).unwrap();
    let agent = only(&server);
    for (advice, flag) in [(Advice::Sequential, " sr "), (Advice::Random, " rr ")] {
        order(&agent, 0, advice);
        assert!(flags(at + 4096).contains(flag) && !flags(at).contains(flag), "{}", flags(at + 4096));
    }
    assert_eq!((region.advice(), agent.regions.standing()[&0].region.offset), (Advised::Random, 4096));
    drop(region);
    assert!(!flags(at).contains(" rr "));
    until("the agent still has it", || agent.regions.standing().is_empty());

    let region = orders.add(map.memory(), 0, 0).unwrap();
    order(&agent, 1, Advice::Random);
    drop(orders);
    assert_eq!((region.advice(), flags(at).contains(" rr ")), (Advised::Normal, false));
}

#[test]
fn advice_goes_with_the_agent() {
    let (server, (_dir, file)) = (Server::start(), file(BYTES));
    let (map, (_client, work)) = (Map::of(&file), registered(&server, &file));
    let orders = Orders::start_at(&server.path, work);
    let region: Region<'_> = orders.add(map.memory(), 0, 0).unwrap();
    order(&only(&server), 0, Advice::Random);
    drop(server);
    until("advice is left behind", || region.advice() == Advised::Normal);
    assert!(!flags(map.memory().as_ptr() as usize).contains(" rr "));
    orders.add(map.memory(), 0, 0).unwrap();
}

#[test]
fn without_an_agent_no_region_is_advised() {
    let nowhere = Path::new("/nonexistent/control.sock");
    let mut client = Client::connect_to(nowhere);
    let work = client.register::<File>("regions", 1, None, &[]).unwrap();
    let orders = Orders::start_at(nowhere, work);
    assert_eq!(orders.add(&[0; 8192], 0, 0).unwrap().advice(), Advised::Normal);
}

#[test]
fn too_many_regions_are_refused_with_the_limit() {
    let (server, (_dir, file)) = (Server::start(), file(BYTES));
    let (map, (_client, work)) = (Map::of(&file), registered(&server, &file));
    let orders = Orders::start_at(&server.path, work);
    let regions: Vec<_> = (0..8).map(|_| orders.add(map.memory(), 0, 0).unwrap()).collect();
    assert!(orders.add(map.memory(), 0, 0).unwrap_err().to_string().contains("limit 8"));
    drop(regions);
    let agent = only(&server);
    until("they are kept", || orders.add(map.memory(), 0, 0).is_ok() && agent.regions.standing().len() < 8);
}

/// A program in another language: prints a line when its region is handed over, one when it sees ` rr ` in its own `VmFlags`, and one
/// when that is gone again.
fn foreign(server: &Server, mut command: std::process::Command) {
    use std::io::{BufRead, BufReader};
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    order(&only(server), 0, Advice::Random);
    assert_eq!(lines.next().as_deref(), Some("advised"));
    assert_eq!(lines.next().as_deref(), Some("closed"));
    order(&only(server), 1, Advice::Sequential);
    assert_eq!(lines.next().as_deref(), Some("scanned"));
    assert!(child.wait().unwrap().success());
    server.settle(|s| s["workloads"] == 0);
}

#[test]
fn the_python_package_advises_its_own_memory() {
    let (server, (named, _file)) = (Server::start(), file(BYTES));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = std::process::Command::new("python3");
    command.arg(root.join("tests/clients/regions.py")).arg(named.path());
    command.env("PYTHONPATH", root.join("clients/python")).env("KEEPAHEAD_SOCKET", &server.path);
    foreign(&server, command);
}

#[test]
fn the_c_library_advises_its_own_memory() {
    let Some(library) = crate::c::built() else { return };
    let (server, into, (named, _file)) = (Server::start(), tempfile::tempdir().unwrap(), file(BYTES));
    let mut command = std::process::Command::new(crate::c::compile(library, "tests/clients/regions.c", into.path()));
    command.arg(&server.path).arg(named.path());
    foreign(&server, command);
}
