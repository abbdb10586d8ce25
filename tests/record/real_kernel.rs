// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recordings of known work on a loop device with ext4, read back and compared with what was done.

use crate::bed::{Bed, FILE_MIB, PAGE, Recorder, Trace, bed, start, trace};
use keepahead::record::{Options, RecordError};
use keepahead_sim::trace::{Access, FileName, Kind, Reader};
use keepahead_testbed::run;
use keepahead_testbed::workload::{Progress, Running};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// xorshift64.
fn random(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below
}

/// Ranges of every shape, among them pairs with one end, and an end behind the file's.
fn script() -> Vec<(u64, u64)> {
    let (size, mut seed) = (FILE_MIB << 20, 7);
    let mut script = vec![(0, 131_072), (65_536, 65_536), (69_632, 61_440), (1, 1), (size - 5000, 131_072), (4095, 2)];
    script.extend((0..300).map(|_| {
        let length = 1 + (random(&mut seed, 1 << 20) >> random(&mut seed, 16));
        (random(&mut seed, size - 1), length)
    }));
    script
}

fn ranges(accesses: &[Access], kind: Kind) -> Vec<(u64, u64)> {
    accesses.iter().filter(|a| a.kind == kind).map(|a| (a.offset, a.bytes.into())).collect()
}

#[test]
fn reads_are_recorded_byte_for_byte() {
    let Some(bed) = bed() else { return };
    let (out, size) = (bed.dir.path().join("trace"), FILE_MIB << 20);
    let recorder = Recorder::start(&bed, &out, &["--plain-paths"]);
    let mut file = File::open(&bed.file).unwrap();
    let (mut buffer, mut expected) = (vec![0; 1 << 20], Vec::new());
    for (offset, length) in script() {
        let got = file.read_at(&mut buffer[..length as usize], offset).unwrap() as u64;
        expected.push((offset, got));
    }
    bed.testbed.drop_caches().unwrap();
    // read(2), cold: windows are in flight when the next request comes.
    for i in 0..size / 100_000 {
        let got = file.read(&mut buffer[..100_000]).unwrap() as u64;
        expected.push((i * 100_000, got));
    }
    let said = recorder.end();
    let trace = trace(&out);
    assert_eq!(ranges(&trace.accesses, Kind::Read), expected, "{said}");
    assert_eq!(trace.names, [FileName::Plain(bed.file.to_str().unwrap().into())]);
    assert!(trace.accesses.iter().all(|a| a.pid == std::process::id()));
    assert!(trace.accesses.is_sorted_by_key(|a| a.at));
    assert_eq!((trace.totals.events_lost, trace.totals.files_sampled_out), (0, 0));
    assert_eq!((trace.header.device.as_str(), trace.header.paths_hashed), (bed.testbed.name.as_str(), false));
    assert!(trace.header.notes.iter().any(|note| note.contains("invisible")), "{:?}", trace.header.notes);
}

#[test]
fn sendfile_and_vectors_are_recorded_by_pages() {
    let Some(bed) = bed() else { return };
    let out = bed.dir.path().join("trace");
    let recorder = Recorder::start(&bed, &out, &[]);
    let file = File::open(&bed.file).unwrap();
    let null = File::options().write(true).open("/dev/null").unwrap();
    let (mut a, mut b) = (vec![0; 5000], vec![0; 5000]);
    let mut parts = [std::io::IoSliceMut::new(&mut a), std::io::IoSliceMut::new(&mut b)];
    assert_eq!(rustix::io::preadv(&file, &mut parts, 100 * PAGE).unwrap(), 10_000);
    let mut offset = 200 * PAGE;
    assert_eq!(rustix::fs::sendfile(&null, &file, Some(&mut offset), 16_384).unwrap(), 16_384);
    recorder.end();
    let trace = trace(&out);
    assert_eq!(ranges(&trace.accesses, Kind::Read), [(100 * PAGE, 3 * PAGE), (200 * PAGE, 4 * PAGE)]);
    assert!(matches!(trace.names[..], [FileName::Hashed(_)]) && trace.header.paths_hashed);
}

#[test]
fn each_first_touch_of_a_mapping_is_one_access() {
    let Some(bed) = bed() else { return };
    let out = bed.dir.path().join("trace");
    let file = File::open(&bed.file).unwrap();
    let recorder = Recorder::start(&bed, &out, &[]);
    let length = std::num::NonZeroUsize::new((FILE_MIB << 20) as usize).unwrap();
    let (protection, flags) = (nix::sys::mman::ProtFlags::PROT_READ, nix::sys::mman::MapFlags::MAP_PRIVATE);
    // SAFETY: a fresh private mapping of a file that nobody truncates while it is mapped.
    let map = unsafe { nix::sys::mman::mmap(None, length, protection, flags, &file, 0) }.unwrap();
    let (mut seed, mut pages) = (11, Vec::new());
    for _ in 0..400 {
        let page = random(&mut seed, FILE_MIB << 8);
        // SAFETY: within the mapping.
        std::hint::black_box(unsafe { map.as_ptr().cast::<u8>().add((page * PAGE) as usize).read_volatile() });
        pages.push(page);
    }
    recorder.end();
    // SAFETY: mapped above and not used after this.
    unsafe { nix::sys::mman::munmap(map, length.get()) }.unwrap();
    let trace = trace(&out);
    let touched: Vec<_> = trace.accesses.iter().filter(|a| a.pid == std::process::id()).collect();
    assert!(touched.iter().all(|a| a.kind == Kind::Mmap && u64::from(a.bytes) <= 512 * PAGE));
    // In order, each access holds the next page touched that was not mapped along with an earlier one.
    let mut next = pages.iter();
    for access in &touched {
        let holds = |page: &&u64| (access.offset..access.offset + u64::from(access.bytes)).contains(&(**page * PAGE));
        assert!(next.any(|page| holds(&page)), "{access:?} is none of the touches, or out of their order");
    }
    for page in &pages {
        let near = |a: &&Access| a.offset / PAGE <= page + 512 && page * PAGE < a.offset + 512 * PAGE;
        assert!(touched.iter().copied().any(|a| near(&a)), "page {page} was touched, and nothing near it recorded");
    }
    println!("{} accesses for {} touches", touched.len(), pages.len());
}

/// Records one phase of the project's workload. Two seconds of cached reads are 1.3 million records of 72 bytes on two busy CPUs:
/// the buffer holds 3.7 million, because here nothing may be lost however late its reader is scheduled.
fn workload(bed: &Bed, phases: &str) -> (Trace, Vec<Progress>) {
    let name = phases.replace(':', "-");
    let recording = start(Options { buffer_bytes: 256 << 20, ..bed.options(&name) });
    let lines = Running::start(&bed.testbed, &bed.file, phases, 3).unwrap().finish().unwrap();
    let summary = recording.end().unwrap();
    let trace = trace(&bed.dir.path().join(name));
    assert_eq!((summary.totals, trace.totals.events_lost), (trace.totals, 0), "{phases}");
    (trace, lines)
}

#[test]
fn the_workloads_are_in_their_traces() {
    let Some(bed) = bed() else { return };
    let bytes = |lines: &[Progress]| lines.iter().map(|l| l.bytes).sum::<u64>();
    let (seq, lines) = workload(&bed, "seq-read:2");
    let reads = ranges(&seq.accesses, Kind::Read);
    assert!(reads.iter().map(|r| r.1).sum::<u64>() >= bytes(&lines) && bytes(&lines) > 0);
    assert!(reads.windows(2).all(|w| w[1].1 == 131_072 && (w[1].0 == w[0].0 + 131_072 || w[1].0 == 0)));
    let (runs, lines) = workload(&bed, "runs8:2");
    let reads = ranges(&runs.accesses, Kind::Read);
    assert!(reads.len() as u64 * PAGE >= bytes(&lines) && bytes(&lines) > 0);
    assert!(reads.chunks(8).all(|run| run.windows(2).all(|w| w[1] == (w[0].0 + PAGE, PAGE))));
    bed.testbed.drop_caches().unwrap();
    let (scan, lines) = workload(&bed, "seq-mmap:2");
    let touches = ranges(&scan.accesses, Kind::Mmap);
    // Fault-around maps the neighbours that are there: some windows overlap, and a page here and there is late.
    let whole = touches.windows(2).filter(|w| w[1].0 <= w[0].0 + w[0].1 || w[1].0 == 0).count();
    assert!(whole as f64 > 0.95 * touches.len() as f64, "{whole} of {} touches continue the scan", touches.len());
    let touched = touches.iter().map(|t| t.1).sum::<u64>();
    assert!(touched as f64 > 0.9 * (bytes(&lines).min(FILE_MIB << 20)) as f64, "{touched} bytes of {}", bytes(&lines));
    bed.testbed.drop_caches().unwrap();
    let (mmap, _) = workload(&bed, "rand-mmap:2");
    assert!(mmap.accesses.len() > 10 && mmap.accesses.iter().all(|a| a.kind == Kind::Mmap));
}

/// Reads the whole file by 4 KiB.
fn dd(file: &Path) {
    run(Command::new("dd").arg(format!("if={}", file.display())).args(["of=/dev/null", "bs=4k"])).unwrap();
}

#[test]
fn a_full_ring_buffer_loses_records_and_counts_them() {
    let Some(bed) = bed() else { return };
    let sum = |file: &Path| run(Command::new("sha256sum").arg(file)).unwrap();
    let before = sum(&bed.file);
    let recording = start(Options { buffer_bytes: 4096, ..bed.options("tiny") });
    dd(&bed.file);
    let summary = recording.end().unwrap();
    let all = summary.totals.accesses + summary.totals.events_lost;
    assert_eq!(all, FILE_MIB << 8, "{:?}", summary.totals);
    assert!(summary.totals.events_lost > 0, "{:?}", summary.totals);
    assert_eq!(trace(&bed.dir.path().join("tiny")).totals, summary.totals);
    let recording = start(Options { buffer_bytes: 4096, ..bed.options("again") });
    assert_eq!(sum(&bed.file), before);
    recording.end().unwrap();
}

/// The kernel's account of program run time, while it lives.
struct Stats(String);
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Stats {
    fn on() -> Stats {
        let before = std::fs::read_to_string(STATS).unwrap();
        std::fs::write(STATS, "1").unwrap();
        Stats(before)
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        let _ = std::fs::write(STATS, &self.0);
    }
}

#[test]
fn sampling_files_records_fewer_of_them() {
    let Some(bed) = bed() else { return };
    let files: Vec<_> = (0..64).map(|i| bed.testbed.file(&format!("part{i}"), 1).unwrap()).collect();
    let _stats = Stats::on();
    let mut accesses = Vec::new();
    for one_file_in in [1, 16] {
        let name = format!("one-in-{one_file_in}");
        let recording = start(Options { one_file_in, ..bed.options(&name) });
        for _ in 0..4 {
            files.iter().for_each(|file| dd(file));
        }
        let summary = recording.end().unwrap();
        let totals = summary.totals;
        assert_eq!(totals.accesses + totals.events_lost, summary.files * 4 * 256, "each file's pages four times, {totals:?}");
        assert_eq!(summary.files + totals.files_sampled_out, 64);
        accesses.push(totals.accesses);
        for cost in summary.costs.iter().filter(|cost| cost.runs > 0) {
            println!("{name}: {} {} runs of {} ns", cost.program, cost.runs, cost.run_ns / cost.runs);
        }
    }
    assert!(accesses[1] < accesses[0] / 2, "{accesses:?}");
}

/// A tiny file system, unmounted when dropped.
struct Tiny(tempfile::TempDir);

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(self.0.path()));
    }
}

#[test]
fn a_full_disk_keeps_what_was_written() {
    let Some(bed) = bed() else { return };
    let tiny = Tiny(tempfile::tempdir().unwrap());
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k", "tmpfs"]).arg(tiny.0.path())).unwrap();
    let out = tiny.0.path().join("trace");
    let recording = start(Options { out: out.clone(), ..bed.options("") });
    let lines = Running::start(&bed.testbed, &bed.file, "rand-pread:4", 5).unwrap().finish().unwrap();
    let error = recording.end().unwrap_err();
    let RecordError::Partial { saved, partial, .. } = &error else { panic!("{error}") };
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(!out.exists() && *saved > 0 && !lines.is_empty());
    let reader = Reader::new(File::open(partial).unwrap()).unwrap();
    assert_eq!(reader.filter(Result::is_ok).count() as u64, *saved);
    let left = std::fs::read_dir(tiny.0.path()).unwrap().count();
    assert_eq!(left, 1, "only the partial trace is left");
}

#[test]
fn a_trace_that_exists_and_an_unknown_device_are_refused() {
    let Some(bed) = bed() else { return };
    let out = bed.dir.path().join("trace");
    std::fs::write(&out, "mine").unwrap();
    let program = assert_cmd::cargo::cargo_bin!("keepahead");
    for (device, word) in [(bed.testbed.name.as_str(), "exists"), ("no-such-disk", &bed.testbed.name)] {
        let output = Command::new(program).args(["record", "--device", device, "--out"]).arg(&out).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
}
