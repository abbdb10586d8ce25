// SPDX-License-Identifier: MIT OR Apache-2.0
//! The attach resolver: each hook has an ordered list of ways. Takes the kernel's BTF and the ways already refused, gives the one
//! program to load for each hook, and keeps what was tried for `doctor`.

use super::{How, ProbeStatus};
use libbpf_rs::btf::{Btf, types};

/// One way to listen: the program in `bpf/sensor.bpf.c`, and the tracepoint or function it needs.
pub(crate) struct Way {
    pub how: How,
    pub program: &'static str,
    pub needs: &'static str,
    /// A second program that the first needs: a kretprobe sees no arguments, its kprobe keeps them.
    pub with: Option<&'static str>,
}

pub(super) struct Hook {
    pub name: &'static str,
    pub counts: &'static str,
    pub lost: &'static str,
    pub required: bool,
    pub ways: &'static [Way],
}

pub(crate) const fn tp(program: &'static str, needs: &'static str) -> Way {
    Way { how: How::TpBtf, program, needs, with: None }
}
pub(crate) const fn fentry(program: &'static str, needs: &'static str) -> Way {
    Way { how: How::Fentry, program, needs, with: None }
}
const fn kprobe(program: &'static str, needs: &'static str) -> Way {
    Way { how: How::Kprobe, program, needs, with: None }
}
const fn kretprobe(program: &'static str, entry: &'static str, needs: &'static str) -> Way {
    Way { how: How::Kprobe, program, needs, with: Some(entry) }
}

pub(super) const HOOKS: &[Hook] = &[
    Hook {
        name: "read",
        counts: "requests and pages of read(2), splice, sendfile; runs, jumps",
        lost: "no demand by read(2) is seen",
        required: true,
        ways: &[
            tp("read__tp_btf", "mm_filemap_get_pages"),
            fentry("read__fexit", "filemap_read"),
            fentry("read__fexit_old", "generic_file_buffered_read"),
            kretprobe("read__kretprobe", "read__kprobe", "filemap_read"),
            kretprobe("read__kretprobe_old", "read__kprobe_old", "generic_file_buffered_read"),
        ],
    },
    Hook {
        name: "fault",
        counts: "faults on file mappings, their misses and waits",
        lost: "mappings are seen only where fault-around maps them; no misses, no stall of theirs",
        required: true,
        ways: &[
            tp("fault__tp_btf", "mm_filemap_fault"),
            fentry("fault__fentry", "filemap_fault"),
            kprobe("fault__kprobe", "filemap_fault"),
        ],
    },
    Hook {
        name: "map_pages",
        counts: "faults that fault-around served from the cache",
        lost: "faults on cached pages are not counted: hits by mapping are underestimated",
        required: false,
        ways: &[
            tp("map_pages__tp_btf", "mm_filemap_map_pages"),
            fentry("map_pages__fentry", "filemap_map_pages"),
            kprobe("map_pages__kprobe", "filemap_map_pages"),
        ],
    },
    Hook {
        name: "add",
        counts: "misses, and pages that readahead brought in",
        lost: "neither misses nor speculation are seen",
        required: true,
        ways: &[tp("add__tp_btf", "mm_filemap_add_to_page_cache")],
    },
    Hook {
        name: "delete",
        counts: "speculative pages evicted or dropped unused",
        lost: "waste is not seen",
        required: true,
        ways: &[tp("delete__tp_btf", "mm_filemap_delete_from_page_cache")],
    },
    Hook {
        name: "wait",
        counts: "stall: time asleep for demanded pages, late hits",
        lost: "neither stall nor late hits are seen",
        required: true,
        ways: &[tp("wait__tp_btf", "sched_switch")],
    },
    Hook {
        name: "sync_ra",
        counts: "demand misses of read(2) and the range they ask for",
        lost: "misses by read(2) are counted as speculation",
        required: true,
        ways: &[
            tp("sync_ra__tp_btf", "page_cache_sync_ra"),
            fentry("sync_ra__fentry", "page_cache_sync_ra"),
            kprobe("sync_ra__kprobe", "page_cache_sync_ra"),
        ],
    },
    Hook {
        name: "async_ra",
        counts: "windows started at the marker, in time",
        lost: "windows started in time look like advice",
        required: false,
        ways: &[
            tp("async_ra__tp_btf", "page_cache_async_ra"),
            fentry("async_ra__fentry", "page_cache_async_ra"),
            kprobe("async_ra__kprobe", "page_cache_async_ra"),
        ],
    },
    Hook {
        name: "ra_order",
        counts: "readahead windows, and whether their file carries an old ra_pages",
        lost: "windows come from ra_unbounded alone (kernels before 5.18 have no other)",
        required: false,
        ways: &[
            tp("ra_order__tp_btf", "page_cache_ra_order"),
            fentry("ra_order__fentry", "page_cache_ra_order"),
            kprobe("ra_order__kprobe", "page_cache_ra_order"),
        ],
    },
    Hook {
        name: "ra_unbounded",
        counts: "windows of file systems without large folios, random reads, advice",
        lost: "windows without large folios and advice are not told apart",
        required: false,
        ways: &[
            tp("ra_unbounded__tp_btf", "page_cache_ra_unbounded"),
            fentry("ra_unbounded__fentry", "page_cache_ra_unbounded"),
            kprobe("ra_unbounded__kprobe", "page_cache_ra_unbounded"),
        ],
    },
    Hook {
        name: "device",
        counts: "reads completed by disks: number, bytes, latency and size",
        lost: "no histograms of device reads; their sums come from /proc/diskstats",
        required: false,
        ways: &[tp("device__tp_btf", "block_rq_complete")],
    },
];

/// The choice for all hooks.
pub(super) struct Plan {
    /// For each of [`HOOKS`], the way to load.
    pub chosen: Vec<Option<&'static Way>>,
    pub tried: Vec<Vec<(How, String)>>,
}

/// Whether the kernel's BTF knows what a way needs.
pub(crate) fn offered(btf: &Btf<'_>, way: &Way) -> bool {
    match way.how {
        How::TpBtf => btf.type_by_name::<types::Typedef<'_>>(&format!("btf_trace_{}", way.needs)).is_some(),
        How::Fentry | How::Kprobe => btf.type_by_name::<types::Func<'_>>(way.needs).is_some(),
    }
}

/// Picks for each hook its first way that the kernel offers and that is not in `refused`; those of a `barred` kind only where the
/// hook has no other.
pub(super) fn plan(btf: &Btf<'_>, refused: &[(&'static str, String)], barred: &[How]) -> Plan {
    let mut plan = Plan { chosen: Vec::new(), tried: Vec::new() };
    for hook in HOOKS {
        let mut tried = Vec::new();
        let chosen = hook.ways.iter().find(|way| {
            if !offered(btf, way) {
                let kind = if way.how == How::TpBtf { "tracepoint" } else { "function" };
                tried.push((way.how, format!("this kernel has no {kind} {}", way.needs)));
                return false;
            }
            if barred.contains(&way.how) && hook.ways.iter().any(|other| !barred.contains(&other.how)) {
                tried.push((way.how, "not asked for".into()));
                return false;
            }
            if let Some((_, why)) = refused.iter().find(|(program, _)| *program == way.program) {
                tried.push((way.how, why.clone()));
                return false;
            }
            true
        });
        plan.chosen.push(chosen);
        plan.tried.push(tried);
    }
    plan
}

impl Plan {
    pub fn loads(&self, program: &str) -> bool {
        self.chosen.iter().flatten().any(|way| way.program == program || way.with == Some(program))
    }

    /// The programs of the first class, least welcome first, that a policy may refuse as a whole.
    pub fn refusable(&self) -> Vec<&'static str> {
        let of = |how| self.chosen.iter().flatten().filter(move |w| w.how == how).map(|w| w.program).collect::<Vec<_>>();
        let kprobes = of(How::Kprobe);
        if kprobes.is_empty() { of(How::Fentry) } else { kprobes }
    }

    pub fn statuses(self) -> Vec<ProbeStatus> {
        let rows = HOOKS.iter().zip(self.chosen).zip(self.tried);
        rows.map(|((hook, way), tried)| ProbeStatus {
            hook: hook.name,
            counts: hook.counts,
            attached: way.map(|w| w.how),
            tried,
            lost: hook.lost,
            required: hook.required,
        })
        .collect()
    }
}
