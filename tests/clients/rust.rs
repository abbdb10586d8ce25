// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Rust crate, blocking and async.

use crate::client::{Server, cached, file};
use keepahead_client::{Client, ClientError, Hint, Range, Stats, tokio as with_tokio};
use std::fs::File;
use std::path::Path;

const NOWHERE: &str = "/nonexistent/control.sock";
const BUDGET: u64 = 4 << 20;

/// More files than one message carries.
fn many(file: &File) -> Vec<&File> {
    vec![file; 300]
}

fn ranges() -> Vec<Range> {
    (0..300).map(|n| Range { file: n, offset: 0, length: 4096 }).collect()
}

fn looks_right(stats: &Stats) {
    assert_eq!((stats.files, stats.ranges_total, stats.position), (300, 300, Some(7)));
    assert_eq!((stats.name.as_str(), stats.budget_bytes), ("test", BUDGET));
    assert_eq!(stats.advised[0].advice, "POSIX_FADV_NOREUSE");
}

#[test]
fn every_call_is_answered() {
    let server = Server::start();
    let (_dir, file) = file(1 << 20);
    let mut client = Client::connect_to(&server.path);
    assert!(client.is_connected());
    let work = client.register("test", BUDGET, Some(Hint::Once), &many(&file)).unwrap();
    assert_eq!(client.plan(work, &ranges()).unwrap(), 300);
    client.position(work, 7, 0).unwrap();
    looks_right(&client.stats(work).unwrap().unwrap());
    client.discard(work, &[Range::whole(0)]).unwrap();
    assert_eq!(client.prefetch(work, &[Range::whole(0)]).unwrap(), 1 << 20);
    assert_eq!(cached(&file), 256);
    assert_eq!(client.add_files(work, &[&file]).unwrap(), 300);
    client.unregister(work).unwrap();
    assert!(matches!(client.stats(work), Err(ClientError::Refused { error, .. }) if error == "NoSuchWorkload"));
    assert!(client.is_connected());
    let refused = client.register("test", BUDGET, None, &[File::open("/dev/null").unwrap()]).unwrap_err();
    assert!(refused.to_string().contains("BadDescriptor"), "{refused}");
    server.settle(|s| s["workloads"] == 0);
}

#[test]
fn without_an_agent_nothing_is_done_and_nothing_fails() {
    let mut client = Client::connect_to(Path::new(NOWHERE));
    let work = client.register("test", BUDGET, None, &[File::open("/dev/null").unwrap()]).unwrap();
    assert_eq!((client.is_connected(), work.number()), (false, None));
    assert_eq!(client.plan(work, &ranges()).unwrap() + client.prefetch(work, &ranges()).unwrap(), 0);
    client.position(work, 1, 0).unwrap();
    assert!(client.stats(work).unwrap().is_none());
    client.unregister(work).unwrap();
}

#[test]
fn an_agent_that_goes_away_is_none_from_then_on() {
    let server = Server::start();
    let mut client = Client::connect_to(&server.path);
    let work = client.register::<File>("test", BUDGET, None, &[]).unwrap();
    drop(server);
    assert_eq!(client.plan(work, &[]).unwrap(), 0);
    assert!(client.stats(work).unwrap().is_none());
    assert!(!client.is_connected());
}

#[test]
fn the_same_for_tokio() {
    let server = Server::start();
    let (_dir, file) = file(1 << 20);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = with_tokio::Client::connect_to(&server.path).await;
        let work = client.register("test", BUDGET, Some(Hint::Once), &many(&file)).await.unwrap();
        assert_eq!(client.plan(work, &ranges()).await.unwrap(), 300);
        client.position(work, 7, 0).await.unwrap();
        looks_right(&client.stats(work).await.unwrap().unwrap());
        assert_eq!(client.prefetch(work, &[Range::whole(0)]).await.unwrap(), 1 << 20);
        assert!(client.plan(work, &[Range::whole(999)]).await.is_err() && client.is_connected());
        let mut nobody = with_tokio::Client::connect_to(Path::new(NOWHERE)).await;
        let nothing = nobody.register("test", BUDGET, None, &[&file]).await.unwrap();
        assert_eq!(nobody.plan(nothing, &ranges()).await.unwrap(), 0);
    });
}
