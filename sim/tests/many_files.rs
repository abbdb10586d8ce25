// SPDX-License-Identifier: MIT OR Apache-2.0
//! One task that reads many files: what it looks like does not depend on how many there are.

use keepahead_core::features::Features;
use keepahead_core::units::{Kib, Nanos};
use keepahead_core::window::Span;
use keepahead_sim::device::Fixed;
use keepahead_sim::kernel::{Kernel, Probe, ReadCall, TouchCall};
use keepahead_sim::spec::{FileSystem, Generation};

struct Reader {
    kernel: Kernel,
    probe: Probe,
    now: Nanos,
    opens: Vec<usize>,
    maps: Vec<usize>,
}

impl Reader {
    fn new(files: usize, pages: u64) -> Reader {
        let mut kernel = Kernel::new(Generation::V6_18);
        kernel.memory.add_group(1 << 30);
        let disk = kernel.add_disk(Box::new(Fixed::new(Nanos(1000), 1280)), Kib(128), FileSystem::Ext4);
        let opens: Vec<usize> = (0..files)
            .map(|_| {
                let file = kernel.add_file(disk, pages * 4096);
                kernel.open(file)
            })
            .collect();
        let maps = opens.iter().map(|open| kernel.map(*open, 0, pages, None)).collect();
        Reader { kernel, probe: Probe::default(), now: Nanos(0), opens, maps }
    }

    fn read(&mut self, file: usize, page: u64, pages: u64) {
        let mut call = ReadCall::new(self.opens[file], 0, page * 4096, pages * 4096);
        while let Some(until) = self.kernel.read(&mut call, &mut self.probe, &mut self.now) {
            self.now = until;
        }
    }

    fn touch(&mut self, file: usize, page: u64) {
        let mut call = TouchCall::new(&self.kernel, self.maps[file], 0, page);
        while let Some(until) = self.kernel.touch(&mut call, &mut self.probe, &mut self.now) {
            self.now = until;
        }
    }

    fn features(&self) -> Features {
        Features::of(&Span { seconds: 1.0, counters: self.kernel.disks[0].seen })
    }
}

/// Numbers without a pattern (splitmix64).
fn number(n: u64) -> u64 {
    let z = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ z >> 31
}

#[test]
fn lookups_in_any_number_of_files_are_no_scan() {
    for files in [1, 2, 9, 40, 300] {
        let mut r = Reader::new(files, 4096);
        for n in 0..4000 {
            let place = number(n);
            r.read(place as usize % files, (place >> 32) % 4000, 4);
            r.touch((place >> 8) as usize % files, (place >> 40) % 4000);
        }
        let f = r.features();
        // An access is the last to its file, or among the first to files that find a place: those that nothing has ended yet.
        assert!(f.read_long_share < 0.1 && f.mmap_long_share < 0.1, "{files} files: {f:?}");
    }
}

#[test]
fn a_merge_of_sorted_files_is_a_scan() {
    for files in [2, 9, 20, 48] {
        let mut r = Reader::new(files, 512);
        for n in 0..256 {
            for file in 0..files {
                r.read(file, 2 * n, 2);
                r.touch(file, 2 * n);
            }
        }
        let f = r.features();
        assert!(f.read_long_share > 0.8 && f.mmap_long_share > 0.8, "{files} files: {f:?}");
        assert!(f.turns > 0.9, "{files} files: {f:?}");
    }
}

#[test]
fn small_files_read_to_their_ends_are_a_scan() {
    // So many that those which are not in their places any more are nearly all.
    let mut r = Reader::new(1000, 11);
    for file in 0..1000 {
        for page in [0, 4, 8] {
            r.read(file, page, 4);
        }
        (0..11).for_each(|page| r.touch(file, page));
    }
    let f = r.features();
    assert_eq!((f.read_long_share, f.mmap_long_share), (1.0, 1.0), "{f:?}");
}

#[test]
fn heads_of_many_files_are_short_runs() {
    let mut r = Reader::new(1000, 4096);
    for file in 0..1000 {
        r.read(file, 0, 4);
        (0..4).for_each(|page| r.touch(file, page));
    }
    let f = r.features();
    // The last ones are in their places yet.
    assert!(f.read_long_share < 0.15 && f.mmap_long_share < 0.15, "{f:?}");
}
