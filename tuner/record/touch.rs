// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records of the ring buffer as demand: takes the bytes of `struct ka_record` (`bpf/record.h`), gives one [`Demand`] a request or
//! touch. Fault-around maps a window before the page that was touched turns out to be missing; then the page's own record takes the
//! window's place.

use keepahead_sim::trace::Kind;
use std::collections::HashMap;

pub const RECORD_BYTES: usize = 5 * 8 + 4 * 4;
const FAULT: u32 = 1;
const FAULT_TOO: u32 = 2;
const MAP_PAGES: u32 = 3;
/// How long a window waits for its page. Between the two lies no I/O, only the way through the fault handler; a preemption is
/// over in that time, and if not, the touch is there twice.
const WAIT_NS: u64 = 100_000_000;
/// Threads whose window may wait at once; beyond, windows go out at once.
const WAITING_MAX: usize = 65536;

/// A file as the kernel names it: superblock's device in the kernel's encoding (0 for a raw block device), inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    pub dev: u32,
    pub ino: u64,
}

/// One request or touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// CLOCK_MONOTONIC, ns.
    pub at: u64,
    pub file: FileKey,
    pub file_bytes: u64,
    pub pid: u32,
    pub offset: u64,
    pub bytes: u64,
    pub kind: Kind,
}

/// Puts the events of a touch together.
#[derive(Debug, Default)]
pub struct Touches {
    windows: HashMap<u32, Demand>,
}

impl Touches {
    /// Takes one record's bytes; what is known to be demand by now goes to `out`. A record of another length is no record.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<Demand>) {
        let Ok(bytes) = <&[u8; RECORD_BYTES]>::try_from(bytes) else { return };
        let (demand, tid, kind) = parse(bytes);
        if demand.kind == Kind::Mmap
            && let Some(window) = self.windows.remove(&tid)
            && kind != FAULT_TOO
        {
            out.push(window);
        }
        if kind == MAP_PAGES && self.windows.len() < WAITING_MAX {
            self.windows.insert(tid, demand);
        } else {
            out.push(demand);
        }
    }

    /// Lets windows go whose page has not come by `now`.
    pub fn settle(&mut self, now: u64, out: &mut Vec<Demand>) {
        let from = out.len();
        out.extend(self.windows.extract_if(|_, window| window.at.saturating_add(WAIT_NS) < now).map(|(_, window)| window));
        out[from..].sort_by_key(|window| window.at);
    }
}

fn parse(bytes: &[u8; RECORD_BYTES]) -> (Demand, u32, u32) {
    let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at * 8 + i]));
    let half = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[40 + at * 4 + i]));
    let kind = half(3);
    let demand = Demand {
        at: word(0),
        file: FileKey { dev: half(0), ino: word(1) },
        file_bytes: word(4),
        pid: half(1),
        offset: word(2),
        bytes: word(3),
        kind: if (FAULT..=MAP_PAGES).contains(&kind) { Kind::Mmap } else { Kind::Read },
    };
    (demand, half(2), kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: u64, tid: u32, kind: u32, page: u64, pages: u64) -> Vec<u8> {
        let words = [at, 12, page * 4096, pages * 4096, 1 << 30].map(u64::to_ne_bytes).concat();
        [words, [7, 3, tid, kind].map(u32::to_ne_bytes).concat()].concat()
    }

    fn through(records: &[Vec<u8>], now: u64) -> Vec<(u64, u64)> {
        let (mut touches, mut out) = (Touches::default(), Vec::new());
        for record in records {
            touches.take(record, &mut out);
        }
        touches.settle(now, &mut out);
        out.iter().map(|d| (d.offset / 4096, d.bytes / 4096)).collect()
    }

    #[test]
    fn a_page_takes_the_place_of_its_touchs_window() {
        let (window, page) = (record(1, 5, MAP_PAGES, 16, 16), record(2, 5, FAULT_TOO, 20, 1));
        assert_eq!(through(&[window.clone(), page], u64::MAX), [(20, 1)]);
        assert_eq!(through(&[window.clone(), record(2, 5, FAULT, 40, 1)], u64::MAX), [(16, 16), (40, 1)], "another touch");
        assert_eq!(through(&[window.clone(), record(2, 6, FAULT_TOO, 20, 1)], u64::MAX), [(20, 1), (16, 16)], "another thread");
        assert_eq!(through(&[window.clone(), record(2, 5, 0, 0, 4)], u64::MAX), [(0, 4), (16, 16)], "a read");
        assert_eq!(through(&[window], 50), [], "too early to say");
    }

    #[test]
    fn fields_come_from_their_places() {
        let (demand, tid, kind) = parse(record(9, 5, FAULT, 2, 3).as_slice().try_into().unwrap());
        let file = FileKey { dev: 7, ino: 12 };
        let expected = Demand { at: 9, file, file_bytes: 1 << 30, pid: 3, offset: 8192, bytes: 12288, kind: Kind::Mmap };
        assert_eq!((demand, tid, kind), (expected, 5, FAULT));
        let (mut touches, mut out) = (Touches::default(), Vec::new());
        touches.take(&[0; 8], &mut out);
        assert!(out.is_empty());
    }
}
