// SPDX-License-Identifier: MIT OR Apache-2.0
//! A script on the simulated kernel: takes what a real one would have executed, gives the events operation by operation.

use super::{Environment, Fadvice, Filesystem, Madvice, Op, Script};
use crate::device::Fixed;
use crate::event::Event;
use crate::kernel::{Kernel, Probe, ReadCall, TouchCall};
use crate::spec::{FileSystem, Generation};
use crate::workload;
use keepahead_core::units::{Kib, Nanos};
use std::collections::BTreeMap;

/// Memory of the simulated machine: more than any script reads, so that nothing is reclaimed.
const MEMORY: u64 = 64 << 30;
const LATENCY: Nanos = Nanos(100_000);
/// Long enough for all I/O to end.
const PAUSE: Nanos = Nanos::from_secs(1);

/// What lies between two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// All I/O of one ends before the next begins.
    Settled,
    /// Nothing: the next meets what the one before left in flight.
    InFlight,
}

struct Machine {
    kernel: Kernel,
    probe: Probe,
    now: Nanos,
    disk: usize,
    fds: BTreeMap<u32, usize>,
    maps: BTreeMap<u32, usize>,
}

/// Executes a script that [`Script::check`] finds nothing wrong with; events of each operation, in order.
pub fn simulate(script: &Script, environment: &Environment, generation: Generation) -> Vec<Vec<Event>> {
    simulate_at(Pace::Settled, script, environment, generation)
}

/// The same at a pace.
pub fn simulate_at(pace: Pace, script: &Script, environment: &Environment, generation: Generation) -> Vec<Vec<Event>> {
    let mut kernel = Kernel::new(generation);
    kernel.memory.add_group(MEMORY);
    let filesystem = match environment.filesystem {
        Filesystem::Ext4 => FileSystem::Ext4,
        Filesystem::Xfs => FileSystem::Xfs,
    };
    let device = Fixed::new(LATENCY, environment.max_sectors_kb);
    let disk = kernel.add_disk(Box::new(device), Kib(script.read_ahead_kb), filesystem);
    for bytes in &script.files {
        kernel.add_file(disk, *bytes);
    }
    kernel.log = Some(Vec::new());
    let mut machine =
        Machine { kernel, probe: Probe::default(), now: PAUSE, disk, fds: BTreeMap::new(), maps: BTreeMap::new() };
    let mut execute = |op| {
        if pace == Pace::Settled {
            machine.now = machine.now + PAUSE;
        }
        machine.execute(op)
    };
    script.ops.iter().map(&mut execute).collect()
}

impl Machine {
    fn execute(&mut self, op: &Op) -> Vec<Event> {
        match *op {
            Op::Open { fd, file } => {
                self.fds.insert(fd, self.kernel.open(file));
            }
            Op::Close { fd } => {
                self.fds.remove(&fd);
            }
            Op::Pread { fd, offset, bytes } => {
                let mut call = ReadCall::new(self.fds[&fd], 0, offset, bytes);
                while let Some(until) = self.kernel.read(&mut call, &mut self.probe, &mut self.now) {
                    self.now = until;
                }
            }
            Op::Mmap { map, fd, page, pages } => {
                self.maps.insert(map, self.kernel.map(self.fds[&fd], page, pages, None));
            }
            Op::Munmap { map } => {
                if let Some(map) = self.maps.remove(&map) {
                    self.kernel.munmap(map);
                }
            }
            Op::Touch { map, page } => {
                let map = self.maps[&map];
                let first = self.kernel.maps.all[map].first;
                let mut call = TouchCall::new(&self.kernel, map, 0, page - first);
                while let Some(until) = self.kernel.touch(&mut call, &mut self.probe, &mut self.now) {
                    self.now = until;
                }
            }
            Op::Fadvise { fd, advice, offset, bytes } => {
                self.kernel.fadvise(self.fds[&fd], 0, self.now, offset, bytes, fadvice(advice));
            }
            Op::Madvise { map, advice, page, pages } => {
                let map = self.maps[&map];
                let first = self.kernel.maps.all[map].first;
                self.kernel.madvise(map, 0, self.now, page - first, pages, madvice(advice));
            }
            Op::ReadAheadKb(kib) => {
                self.kernel.set_read_ahead(self.disk, Kib(kib), false);
            }
        }
        self.kernel.log.replace(Vec::new()).unwrap_or_default()
    }
}

fn fadvice(advice: Fadvice) -> workload::Fadvice {
    match advice {
        Fadvice::Normal => workload::Fadvice::Normal,
        Fadvice::Sequential => workload::Fadvice::Sequential,
        Fadvice::Random => workload::Fadvice::Random,
        Fadvice::Noreuse => workload::Fadvice::Noreuse,
        Fadvice::Willneed => workload::Fadvice::Willneed,
        Fadvice::Dontneed => workload::Fadvice::Dontneed,
    }
}

fn madvice(advice: Madvice) -> workload::Madvice {
    match advice {
        Madvice::Normal => workload::Madvice::Normal,
        Madvice::Sequential => workload::Madvice::Sequential,
        Madvice::Random => workload::Madvice::Random,
        Madvice::Willneed => workload::Madvice::Willneed,
        Madvice::Dontneed => workload::Madvice::Dontneed,
    }
}
