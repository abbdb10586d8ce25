// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread a device that prefetches for all plans on it: takes a piece of each in turn, keeps little in flight, and waits for it,
//! so that a demand read never queues behind more than some milliseconds of prefetching.

use super::board::PressureMost;
use super::file::{Cached, ClientFile, idle_io_priority, step_bytes};
use super::plan::{Arrival, Range, Task};
use super::workload::Workload;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// In flight: what the device does in this time, so much a demand read may have to wait, within these bounds.
const IN_FLIGHT: Duration = Duration::from_millis(30);
const IN_FLIGHT_BYTES: (u64, u64) = (1 << 20, 16 << 20);
const IN_FLIGHT_PIECES: usize = 128;
/// Tasks for one plan before the next has its turn.
const TURN: usize = 16;
/// A lane without work looks again, and without workloads ends, after this.
const IDLE: Duration = Duration::from_secs(2);
/// How often memory pressure is looked at.
const PRESSURE: Duration = Duration::from_millis(500);

type Device = (u32, u32);

/// All lanes.
pub struct Lanes {
    lanes: Mutex<BTreeMap<Device, Arc<Lane>>>,
    pressure_most: PressureMost,
}

#[derive(Default)]
struct Lane {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    workloads: Vec<Arc<Workload>>,
    woken: bool,
    ended: bool,
}

impl Lanes {
    pub fn new(pressure_most: PressureMost) -> Lanes {
        Lanes { lanes: Mutex::default(), pressure_most }
    }

    /// Something changed for this workload: the lane of its first file's device looks at it.
    pub fn wake(&self, workload: &Arc<Workload>) {
        let Ok(first) = workload.file(0) else { return };
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.get(&first.device).is_some_and(|lane| lane.take(workload)) {
            return;
        }
        if workload.is_closed() {
            return;
        }
        let lane = Arc::new(Lane::default());
        lane.take(workload);
        lanes.insert(first.device, lane.clone());
        let (device, most) = (first.device, self.pressure_most.clone());
        let name = format!("prefetch {}:{}", device.0, device.1);
        let spawned = std::thread::Builder::new().name(name).spawn(move || Runner::new(&lane, device, most).run());
        if let Err(e) = spawned {
            tracing::error!("no thread to prefetch with: {e}");
            lanes.remove(&device);
        }
    }
}

impl Lane {
    /// `false` where its thread has ended.
    fn take(&self, workload: &Arc<Workload>) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.ended {
            // Whatever it is given now it would keep, with its descriptors, until another lane takes its place.
            return false;
        }
        if !queue.workloads.iter().any(|w| w.id == workload.id) {
            queue.workloads.push(workload.clone());
        }
        queue.woken = true;
        self.wake.notify_one();
        true
    }
}

/// A piece that the kernel is reading.
struct InFlight {
    workload: Arc<Workload>,
    file: Arc<ClientFile>,
    index: u64,
    piece: Range,
    was_there: bool,
}

struct Runner<'a> {
    lane: &'a Lane,
    step: u64,
    in_flight: VecDeque<InFlight>,
    bytes: u64,
    /// Bytes a second that came while some were waited for.
    speed: f64,
    last: Instant,
    pressure_most: PressureMost,
    /// When it was last looked at, and whether it was too high.
    pressure: Option<(Instant, bool)>,
}

impl Runner<'_> {
    fn new(lane: &Lane, device: Device, pressure_most: PressureMost) -> Runner<'_> {
        let now = Instant::now();
        let (in_flight, pressure) = (VecDeque::new(), None);
        Runner { lane, step: step_bytes(device), in_flight, bytes: 0, speed: 0.0, last: now, pressure_most, pressure }
    }

    fn run(mut self) {
        idle_io_priority();
        while let Some(workloads) = self.workloads() {
            let held = self.under_pressure();
            let mut busy = false;
            for workload in &workloads {
                workload.progress().held = held.then_some("paused: memory pressure");
                busy |= self.turn(workload, held);
            }
            if !busy && !self.wait_oldest() {
                self.sleep(if held { PRESSURE } else { IDLE });
            }
        }
    }

    /// Those to serve; `None` ends the thread.
    fn workloads(&mut self) -> Option<Vec<Arc<Workload>>> {
        let mut queue = self.lane.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.workloads.retain(|w| !w.is_closed());
        if queue.workloads.is_empty() && self.in_flight.is_empty() {
            queue.ended = true;
            return None;
        }
        queue.woken = false;
        Some(queue.workloads.clone())
    }

    fn sleep(&mut self, time: Duration) {
        let queue = self.lane.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.lane.wake.wait_timeout_while(queue, time, |queue| !queue.woken);
        self.last = Instant::now();
    }

    /// Some tasks of one plan. `true` where there was anything to do.
    fn turn(&mut self, workload: &Arc<Workload>, held: bool) -> bool {
        for done in 0..TURN {
            if self.is_full() && !self.wait_oldest() {
                return done > 0;
            }
            let budget = if held { 0 } else { workload.budget };
            let task = workload.progress().plan.next_task(budget, self.step);
            match task {
                None => return done > 0,
                Some(_) if workload.is_closed() => return false,
                Some(Task::Prefetch { index, piece }) => self.prefetch(workload, index, piece),
                Some(Task::Judge { range, arrival }) => judge(workload, range, arrival),
                Some(Task::Passed { range, ours }) => {
                    if ours && workload.hint == Some(super::workload::Hint::Once) {
                        discard(workload, range);
                    }
                }
            }
        }
        true
    }

    fn is_full(&self) -> bool {
        let (low, high) = IN_FLIGHT_BYTES;
        let depth = ((self.speed * IN_FLIGHT.as_secs_f64()) as u64).clamp(low, high);
        self.bytes >= depth || self.in_flight.len() >= IN_FLIGHT_PIECES
    }

    fn prefetch(&mut self, workload: &Arc<Workload>, index: u64, piece: Range) {
        let Ok(file) = workload.file(piece.file) else { return };
        let there = file.cached(piece.offset, piece.length);
        if there.as_ref().is_ok_and(Cached::is_whole) {
            return workload.progress().plan.came(index, piece.length, true);
        }
        if file.will_need(piece.offset, piece.length).is_err() {
            // The file was cut short or its disk is gone: the reader will find out himself.
            return;
        }
        // Two pages may be the ends of the pieces beside it. Where the kernel does not tell, others may use what is there.
        let was_there = there.is_err() || there.is_ok_and(|t| t.pages > 2);
        self.bytes += piece.length;
        self.in_flight.push_back(InFlight { workload: workload.clone(), file, index, piece, was_there });
    }

    /// Waits for the oldest piece. `false` where none is in flight.
    fn wait_oldest(&mut self) -> bool {
        let Some(oldest) = self.in_flight.pop_front() else { return false };
        let piece = oldest.piece;
        let _ = oldest.file.wait_for(piece.offset + piece.length - 1);
        self.bytes -= piece.length;
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        // Averaged over about 32 pieces: one that was there already says little.
        self.speed += (piece.length as f64 / seconds.max(1e-4) - self.speed) / 32.0;
        if oldest.workload.is_closed() && !oldest.was_there {
            // It came for nobody, and behind the back of those who withdrew the rest.
            let _ = oldest.file.dont_need(piece.offset, piece.length);
        }
        let mut progress = oldest.workload.progress();
        progress.figures.prefetched_bytes += piece.length;
        progress.plan.came(oldest.index, piece.length, oldest.was_there);
        true
    }

    fn under_pressure(&mut self) -> bool {
        let (at, high) = self.pressure.unwrap_or((Instant::now(), false));
        if self.pressure.is_none() || at.elapsed() >= PRESSURE {
            let machine = crate::sensor::machine(std::path::Path::new("/proc"));
            let some = machine.ok().and_then(|m| m.memory_pressure).unwrap_or(0.0);
            self.pressure = Some((Instant::now(), some > self.pressure_most.get()));
            return some > self.pressure_most.get();
        }
        high
    }
}

/// Notes what the reader found. What was ready may have been evicted since: the kernel says so, where the client may know it.
fn judge(workload: &Workload, range: Range, arrival: Arrival) {
    let Ok(file) = workload.file(range.file) else { return };
    let gone = arrival == Arrival::Ready && file.cached(range.offset, range.length).is_ok_and(|c| !c.is_whole());
    let mut progress = workload.progress();
    let figures = &mut progress.figures;
    let tally = match arrival {
        _ if !file.visible => &mut figures.unseen,
        Arrival::Ready if gone => &mut figures.lost,
        Arrival::Ready => &mut figures.hits,
        Arrival::Late => &mut figures.late,
        Arrival::Missed => &mut figures.missed,
    };
    tally.add(range.length);
    if gone && file.visible {
        figures.wasted_bytes += range.length;
    }
}

fn discard(workload: &Workload, range: Range) {
    let Ok(file) = workload.file(range.file) else { return };
    if range.length > 0 && file.dont_need(range.offset, range.length).is_ok() {
        workload.progress().figures.discarded_bytes += range.length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_has_ended_keeps_nothing() {
        let workload = Arc::new(Workload::new(1, "w".into(), (0, 1), 1, None));
        let lane = Lane::default();
        assert!(lane.take(&workload) && Arc::strong_count(&workload) == 2);
        let ended = Lane { queue: Mutex::new(Queue { ended: true, ..Queue::default() }), wake: Condvar::new() };
        assert!(!ended.take(&workload) && Arc::strong_count(&workload) == 2);
    }
}
