// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the sensor's programs cost: the kernel's own run-time statistics, and empty programs on the same hooks to compare with.
//! Needs `kernel.bpf_stats_enabled = 1` while it measures.

use super::SensorError;
use libbpf_rs::Link;
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use std::mem::MaybeUninit;

mod skel {
    #![allow(clippy::all, clippy::undocumented_unsafe_blocks, non_camel_case_types, dead_code)]
    include!(concat!(env!("OUT_DIR"), "/empty.skel.rs"));
}

/// Run time of one BPF program as the kernel measured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    pub program: String,
    pub run_ns: u64,
    pub runs: u64,
}

/// Attached programs by id, with the names of their source.
pub(crate) fn costs(programs: &[(u32, &'static str)]) -> Vec<ProgramCost> {
    let named = |info: libbpf_rs::query::ProgramInfo| {
        let name = programs.iter().find(|(id, _)| *id == info.id)?.1;
        Some(ProgramCost { program: name.into(), run_ns: info.run_time_ns, runs: info.run_cnt })
    };
    ProgInfoIter::default().filter_map(named).collect()
}

/// Empty programs on the hooks that fire most, attached until dropped.
pub struct Baseline {
    links: Vec<(Link, &'static str)>,
}

impl Baseline {
    pub fn attach() -> Result<Baseline, SensorError> {
        let failed = |e: libbpf_rs::Error| SensorError::Bpf { what: "empty programs", reason: format!("{e:#}") };
        let mut storage = MaybeUninit::uninit();
        let loaded = skel::EmptySkelBuilder::default().open(&mut storage).map_err(failed)?.load().map_err(failed)?;
        let links = vec![
            (loaded.progs.read__empty.attach().map_err(failed)?, "read__empty"),
            (loaded.progs.map_pages__empty.attach().map_err(failed)?, "map_pages__empty"),
            (loaded.progs.wait__empty.attach().map_err(failed)?, "wait__empty"),
        ];
        Ok(Baseline { links })
    }

    pub fn costs(&self) -> Vec<ProgramCost> {
        let id = |(link, name): &(Link, &'static str)| link.info().ok().map(|info| (info.prog_id, *name));
        costs(&self.links.iter().filter_map(id).collect::<Vec<_>>())
    }
}
