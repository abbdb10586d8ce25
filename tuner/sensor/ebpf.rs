// SPDX-License-Identifier: MIT OR Apache-2.0
//! The eBPF sensor: loads the programs of `bpf/sensor.bpf.c`, reads their maps, keeps the sampling rate. Takes nothing an event at
//! a time; a read costs a lookup a device.

use super::apart::{Apart, GROUPS};
use super::attach::{HOOKS, Plan, plan};
use super::coarse::fill_device;
use super::cost::{ProgramCost, costs};
use super::layout::{self, CHUNK_KEY_BYTES, COUNTERS_BYTES, Health};
use super::procfs::{DeviceReads, device_reads};
use super::sampling::{DemandRates, Load, SLOTS, adapt};
use super::{FileUse, How, Inode, Overflow, Part, Places, ProbeStatus, Sense, SensorError, bdi_names, part_name};
use keepahead_core::device::BdiName;
use keepahead_core::sample::{Completeness, Counters, Sample};
use libbpf_rs::btf::Btf;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, ProgramType};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;
use std::time::Instant;

mod skel {
    #![allow(clippy::all, clippy::undocumented_unsafe_blocks, non_camel_case_types, dead_code)]
    include!(concat!(env!("OUT_DIR"), "/sensor.skel.rs"));
}

/// Slots beyond the devices found at start, for hot-plug; each takes 1.8 kB a CPU.
const SLOT_HEADROOM: usize = 32;
/// `max_entries` of the map of speculative chunks.
const PENDING_MAX: f64 = 65536.0;
/// Shortest interval over which the rate is judged.
const ADAPT_S: f64 = 0.25;

/// `BPF_FUNC_task_storage_get` in the kernel's `enum bpf_func_id`.
const BPF_FUNC_TASK_STORAGE_GET: u32 = 156;

struct Maps {
    counters: MapHandle,
    bdi_slots: MapHandle,
    bdis: MapHandle,
    pending: MapHandle,
    files: MapHandle,
    sample: MapHandle,
    demand: MapHandle,
    health: MapHandle,
}

pub struct EbpfSensor {
    places: Places,
    maps: Maps,
    probes: Vec<ProbeStatus>,
    /// Detach when dropped.
    _links: Vec<Link>,
    programs: Vec<(u32, &'static str)>,
    first: BTreeMap<BdiName, DeviceReads>,
    shift: u8,
    epoch: u64,
    forced: bool,
    /// Entries of `pending` deleted from here; the programs count theirs.
    purged: u64,
    judged: (Instant, Health),
    demand: DemandRates,
    apart: Apart,
    /// What parts had counted that are no more, for the sums they were in.
    retired: BTreeMap<BdiName, Counters>,
}

impl EbpfSensor {
    pub fn open(places: &Places) -> Result<EbpfSensor, SensorError> {
        EbpfSensor::open_without(places, &[])
    }

    /// Without what the threads of one process demand, by its id as the kernel's first PID namespace has it: an agent that prefetches would tune a
    /// device for its own reads.
    pub fn open_ignoring(places: &Places, tgid: u32) -> Result<EbpfSensor, SensorError> {
        EbpfSensor::open_with(places, &[], tgid)
    }

    /// Without the ways in `barred` wherever a hook has others, so that a young kernel can try what an old one has to use.
    pub fn open_without(places: &Places, barred: &[How]) -> Result<EbpfSensor, SensorError> {
        EbpfSensor::open_with(places, barred, 0)
    }

    fn open_with(places: &Places, barred: &[How], ignored: u32) -> Result<EbpfSensor, SensorError> {
        let btf = kernel_btf(places)?;
        permitted(places)?;
        let mut refused: Vec<(&'static str, String)> = Vec::new();
        loop {
            let plan = plan(&btf, &refused, barred);
            match load(places, &plan, ignored)? {
                Ok((maps, apart, links)) => return EbpfSensor::start(places, plan, maps, apart, links),
                Err(failure) => {
                    let out = match failure.program {
                        Some(program) => vec![program],
                        None => plan.refusable(),
                    };
                    if out.is_empty() {
                        return Err(explain(failure.error, places));
                    }
                    let why = failure.error.to_string();
                    refused.extend(out.into_iter().map(|program| (program, why.clone())));
                }
            }
        }
    }

    fn start(
        places: &Places,
        plan: Plan,
        maps: Maps,
        apart: Apart,
        links: Vec<(Link, &'static str)>,
    ) -> Result<EbpfSensor, SensorError> {
        let id = |(link, name): &(Link, &'static str)| link.info().ok().map(|info| (info.prog_id, *name));
        let programs = links.iter().filter_map(id).collect();
        Ok(EbpfSensor {
            places: places.clone(),
            maps,
            probes: plan.statuses(),
            _links: links.into_iter().map(|(link, _)| link).collect(),
            programs,
            first: device_reads(&places.proc)?,
            shift: 0,
            epoch: 0,
            forced: false,
            purged: 0,
            judged: (Instant::now(), Health::default()),
            demand: DemandRates::new(),
            apart,
            retired: BTreeMap::new(),
        })
    }

    /// Holds the sampling rate at one chunk in `2^shift`, for tests and measurements.
    pub fn force_shift(&mut self, shift: u8) -> Result<(), SensorError> {
        self.forced = true;
        self.demand.shifts = [shift; SLOTS];
        self.set_demand()?;
        self.set_shift(shift)
    }

    pub fn shift(&self) -> u8 {
        self.shift
    }

    /// The kernel's own account of each program's cost; zeros unless `kernel.bpf_stats_enabled` is 1.
    pub fn costs(&self) -> Vec<ProgramCost> {
        costs(&self.programs)
    }

    fn set_shift(&mut self, shift: u8) -> Result<(), SensorError> {
        self.shift = shift;
        self.epoch += 1;
        let word = self.epoch << 8 | u64::from(shift);
        let key = 0u32.to_ne_bytes();
        self.maps.sample.update(&key, &word.to_ne_bytes(), MapFlags::ANY).map_err(|e| failed("sampling rate", e))?;
        // What was noted under the old rate would never be looked up again where its chunk left the sample.
        let stale: Vec<_> = self.maps.pending.keys().filter(|k| k.len() == CHUNK_KEY_BYTES).collect();
        self.purged += stale.iter().filter(|key| self.maps.pending.delete(key).is_ok()).count() as u64;
        Ok(())
    }

    fn health(&self) -> Result<Health, SensorError> {
        let bytes = self.maps.health.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).map_err(|e| failed("health", e))?;
        Ok(layout::health(&bytes.unwrap_or_default()))
    }

    fn set_demand(&mut self) -> Result<(), SensorError> {
        let key = 0u32.to_ne_bytes();
        self.maps.demand.update(&key, &self.demand.shifts, MapFlags::ANY).map_err(|e| failed("sampling rates", e))
    }

    /// `requests`: cumulative read requests of each slot.
    fn adapt(&mut self, requests: BTreeMap<u32, u64>) -> Result<(), SensorError> {
        let (at, before) = self.judged;
        let seconds = at.elapsed().as_secs_f64();
        if self.forced || seconds < ADAPT_S {
            return Ok(());
        }
        if self.demand.judge(requests) {
            self.set_demand()?;
        }
        let now = self.health()?;
        self.judged = (Instant::now(), now);
        let load = Load {
            events_per_s: now.sampled.saturating_sub(before.sampled) as f64 / seconds,
            fill: now.made.saturating_sub(now.gone + self.purged) as f64 / PENDING_MAX,
            overflowed: now.pending > before.pending,
        };
        let shift = adapt(self.shift, load);
        if shift == self.shift { Ok(()) } else { self.set_shift(shift) }
    }

    /// Slot, owner and name of every bdi known to the programs; gives back the slots of those that are gone.
    fn owners(&mut self, present: &[BdiName]) -> Result<BTreeMap<BdiName, (u32, u64)>, SensorError> {
        let mut newest: BTreeMap<BdiName, (u32, u64)> = BTreeMap::new();
        let mut gone = Vec::new();
        for key in self.maps.bdis.keys() {
            let Ok(Some(value)) = self.maps.bdis.lookup(&key, MapFlags::ANY) else { continue };
            let Ok(slot) = <[u8; 4]>::try_from(key.as_slice()).map(u32::from_ne_bytes) else { continue };
            let owner = layout::owner(&value);
            let name = BdiName(owner.name);
            if !present.contains(&name) {
                gone.push((slot, owner.id));
                continue;
            }
            // A name may come back on another device; ids only grow.
            match newest.insert(name.clone(), (slot, owner.id)) {
                Some(other) if other.1 > owner.id => {
                    newest.insert(name, other);
                    gone.push((slot, owner.id));
                }
                Some(other) => gone.push(other),
                None => {}
            }
        }
        for (slot, id) in gone {
            self.release(slot, id)?;
        }
        Ok(newest)
    }

    fn release(&self, slot: u32, id: u64) -> Result<(), SensorError> {
        let key = slot.to_ne_bytes();
        // An error means that the entry is gone already.
        let _ = self.maps.bdi_slots.delete(&id.to_ne_bytes());
        let cpus = libbpf_rs::num_possible_cpus().map_err(|e| failed("CPU count", e))?;
        let zero = vec![vec![0u8; COUNTERS_BYTES]; cpus];
        self.maps.counters.update_percpu(&key, &zero, MapFlags::ANY).map_err(|e| failed("counters", e))?;
        for file in self.maps.files.keys().filter(|file| layout::file_slot(file) == slot) {
            let _ = self.maps.files.delete(&file);
        }
        let _ = self.maps.bdis.delete(&key);
        Ok(())
    }

    fn counters(&self, slot: u32) -> Result<Counters, SensorError> {
        let values = self.maps.counters.lookup_percpu(&slot.to_ne_bytes(), MapFlags::ANY).map_err(|e| failed("counters", e))?;
        Ok(values.unwrap_or_default().iter().fold(Counters::default(), |sum, cpu| sum.plus(&layout::counters(cpu))))
    }

    fn attached(&self, hook: &str) -> bool {
        self.probes.iter().any(|p| p.hook == hook && p.attached.is_some())
    }
}

impl Sense for EbpfSensor {
    fn read(&mut self) -> Result<BTreeMap<BdiName, Sample>, SensorError> {
        let present = bdi_names(&self.places.sys)?;
        let owners = self.owners(&present)?;
        let disks = device_reads(&self.places.proc)?;
        let windows = self.attached("ra_order") || self.attached("ra_unbounded");
        let full = windows && self.probes.iter().all(|p| !p.required || p.attached.is_some());
        let completeness = if full { Completeness::Full } else { Completeness::Partial };
        let (mut samples, mut requests) = (BTreeMap::new(), BTreeMap::new());
        for bdi in present {
            let mut counters = Counters::default();
            if let Some((slot, _)) = owners.get(&bdi) {
                counters = self.counters(*slot)?;
                requests.insert(*slot, counters.read_requests);
            }
            if let Some(now) = disks.get(&bdi) {
                let mut exact = counters;
                fill_device(&mut exact, now, self.first.entry(bdi.clone()).or_insert(*now));
                // A program that is interrupted on its CPU is not run a second time: some 0.5 % of completions are lost to the
                // probe. The kernel's statistics lose none, unless they are off (queue/iostats).
                if exact.dev_reads >= counters.dev_reads {
                    counters = exact;
                }
            }
            samples.insert(bdi, Sample { counters, completeness });
        }
        for (name, slot, parts) in self.apart.groups() {
            let mut counters = self.counters(slot)?;
            requests.insert(slot, counters.read_requests);
            counters = self.retired.get(name).map_or(counters, |gone| counters.plus(gone));
            for (number, slot) in parts {
                let part = self.counters(slot)?;
                counters = counters.plus(&part);
                samples.insert(part_name(name, number), Sample { counters: part, completeness });
            }
            samples.insert(name.clone(), Sample { counters, completeness });
        }
        self.adapt(requests)?;
        Ok(samples)
    }

    fn count_apart(&mut self, name: &BdiName, files: &[Inode], parts: &[Part]) -> Result<(), SensorError> {
        for slot in self.apart.dropped(name, parts) {
            let gone = self.counters(slot)?;
            let sum = self.retired.entry(name.clone()).or_default();
            *sum = sum.plus(&gone);
        }
        if files.is_empty() {
            self.retired.remove(name);
        }
        self.apart.set(name, files, parts, &self.maps.counters)
    }

    fn files(&mut self, bdi: &BdiName, most: usize) -> Result<Vec<FileUse>, SensorError> {
        let present = bdi_names(&self.places.sys)?;
        let Some((slot, _)) = self.owners(&present)?.get(bdi).copied() else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for key in self.maps.files.keys().filter(|key| layout::file_slot(key) == slot) {
            if let Ok(Some(value)) = self.maps.files.lookup(&key, MapFlags::ANY) {
                files.push(layout::file(&key, &value));
            }
        }
        files.sort_by_key(|f| std::cmp::Reverse(f.demanded()));
        files.truncate(most);
        Ok(files)
    }

    fn probes(&self) -> &[ProbeStatus] {
        &self.probes
    }

    fn missing(&self) -> Option<String> {
        let missing: Vec<_> =
            self.probes.iter().filter(|p| p.attached.is_none()).map(|p| format!("{}: {}", p.hook, p.lost)).collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    fn overflow(&self) -> Overflow {
        let health = self.health().unwrap_or_default();
        Overflow { slots: health.slots, pending: health.pending }
    }
}

pub(crate) fn failed(what: &'static str, error: libbpf_rs::Error) -> SensorError {
    SensorError::Bpf { what, reason: format!("{error:#}") }
}

pub(crate) fn kernel_btf(places: &Places) -> Result<Btf<'static>, SensorError> {
    if !places.btf.exists() {
        return Err(SensorError::NoBtf { path: places.btf.clone() });
    }
    Btf::from_path(&places.btf).map_err(|e| SensorError::Parse { path: places.btf.clone(), reason: e.to_string() })
}

/// Why a plan could not be carried out; `program` where one program alone is to blame.
struct Failure {
    program: Option<&'static str>,
    error: libbpf_rs::Error,
}

type Loaded = (Maps, Apart, Vec<(Link, &'static str)>);

/// Whether programs may keep state with a task (5.12). A kprobe stands for all tracing programs: their helpers are the same. A probe
/// that cannot be made says nothing, and then the load will.
fn has_task_storage() -> bool {
    ProgramType::Kprobe.is_helper_supported(BPF_FUNC_TASK_STORAGE_GET).unwrap_or(true)
}

/// Loads and attaches a plan. The inner error is one that another plan may avoid.
fn load(places: &Places, plan: &Plan, ignored: u32) -> Result<Result<Loaded, Failure>, SensorError> {
    let slots = (bdi_names(&places.sys)?.len() + SLOT_HEADROOM).min(SLOTS - GROUPS as usize) as u32;
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::SensorSkelBuilder::default().open(&mut storage).map_err(|e| failed("object", e))?;
    open.maps.counters.set_max_entries(slots + GROUPS).map_err(|e| failed("counters", e))?;
    let storage_of_tasks = has_task_storage();
    let unused = if storage_of_tasks { &mut open.maps.tasks_by_tid } else { &mut open.maps.tasks };
    unused.set_autocreate(false).map_err(|e| failed("state of tasks", e))?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.slots = slots;
        rodata.has_task_storage = storage_of_tasks;
        rodata.own_tgid = ignored;
        rodata.seed = RandomState::new().hash_one(std::process::id());
    }
    for mut program in open.open_object_mut().progs_mut() {
        let load = plan.loads(&program.name().to_string_lossy());
        program.set_autoload(load);
    }
    let loaded = match open.load() {
        Ok(loaded) => loaded,
        Err(error) => return Ok(Err(Failure { program: None, error })),
    };
    let mut links = Vec::new();
    for way in plan.chosen.iter().flatten() {
        use libbpf_rs::skel::Skel;
        for name in way.with.into_iter().chain([way.program]) {
            let Some(program) = loaded.object().progs_mut().find(|p| p.name() == name) else { continue };
            match program.attach() {
                Ok(link) => links.push((link, name)),
                Err(error) => return Ok(Err(Failure { program: Some(way.program), error })),
            }
        }
    }
    let own = |map: &libbpf_rs::Map<'_>| MapHandle::try_from(map).map_err(|e| failed("map", e));
    let maps = Maps {
        counters: own(&loaded.maps.counters)?,
        bdi_slots: own(&loaded.maps.bdi_slots)?,
        bdis: own(&loaded.maps.bdis)?,
        pending: own(&loaded.maps.pending)?,
        files: own(&loaded.maps.files)?,
        sample: own(&loaded.maps.data_sample)?,
        demand: own(&loaded.maps.data_demand)?,
        health: own(&loaded.maps.bss)?,
    };
    let apart = Apart::new(own(&loaded.maps.own_slots)?, own(&loaded.maps.own_parts)?, own(&loaded.maps.data_own)?, slots);
    debug_assert_eq!(maps.counters.value_size() as usize, COUNTERS_BYTES);
    debug_assert_eq!(plan.chosen.len(), HOOKS.len());
    Ok(Ok((maps, apart, links)))
}

/// `CAP_PERFMON`, `CAP_BPF` (5.8) and `CAP_SYS_ADMIN`, which stands for both, in `/proc/self/status` `CapEff`.
const CAPABILITIES: &[(u32, &str)] = &[(38, "CAP_PERFMON"), (39, "CAP_BPF")];
const CAP_SYS_ADMIN: u32 = 21;

/// Names a missing capability. Before anything is loaded: libbpf would print its own two lines about it first.
pub(crate) fn permitted(places: &Places) -> Result<(), SensorError> {
    let status = std::fs::read_to_string(places.proc.join("self/status")).unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).and_then(|v| u64::from_str_radix(v.trim(), 16).ok());
    if let Some(caps) = effective.filter(|caps| caps >> CAP_SYS_ADMIN & 1 == 0) {
        let missing: Vec<_> = CAPABILITIES.iter().filter(|(bit, _)| caps >> bit & 1 == 0).map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            return Err(SensorError::NoCapability { missing: missing.join(", ") });
        }
    }
    Ok(())
}

/// Says what a person can do about a refusal: name the lockdown, else what libbpf said.
pub(crate) fn explain(error: libbpf_rs::Error, places: &Places) -> SensorError {
    let lockdown = std::fs::read_to_string(places.sys.join("kernel/security/lockdown")).unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return SensorError::Lockdown { mode: "confidentiality".into() };
    }
    failed("programs", error)
}
