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
