// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sensor of last resort: `/proc/diskstats` only. It sees what devices read, never hits, misses or waste; its samples say
//! `Coarse`, so that they end in suggestions and not in trials.

use super::procfs::{DeviceReads, device_reads};
use super::{FileUse, Inode, Overflow, Part, Places, ProbeStatus, Sense, SensorError, bdi_names};
use keepahead_core::device::BdiName;
use keepahead_core::sample::{Completeness, Counters, Sample};
use std::collections::BTreeMap;

pub struct CoarseSensor {
    places: Places,
    /// What each device had read when first seen: counters start at zero.
    first: BTreeMap<BdiName, DeviceReads>,
}

impl CoarseSensor {
    pub fn new(places: Places) -> CoarseSensor {
        let first = device_reads(&places.proc).unwrap_or_default();
        CoarseSensor { places, first }
    }
}

/// Puts what a device read since `first` into its counters.
pub(super) fn fill_device(counters: &mut Counters, now: &DeviceReads, first: &DeviceReads) {
    counters.dev_reads = now.reads.saturating_sub(first.reads);
    counters.dev_read_bytes = now.bytes.saturating_sub(first.bytes);
    counters.dev_read_ns = now.ns.saturating_sub(first.ns);
}

impl Sense for CoarseSensor {
    fn read(&mut self) -> Result<BTreeMap<BdiName, Sample>, SensorError> {
        let reads = device_reads(&self.places.proc)?;
        let mut samples = BTreeMap::new();
        for bdi in bdi_names(&self.places.sys)? {
            let mut counters = Counters::default();
            if let Some(now) = reads.get(&bdi) {
                fill_device(&mut counters, now, self.first.entry(bdi.clone()).or_insert(*now));
            }
            samples.insert(bdi, Sample { counters, completeness: Completeness::Coarse });
        }
        Ok(samples)
    }

    fn files(&mut self, _: &BdiName, _: usize) -> Result<Vec<FileUse>, SensorError> {
        Ok(Vec::new())
    }

    fn count_apart(&mut self, _: &BdiName, _: &[Inode], _: &[Part]) -> Result<(), SensorError> {
        Err(SensorError::NotBuilt)
    }

    fn probes(&self) -> &[ProbeStatus] {
        &[]
    }

    fn missing(&self) -> Option<String> {
        Some("no kernel probes: hits, misses, waste and stall are not seen, only what devices read".into())
    }

    fn overflow(&self) -> Overflow {
        Overflow::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_reads_since_the_start_and_says_coarse() {
        let root = tempfile::tempdir().unwrap();
        let places = Places { proc: root.path().into(), sys: root.path().into(), ..Places::default() };
        std::fs::create_dir_all(root.path().join("class/bdi/7:0")).unwrap();
        let write = |reads, sectors| {
            let row = format!("   7 0 loop0 {reads} 0 {sectors} 5 0 0 0 0 0 0 0 0 0 0 0\n");
            std::fs::write(root.path().join("diskstats"), row).unwrap();
        };
        write(10, 80);
        let mut sensor = CoarseSensor::new(places);
        write(14, 112);
        let sample = sensor.read().unwrap().remove(&BdiName("7:0".into())).unwrap();
        assert_eq!(sample.completeness, Completeness::Coarse);
        assert_eq!((sample.counters.dev_reads, sample.counters.dev_read_bytes), (4, 16384));
    }
}
