// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `/proc` gives without any probe: the state of the machine, and reads by device.

use super::SensorError;
use ::procfs::{DiskStats, FromBufRead, FromRead, Meminfo, MemoryPressure};
use keepahead_core::device::BdiName;
use keepahead_core::event::Machine;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reads completed by a device since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DeviceReads {
    pub reads: u64,
    pub bytes: u64,
    pub ns: u64,
}

/// Available memory, memory pressure (`None` where the kernel has no PSI or has it off) and file refaults.
pub fn machine(proc_root: &Path) -> Result<Machine, SensorError> {
    let path = proc_root.join("meminfo");
    let text = read(&path)?;
    let memory = Meminfo::from_read(text.as_bytes()).map_err(|e| parse(&path, e))?;
    let available = memory.mem_available.ok_or_else(|| parse(&path, "has no MemAvailable (it came with Linux 3.14)"))?;
    let path = proc_root.join("vmstat");
    let refaults = refaults(&read(&path)?).ok_or_else(|| parse(&path, "has no workingset_refault counter"))?;
    let pressure = std::fs::read(proc_root.join("pressure/memory")).ok();
    let pressure = pressure.and_then(|text| MemoryPressure::from_buf_read(text.as_slice()).ok());
    Ok(Machine { memory_available: available, memory_pressure: pressure.map(|p| f64::from(p.some.avg10)), refaults })
}

/// `workingset_refault_file` since 5.9; before, one counter for files alone was called `workingset_refault`.
fn refaults(vmstat: &str) -> Option<u64> {
    let value = |name| {
        vmstat.lines().find_map(|l| l.split_once(' ').filter(|(n, _)| *n == name)).and_then(|(_, v)| v.trim().parse().ok())
    };
    value("workingset_refault_file").or_else(|| value("workingset_refault"))
}

/// `/proc/diskstats` by bdi name. Partitions appear too, under names that no bdi has.
pub(super) fn device_reads(proc_root: &Path) -> Result<BTreeMap<BdiName, DeviceReads>, SensorError> {
    let path = proc_root.join("diskstats");
    let text = read(&path)?;
    let stats = DiskStats::from_buf_read(text.as_bytes()).map_err(|e| parse(&path, e))?;
    let row = |d: ::procfs::DiskStat| {
        let reads = DeviceReads {
            reads: d.reads,
            bytes: d.sectors_read * 512, // diskstats always counts 512-byte sectors
            ns: d.time_reading * 1_000_000,
        };
        (BdiName(format!("{}:{}", d.major, d.minor)), reads)
    };
    Ok(stats.0.into_iter().map(row).collect())
}

fn read(path: &Path) -> Result<String, SensorError> {
    std::fs::read_to_string(path).map_err(|source| SensorError::Read { path: path.to_owned(), source })
}

fn parse(path: &Path, reason: impl ToString) -> SensorError {
    SensorError::Parse { path: PathBuf::from(path), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: &str = "MemTotal: 2048 kB\nMemFree: 100 kB\nMemAvailable: 1000 kB\nBuffers: 0 kB\nCached: 0 kB\nSwapCached: 0 kB\n\
        Active: 0 kB\nInactive: 0 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nDirty: 0 kB\nWriteback: 0 kB\nMapped: 0 kB\nSlab: 0 kB\n\
        Committed_AS: 0 kB\nVmallocTotal: 0 kB\nVmallocUsed: 0 kB\nVmallocChunk: 0 kB\n";

    #[test]
    fn machine_reads_memory_pressure_and_refaults() {
        let pressure = "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let vmstat = "nr_free_pages 1\nworkingset_refault_file 42\n";
        let root = tree(&[("meminfo", MEMINFO), ("vmstat", vmstat), ("pressure/memory", pressure)]);
        let machine = machine(root.path()).unwrap();
        assert_eq!(machine, Machine { memory_available: 1_024_000, memory_pressure: Some(1.5), refaults: 42 });
    }

    #[test]
    fn machine_without_psi_and_with_the_old_refault_name() {
        let root = tree(&[("meminfo", MEMINFO), ("vmstat", "workingset_refault 9\n")]);
        let machine = machine(root.path()).unwrap();
        assert_eq!((machine.memory_pressure, machine.refaults), (None, 9));
    }

    #[test]
    fn an_absent_file_is_named() {
        let root = tree(&[]);
        assert!(machine(root.path()).unwrap_err().to_string().contains("meminfo"));
    }

    #[test]
    fn diskstats_by_bdi_name_in_bytes_and_ns() {
        let root =
            tree(&[("diskstats", " 253 3 dm-3 10 0 16 5 0 0 0 0 0 0 0 0 0 0 0\n 7 0 loop0 1 0 8 2 0 0 0 0 0 0 0 0 0 0 0\n")]);
        let reads = device_reads(root.path()).unwrap();
        let dm = DeviceReads { reads: 10, bytes: 8192, ns: 5_000_000 };
        assert_eq!(reads[&BdiName("253:3".into())], dm);
        assert_eq!(reads[&BdiName("7:0".into())].reads, 1);
    }
}
