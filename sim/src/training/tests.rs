// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data sets: worlds that can be, equal bytes from equal seeds whatever the threads, Parquet and back, and physics that shows.

use super::*;
use keepahead_policies::dataset::Label;
use keepahead_policies::features;
use proptest::prelude::*;

/// A world of this family on a slow device, so that it costs little.
fn of_family(family: &str, pattern: Pattern) -> World {
    let slow = |world: &World| matches!(world.device.as_str(), "small-volume" | "hdd" | "gp2-burst");
    let drawn = worlds(5, 60 * FAMILIES.len() as u32).unwrap();
    drawn.into_iter().find(|world| world.family == family && world.pattern == pattern && slow(world)).unwrap()
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
fn worlds_do_not_depend_on_how_many_there_are() {
    let (few, many) = (worlds(3, 5).unwrap(), worlds(3, 40).unwrap());
    assert_eq!(few[..], many[..5]);
    assert_ne!(worlds(4, 5).unwrap(), few);
}

#[test]
fn equal_seeds_give_equal_bytes_whatever_the_threads() {
    let drawn = [of_family("random-mmap", Pattern::RandomMmap), of_family("runs-read", Pattern::ShortRuns)];
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        write(&pool.install(|| rows(&drawn, &())).unwrap()).unwrap()
    };
    assert_eq!(bytes(1), bytes(3));
}

#[test]
fn small_windows_are_best_for_random_faults_and_large_ones_for_scans() {
    let stall_at = |world: &World, kib: u32| {
        let rows = rows(std::slice::from_ref(world), &()).unwrap();
        assert!(rows.len() >= LADDER.len(), "{} rows of {}", rows.len(), world.workload);
        rows[0].labels.iter().find(|label| label.kib == kib).unwrap().stall_ns_per_mib
    };
    let faults = of_family("random-mmap", Pattern::RandomMmap);
    assert!(stall_at(&faults, 4) < stall_at(&faults, 2048));
    let scan = of_family("sequential-mmap", Pattern::Sequential);
    assert!(stall_at(&scan, 1024) < stall_at(&scan, 16));
}

#[test]
fn a_stopped_making_gives_no_rows() {
    struct Stop;
    impl Watch for Stop {
        fn stop(&self) -> bool {
            true
        }
    }
    assert_eq!(rows(&worlds(1, 2).unwrap(), &Stop).unwrap(), []);
}

fn made_up() -> impl Strategy<Value = Row> {
    let pattern = proptest::sample::select(vec![Pattern::Sequential, Pattern::ShortRuns, Pattern::Mixed, Pattern::RandomRead]);
    let figures = proptest::collection::vec(-1e12f64..1e12, LADDER.len());
    let features = proptest::collection::vec(-1e12f64..1e12, features::NAMES.len());
    ("\\PC{0,20}", 0u32..9999, pattern, proptest::sample::select(LADDER.to_vec()), features, figures).prop_map(
        |(workload, run, pattern, kib, features, figures)| Row {
            workload,
            family: "made-up".into(),
            device: "none".into(),
            kernel: "6.18".into(),
            memory_mib: 64,
            run,
            pattern,
            kib,
            features,
            labels: LADDER
                .iter()
                .zip(figures)
                .map(|(kib, x)| Label {
                    kib: *kib,
                    stall_ns_per_mib: x,
                    hit_ratio: x / 2.0,
                    pollution_mib_per_s: -x,
                    throughput_mib_per_s: x + 1.0,
                })
                .collect(),
        },
    )
}

proptest! {
    #[test]
    fn any_rows_survive_parquet(rows in proptest::collection::vec(made_up(), 0..5)) {
        prop_assert_eq!(read(write(&rows).unwrap()).unwrap(), rows);
    }
}

#[test]
fn tables_of_other_versions_and_makers_are_refused() {
    let mut bytes = write(&[]).unwrap();
    let at = bytes.windows(9).position(|w| w == b"features ").unwrap() + 9;
    bytes[at] = b'9';
    assert!(matches!(read(bytes), Err(DataError::Version { found, .. }) if found.ends_with('9')));
    assert!(matches!(read(crate::sweep::write(&[]).unwrap()), Err(DataError::Foreign)));
    assert!(matches!(read(b"PAR1 no".to_vec()), Err(DataError::Parquet(_))));
}

#[test]
fn rows_without_the_whole_ladder_are_not_written() {
    let mut world = rows(&[of_family("random-mmap", Pattern::RandomMmap)], &()).unwrap();
    world[0].labels.pop();
    assert!(matches!(write(&world), Err(DataError::Ladder { found: 10 })));
}
