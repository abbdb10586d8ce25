// SPDX-License-Identifier: MIT OR Apache-2.0
//! A transcript of an old client against the agent of today: takes calls as they were sent then and the replies that came, fails where
//! today's reply lacks a field, has another type in it, or refuses with another error. More fields are allowed: old clients pass
//! them over.

use crate::client::{Client, file};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::fd::AsFd;

/// `files` in an entry: how many descriptors go beside the call. `$device` stands for a device of this machine.
pub fn replay(client: &mut Client, transcript: &str, device: &str) -> usize {
    let files: Vec<_> = (0..4).map(|_| file(256 << 10)).collect();
    let mut workloads = BTreeMap::new();
    let entries: Vec<Value> = transcript
        .lines()
        .map(|line| serde_json::from_str(&line.replace("$device", device)).unwrap_or_else(|e| panic!("{line}: {e}")))
        .collect();
    for entry in &entries {
        let mut call = entry["call"].clone();
        if let Some(now) = call["parameters"]["workload"].as_u64().and_then(|then| workloads.get(&then)) {
            call["parameters"]["workload"] = json!(now);
        }
        let count = entry["files"].as_u64().unwrap_or(0) as usize;
        let beside: Vec<_> = files[..count].iter().map(|(_, open)| open.as_fd()).collect();
        let (method, parameters) = (call["method"].as_str().unwrap(), call["parameters"].clone());
        let flags = json!({ "oneway": call["oneway"] == true, "more": false });
        client.send(method, parameters, &beside, flags);
        if call["oneway"] == true {
            continue;
        }
        let reply = client.receive();
        agrees(&entry["reply"], &reply, method);
        if let (Some(then), Some(now)) = (number(&entry["reply"]), number(&reply)) {
            workloads.insert(then, now);
        }
    }
    entries.len()
}

fn number(reply: &Value) -> Option<u64> {
    reply["parameters"]["workload"].as_u64()
}

fn agrees(then: &Value, now: &Value, place: &str) {
    assert_eq!(std::mem::discriminant(then), std::mem::discriminant(now), "{place} was {then}, is {now}");
    match (then, now) {
        (Value::Object(then), Value::Object(fields)) => {
            for (name, value) in then {
                let found = fields.get(name).unwrap_or_else(|| panic!("{place}: no {name} any more: {now}"));
                agrees(value, found, &format!("{place}.{name}"));
                if name == "error" {
                    assert_eq!(value, found, "{place}");
                }
            }
        }
        (Value::Array(then), Value::Array(now)) => {
            if let (Some(then), Some(now)) = (then.first(), now.first()) {
                agrees(then, now, &format!("{place}[0]"));
            }
        }
        _ => {}
    }
}
