// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs: whatever their sizes, they stay within their files and do the same for the same seed; and each does what it is named for.

use keepahead_core::units::Nanos;
use keepahead_sim::workload::distribution::Distribution;
use keepahead_sim::workload::loader::{Epochs, Install, Weights};
use keepahead_sim::workload::log::Log;
use keepahead_sim::workload::pace::{Arrival, Paced, Work};
use keepahead_sim::workload::phases::{Phase, Phases};
use keepahead_sim::workload::place::{Access, FileRef};
use keepahead_sim::workload::random::{Pick, Random, Runs};
use keepahead_sim::workload::rocksdb::{Benchmark, Database, DbShape};
use keepahead_sim::workload::scan::{Scan, ScanShape};
use keepahead_sim::workload::streams::{Streams, Turns};
use keepahead_sim::workload::{Fadvice, Op, Program};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

const KIB: u64 = 1024;

fn files(sizes: &[u64]) -> Vec<FileRef> {
    sizes.iter().enumerate().map(|(i, bytes)| FileRef { index: i as u32, bytes: *bytes }).collect()
}

fn run(mut work: impl Work, pieces: usize) -> Vec<Op> {
    let mut ops = VecDeque::new();
    (0..pieces).for_each(|_| work.piece(&mut ops));
    ops.into()
}

/// All programs over these files; `length` is whatever length the program has.
fn all(sizes: &[u64], access: Access, request: u64, length: u64, seed: u64) -> Vec<Box<dyn Work>> {
    let f = || files(sizes);
    let fixed = Distribution::Fixed(length as f64);
    let scan = |reverse, stride| ScanShape { access, request, stride, start: 0, reverse, repeat: true };
    let mut list: Vec<Box<dyn Work>> = vec![
        Box::new(Scan::new(f(), scan(false, request))),
        Box::new(Scan::new(f(), scan(true, request))),
        Box::new(Scan::new(f(), scan(false, request * length))),
        Box::new(Random::new(f(), access, request, request, None, seed)),
        Box::new(Random::new(f(), access, request * length, request, Some(1.1), seed)),
        Box::new(Runs::new(f(), access, request, fixed.clone(), seed)),
        Box::new(Streams::new(&f(), sizes.len() as u64, access, request, Turns::Random, 3, seed)),
        Box::new(Epochs::new(f(), access, request, None, seed)),
        Box::new(Weights::new(f(), access, request, &fixed, true, seed)),
        Box::new(Install::new(&f(), &f(), request, 2)),
        Box::new(Log::new(f()[0], fixed, 3, vec![(f()[0], 0), (f()[0], sizes[0])], seed)),
    ];
    for benchmark in BENCHMARKS {
        list.push(Box::new(database(&[&[sizes[0]; 2], sizes].concat(), benchmark, access, length, seed)));
    }
    list
}

const BENCHMARKS: [Benchmark; 7] = [
    Benchmark::Readseq,
    Benchmark::Readreverse,
    Benchmark::Readrandom,
    Benchmark::Seekrandom,
    Benchmark::Readrandomwriterandom,
    Benchmark::Updaterandom,
    Benchmark::Mixgraph,
];

fn database(sizes: &[u64], benchmark: Benchmark, access: Access, nexts: u64, seed: u64) -> Database {
    let shape = DbShape { benchmark, access, block: 900, entry: 100, nexts, memtable: 4000, compaction_tables: 1 };
    let log = FileRef { index: sizes.len() as u32, bytes: 1 };
    Database::new(files(sizes), Some(log), shape, seed)
}

/// Whether an operation is possible on files of these sizes. The log of the database and that of `Log` grow.
fn possible(op: &Op, sizes: &[u64], grows: bool) -> bool {
    let size = |file: u32| sizes.get(file as usize).copied().unwrap_or(1);
    match *op {
        Op::Read { file, offset, bytes } => bytes > 0 && (grows || offset + bytes <= size(file)),
        Op::Write { file, offset, bytes } => bytes > 0 && offset + bytes <= size(file),
        Op::Touch { map, page } => page < size(map).div_ceil(4096),
        Op::Fadvise { file, offset, bytes, .. } => offset + bytes <= size(file),
        Op::Append { bytes, .. } => bytes > 0,
        _ => true,
    }
}

proptest! {
    // Without persistence: integration tests have no lib.rs beside which the failures could be kept.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn programs_stay_within_their_files_and_repeat_themselves(
        sizes in prop::collection::vec(1024u64..2_000_000, 1..6),
        mmap: bool,
        request in 1u64..300_000,
        length in 1u64..40,
        seed: u64,
    ) {
        let access = if mmap { Access::Mmap } else { Access::Read };
        let make = || all(&sizes, access, request, length, seed);
        for (i, (mut one, mut other)) in make().into_iter().zip(make()).enumerate() {
            // The databases have two more tables in front.
            let of = if i > 10 { [&[sizes[0]; 2], sizes.as_slice()].concat() } else { sizes.clone() };
            let (mut a, mut b) = (VecDeque::new(), VecDeque::new());
            for _ in 0..30 {
                one.piece(&mut a);
                other.piece(&mut b);
            }
            prop_assert!(!a.is_empty(), "program {i} does nothing");
            prop_assert_eq!(&a, &b);
            for op in &a {
                prop_assert!(possible(op, &of, i == 10), "program {i}: {op:?} of {of:?}");
            }
        }
    }

    #[test]
    fn zipf_ranks_are_scattered_without_loss(count in 1u64..3000, exponent in 0.0f64..3.0, seed: u64) {
        let pick = Pick::new(count, Some(exponent));
        let mut rng = keepahead_sim::workload::distribution::random(seed, 0);
        prop_assert!((0..100).all(|_| pick.draw(&mut rng) < count));
    }
}

#[test]
fn the_testbeds_kinds_ask_for_what_its_workload_program_asks_for() {
    let f = || files(&[1500 << 20]);
    let shape = |access, request, start| ScanShape { access, request, stride: request, start, reverse: false, repeat: true };
    let seq_read = run(Scan::new(f(), shape(Access::Read, 128 * KIB, 0)), 12_001);
    assert_eq!(seq_read[1], Op::Read { file: 0, offset: 128 * KIB, bytes: 128 * KIB });
    assert_eq!(seq_read[12_000], seq_read[0]);
    let seq_mmap = run(Scan::new(f(), shape(Access::Mmap, 4 * KIB, 4 * KIB)), 384_000);
    assert_eq!((seq_mmap[0], seq_mmap[383_999]), (Op::Touch { map: 0, page: 1 }, Op::Touch { map: 0, page: 0 }));
    let runs = run(Runs::new(f(), Access::Read, 4 * KIB, Distribution::Fixed(8.0), 1), 1000);
    assert_eq!(runs.len(), 8000);
    for run in runs.chunks(8) {
        let Op::Read { offset: start, .. } = run[0] else { panic!("{run:?}") };
        let wanted = |i| Op::Read { file: 0, offset: start + i as u64 * 4096, bytes: 4096 };
        assert!(start % 4096 == 0 && run.iter().enumerate().all(|(i, op)| *op == wanted(i)));
    }
    let touches = run(Random::new(f(), Access::Mmap, 4 * KIB, 4 * KIB, None, 1), 100_000);
    let below = |limit| touches.iter().filter(|op| matches!(op, Op::Touch { page, .. } if *page < limit)).count();
    // Uniform: the standard deviation of a half of 100,000 is 158.
    assert!(below(192_000).abs_diff(50_000) < 800, "{}", below(192_000));
}

#[test]
fn a_strided_scan_skips_and_a_reverse_one_ends_at_the_start() {
    let shape = ScanShape { access: Access::Read, request: 4096, stride: 65_536, start: 0, reverse: false, repeat: false };
    let offsets = |ops: Vec<Op>| -> Vec<u64> {
        ops.iter().map(|op| if let Op::Read { offset, .. } = op { *offset } else { panic!("{op:?}") }).collect()
    };
    assert_eq!(offsets(run(Scan::new(files(&[200_000]), shape), 9)), [0, 65_536, 131_072, 196_608]);
    let reverse = ScanShape { stride: 4096, reverse: true, ..shape };
    assert_eq!(offsets(run(Scan::new(files(&[10_000]), reverse), 9)), [8192, 4096, 0]);
}

#[test]
fn streams_of_one_file_begin_apart_and_take_turns() {
    let one = files(&[1 << 20])[0];
    let ops = run(Streams::new(&[one, one], 1, Access::Read, 4096, Turns::RoundRobin, 1, 1), 4);
    let offsets = [0, 512 * KIB, 4096, 512 * KIB + 4096];
    assert_eq!(ops, offsets.map(|offset| Op::Read { file: 0, offset, bytes: 4096 }));
}

#[test]
fn an_epoch_reads_every_file_once_and_the_next_in_another_order() {
    // Each file is opened anew and read once.
    let ops = run(Epochs::new(files(&[4096; 50]), Access::Read, 4096, Some(2), 1), 200);
    let order: Vec<u32> = ops.iter().filter_map(|op| if let Op::Read { file, .. } = op { Some(*file) } else { None }).collect();
    let (first, second) = (&order[..50], &order[50..]);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 50);
    assert_eq!(second.iter().collect::<BTreeSet<_>>().len(), 50);
    assert_ne!(first, second);
}

#[test]
fn weights_touch_every_page_and_jump_between_tensors() {
    let ops = run(Weights::new(files(&[1 << 20]), Access::Mmap, 128 * KIB, &Distribution::Fixed(64.0), false, 1), 100);
    let pages: Vec<u64> = ops.iter().map(|op| if let Op::Touch { page, .. } = op { *page } else { panic!("{op:?}") }).collect();
    assert_eq!(pages.iter().collect::<BTreeSet<_>>().len(), 256);
    let jumps = pages.windows(2).filter(|w| w[1] != w[0] + 1).count();
    assert!((8..=15).contains(&jumps), "{jumps}");
}

#[test]
fn a_reader_of_the_log_stays_behind_by_its_lag() {
    let log = files(&[100_000])[0];
    let tail = FileRef { index: 1, ..log };
    let ops = run(Log::new(log, Distribution::Fixed(4.0), 2, vec![(tail, 50_000)], 1), 2);
    let read = |offset| Op::Read { file: 1, offset, bytes: 4096 };
    let append = Op::Append { file: 0, bytes: 4096 };
    assert_eq!(ops, [append, read(50_000), append, Op::Sync { file: 0 }, read(54_096)]);
}

#[test]
fn a_mapped_lookup_searches_the_index_and_a_read_one_keeps_it_in_memory() {
    let sizes = [1 << 20; 2];
    let index_page = (1 << 20) / (900 + 24) * 900 / 4096;
    let touches = run(database(&sizes, Benchmark::Readrandom, Access::Mmap, 1, 1), 200);
    let index = touches.iter().filter(|op| matches!(op, Op::Touch { page, .. } if *page >= index_page)).count();
    assert!(index > 200, "{index}");
    let reads = run(database(&sizes, Benchmark::Readrandom, Access::Read, 1, 1), 200);
    // One read a lookup, and the end of each table at its first use.
    assert_eq!(reads.len(), 202);
}

#[test]
fn an_iterator_over_reads_asks_ahead_from_8_to_256_kib() {
    let ops = run(database(&[8 << 20], Benchmark::Readseq, Access::Read, 1, 1), 5000);
    let ahead = |op: &Op| match op {
        Op::Fadvise { bytes, advice: Fadvice::Willneed, .. } => Some((bytes - 900) / KIB),
        _ => None,
    };
    assert_eq!(ops.iter().filter_map(ahead).take(7).collect::<Vec<_>>(), [8, 16, 32, 64, 128, 256, 256]);
}

#[test]
fn a_full_memtable_is_flushed_and_a_table_rewritten() {
    let ops = run(database(&[1 << 20; 4], Benchmark::Updaterandom, Access::Read, 1, 1), 200);
    let written: u64 = ops.iter().map(|op| if let Op::Write { bytes, .. } = op { *bytes } else { 0 }).sum();
    assert!(written > 1 << 20, "{written}");
    assert!(ops.iter().any(|op| matches!(op, Op::Sync { .. })));
    assert_eq!(ops.iter().filter(|op| matches!(op, Op::Append { .. })).count(), 200);
}

#[test]
fn mixgraph_prefers_hot_ranges() {
    let ops = run(database(&[8 << 20; 6], Benchmark::Mixgraph, Access::Read, 1, 1), 20_000);
    let mut counts = std::collections::BTreeMap::new();
    for op in &ops {
        if let Op::Read { file, offset, .. } = op {
            *counts.entry((file, offset >> 18)).or_insert(0u32) += 1;
        }
    }
    let (most, total) = (counts.values().max().unwrap(), counts.values().sum::<u32>());
    assert!(most * 20 > total, "{most} of {total}");
}

fn reader(think_us: f64, arrival: Arrival) -> Paced {
    let shape = ScanShape { access: Access::Read, request: 4096, stride: 4096, start: 0, reverse: false, repeat: true };
    Paced::new(Box::new(Scan::new(files(&[1 << 20]), shape)), arrival, Distribution::Fixed(think_us), 1)
}

#[test]
fn an_open_loop_keeps_its_times_however_late_it_is() {
    let mut program = reader(3.0, Arrival::EveryMs(10.0));
    let mut at = Vec::new();
    for step in 0..9 {
        // Half a second passes with every operation: far behind the pace.
        if let Op::Until(due) = program.next(Nanos::from_millis(1000 + 500 * step)) {
            at.push(due.0 / 1_000_000);
        }
    }
    assert_eq!(at, [1000, 1010, 1020]);
    let mut poisson = reader(0.0, Arrival::PoissonPerS(1000.0));
    let last = (0..20_000).filter_map(|_| if let Op::Until(due) = poisson.next(Nanos(0)) { Some(due) } else { None }).last();
    // 10,000 arrivals take 10 s, give or take 0.1.
    assert!((9.5..10.5).contains(&last.unwrap().as_secs_f64()), "{last:?}");
}

#[test]
fn phases_announce_themselves_and_stop_the_clocks_of_the_others() {
    let phase = |number, program| Phase { number, lasts: Nanos::from_secs(1), program: Box::new(program) as Box<dyn Program> };
    let mut phases =
        Phases::new(vec![phase(7, reader(0.0, Arrival::EveryMs(400.0))), phase(8, reader(0.0, Arrival::Closed))], true);
    let (mut now, mut log) = (Nanos(0), Vec::new());
    while now < Nanos::from_secs(4) {
        match phases.next(now) {
            Op::Until(due) => now = now.max(due),
            Op::Phase(number) => log.push((now.0 / 1_000_000, format!("phase {number}"))),
            Op::Read { offset, .. } => {
                log.push((now.0 / 1_000_000, format!("read {}", offset / 4096)));
                now = now
                    + Nanos::from_millis(if log.iter().filter(|l| l.1.starts_with("phase")).count() % 2 == 0 {
                        600
                    } else {
                        1
                    });
            }
            other => panic!("{other:?}"),
        }
    }
    let text: Vec<String> = log.iter().map(|(at, what)| format!("{at} {what}")).collect();
    insta::assert_snapshot!(text.join("; "), @"0 phase 7; 0 read 0; 400 read 1; 800 read 2; 1000 phase 8; 1000 read 0; 1600 read 1; 2200 phase 7; 2400 read 3; 2800 read 4; 3200 phase 8; 3200 read 2; 3800 read 3");
}
