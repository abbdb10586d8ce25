// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of a reader and of a replay: measured by an allocator that counts, on traces that are made while they are read. One test,
//! because the count is the process's.

use keepahead_core::units::{Kib, Nanos};
use keepahead_sim::device::{Disk, DiskStats, Piece};
use keepahead_sim::spec::{DiskSpec, FileSystem, Generation, Reclaim};
use keepahead_sim::trace::{Arrival, LOOK_AHEAD, ReadOptions, Source, Streams, Survey, TraceFormat, TraceSpec, open};
use keepahead_sim::workload::Op;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `memory` came from `alloc` above, that is from the system's allocator, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Peak of `work` over what was there before, bytes.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = work();
    (PEAK.load(Relaxed) - before, result)
}

/// An MSR trace of so many lines, line by line: disk 0 most of the time, disk 1 in the last line.
struct Msr {
    line: u64,
    lines: u64,
    rest: Vec<u8>,
}

impl Read for Msr {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.rest.is_empty() && self.line < self.lines {
            self.line += 1;
            let disk = u8::from(self.line == self.lines);
            let at = 128_166_372_003_061_629 + self.line * 1000;
            self.rest = format!("{at},web0,{disk},Read,{},4096,500\n", self.line % 1000 * 4096).into_bytes();
        }
        let bytes = to.len().min(self.rest.len());
        to[..bytes].copy_from_slice(&self.rest[..bytes]);
        self.rest.drain(..bytes);
        Ok(bytes)
    }
}

fn msr(lines: u64) -> Box<dyn Source> {
    open(Box::new(Msr { line: 0, lines, rest: Vec::new() }), Some(TraceFormat::Msr), &ReadOptions::default()).unwrap().1
}

struct NoDisk;

impl Disk for NoDisk {
    fn degrade(&mut self, _: f64, _: f64) {}
    fn read(&mut self, _: Nanos, _: u64, _: u64, _: &mut Vec<Piece>) {}
    fn write(&mut self, now: Nanos, _: u64, _: u64) -> Nanos {
        now
    }
    fn limits(&self) -> keepahead_core::device::QueueLimits {
        Default::default()
    }
    fn stats(&self) -> DiskStats {
        DiskStats::default()
    }
}

fn how() -> TraceSpec {
    let disk = DiskSpec { label: "sim".into(), disk: Box::new(NoDisk), read_ahead: Kib(128), filesystem: FileSystem::Ext4 };
    let (kernel, reclaim, arrival) = (Generation::V6_12, Reclaim::TwoLists, Arrival::Closed);
    TraceSpec { name: "t".into(), seed: 1, kernel, reclaim, memory: 1 << 30, disk, arrival, look_ahead: LOOK_AHEAD }
}

#[test]
fn memory_does_not_grow_with_the_trace() {
    const LINES: u64 = 300_000;
    let (survey_peak, survey) = peak(|| Survey::of(&mut *msr(LINES), Streams::PerFile).unwrap());
    assert_eq!(survey.accesses, LINES);
    assert!(survey_peak < 256 << 10, "{survey_peak} bytes for a survey");

    // The stream of disk 1 asks first, and its only access is the last line: the look-ahead fills to its bound and not beyond.
    let (replay_peak, held) = peak(|| {
        let (mut spec, replay) = how().spec(&survey, msr(LINES)).unwrap();
        assert!(matches!(spec.tasks[1].program.next(Nanos(0)), Op::Until(_)));
        while spec.tasks[0].program.next(Nanos(0)) != Op::End {}
        assert!(matches!(spec.tasks[1].program.next(Nanos(0)), Op::Read { .. }));
        assert_eq!((replay.served(), replay.fault()), (LINES, None));
        replay.held()
    });
    assert_eq!(held, 1);
    assert!(
        replay_peak < 8 << 20,
        "{replay_peak} bytes for a replay; 65,536 accesses of 56 bytes are 3.5 MiB, and a queue doubles"
    );

    // A line without end, and headers that promise much.
    let endless = open(Box::new(std::io::repeat(b'1')), Some(TraceFormat::Msr), &ReadOptions::default());
    let (line_peak, error) = peak(|| endless.unwrap().1.next().unwrap().unwrap_err().to_string());
    assert!(error.contains("a line has at most 8192 bytes") && line_peak < 64 << 10, "{line_peak} {error}");
    let mut header = b"\x89KATRC\r\n\x01\x00".to_vec();
    header.extend([0xff; 8]);
    let (header_peak, opened) = peak(|| open(Box::new(std::io::Cursor::new(header)), None, &ReadOptions::default()).is_ok());
    assert!(!opened && header_peak < 64 << 10, "{header_peak} bytes for a header that promises 4 GiB");
}
