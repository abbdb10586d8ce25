// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recordings in `fixtures/validate`: what a real kernel did about scripts on which a simulator was once wrong, and some others.
#![allow(clippy::disallowed_methods)] // A test reads its fixtures.

use keepahead_sim::event::Event;
use keepahead_sim::script::{Recording, compare, simulate};
use keepahead_sim::spec::Generation;
use std::collections::BTreeSet;

fn recordings() -> Vec<(String, Recording)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/validate");
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let scripts = paths.filter(|path| path.extension().is_some_and(|kind| kind == "script"));
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    scripts.map(read).collect()
}

#[test]
fn every_recording_can_be_read() {
    let all = recordings();
    assert!(!all.is_empty());
    for (path, recording) in all {
        assert_eq!(recording.script.check(), Ok(()), "{path}");
        assert_eq!(recording.steps.len(), recording.script.ops.len(), "{path}");
    }
}

/// True of any kernel: no page enters the cache twice without leaving it, and none leaves that is not there.
#[test]
fn pages_enter_and_leave_in_turn() {
    for (path, recording) in recordings() {
        let mut cached = BTreeSet::new();
        for event in recording.events() {
            let (Event::Add { file, index, order } | Event::Delete { file, index, order }) = event else { continue };
            for page in index..index + (1 << order) {
                let in_turn = match event {
                    Event::Add { .. } => cached.insert((file, page)),
                    _ => cached.remove(&(file, page)),
                };
                assert!(in_turn, "{path}: {event}");
            }
        }
    }
}

/// What 6.18 did, event by event.
#[test]
fn the_simulator_does_what_the_kernel_did() {
    for (path, recording) in recordings() {
        let steps = simulate(&recording.script, &recording.environment, Generation::V6_18);
        for (at, (real, simulated)) in recording.steps.iter().zip(&steps).enumerate() {
            if let Some(mismatch) = compare(real, simulated) {
                panic!("{path}: operation {at}: {}\n{mismatch}", recording.script.ops[at]);
            }
        }
    }
}
