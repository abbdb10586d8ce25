// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random scripts. Takes a seed and bounds, gives a script that mixes a few streams (sequential, strided, reverse, random, short runs,
//! by read and by mapping, some sharing a descriptor) with advice, knob changes and descriptors that come and go. Uniformly random
//! calls would hardly ever meet a readahead marker; streams do.

use super::{Fadvice, Madvice, Op, PAGE, Script};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Bounds of a random script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Fewest and most operations after the files are opened.
    pub operations: (usize, usize),
    /// Most files.
    pub files: usize,
    /// Sizes that files may have, in bytes. Few of them, so that an executor writes each once.
    pub sizes: Vec<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options { operations: (10, 160), files: 3, sizes: SIZES.to_vec() }
    }
}

/// From nothing to 48 MiB, around the borders of a page, of fault-around (64 KiB) and of the largest folio (2 MiB), and odd ones.
const SIZES: [u64; 14] = [
    0,
    1,
    4095,
    4096,
    4097,
    65_536,
    100_000,
    1 << 20,
    (1 << 20) + 1,
    2 << 20,
    (4 << 20) + 123,
    10_000_000,
    (16 << 20) + 8191,
    48 << 20,
];
/// Large files make the long streams; small ones are all edges.
const SIZE_WEIGHTS: [u32; 14] = [1, 1, 1, 1, 1, 3, 3, 4, 4, 4, 8, 10, 12, 12];
/// Bytes of a read: from a byte to 4 MiB, whole pages or not.
const REQUESTS: [u64; 18] = [
    1,
    512,
    4095,
    4096,
    4096,
    4097,
    8192,
    12_288,
    16_384,
    20_000,
    32_768,
    65_536,
    65_537,
    131_072,
    200_000,
    524_288,
    1 << 20,
    4 << 20,
];
/// KiB, powers of two or not, down to none.
const KNOBS: [u32; 18] = [0, 4, 8, 12, 16, 20, 32, 64, 100, 128, 128, 160, 256, 512, 1000, 1024, 2048, 8192];
/// Pages between accesses.
const STRIDES: [u64; 8] = [1, 2, 3, 4, 7, 16, 33, 512];

#[derive(Clone, Copy)]
enum Pattern {
    Sequential,
    Strided(u64),
    Reverse,
    Random,
    /// This many accesses in a row, then a jump.
    Runs(u32),
}

/// One stream of accesses through a descriptor or a mapping.
struct Stream {
    /// Mapping, or descriptor where there is none.
    map: Option<u32>,
    fd: u32,
    file: u32,
    pattern: Pattern,
    /// Next byte (read) or page (mapping).
    at: u64,
    /// Bytes of a read; 1 page by mapping.
    request: u64,
    run: u32,
}

struct Generator<'a> {
    rng: Xoshiro256PlusPlus,
    options: &'a Options,
    script: Script,
    /// File of each open descriptor.
    fds: Vec<(u32, u32)>,
    /// Number, file, first page, pages of each mapping.
    maps: Vec<(u32, u32, u64, u64)>,
    streams: Vec<Stream>,
    next_number: u32,
}

impl Script {
    /// A script that follows from the seed alone. Valid as [`Script::check`] has it.
    pub fn random(seed: u64, options: &Options) -> Script {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let read_ahead_kb = if rng.gen_bool(0.4) { 128 } else { *pick(&mut rng, &KNOBS) };
        let files = (0..rng.gen_range(1..=options.files.max(1))).map(|_| size(&mut rng, &options.sizes)).collect();
        let script = Script { read_ahead_kb, files, ops: Vec::new() };
        let mut generator =
            Generator { rng, options, script, fds: Vec::new(), maps: Vec::new(), streams: Vec::new(), next_number: 0 };
        generator.run();
        generator.script
    }
}

fn pick<'t, T>(rng: &mut impl Rng, all: &'t [T]) -> &'t T {
    &all[rng.gen_range(0..all.len())]
}

fn size(rng: &mut impl Rng, sizes: &[u64]) -> u64 {
    if sizes != SIZES {
        return *pick(rng, sizes);
    }
    let weighted: Vec<_> = SIZES.iter().zip(SIZE_WEIGHTS).collect();
    weighted.choose_weighted(rng, |(_, weight)| *weight).map_or(PAGE, |(bytes, _)| **bytes)
}

impl Generator<'_> {
    fn run(&mut self) {
        let (fewest, most) = self.options.operations;
        let target = self.rng.gen_range(fewest..=most.max(fewest));
        for _ in 0..self.rng.gen_range(1..=3) {
            self.open();
        }
        for _ in 0..self.rng.gen_range(1..=3) {
            self.stream();
        }
        while self.script.ops.len() < target {
            match self.rng.gen_range(0..100) {
                0..=5 => self.fadvise(),
                6..=8 => self.madvise(),
                9..=10 => {
                    let kib = *pick(&mut self.rng, &KNOBS);
                    self.script.ops.push(Op::ReadAheadKb(kib));
                }
                11 => self.open(),
                12 => self.leave(),
                13..=15 => self.stream(),
                _ => self.burst(),
            }
        }
    }

    fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn open(&mut self) {
        let fd = self.number();
        let file = self.rng.gen_range(0..self.script.files.len()) as u32;
        self.fds.push((fd, file));
        self.script.ops.push(Op::Open { fd, file });
    }

    /// Closes a descriptor (its mappings stay) or takes a mapping away.
    fn leave(&mut self) {
        if !self.maps.is_empty() && self.rng.gen_bool(0.5) {
            let (map, ..) = self.maps.swap_remove(self.rng.gen_range(0..self.maps.len()));
            self.streams.retain(|stream| stream.map != Some(map));
            self.script.ops.push(Op::Munmap { map });
        } else if self.fds.len() > 1 {
            let (fd, _) = self.fds.swap_remove(self.rng.gen_range(0..self.fds.len()));
            self.streams.retain(|stream| stream.map.is_some() || stream.fd != fd);
            self.script.ops.push(Op::Close { fd });
        }
    }

    /// A new stream; at most four at a time, or none gets anywhere.
    fn stream(&mut self) {
        if self.streams.len() >= 4 {
            self.streams.remove(0);
        }
        let (fd, file) = *pick(&mut self.rng, &self.fds);
        let pages = self.script.pages(file);
        let map = (pages > 0 && self.rng.gen_bool(0.4)).then(|| self.mapping(fd, file, pages));
        let pattern = match self.rng.gen_range(0..10) {
            0..=4 => Pattern::Sequential,
            5 => Pattern::Strided(*pick(&mut self.rng, &STRIDES)),
            6 => Pattern::Reverse,
            7 => Pattern::Random,
            _ => Pattern::Runs(self.rng.gen_range(2..40)),
        };
        let request = *pick(&mut self.rng, &REQUESTS);
        let mut stream = Stream { map, fd, file, pattern, at: 0, request, run: 0 };
        if self.rng.gen_bool(0.6) {
            self.jump(&mut stream);
        } else {
            stream.at = self.bounds(&stream).0;
        }
        self.streams.push(stream);
    }

    /// A mapping of the descriptor: one that is there, all of the file, or a part.
    fn mapping(&mut self, fd: u32, file: u32, pages: u64) -> u32 {
        if let Some((map, ..)) = self.maps.iter().find(|(_, of, ..)| *of == file)
            && self.rng.gen_bool(0.3)
        {
            return *map;
        }
        let map = self.number();
        let page = if self.rng.gen_bool(0.7) { 0 } else { self.rng.gen_range(0..pages) };
        let length = if self.rng.gen_bool(0.7) { pages - page } else { self.rng.gen_range(1..=pages - page) };
        self.maps.push((map, file, page, length));
        self.script.ops.push(Op::Mmap { map, fd, page, pages: length });
        map
    }

    /// First position of a stream and the one after its last.
    fn bounds(&self, stream: &Stream) -> (u64, u64) {
        let mapped = self.maps.iter().find(|(map, ..)| Some(*map) == stream.map);
        match mapped {
            Some((_, _, page, pages)) => (*page, page + pages),
            None => (0, self.script.files[stream.file as usize]),
        }
    }

    fn jump(&mut self, stream: &mut Stream) {
        let (first, end) = self.bounds(stream);
        stream.at = if end > first { self.rng.gen_range(first..end) } else { first };
        // Programs mostly read at multiples of their request's size.
        if stream.map.is_none() && self.rng.gen_bool(0.7) {
            stream.at -= stream.at % stream.request.max(PAGE);
        }
    }

    /// Some accesses of one stream: few where streams interleave closely, many where one runs on its own.
    fn burst(&mut self) {
        if self.streams.is_empty() {
            if self.fds.is_empty() {
                self.open();
            }
            self.stream();
        }
        let at = self.rng.gen_range(0..self.streams.len());
        let mut stream = self.streams.swap_remove(at);
        let most = if self.rng.gen_bool(0.5) { 3 } else { 30 };
        for _ in 0..self.rng.gen_range(1..=most) {
            self.access(&mut stream);
        }
        self.streams.push(stream);
    }

    fn access(&mut self, stream: &mut Stream) {
        let (first, end) = self.bounds(stream);
        if stream.at < first || stream.at >= end {
            // The end of the file itself is read once, as programs do.
            if stream.map.is_none() && stream.at == end {
                self.script.ops.push(Op::Pread { fd: stream.fd, offset: end, bytes: stream.request });
            }
            self.jump(stream);
        }
        let step = match stream.map {
            Some(map) if end > first => {
                self.script.ops.push(Op::Touch { map, page: stream.at });
                1
            }
            Some(_) => return,
            None => {
                self.script.ops.push(Op::Pread { fd: stream.fd, offset: stream.at, bytes: stream.request });
                stream.request
            }
        };
        let page = if stream.map.is_some() { 1 } else { PAGE };
        stream.run += 1;
        match stream.pattern {
            Pattern::Sequential => stream.at += step,
            Pattern::Strided(pages) => stream.at += step.max(page) + pages * page,
            Pattern::Reverse => stream.at = stream.at.checked_sub(step).unwrap_or(u64::MAX >> 1),
            Pattern::Runs(length) if !stream.run.is_multiple_of(length) => stream.at += step,
            Pattern::Random | Pattern::Runs(_) => self.jump(stream),
        }
    }

    fn fadvise(&mut self) {
        let Some(&(fd, file)) = self.fds.choose(&mut self.rng) else { return };
        let advice = *pick(&mut self.rng, Fadvice::ALL);
        let size = self.script.files[file as usize].max(1);
        let (offset, bytes) = if self.rng.gen_bool(0.4) {
            (0, 0)
        } else {
            (self.rng.gen_range(0..size), self.rng.gen_range(0..=size.min(8 << 20)))
        };
        let aligned = self.rng.gen_bool(0.5);
        let offset = if aligned { offset - offset % PAGE } else { offset };
        self.script.ops.push(Op::Fadvise { fd, advice, offset, bytes });
    }

    fn madvise(&mut self) {
        let Some(&(map, _, page, pages)) = self.maps.choose(&mut self.rng) else { return };
        let advice = *pick(&mut self.rng, Madvice::ALL);
        let (page, pages) = if self.rng.gen_bool(0.6) {
            (page, pages)
        } else {
            let skip = self.rng.gen_range(0..pages);
            (page + skip, self.rng.gen_range(1..=pages - skip))
        };
        self.script.ops.push(Op::Madvise { map, advice, page, pages });
    }
}
