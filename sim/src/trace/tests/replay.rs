// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replay: every access of every stream in order, at its time, with a bounded look-ahead. The world is played by a loop that serves
//! the task whose clock is earliest.

use super::super::*;
use crate::device::{Disk, DiskStats, Piece};
use crate::spec::{DiskSpec, FileSystem, Generation, Reclaim, Spec};
use crate::workload::Op;
use keepahead_core::device::QueueLimits;
use keepahead_core::units::Kib;
use proptest::prelude::*;

struct NoDisk;

impl Disk for NoDisk {
    fn degrade(&mut self, _: f64, _: f64) {}
    fn read(&mut self, _: Nanos, _: u64, _: u64, _: &mut Vec<Piece>) {}
    fn write(&mut self, now: Nanos, _: u64, _: u64) -> Nanos {
        now
    }
    fn limits(&self) -> QueueLimits {
        QueueLimits::default()
    }
    fn stats(&self) -> DiskStats {
        DiskStats::default()
    }
    fn degrade(&mut self, _: f64, _: f64) {}
}

/// Accesses out of memory.
struct Listed(std::vec::IntoIter<Access>, FileTable);

impl Iterator for Listed {
    type Item = Result<Access, TraceError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Ok)
    }
}

impl Source for Listed {
    fn files(&self) -> &FileTable {
        &self.1
    }
}

fn listed(accesses: &[Access]) -> Box<dyn Source> {
    let owned: Vec<Access> = accesses.into();
    Box::new(Listed(owned.into_iter(), FileTable::default()))
}

fn how(arrival: Arrival, look_ahead: usize) -> TraceSpec {
    let disk = DiskSpec { label: "sim".into(), disk: Box::new(NoDisk), read_ahead: Kib(128), filesystem: FileSystem::Ext4 };
    let (kernel, reclaim) = (Generation::V6_12, Reclaim::TwoLists);
    TraceSpec { name: "t".into(), seed: 1, kernel, reclaim, memory: 1 << 20, disk, arrival, look_ahead }
}

fn replay(accesses: &[Access], by: Streams, arrival: Arrival, look_ahead: usize) -> (Spec, Replay) {
    let survey = Survey::of(&mut *listed(accesses), by).unwrap();
    how(arrival, look_ahead).spec(&survey, listed(accesses)).unwrap()
}

/// Every operation with task and time; each read, write and touch takes `cost(task)`.
fn run(spec: &mut Spec, cost: impl Fn(usize) -> u64) -> Vec<(usize, Nanos, Op)> {
    let mut clocks: Vec<Option<Nanos>> = spec.tasks.iter().map(|t| Some(t.start)).collect();
    let mut done = Vec::new();
    while let Some((task, now)) = clocks.iter().enumerate().filter_map(|(i, c)| c.map(|c| (i, c))).min_by_key(|&(i, c)| (c, i))
    {
        let op = spec.tasks[task].program.next(now);
        clocks[task] = match op {
            Op::End => None,
            Op::Until(then) => Some(now.max(then)),
            Op::Think(span) => Some(now + span),
            _ => {
                done.push((task, now, op));
                Some(now + Nanos(cost(task)))
            }
        };
    }
    done
}

fn read(at: u64, pid: u32, file: u64, offset: u64) -> Access {
    Access { at: Nanos(at), file, pid, offset, bytes: 4096, kind: Kind::Read, took: None }
}

#[test]
fn open_loop_keeps_the_recorded_times_and_scales_them() {
    let trace = [read(1000, 1, 7, 0), read(1500, 2, 7, 4096), read(3000, 1, 9, 8192)];
    for (speed, times) in [(1.0, [0, 500, 2000]), (2.0, [0, 250, 1000]), (0.5, [0, 1000, 4000])] {
        let (mut spec, replay) = replay(&trace, Streams::PerProcess, Arrival::Open { speed }, 10);
        assert_eq!(spec.files.iter().map(|f| f.bytes).collect::<Vec<_>>(), [8192, 12288]);
        let done = run(&mut spec, |_| 1);
        assert_eq!(done.iter().map(|d| d.1.0).collect::<Vec<_>>(), times);
        assert_eq!(done[2], (0, Nanos(times[2]), Op::Read { file: 1, offset: 8192, bytes: 4096 }));
        assert_eq!((replay.served(), replay.held(), replay.fault()), (3, 0, None));
    }
}

#[test]
fn closed_loop_keeps_think_time_where_durations_are_known() {
    let mut trace = [read(0, 1, 0, 0), read(5000, 1, 0, 4096), read(6000, 1, 0, 8192)];
    trace[0].took = Some(Nanos(2000));
    let (mut spec, _) = replay(&trace, Streams::PerProcess, Arrival::Closed, 10);
    let times: Vec<u64> = run(&mut spec, |_| 10).iter().map(|d| d.1.0).collect();
    assert_eq!(times, [0, 10 + 3000, 3020]);
}

#[test]
fn mapped_accesses_touch_every_page_and_trims_are_left_out() {
    let mut trace = [read(0, 1, 0, 4000), read(0, 1, 0, 0), read(0, 1, 0, 1 << 40)];
    (trace[0].kind, trace[0].bytes, trace[2].kind) = (Kind::Mmap, 5000, Kind::Trim);
    let (mut spec, replay) = replay(&trace, Streams::PerProcess, Arrival::Closed, 10);
    let ops: Vec<Op> = run(&mut spec, |_| 1).into_iter().map(|d| d.2).collect();
    let touch = |page| Op::Touch { map: 0, page };
    assert_eq!(ops, [touch(0), touch(1), touch(2), Op::Read { file: 0, offset: 0, bytes: 4096 }]);
    assert_eq!((spec.files[0].bytes, spec.tasks[0].maps[0].pages, replay.served()), (9000, 3, 2));
}

#[test]
fn a_full_look_ahead_holds_the_fast_stream_and_loses_nothing() {
    // Process 2 comes only after 1000 accesses of process 1: it cannot be found within a look-ahead of 10.
    let mut trace: Vec<Access> = (0..1000).map(|i| read(i * 10, 1, 0, i * 4096)).collect();
    trace.push(read(10_000, 2, 1, 0));
    trace.extend((1001..1500).map(|i| read(i * 10, 1, 0, i * 4096)));
    let (mut spec, replay) = replay(&trace, Streams::PerProcess, Arrival::Closed, 10);
    let done = run(&mut spec, |_| 1_000_000);
    assert_eq!(done.len(), 1500);
    assert!(replay.held() > 0);
    let (mut spec, replay) = self::replay(&trace, Streams::PerProcess, Arrival::Open { speed: 1.0 }, 10);
    let done = run(&mut spec, |_| 1);
    let second = done.iter().find(|d| d.0 == 1).unwrap();
    assert_eq!((second.1, replay.fault()), (Nanos(10_000), None), "open-loop it is on time");
}

#[test]
fn a_trace_that_changed_since_its_survey_ends_the_run_and_says_so() {
    let trace: Vec<Access> = (0..10).map(|i| read(i, 1, 0, i * 4096)).collect();
    let survey = Survey::of(&mut *listed(&trace), Streams::PerProcess).unwrap();
    let (mut spec, replay) = how(Arrival::Closed, 10).spec(&survey, listed(&trace[..4])).unwrap();
    assert_eq!(run(&mut spec, |_| 1).len(), 4);
    assert_eq!(replay.fault().as_deref(), Some("it ends earlier than when it was surveyed"));
    let beyond: Vec<Access> = (0..10).map(|i| read(i, 1, 0, i << 20)).collect();
    let (mut spec, replay) = how(Arrival::Closed, 10).spec(&survey, listed(&beyond)).unwrap();
    assert_eq!(run(&mut spec, |_| 1).len(), 1);
    assert!(replay.fault().unwrap().contains("beyond its end"));
}

#[test]
fn impossible_replays_are_refused_with_their_limit() {
    let trace = [read(0, 1, 0, 0), read(u64::MAX, 1, 0, 0)];
    let survey = Survey::of(&mut *listed(&trace), Streams::PerProcess).unwrap();
    let error = |how: TraceSpec| how.spec(&survey, listed(&trace)).err().unwrap().to_string();
    assert!(error(how(Arrival::Closed, 1)).contains("at most 31622400 s are possible"));
    assert!(error(how(Arrival::Open { speed: f64::NAN }, 1)).starts_with("speed is NaN"));
    let survey = Survey::of(&mut *listed(&trace[..1]), Streams::PerProcess).unwrap();
    let error = |how: TraceSpec| how.spec(&survey, listed(&trace)).err().unwrap().to_string();
    assert!(
        error(TraceSpec { memory: 100 << 10, ..how(Arrival::Closed, 1) }).contains("less than one readahead window of 131072")
    );
    assert!(error(how(Arrival::Closed, 0)).starts_with("the look-ahead is 0"));
    assert!(matches!(Survey::of(&mut *listed(&[]), Streams::PerFile), Err(ReplayError::Empty { .. })));
}

proptest! {
    #[test]
    fn every_stream_gets_its_accesses_in_order(
        picks in proptest::collection::vec((0u32..6, 0u64..4, 0u64..100_000), 1..300),
        look_ahead in 1usize..40, per_file: bool, closed: bool, slow in 1u64..10_000_000
    ) {
        let mut times: Vec<u64> = picks.iter().map(|p| p.2).collect();
        times.sort_unstable();
        let trace: Vec<Access> =
            picks.iter().zip(times).enumerate().map(|(i, (p, at))| read(at, p.0, p.1, i as u64 * 4096)).collect();
        let by = if per_file { Streams::PerFile } else { Streams::PerProcess };
        let arrival = if closed { Arrival::Closed } else { Arrival::Open { speed: 1.0 } };
        let (mut spec, replay) = replay(&trace, by, arrival, look_ahead);
        let done = run(&mut spec, |task| 1 + slow * (task as u64 % 2));
        let mut keys: Vec<u64> = trace.iter().map(|a| by.key(a)).collect();
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(spec.tasks.len(), keys.len());
        for (task, key) in keys.iter().enumerate() {
            let wanted: Vec<u64> = trace.iter().filter(|a| by.key(a) == *key).map(|a| a.offset).collect();
            let got: Vec<u64> = done.iter().filter(|d| d.0 == task).map(|d| match d.2 { Op::Read { offset, .. } => offset, _ => u64::MAX }).collect();
            prop_assert_eq!(got, wanted);
        }
        if !closed {
            for (_, now, op) in &done {
                let Op::Read { offset, .. } = op else { continue };
                let due = trace[(offset / 4096) as usize].at.since(trace[0].at);
                prop_assert!(*now >= due, "never early");
            }
        }
        prop_assert_eq!((replay.served(), replay.fault()), (trace.len() as u64, None));
    }
}
