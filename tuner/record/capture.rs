// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's side of a recording: loads `bpf/record.bpf.c` for one bdi, drains its ring buffer, reads its losses. Takes the bdi's
//! name and the bounds, gives demand.

use super::touch::{Demand, Touches};
use crate::sensor::attach::{Way, fentry, offered, tp};
use crate::sensor::cost::{ProgramCost, costs};
use crate::sensor::ebpf::{explain, failed, kernel_btf, permitted};
use crate::sensor::{Places, SensorError};
use keepahead_core::device::BdiName;
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, RingBuffer, RingBufferBuilder};
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;
use std::rc::Rc;

mod skel {
    #![allow(clippy::all, clippy::undocumented_unsafe_blocks, non_camel_case_types, dead_code)]
    include!(concat!(env!("OUT_DIR"), "/record.skel.rs"));
}

/// Bytes of a bdi's name in the program, closing zero included.
const NAME_BYTES: usize = 32;
/// Records taken at once: bounds memory where the kernel fills the buffer as fast as it is emptied.
const BATCH: usize = 1 << 16;

struct Hook {
    name: &'static str,
    lost: &'static str,
    ways: &'static [Way],
}

const HOOKS: &[Hook] = &[
    Hook {
        name: "read",
        lost: "nothing read by read(2) is seen",
        ways: &[tp("read__tp_btf", "mm_filemap_get_pages"), fentry("read__fexit", "filemap_read")],
    },
    Hook {
        name: "fault",
        lost: "touches of mapped pages are seen only where fault-around serves them",
        ways: &[tp("fault__tp_btf", "mm_filemap_fault"), fentry("fault__fentry", "filemap_fault")],
    },
    Hook {
        name: "map_pages",
        lost: "touches of mapped pages that fault-around serves from the cache are not seen",
        ways: &[tp("map_pages__tp_btf", "mm_filemap_map_pages"), fentry("map_pages__fentry", "filemap_map_pages")],
    },
];

/// What to capture, and the bounds on it.
pub struct Filter<'a> {
    pub bdi: &'a BdiName,
    /// One file in so many; 1 is all.
    pub one_file_in: u32,
    /// Rounded up to a power of two, at least a page.
    pub buffer_bytes: u32,
}

/// What the kernel could not give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records without room in the ring buffer, and events that came while their program ran on the same CPU.
    pub events: u64,
    /// Counted up to 65,536.
    pub files_sampled_out: u64,
}

/// A running capture; ends when dropped.
pub struct Capture {
    ring: RingBuffer<'static>,
    demands: Rc<RefCell<(Touches, Vec<Demand>)>>,
    losses: MapHandle,
    programs: Vec<(u32, &'static str)>,
    missing: Vec<String>,
    links: Vec<(Link, &'static str)>,
    /// What the programs did, once they are gone.
    skipped: u64,
    costs: Vec<ProgramCost>,
    _records: MapHandle,
}

impl Capture {
    /// # Errors
    /// No BTF, no privilege, lockdown; none of the hooks is offered by this kernel; libbpf refuses.
    pub fn open(filter: &Filter<'_>, places: &Places) -> Result<Capture, SensorError> {
        let btf = kernel_btf(places)?;
        permitted(places)?;
        let chosen: Vec<Option<&Way>> = HOOKS.iter().map(|hook| hook.ways.iter().find(|way| offered(&btf, way))).collect();
        if chosen.iter().all(Option::is_none) {
            let reason = "this kernel has none of its hooks; use 5.12 or later".to_owned();
            return Err(SensorError::Bpf { what: "recording", reason });
        }
        let mut storage = MaybeUninit::uninit();
        let mut open = skel::RecordSkelBuilder::default().open(&mut storage).map_err(|e| failed("object", e))?;
        configure(&mut open, filter)?;
        for mut program in open.open_object_mut().progs_mut() {
            let load = chosen.iter().flatten().any(|way| program.name() == way.program);
            program.set_autoload(load);
        }
        let loaded = open.load().map_err(|e| explain(e, places))?;
        let own = |map: &libbpf_rs::Map<'_>| MapHandle::try_from(map).map_err(|e| failed("map", e));
        let (records, losses) = (own(&loaded.maps.records)?, own(&loaded.maps.bss)?);
        let demands = Rc::new(RefCell::new((Touches::default(), Vec::new())));
        let ring = ring(&records, &demands)?;
        let mut links = Vec::new();
        for way in chosen.iter().flatten() {
            let Some(program) = loaded.object().progs_mut().find(|p| p.name() == way.program) else { continue };
            links.push((program.attach().map_err(|e| explain(e, places))?, way.program));
        }
        let id = |(link, name): &(Link, &'static str)| link.info().ok().map(|info| (info.prog_id, *name));
        let programs = links.iter().filter_map(id).collect();
        let absent = HOOKS.iter().zip(&chosen).filter(|(_, way)| way.is_none());
        let missing = absent.map(|(hook, _)| format!("no {} probe on this kernel: {}", hook.name, hook.lost)).collect();
        let (skipped, costs) = (0, Vec::new());
        Ok(Capture { ring, demands, losses, programs, missing, links, skipped, costs, _records: records })
    }

    /// Hooks that this kernel does not offer, and what is not seen without them.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Moves what has come so far into `out`, at most some 65,000 records; `true` where there may be more. `now`: CLOCK_MONOTONIC.
    pub fn drain(&mut self, now: u64, out: &mut Vec<Demand>) -> Result<bool, SensorError> {
        let taken = self.ring.consume_raw_n(BATCH);
        if taken < 0 {
            return Err(failed("ring buffer", libbpf_rs::Error::from_raw_os_error(-taken)));
        }
        let (touches, demands) = &mut *self.demands.borrow_mut();
        out.append(demands);
        touches.settle(now, out);
        Ok(taken as usize >= BATCH)
    }

    /// Detaches the programs; what they left in the buffer can still be drained.
    pub fn stop(&mut self) {
        (self.skipped, self.costs) = (self.skipped(), self.costs());
        self.links.clear();
    }

    pub fn losses(&self) -> Result<Losses, SensorError> {
        let value = self.losses.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).map_err(|e| failed("losses", e))?;
        let value = value.unwrap_or_default();
        let word = |at: usize| value.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
        Ok(Losses { events: word(0) + self.skipped(), files_sampled_out: word(8) })
    }

    /// The kernel's own account of each program's cost; zeros unless `kernel.bpf_stats_enabled` is 1.
    pub fn costs(&self) -> Vec<ProgramCost> {
        if self.links.is_empty() { self.costs.clone() } else { costs(&self.programs) }
    }

    /// Events that came while their program ran on the same CPU: the kernel leaves them out.
    fn skipped(&self) -> u64 {
        let ours = |id| self.programs.iter().any(|(own, _)| *own == id);
        let skipped = || ProgInfoIter::default().filter(|info| ours(info.id)).map(|info| info.recursion_misses).sum();
        if self.links.is_empty() { self.skipped } else { skipped() }
    }
}

fn configure(open: &mut skel::OpenRecordSkel<'_>, filter: &Filter<'_>) -> Result<(), SensorError> {
    let page = rustix::param::page_size() as u32;
    let bytes = filter.buffer_bytes.max(page).checked_next_power_of_two().unwrap_or(1 << 31);
    open.maps.records.set_max_entries(bytes).map_err(|e| failed("ring buffer", e))?;
    let name = filter.bdi.0.as_bytes();
    let Some(rodata) = open.maps.rodata_data.as_deref_mut() else {
        return Err(SensorError::Bpf { what: "settings", reason: "the object has none".into() });
    };
    if name.len() >= NAME_BYTES {
        return Err(SensorError::Bpf { what: "settings", reason: format!("{}: longer than a bdi's name can be", filter.bdi) });
    }
    for (to, from) in rodata.wanted.iter_mut().zip(name) {
        *to = *from as _;
    }
    rodata.sample_below = u32::MAX / filter.one_file_in.max(1);
    rodata.seed = RandomState::new().hash_one(std::process::id());
    rodata.page_shift = page.trailing_zeros();
    rodata.own_pid = std::process::id();
    Ok(())
}

fn ring(records: &MapHandle, demands: &Rc<RefCell<(Touches, Vec<Demand>)>>) -> Result<RingBuffer<'static>, SensorError> {
    let demands = Rc::clone(demands);
    let mut builder = RingBufferBuilder::new();
    let take = move |bytes: &[u8]| {
        let (touches, out) = &mut *demands.borrow_mut();
        touches.take(bytes, out);
        0
    };
    builder.add(records, take).map_err(|e| failed("ring buffer", e))?;
    builder.build().map_err(|e| failed("ring buffer", e))
}
