// SPDX-License-Identifier: MIT OR Apache-2.0
#![allow(clippy::disallowed_methods)] // A bench looks at the clock.
//! How fast the simulator is, on one thread: page accesses a second in 16 GiB of simulated cache, random and sequential, and bytes of
//! the machine's memory for each cached page. Prints one JSON object.

use keepahead_core::units::{Kib, Nanos};
use keepahead_sim::device::Fixed;
use keepahead_sim::kernel::{Kernel, Probe, ReadCall};
use keepahead_sim::spec::{FileSystem, Generation};
use std::time::Instant;

const CACHE: u64 = 16 << 30;
const PAGE: u64 = 4096;

fn main() {
    let gib = if std::env::args().any(|a| a == "--test") { 1 } else { CACHE >> 30 };
    let bytes = gib << 30;
    let mut kernel = Kernel::new(Generation::V6_18);
    let disk = kernel.add_disk(Box::new(Fixed::new(Nanos(100_000), 1280)), Kib(512), FileSystem::Ext4);
    kernel.memory.add_group(bytes + (64 << 20));
    let file = kernel.add_file(disk, bytes);
    let open = kernel.open(file);
    let (mut probe, mut now) = (Probe::default(), Nanos(0));
    let mut read = |kernel: &mut Kernel, offset: u64, bytes: u64| {
        let mut call = ReadCall::new(open, 0, offset, bytes);
        while let Some(until) = kernel.read(&mut call, &mut probe, &mut now) {
            now = until;
        }
    };
    // Page by page, so that the cache consists of the smallest folios: the costliest case.
    kernel.set_read_ahead(disk, Kib(4), true);
    for page in (0..bytes / PAGE).rev() {
        read(&mut kernel, page * PAGE, PAGE);
    }
    let bytes_per_page = kernel.store.bytes() as f64 / kernel.store.cached_pages as f64;
    let mut sequential = |kernel: &mut Kernel, request: u64| {
        let start = Instant::now();
        for offset in (0..bytes).step_by(request as usize) {
            read(kernel, offset, request);
        }
        (bytes / PAGE) as f64 / start.elapsed().as_secs_f64() / 1e6
    };
    // The first passes still move folios between the lists.
    sequential(&mut kernel, PAGE);
    sequential(&mut kernel, PAGE);
    let sequential_rate = sequential(&mut kernel, PAGE);
    let large_request_rate = sequential(&mut kernel, 128 << 10);
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let accesses = 20_000_000u64;
    let start = Instant::now();
    for _ in 0..accesses {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        read(&mut kernel, seed % (bytes / PAGE) * PAGE, PAGE);
    }
    let random_rate = accesses as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!(
        "{{\"random_cached_maccesses_per_s\":{random_rate:.1},\"sequential_maccesses_per_s\":{sequential_rate:.1},\
         \"sequential_128k_maccesses_per_s\":{large_request_rate:.1},\"bytes_per_cached_page\":{bytes_per_page:.1},\"cached_gib\":{gib}}}"
    );
}
