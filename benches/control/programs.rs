// SPDX-License-Identifier: MIT OR Apache-2.0
//! One program at a time: epochs, weights, a reader beside a backup.

use crate::bed::Bed;
use crate::{BYTES_PER_S, Sizes, row, speed};
use serde_json::Value;
use std::process::Stdio;
use std::time::Instant;

/// Shuffled epochs over many files, 1 ms of computing a file.
pub fn epochs(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    let block: Vec<u8> = (0..256u32 << 10).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for n in 0..sizes.files {
        std::fs::write(bed.testbed.mount().join(format!("f{n}")), &block[..(64 + n * 37 % 193) << 10])?;
    }
    bed.limit()?;
    let (dir, count) = (bed.testbed.mount().display().to_string(), sizes.files.to_string());
    let without = speed(&bed.program("control/epoch.py", &[&dir, &count, "1"])?)?;
    let agent = bed.agent()?;
    let with = speed(&bed.program("control/epoch.py", &[&dir, &count, "1", &bed.socket()])?)?;
    agent.stop()?;
    let detail = format!("{without:.0} MB/s without, {with:.0} with; {count} files");
    Ok(vec![row(with * 1e6 / BYTES_PER_S as f64, "of the device", detail.clone()), row(with / without, "x", detail)])
}

/// Weights through a mapping, tensors of 1 MiB in a scattered order.
pub fn weights(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    tensors(bed, sizes.weights_mib, 1024)
}

/// Tensors of 64 KiB: the kernel reads as much around each first fault as there is of it.
pub fn small_weights(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    tensors(bed, sizes.weights_mib, 64)
}

fn tensors(bed: &Bed, mib: u64, kib: u64) -> anyhow::Result<Vec<Value>> {
    let file = bed.testbed.mount().join("weights.safetensors").display().to_string();
    let made = bed.command("clients/weights.py", &[&file, "make", &mib.to_string(), &kib.to_string()]).status()?;
    anyhow::ensure!(made.success(), "weights.py make: {made}");
    bed.limit()?;
    let without = speed(&bed.program("clients/weights.py", &[&file, "0"])?)?;
    let agent = bed.agent()?;
    let with = speed(&bed.program("clients/weights.py", &[&file, "0", &bed.socket()])?)?;
    agent.stop()?;
    bed.testbed.drop_caches()?;
    let begun = Instant::now();
    let mut cat = bed.testbed.cgroup.command("cat");
    anyhow::ensure!(cat.arg(&file).stdout(Stdio::null()).status()?.success(), "cat");
    let cat = mib as f64 * 1.048_576 / begun.elapsed().as_secs_f64();
    let detail = format!("{without:.0} MB/s without, {with:.0} with, cat {cat:.0}; {mib} MiB in tensors of {kib} KiB");
    Ok(vec![row(with / without, "x", detail.clone()), row(with / cat, "x", detail)])
}

/// A reader whose hot set fits in memory, beside a backup that does not.
pub fn reader(bed: &Bed, sizes: &Sizes) -> anyhow::Result<Vec<Value>> {
    let hot = bed.testbed.file("hot", 320)?.display().to_string();
    let cold = bed.testbed.file("cold", sizes.backup_mib)?.display().to_string();
    bed.limit()?;
    let beside = |backup: &[&str]| -> anyhow::Result<f64> {
        bed.testbed.drop_caches()?;
        let mut reader = bed.started("control/reader.py", &[&hot, "600"])?;
        reader.mean("hit_ratio", 3, 2)?;
        if backup.is_empty() {
            return reader.mean("hit_ratio", 0, 8);
        }
        let mut backup = bed.command("control/backup.py", backup).stdout(Stdio::null()).spawn()?;
        let kept = reader.mean("hit_ratio", 2, 8);
        let _ = backup.kill();
        backup.wait()?;
        kept
    };
    let (alone, without) = (beside(&[])?, beside(&[&cold])?);
    let agent = bed.agent()?;
    let with = beside(&[&cold, &bed.socket()])?;
    agent.stop()?;
    let detail = format!("hit ratio {alone:.3} alone, {without:.3} beside the backup, {with:.3} with keepahead");
    Ok(vec![row(with / alone, "of alone", detail)])
}
