// SPDX-License-Identifier: MIT OR Apache-2.0
//! One look at the world: every knob, every sensor, the machine; gives a `Tick`, and before it what workloads' regions did.

use super::Agent;
use keepahead_core::device::{BdiName, DeviceKind};
use keepahead_core::event::{DeviceTick, Input, Tick, Writer};
use keepahead_core::sample::{Completeness, Counters, Sample};
use keepahead_core::units::Nanos;
use std::collections::BTreeMap;

impl Agent {
    /// `full`: all devices. Between the full looks, only those whose counters moved, as a trial's pace is for them, and those on trial: a
    /// new value under which nothing moves any more is to be seen at once.
    pub(super) fn observe(&mut self, at: Nanos, full: bool) -> anyhow::Result<(Vec<Input>, Tick)> {
        let samples = self.sensor.read()?;
        let mut writers: BTreeMap<BdiName, Writer> = std::mem::take(&mut self.writers);
        let mut devices = Vec::new();
        for watched in self.state.devices() {
            let bdi = &watched.device.bdi;
            // A device that nobody has read from since the sensor came up has no counters yet.
            let sample = samples.get(bdi).cloned().unwrap_or(self.nothing_read());
            let moved = self.last_seen.get(bdi) != Some(&sample.counters);
            if !full && !moved && !watched.on_trial() && !writers.contains_key(bdi) {
                continue;
            }
            self.last_seen.insert(bdi.clone(), sample.counters);
            // What open files carry is not looked up again: nobody else writes it but their own program.
            let own = watched.device.kind == DeviceKind::OpenFiles;
            let knob = if own { None } else { self.knob.read(bdi).ok() };
            // Limits cost three more files: needed to explain a value that is not ours, and once in a while.
            let explain = knob.is_some_and(|found| found != watched.current());
            let limits = if !own && (full || explain) { self.knob.limits(bdi) } else { watched.device.limits };
            devices.push(DeviceTick { bdi: bdi.clone(), knob, limits, writer: writers.remove(bdi), sample });
        }
        let regions = self.look_at_regions(at, full, &samples);
        Ok((regions, Tick { now: at, machine: self.machine(), devices }))
    }

    fn nothing_read(&self) -> Sample {
        let completeness = if self.sensor.missing().is_none() { Completeness::Full } else { Completeness::Partial };
        Sample { counters: Counters::default(), completeness }
    }

    /// The machine's memory changes slowly: what cannot be read now is as it was.
    fn machine(&mut self) -> keepahead_core::event::Machine {
        match crate::sensor::machine(&self.roots.proc) {
            Ok(machine) => self.last_machine = machine,
            Err(e) => tracing::warn!("memory of the machine: {e}"),
        }
        self.last_machine
    }
}
