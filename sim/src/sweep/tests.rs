// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sweeps: shards, Parquet and back, merging, going on.

use super::*;
use crate::compare::tests::{made_up, plan};
use crate::spec::Control;
use proptest::prelude::*;

fn subjects() -> Vec<Subject> {
    vec![
        Subject { hash: hash(b"one", ""), kernels: Generation::ALL.to_vec(), seeds: vec![1, 2] },
        Subject { hash: hash(b"two", ""), kernels: vec![Generation::V6_18], seeds: vec![1] },
    ]
}

fn controls() -> Vec<Who> {
    let statics = plan().values.into_iter().map(Who::Static);
    [Who::Default].into_iter().chain(statics).chain([Who::Rules]).collect()
}

fn rows(shard: Shard) -> Vec<SweepRow> {
    let subjects = subjects();
    let run_cell = |cell: &Cell| {
        let control = match cell.who {
            Who::Default => Control::Default,
            Who::Static(value) => Control::Static(value),
            Who::Learned => unreachable!("not among them"),
            Who::Rules => Control::Keepahead { policy: &keepahead_policies::rules::Rules, settings: plan().settings },
        };
        made_up(&control).map(Some)
    };
    run(&cells(&subjects, &controls(), shard), &subjects, run_cell).unwrap()
}

#[test]
fn shards_are_disjoint_and_together_the_whole() {
    let whole = rows(Shard::default());
    assert_eq!(whole.len(), (6 * 2 + 1) * 15);
    let parts: Vec<Vec<SweepRow>> = (1..=4).map(|index| rows(Shard { index, count: 4 })).collect();
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), whole.len());
    assert_eq!(merge(parts).unwrap(), merge([whole]).unwrap());
}

#[test]
fn merging_keeps_each_run_once_and_refuses_contradictions() {
    let all = rows(Shard::default());
    assert_eq!(merge([all.clone(), all.clone()]).unwrap().len(), all.len());
    let mut other = all.clone();
    other[3].hit_ratio = Some(0.123);
    assert!(matches!(merge([all, other]), Err(SweepError::Conflict { .. })));
}

#[test]
fn what_is_there_is_not_run_again() {
    let subjects = subjects();
    let half = rows(Shard { index: 1, count: 2 });
    let left = missing(cells(&subjects, &controls(), Shard::default()), &subjects, &half);
    assert_eq!(left, cells(&subjects, &controls(), Shard { index: 2, count: 2 }));
}

#[test]
fn parquet_round_trips_and_equal_rows_give_equal_bytes() {
    let all = rows(Shard::default());
    let bytes = write(&all).unwrap();
    assert_eq!(bytes, write(&all).unwrap());
    assert_eq!(read(bytes).unwrap(), all);
    assert_eq!(read(write(&[]).unwrap()).unwrap(), []);
}

#[test]
fn another_version_and_foreign_files_are_refused() {
    let mut bytes = write(&rows(Shard::default())).unwrap();
    let key = b"keepahead.sweep.version";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap();
    let digit = at + key.len() + bytes[at + key.len()..].iter().position(|b| *b == b'1').unwrap();
    bytes[digit] = b'9';
    assert!(matches!(read(bytes), Err(SweepError::Version(v)) if v == "9"));
    assert!(matches!(read(b"PAR1 no".to_vec()), Err(SweepError::Parquet(_))));
}

#[test]
fn shards_are_written_one_way() {
    assert_eq!("3/16".parse(), Ok(Shard { index: 3, count: 16 }));
    for bad in ["0/4", "5/4", "1", "a/b", "1/0", ""] {
        assert!(bad.parse::<Shard>().unwrap_err().contains("write 1/16"), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_figures_survive_parquet(seed: u64, hit in proptest::option::of(-1e300f64..1e300), name in "\\PC{0,40}") {
        let row = SweepRow { scenario: name, seed, hit_ratio: hit, ..SweepRow::default() };
        let rows = vec![row.clone(), SweepRow::default(), row];
        prop_assert_eq!(read(write(&rows).unwrap()).unwrap(), rows);
    }
}
