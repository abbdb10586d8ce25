// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that nobody would make, against the control socket in this process: the frozen transcripts and the newest methods, with numbers
//! at their limits, fields of other types, missing, doubled or renamed, and bytes flipped. Each call that is one is answered, and the
//! socket serves on. `KEEPAHEAD_MUTATIONS`: how many, 20,000 if unset; `KEEPAHEAD_MUTATIONS_SEED`: others.

#[path = "control/client.rs"]
#[allow(dead_code)]
mod client;

use client::{Client, Server, file};
use keepahead_client::call::Call;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::time::Duration;

/// What a field may become.
const NUMBERS: [i128; 14] = [
    0,
    1,
    -1,
    7,
    4095,
    4096,
    1 << 20,
    i32::MAX as i128,
    u32::MAX as i128,
    1 << 53,
    i64::MAX as i128,
    u64::MAX as i128 - 4095,
    u64::MAX as i128,
    u64::MAX as i128 + 1,
];

/// Calls as they were recorded, and those that the records do not have.
fn corpus() -> Vec<Value> {
    let recorded = include_str!("../fixtures/control/0.1-programs.jsonl").lines();
    let recorded = recorded.chain(include_str!("../fixtures/control/0.1-people.jsonl").lines());
    let mut calls: Vec<Value> = recorded.map(|line| serde_json::from_str::<Value>(line).unwrap()["call"].take()).collect();
    let region = json!({ "address": 1 << 30, "length": 8192, "file": 0, "offset": 4096 });
    for (method, parameters) in [
        ("AddRegions", json!({ "workload": 1, "regions": [region, region] })),
        ("RemoveRegion", json!({ "workload": 1, "region": 0 })),
        ("Orders", json!({ "workload": 1, "done": [{ "order": 1, "errno": 0 }] })),
        ("AdviseMemory", json!({ "address": 4096, "length": 4096, "advice": "willneed" })),
        ("AdviseMemory", json!({ "address": 4096, "length": 4096, "advice": "random" })),
    ] {
        calls.push(json!({ "method": format!("io.keepahead.Control.{method}"), "parameters": parameters }));
    }
    calls
}

fn mutate(value: &mut Value, rng: &mut Xoshiro256PlusPlus) {
    let odd = |rng: &mut Xoshiro256PlusPlus| match rng.gen_range(0..8) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!("\u{0}\u{1f980}".repeat(rng.gen_range(0..40))),
        3 => json!([]),
        4 => json!({ "workload": 1 }),
        5 => json!(0.5),
        _ => {
            let number = NUMBERS[rng.gen_range(0..NUMBERS.len())];
            serde_json::from_str(&number.to_string()).unwrap_or(Value::Null)
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() && rng.gen_range(0..8) > 0 => {
            let at = rng.gen_range(0..fields.len());
            let name = fields.keys().nth(at).cloned().unwrap_or_default();
            match rng.gen_range(0..12) {
                0 => _ = fields.remove(&name),
                1 => _ = fields.insert(format!("{name}s"), odd(rng)),
                2 => _ = fields.insert(name, odd(rng)),
                _ => fields.iter_mut().nth(at).into_iter().for_each(|(_, field)| mutate(field, rng)),
            }
        }
        Value::Array(items) if !items.is_empty() && rng.gen_range(0..8) > 0 => match rng.gen_range(0..6) {
            0 => items.truncate(rng.gen_range(0..items.len())),
            1 => items.extend_from_within(..),
            _ => {
                let at = rng.gen_range(0..items.len());
                mutate(&mut items[at], rng);
            }
        },
        _ => *value = odd(rng),
    }
}

/// Answers orders to the agent, which is not there.
fn answer(server: &Server, until: &std::sync::atomic::AtomicBool) {
    while !until.load(std::sync::atomic::Ordering::Relaxed) {
        server.answer_orders();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends one message; the connection afterwards, where it is still of use.
fn send(mut client: Client, bytes: &[u8], beside: &[std::os::fd::BorrowedFd<'_>]) -> Option<Client> {
    if client.send_bytes(bytes, beside).is_err() {
        return None;
    }
    let call: Call = serde_json::from_slice(bytes.split(|b| *b == 0).next().unwrap_or_default()).ok()?;
    // Answered when there is something to say; and several messages, some of them halves.
    let waits = call.method.ends_with(".Orders") || call.more;
    if waits || bytes.iter().filter(|b| **b == 0).count() != 1 || bytes.last() != Some(&0) {
        return None;
    }
    if !call.oneway {
        let reply = client.receive();
        // What fails on another thread than the socket's comes back as text.
        assert!(reply["parameters"].is_object() && !reply.to_string().contains("panic"), "{call:?}: {reply}");
    }
    Some(client)
}

#[test]
fn every_call_is_answered_and_none_ends_the_socket() {
    let most = std::env::var("KEEPAHEAD_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000u32);
    let seed = std::env::var("KEEPAHEAD_MUTATIONS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let (server, (_dir, file), corpus) = (Server::start(), file(256 << 10), corpus());
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| answer(&server, &over));
        let ended = scope.spawn(|| {
            let mut line: Option<Client> = None;
            for n in 0..most {
                let client = line.take().unwrap_or_else(|| {
                    let mut fresh = server.client();
                    // Something for the numbers to name.
                    let asked = json!({ "name": "mutated", "budget_bytes": 1 << 20 });
                    // Those before may not all be withdrawn yet.
                    while let Err(refused) = fresh.call_with("Register", asked.clone(), &[file.as_fd()]) {
                        assert_eq!(refused["error"], "io.keepahead.Control.LimitReached", "{refused}");
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    fresh
                });
                let mut call = corpus[rng.gen_range(0..corpus.len())].clone();
                if let Some(workload) = call["parameters"].get_mut("workload") {
                    *workload = json!(server.newest());
                }
                (0..rng.gen_range(0..3)).for_each(|_| mutate(&mut call, &mut rng));
                let mut bytes = serde_json::to_vec(&call).unwrap();
                bytes.push(0);
                for _ in 0..if rng.gen_range(0..4) == 0 { rng.gen_range(1..4) } else { 0 } {
                    let at = rng.gen_range(0..bytes.len());
                    bytes[at] ^= 1 << rng.gen_range(0..8);
                }
                let fds = if rng.gen_range(0..4) == 0 { vec![file.as_fd(); rng.gen_range(0..4)] } else { Vec::new() };
                line = send(client, &bytes, &fds);
                if n % 200 == 0 {
                    // Workloads and files pile up on a line that lives.
                    line = None;
                }
            }
        });
        let ended = ended.join();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        ended.unwrap();
    });
    server.settle(|s| s["workloads"] == 0 && s["connections"] == 1);
}
