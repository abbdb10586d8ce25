// SPDX-License-Identifier: MIT OR Apache-2.0
//! Closed-loop workloads, one task each: what they read, and how fast it came. Each runs as a process of its own inside the testbed's
//! cgroup (`keepahead-workload`) and prints a JSON line at each interval and at the end of each phase.

use anyhow::{Context, bail};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256StarStar;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

const PAGE: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 128 KiB reads from one end to the other, again and again.
    SeqRead,
    /// Touches every page in order through a mapping.
    SeqMmap,
    /// Touches pages at random through a mapping.
    RandMmap,
    /// The same from so many threads at once.
    Lookups(u64),
    /// 4 KiB reads at random.
    RandPread,
    /// Runs of so many pages, read 4 KiB at a time, at random places.
    Runs(u64),
    Idle,
}

impl FromStr for Kind {
    type Err = anyhow::Error;
    fn from_str(s: &str) -> anyhow::Result<Kind> {
        Ok(match s {
            "seq-read" => Kind::SeqRead,
            "seq-mmap" => Kind::SeqMmap,
            "rand-mmap" => Kind::RandMmap,
            "rand-pread" => Kind::RandPread,
            "idle" => Kind::Idle,
            other => {
                let number = |prefix: &str| other.strip_prefix(prefix).and_then(|n| n.parse().ok());
                match (number("runs"), number("lookups")) {
                    (Some(n @ 1..=4096), _) => Kind::Runs(n),
                    (_, Some(n @ 1..=256)) => Kind::Lookups(n),
                    _ => bail!(
                        "{s:?} is no workload: seq-read, seq-mmap, rand-mmap, rand-pread, idle, runsN (N pages, 1 to 4096), \
                         lookupsN (N threads, 1 to 256)"
                    ),
                }
            }
        })
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::SeqRead => f.write_str("seq-read"),
            Kind::SeqMmap => f.write_str("seq-mmap"),
            Kind::RandMmap => f.write_str("rand-mmap"),
            Kind::RandPread => f.write_str("rand-pread"),
            Kind::Runs(n) => write!(f, "runs{n}"),
            Kind::Lookups(n) => write!(f, "lookups{n}"),
            Kind::Idle => f.write_str("idle"),
        }
    }
}

/// One line of `keepahead-workload`: what was delivered since the last one. None lies in two phases: what a scan delivers in a third of a
/// second is as much as random lookups do in two minutes under large windows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Number of the phase, from 0.
    pub phase: usize,
    /// Seconds since the start.
    pub at_s: f64,
    pub seconds: f64,
    pub bytes: u64,
}

impl Progress {
    pub fn mb_per_s(all: &[Progress]) -> f64 {
        let (bytes, seconds) = all.iter().fold((0, 0.0), |(b, s), p| (b + p.bytes, s + p.seconds));
        if seconds > 0.0 { bytes as f64 / 1e6 / seconds } else { 0.0 }
    }
}

/// Runs phases one after the other over one open file and writes progress as JSON lines; never advises the kernel.
pub fn run(path: &Path, phases: &[(Kind, Duration)], seed: u64, every: Duration, out: &mut impl Write) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("{}", path.display()))?;
    let mut worker = Worker::new(file, seed)?;
    let start = Instant::now();
    let mut last = start;
    for (phase, (kind, duration)) in phases.iter().enumerate() {
        let (end, mut bytes) = (Instant::now() + *duration, 0);
        loop {
            let over = Instant::now() >= end;
            let seconds = last.elapsed();
            if seconds >= every || over {
                let at_s = start.elapsed().as_secs_f64();
                serde_json::to_writer(&mut *out, &Progress { phase, at_s, seconds: seconds.as_secs_f64(), bytes })?;
                writeln!(out)?;
                (last, bytes) = (Instant::now(), 0);
            }
            if over {
                break;
            }
            bytes += worker.step(*kind)?;
        }
    }
    Ok(())
}

/// A piece of work of many threads, after which progress may be told.
const TOGETHER: Duration = Duration::from_millis(100);

/// The whole file, mapped as long as the process lives.
#[derive(Clone, Copy)]
struct Map {
    base: *const u64,
    pages: u64,
}

// SAFETY: the mapping is read-only, and nothing is kept beside its address.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    fn of(file: &File) -> anyhow::Result<Map> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let length = file.metadata()?.len();
        let size = NonZeroUsize::new(usize::try_from(length)?).context("the file is empty")?;
        // SAFETY: a private read-only mapping at an address of the kernel's choice; nobody truncates the testbed's file.
        let map = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, 0) }?;
        Ok(Map { base: map.as_ptr() as *const u64, pages: length / PAGE })
    }

    /// Looks at the whole page, as a program that uses it would.
    fn touch(&self, page: u64) -> u64 {
        const WORDS: usize = PAGE as usize / 8;
        // SAFETY: the page lies within the mapping, which lives as long as the process.
        let words = unsafe { std::slice::from_raw_parts(self.base.add(page as usize * WORDS), WORDS) };
        std::hint::black_box(words.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word)));
        PAGE
    }
}

/// A stream of random numbers that meets no other taken from the same generator: 2^128 numbers lie between them. (Threads seeded with successive
/// outputs of one xorshift walked the same pages one step apart, and the next round walked them again: 95 % of "random" lookups hit.)
fn apart(random: &mut Xoshiro256StarStar) -> Xoshiro256StarStar {
    let stream = random.clone();
    random.jump();
    stream
}

struct Worker {
    file: File,
    map: Map,
    next: u64,
    buffer: Vec<u8>,
    random: Xoshiro256StarStar,
}

impl Worker {
    fn new(file: File, seed: u64) -> anyhow::Result<Worker> {
        let map = Map::of(&file)?;
        Ok(Worker { file, map, next: 0, buffer: vec![0; 128 << 10], random: Xoshiro256StarStar::seed_from_u64(seed) })
    }

    /// Pages at random by so many threads, for [`TOGETHER`].
    fn lookups(&mut self, threads: u64) -> u64 {
        let (map, end) = (self.map, Instant::now() + TOGETHER);
        let lookup = |mut random: Xoshiro256StarStar| {
            let mut bytes = 0;
            while Instant::now() < end {
                bytes += map.touch(random.gen_range(0..map.pages));
            }
            bytes
        };
        std::thread::scope(|scope| {
            let streams: Vec<_> = (0..threads).map(|_| apart(&mut self.random)).collect();
            let running: Vec<_> = streams.into_iter().map(|random| scope.spawn(move || lookup(random))).collect();
            running.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
        })
    }

    fn read(&mut self, page: u64, bytes: u64) -> anyhow::Result<u64> {
        Ok(self.file.read_at(&mut self.buffer[..bytes as usize], page * PAGE)? as u64)
    }

    /// A short piece of work; its bytes.
    fn step(&mut self, kind: Kind) -> anyhow::Result<u64> {
        match kind {
            Kind::Idle => {
                std::thread::sleep(Duration::from_millis(50));
                Ok(0)
            }
            Kind::SeqRead => {
                if self.next + 32 > self.map.pages {
                    self.next = 0;
                }
                let got = self.read(self.next, 128 << 10);
                self.next += 32;
                got
            }
            Kind::SeqMmap => {
                self.next = (self.next + 1) % self.map.pages;
                Ok(self.map.touch(self.next))
            }
            Kind::RandMmap => {
                let page = self.random.gen_range(0..self.map.pages);
                Ok(self.map.touch(page))
            }
            Kind::Lookups(threads) => Ok(self.lookups(threads)),
            Kind::RandPread => {
                let page = self.random.gen_range(0..self.map.pages);
                self.read(page, PAGE)
            }
            Kind::Runs(n) => {
                let start = self.random.gen_range(0..self.map.pages).min(self.map.pages.saturating_sub(n));
                (start..start + n).try_fold(0, |sum, page| Ok(sum + self.read(page, PAGE)?))
            }
        }
    }
}

/// A running `keepahead-workload`, killed when dropped.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Starts phases such as `seq-read:20,idle:5` (seconds) on a file, inside the testbed's cgroup.
    pub fn start(testbed: &crate::Testbed, file: &Path, phases: &str, seed: u64) -> anyhow::Result<Running> {
        let program = crate::program("keepahead-workload")?;
        let mut command = testbed.cgroup.command(&program);
        command.arg(file).args(["--phases", phases, "--seed", &seed.to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{}", program.display()))?;
        let out = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Running { child, out })
    }

    /// The next line; `None` at the end.
    pub fn line(&mut self) -> anyhow::Result<Option<Progress>> {
        let mut line = String::new();
        Ok(if self.out.read_line(&mut line)? == 0 { None } else { Some(serde_json::from_str(&line)?) })
    }

    /// All lines to the end.
    pub fn finish(mut self) -> anyhow::Result<Vec<Progress>> {
        let mut all = Vec::new();
        while let Some(progress) = self.line()? {
            all.push(progress);
        }
        Ok(all)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_one_phase_delivers_is_in_no_line_of_another() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 * PAGE).unwrap();
        let phases = [(Kind::SeqMmap, Duration::from_millis(30)), (Kind::Idle, Duration::from_millis(60))].repeat(2);
        let mut out = Vec::new();
        run(file.path(), &phases, 1, Duration::from_millis(500), &mut out).unwrap();
        let lines: Vec<Progress> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let delivered = |phase: usize| lines.iter().filter(|p| p.phase == phase).map(|p| p.bytes > 0).collect::<Vec<_>>();
        assert_eq!([0, 1, 2, 3].map(delivered), [[true], [false], [true], [false]], "{lines:?}");
    }

    #[test]
    fn no_thread_and_no_round_looks_up_what_another_did() {
        let mut random = Xoshiro256StarStar::seed_from_u64(1);
        let streams: Vec<_> = (0..3 * 16).map(|_| apart(&mut random)).collect();
        let drawn = streams
            .into_iter()
            .flat_map(|mut stream| (0..1000).map(move |_| stream.gen_range(0..u64::MAX)).collect::<Vec<_>>());
        assert_eq!(drawn.collect::<BTreeSet<_>>().len(), 3 * 16 * 1000);
    }
}
