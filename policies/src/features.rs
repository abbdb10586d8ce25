// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Features` and the present window in, the vector that the models see out: named, ordered, versioned.
//!
//! Spans over several decades are taken as `log2(1 + x)`, so that a factor counts the same everywhere. Nothing in it tells one run
//! from another: no time, inode, pid or offset.

use keepahead_core::features::{Features, LONG_RUN};
use keepahead_core::units::Kib;

/// Raised whenever a feature is added, removed, reordered or changes its meaning: a model of another version is refused.
pub const VERSION: u32 = 4;

/// Number of features.
pub const COUNT: usize = 26;

/// The first ones say only what programs ask for and do not move with the knob: patterns are told apart by these alone.
pub const SHAPE: usize = 9;

/// Names in order.
pub const NAMES: [&str; COUNT] = [
    // Share of the waiting that comes through mappings, 0 to 1: faults and `read(2)` answer differently to the same window.
    "mmap_share",
    // Share of read pages in runs of 256 KiB or more, 0 to 1: only long runs use a long window.
    "read_long_share",
    // The same of pages demanded by faults.
    "mmap_long_share",
    // Mean run of `read(2)`, log2 pages up to 64: beyond, a run is long whatever its length, and that scans have runs of a page as of a million
    // made two pages look like one.
    "read_run",
    // The same of faults.
    "mmap_run",
    // Share of requests that continue the one before, 0 to 1: readahead begins at the second.
    "read_continues",
    // Mean request, log2 pages: up to its own size a request is read at once whatever the window is.
    "request",
    // Median jump against the mean run, log2: strides and interleaved streams jump little further than they read.
    "jump_per_run",
    // Share of demanded pages that came through mappings, 0 to 1: a tenant that reads much and waits little shows in it.
    "mapped_demand",
    // Mean run of `read(2)`, log2 pages, and of faults: what is read ahead beyond a run is wasted.
    "read_length",
    "mmap_length",
    // Median jump between runs, log2 pages: jumps shorter than the window land in it. How large files are is no part of their shape.
    "jump",
    // Pages demanded a second, log2: how fast a window is used up.
    "demand",
    // Hits per demanded page, 0 to 1: how well the present window serves.
    "hit_ratio",
    // Pages still being read when demanded, per demanded page, 0 to 1: the window is there but too small to be in time.
    "late_share",
    // Hits that no readahead explains, 0 to 1: memory serves them, no window will.
    "reuse",
    // Speculative pages used per page retired, 0 to 1.
    "accuracy",
    // Speculative pages left unused per page added, 0 to 1: what a smaller window would save.
    "unused",
    // Speculative pages evicted per demanded page, log2: the memory has no room for the windows.
    "evicted",
    // Tasks that wait at once (time waited a second), log2: concurrency of the streams.
    "waiting",
    // Time waited per demanded MiB, log2 µs: what there is to gain.
    "stall",
    // Mean latency of a device read, log2 µs: the delay of the bandwidth-delay product.
    "device_latency",
    // Mean size of a device read, log2 KiB: latency grows with it on slow links.
    "device_request",
    // Delivered by the device, log2 MiB/s: the bandwidth of the product, and how busy the device is.
    "device_bandwidth",
    // Mean readahead window, log2 pages: what the kernel made of the knob.
    "window",
    // The knob, log2 KiB.
    "read_ahead",
];

/// Share of demand and of waiting up to which the shape of reads, or of faults, says nothing: a mapped scan of a database begins with ten
/// reads of its tables' footers, and their runs of two pages made it unlike anything seen.
const TRIFLE: f64 = 0.01;

/// The vector of one window under one value of the knob.
pub fn vector(f: &Features, kib: Kib) -> [f64; COUNT] {
    let lg = |x: f64| (1.0 + x.max(0.0)).log2();
    let if_more = |share: f64, waiting: f64, x: f64| if share.max(waiting) > TRIFLE { x } else { 0.0 };
    let of_reads = |x: f64| if_more(1.0 - f.mapped_demand, 1.0 - f.mmap_share, x);
    let of_faults = |x: f64| if_more(f.mapped_demand, f.mmap_share, x);
    let (read_length, mmap_length) = (of_reads(lg(f.read_run)), of_faults(lg(f.mmap_run)));
    [
        f.mmap_share,
        of_reads(f.read_long_share),
        of_faults(f.mmap_long_share),
        read_length.min(lg(LONG_RUN)),
        mmap_length.min(lg(LONG_RUN)),
        of_reads(f.read_continues),
        of_reads(lg(f.request)),
        lg(f.jump / f.run().max(1.0)),
        f.mapped_demand,
        read_length,
        mmap_length,
        lg(f.jump),
        lg(f.demand),
        f.hit_ratio,
        f.late_share,
        f.reuse,
        f.accuracy,
        f.unused,
        lg(f.evicted),
        lg(f.stall_share),
        lg(f.stall_ms_per_mib * 1e3),
        lg(f.device_latency_us),
        lg(f.device_request_kib),
        lg(f.device_mib_per_s),
        lg(f.window),
        lg(f64::from(kib.0)),
    ]
}

/// What the rules look at, back from a vector: so that both policies can be judged on the same rows.
///
/// `None` for a vector of another length.
pub fn restore(vector: &[f64]) -> Option<Features> {
    let v: &[f64; COUNT] = vector.try_into().ok()?;
    let pow = |x: f64| x.exp2() - 1.0;
    Some(Features {
        mmap_share: v[0],
        read_long_share: v[1],
        mmap_long_share: v[2],
        read_continues: v[5],
        request: pow(v[6]),
        mapped_demand: v[8],
        read_run: pow(v[9]),
        mmap_run: pow(v[10]),
        jump: pow(v[11]),
        demand: pow(v[12]),
        hit_ratio: v[13],
        late_share: v[14],
        reuse: v[15],
        accuracy: v[16],
        unused: v[17],
        evicted: pow(v[18]),
        stall_share: pow(v[19]),
        stall_ms_per_mib: pow(v[20]) / 1e3,
        device_latency_us: pow(v[21]),
        device_request_kib: pow(v[22]),
        device_mib_per_s: pow(v[23]),
        window: pow(v[24]),
        // What no model sees.
        stale_share: 0.0,
        turns: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_identify_no_run() {
        assert_eq!(NAMES.iter().collect::<BTreeSet<_>>().len(), COUNT);
        for word in ["time", "inode", "pid", "offset", "device_name"] {
            assert!(NAMES.iter().all(|n| *n != word));
        }
    }

    #[test]
    fn a_handful_of_reads_says_nothing_of_a_mapped_scan() {
        let scan = Features {
            mmap_share: 0.9999,
            mapped_demand: 0.9998,
            mmap_run: 300.0,
            mmap_long_share: 1.0,
            ..Features::default()
        };
        let footers = Features { read_run: 2.0, read_long_share: 1.0, read_continues: 0.25, request: 1.5, ..scan };
        assert_eq!(vector(&footers, Kib(128)), vector(&scan, Kib(128)));
        // A backup reads a hundred times what the server faults in, and the server waits longer: both count.
        let backup = Features { mapped_demand: 0.005, mmap_share: 0.8, ..footers };
        assert_eq!(vector(&backup, Kib(128))[..7], vector(&Features { mapped_demand: 0.5, ..backup }, Kib(128))[..7]);
    }

    proptest! {
        #[test]
        fn vectors_are_finite_and_come_back(shares in proptest::array::uniform10(0.0..1.0f64), spans in proptest::array::uniform12(0.0..1e9f64), kib in 0u32..65536) {
            let [mmap_share, read_long_share, mmap_long_share, read_continues, hit_ratio, late_share, reuse, accuracy, unused, mapped_demand] = shares;
            let [demand, read_run, mmap_run, request, stall_share, window, stall_ms_per_mib, evicted, jump, device_latency_us, device_request_kib, device_mib_per_s] = spans;
            let f = Features {
                mmap_share, read_long_share, mmap_long_share, read_continues, hit_ratio, late_share, reuse, accuracy, unused,
                demand, read_run, mmap_run, request, stall_share, window, stall_ms_per_mib, evicted, jump, mapped_demand,
                device_latency_us, device_request_kib, device_mib_per_s, stale_share: 0.0, turns: 0.0,
            };
            let v = vector(&f, Kib(kib));
            prop_assert!(v.iter().all(|x| x.is_finite()));
            let again = vector(&restore(&v).unwrap(), Kib(kib));
            prop_assert!(v.iter().zip(again).all(|(a, b)| (a - b).abs() < 1e-6), "{v:?} {again:?}");
        }
    }
}
