// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two programs that want opposite windows on one device.
//!
//! Both take all they can get, so what each gets alone is not to be had by both. The fair share is what each gets alone, at its best
//! static value, on half of the device: half the requests, half the bytes, half the memory.

use crate::bed::{Bed, Program};
use crate::{BYTES_PER_S, FIND_S, IOPS, MEASURE_S, MEMORY_MIB, Sizes, row};
use anyhow::anyhow;
use serde_json::Value;

/// A static value holds from the start: no search to wait for.
const STATIC_S: [u64; 2] = [3, 8];

struct Two<'a> {
    bed: &'a Bed,
    scan: String,
    lookups: String,
}

/// MB/s of the scan and of the lookups.
type Speeds = [f64; 2];

impl Two<'_> {
    fn start(&self, n: usize, socket: &str, hint: &str) -> anyhow::Result<Program> {
        let (file, kind) = [(&self.scan, "sequential"), (&self.lookups, "random")][n];
        self.bed.started("control/tenant.py", &[socket, file, kind, hint, "900"])
    }

    /// The best static value of one alone on half of the device.
    fn fair(&self, n: usize, statics: &[u32]) -> anyhow::Result<f64> {
        self.bed.testbed.limit(IOPS / 2, BYTES_PER_S / 2, MEMORY_MIB / 2)?;
        let alone = |kib: u32| {
            self.bed.testbed.set_read_ahead(kib)?;
            self.bed.testbed.drop_caches()?;
            self.start(n, "-", "-")?.mean("mb_per_s", STATIC_S[0], STATIC_S[1])
        };
        statics.iter().try_fold(0.0, |best, &kib| Ok(f64::max(best, alone(kib)?)))
    }

    fn both(&self, socket: &str, hints: [&str; 2], [skip, take]: [u64; 2]) -> anyhow::Result<Speeds> {
        self.bed.testbed.drop_caches()?;
        measure([self.start(0, socket, hints[0])?, self.start(1, socket, hints[1])?], skip, take)
    }

    /// Each with a window of its own, given by hand: a file takes the device's value of the moment in which it is opened.
    fn by_hand(&self, windows: [u32; 2]) -> anyhow::Result<Speeds> {
        self.bed.testbed.drop_caches()?;
        self.bed.testbed.set_read_ahead(windows[0])?;
        let mut scan = self.start(0, "-", "-")?;
        scan.mean("mb_per_s", 0, 1)?;
        self.bed.testbed.set_read_ahead(windows[1])?;
        measure([scan, self.start(1, "-", "-")?], STATIC_S[0], STATIC_S[1])
    }
}

fn measure(mut programs: [Program; 2], skip: u64, take: u64) -> anyhow::Result<Speeds> {
    let [one, two] = &mut programs;
    std::thread::scope(|scope| {
        let first = scope.spawn(|| one.mean("mb_per_s", skip, take));
        let second = two.mean("mb_per_s", skip, take)?;
        Ok([first.join().map_err(|_| anyhow!("a reader of lines panicked"))??, second])
    })
}

/// A scan and random lookups by mapping, on one device; with no and with wrong hints.
pub fn tenants(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    let scan = bed.testbed.file("scan", 700)?.display().to_string();
    let lookups = bed.testbed.file("lookups", 700)?.display().to_string();
    let two = Two { bed, scan, lookups };
    let fair = [two.fair(0, sizes.statics)?, two.fair(1, sizes.statics)?];
    let least = |speeds: Speeds| (speeds[0] / fair[0]).min(speeds[1] / fair[1]);
    let shown = |name: String, s: Speeds| format!("{name}: {:.0}+{:.1} ({:.2})", s[0], s[1], least(s));
    bed.limit()?;
    let mut hand = Vec::new();
    for &kib in sizes.statics {
        bed.testbed.set_read_ahead(kib)?;
        hand.push(shown(kib.to_string(), two.both("-", ["-", "-"], STATIC_S)?));
    }
    for &[a, b] in sizes.windows {
        hand.push(shown(format!("{a} and {b}"), two.by_hand([a, b])?));
    }
    bed.testbed.set_read_ahead(128)?;
    let agent = bed.agent()?;
    let with = two.both(&bed.socket(), ["-", "-"], [FIND_S, MEASURE_S])?;
    let wrong = two.both(&bed.socket(), ["random", "sequential"], [FIND_S, MEASURE_S])?;
    agent.stop()?;
    let detail = format!(
        "MB/s of scan+lookups; fair {:.0}+{:.1}; {}; by hand {}",
        fair[0],
        fair[1],
        shown("with keepahead".into(), with),
        hand.join(", ")
    );
    let cost = 100.0 * (1.0 - (wrong[0] / with[0]).min(wrong[1] / with[1]));
    Ok(vec![
        row(least(with), "of alone on half of the device", detail),
        row(cost, "%", format!("with wrong hints {:.0}+{:.1}", wrong[0], wrong[1])),
    ])
}
