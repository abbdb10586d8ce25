// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a writer does to the cache: dirty pages have a limit, and a writer that is faster than the disk waits.

use keepahead_core::units::{Kib, Nanos};
use keepahead_sim::device::Fixed;
use keepahead_sim::kernel::Kernel;
use keepahead_sim::spec::{FileSystem, Generation, Reclaim};

const PAGES: u64 = 1000;
const DISK: Nanos = Nanos(1_000_000);

fn writer(reclaim: Reclaim) -> (Kernel, usize) {
    let mut kernel = Kernel::new(Generation::V6_18);
    kernel.memory.kind = reclaim;
    kernel.memory.add_group(PAGES * 4096);
    let disk = kernel.add_disk(Box::new(Fixed::new(DISK, 1280)), Kib(128), FileSystem::Ext4);
    let file = kernel.add_file(disk, 0);
    let open = kernel.open(file);
    (kernel, open)
}

/// Without a limit the whole cache became dirty, reclaim looked at every page of it for each one written, and the memory overshot.
#[test]
fn ten_times_the_memory_can_be_written_within_the_memory() {
    for reclaim in [Reclaim::TwoLists, Reclaim::Mglru] {
        let (mut kernel, open) = writer(reclaim);
        for _ in 0..10 * PAGES {
            kernel.write(open, 0, Nanos(0), None, 4096);
        }
        let charged = kernel.memory.charged_pages(0);
        assert!(charged <= PAGES, "{reclaim:?}: {charged} pages of {PAGES}");
    }
}

#[test]
fn a_writer_waits_for_the_disk_from_a_fifth_of_the_memory_on() {
    let (mut kernel, open) = writer(Reclaim::TwoLists);
    let mut waited_at = None;
    for page in 1..=PAGES {
        if kernel.write(open, 0, Nanos(0), None, 4096) >= DISK.0 {
            waited_at.get_or_insert(page);
        }
    }
    assert_eq!(waited_at, Some(202), "101 pages start the flusher, the next 101 wait for it");
}
