// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data sets: worlds that can be, equal bytes from equal seeds whatever the threads, Parquet and back, and physics that shows.

use super::*;
use crate::sweep::hash;

fn small(seed: u64) -> Vec<World> {
    worlds(seed, FAMILIES.len() as u32).unwrap()
}

#[test]
fn every_family_draws_worlds_that_can_be() {
    let drawn = worlds(7, 40 * FAMILIES.len() as u32).unwrap();
    for world in &drawn {
        assert!(world.scenario.spec().is_ok(), "{}", world.scenario.name);
    }
    let patterns: std::collections::BTreeSet<Pattern> = drawn.iter().map(|world| world.pattern).collect();
    assert_eq!(patterns.len(), 5, "all but idle: {patterns:?}");
}

#[test]
#[ignore]
fn cost() {
    for world in worlds(3, 48).unwrap() {
        let t = std::time::Instant::now();
        let rows = rows(std::slice::from_ref(&world), &()).unwrap();
        let labels = rows.first().map(|r| r.labels.iter().map(|l| format!("{:.0}", l.throughput_mib_per_s)).collect::<Vec<_>>().join(" "));
        let stalls = rows.first().map(|r| r.labels.iter().map(|l| format!("{:.1}", l.stall_ns_per_mib/1e6)).collect::<Vec<_>>().join(" "));
        eprintln!("{:5.2} s {:4} rows {:22} {:12} {:?} {} | {}", t.elapsed().as_secs_f64(), rows.len(), world.workload, world.device, world.pattern, labels.unwrap_or_default(), stalls.unwrap_or_default());
    }
}
