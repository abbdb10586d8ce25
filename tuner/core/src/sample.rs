// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a sensor hands over: cumulative counters of one backing device (bdi), and how complete they are.
//!
//! The order of the fields is the contract with `bpf/keepahead.h` (`struct ka_counters`): all are `u64`, scalars first, then the
//! log2 histograms, then what came later: journals hold counters by their position. The sensor copies the kernel's array over word by word; a test there compares the sizes.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Slots of each log2 histogram: slot 0 counts 0 and 1, slot n counts [2^n, 2^(n+1)), the last slot counts all above.
pub const HIST_SLOTS: usize = 24;
pub type Hist = [u64; HIST_SLOTS];

macro_rules! counters {
    (scalars { $($(#[$sdoc:meta])* $s:ident),* $(,)? } hists { $($(#[$hdoc:meta])* $h:ident),* $(,)? }
     added { $($(#[$adoc:meta])* $a:ident),* $(,)? }) => {
        /// Cumulative counters of one bdi since the sensor attached. Pages are 4 KiB; "weighted" counts come from the sampled hit
        /// path and are scaled by the sampling rate in the kernel, so that they estimate the exact count without bias.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$sdoc])* pub $s: u64,)* $($(#[$hdoc])* pub $h: Hist,)* $($(#[$adoc])* pub $a: u64,)* }

        /// Names of the scalar counters before the histograms, in order.
        pub const SCALARS: &[&str] = &[$(stringify!($s)),*];
        /// Names of those after them.
        pub const ADDED: &[&str] = &[$(stringify!($a)),*];
        /// Names of the histograms, in order.
        pub const HISTS: &[&str] = &[$(stringify!($h)),*];
        /// 64-bit words in [`Counters`].
        pub const WORDS: usize = SCALARS.len() + HISTS.len() * HIST_SLOTS + ADDED.len();

        impl Counters {
            /// All counters as one flat array, in the order of the contract.
            pub fn words(&self) -> [u64; WORDS] {
                let mut words = [0; WORDS];
                let mut at = 0;
                $(words[at] = self.$s; at += 1;)*
                $(words[at..at + HIST_SLOTS].copy_from_slice(&self.$h); at += HIST_SLOTS;)*
                $(words[at] = self.$a; at += 1;)*
                debug_assert_eq!(at, WORDS);
                words
            }
            /// The reverse of [`Counters::words`].
            pub fn from_words(words: &[u64; WORDS]) -> Counters {
                let mut c = Counters::default();
                let mut at = 0;
                $(c.$s = words[at]; at += 1;)*
                $(c.$h.copy_from_slice(&words[at..at + HIST_SLOTS]); at += HIST_SLOTS;)*
                $(c.$a = words[at]; at += 1;)*
                debug_assert_eq!(at, WORDS);
                c
            }
        }
    };
}

counters! {
    scalars {
        /// `read(2)`, `splice`, `sendfile` requests (weighted).
        read_requests,
        /// Pages demanded by them (weighted).
        read_pages,
        /// Of those, pages that were not in the cache.
        read_miss,
        /// Of those, pages that were in the cache but still being read: somebody waited. One a wait.
        read_late,
        /// Time that readers slept for demanded pages, ns.
        read_stall_ns,
        /// Page faults on file mappings that reached the page cache (those that fault-around had mapped before never do).
        faults,
        /// Pages demanded through mappings, estimated: one a fault, plus the pages between two faults that continue a run within
        /// the reach of fault-around (16 pages), or of the large folio that the earlier one mapped.
        mmap_pages,
        /// Faults whose page was not in the cache.
        mmap_miss,
        /// Faults whose page was there but still being read.
        mmap_late,
        /// Time that faulting tasks slept for their page, ns.
        mmap_stall_ns,
        /// Time that faulting tasks spent between faults (each gap capped at 250 µs, less a microsecond for the kernel's own work), ns: the
        /// measure of work done through mappings, because touches of mapped pages are invisible.
        mmap_think_ns,
        /// Pages brought in by readahead beyond what was demanded (weighted).
        spec_added,
        /// Of those, demanded later (weighted).
        spec_used,
        /// Of those, demanded while still being read: not timely (weighted).
        spec_used_late,
        /// Evicted by reclaim, never demanded: pollution (weighted).
        spec_evicted,
        /// Removed by truncate, unlink or invalidation before use: not counted as waste (weighted).
        spec_dropped,
        /// Calls of sync readahead (a demand miss of read).
        sync_ra,
        /// Calls of async readahead (the marker was reached in time).
        async_ra,
        /// Readahead windows submitted.
        windows,
        /// Sum of their sizes, pages.
        window_pages,
        /// Windows of files whose `ra_pages` is not the bdi's present value.
        stale_windows,
        /// Read requests that continue the previous one in the same file (weighted).
        seq_requests,
        /// Short runs of read requests (below 64 pages) that other files' took the place of before they ended: how they went on is not known
        /// (weighted). None that was read to the end of its file.
        read_cuts,
        /// Their pages (weighted).
        read_cut_pages,
        /// Faults that continue a run (within 16 pages of the previous fault in the same file, or right behind the large folio that it mapped).
        seq_faults,
        /// Short runs of faults that other files' took the place of.
        mmap_cuts,
        /// Their pages.
        mmap_cut_pages,
        /// Read requests of another file than their task's last one (weighted).
        read_turns,
        /// Faults in another file, or another region of one that has its own, than their task's last one.
        mmap_turns,
        /// Block-layer read requests completed by the disk under this bdi.
        dev_reads,
        /// Bytes of those.
        dev_read_bytes,
        /// Sum of their latencies, ns.
        dev_read_ns,
        /// Page-cache events handled for this bdi, whatever their kind (weighted).
        events,
    }
    hists {
        /// Readahead window sizes, pages.
        window_hist,
        /// Lengths of ended runs of `read(2)`, pages (weighted).
        read_run_hist,
        /// Lengths of ended runs of faults, pages.
        mmap_run_hist,
        /// Absolute distance of jumps between runs in one file, pages (weighted).
        jump_hist,
        /// Read request sizes, pages (weighted).
        request_hist,
        /// Length of each wait for a demanded page, µs.
        stall_hist,
        /// Device read latency, µs.
        dev_latency_hist,
        /// Device read size, KiB.
        dev_size_hist,
    }
    added {
        /// Time that the kernel worked for the reads of tasks once they had come to readahead (a miss, the marker), until the last page was added or the
        /// task slept for one: allocating pages, making room for them, submitting; ns. Preemption meanwhile counts, each step 5 ms at most.
        read_fill_ns,
        /// The same within faults.
        mmap_fill_ns,
    }
}

impl Counters {
    /// What happened between `earlier` and this sample. A counter that went backwards (the sensor restarted) gives zero.
    pub fn since(&self, earlier: &Counters) -> Counters {
        let (now, before) = (self.words(), earlier.words());
        Counters::from_words(&std::array::from_fn(|i| now[i].saturating_sub(before[i])))
    }

    /// The sum of two spans.
    pub fn plus(&self, other: &Counters) -> Counters {
        let (a, b) = (self.words(), other.words());
        Counters::from_words(&std::array::from_fn(|i| a[i].saturating_add(b[i])))
    }

    /// Demanded pages, by read and by mapping.
    pub fn demanded(&self) -> u64 {
        self.read_pages + self.mmap_pages
    }

    /// Runs of faults begun; a single fault is one.
    pub fn mmap_runs(&self) -> u64 {
        self.faults.saturating_sub(self.seq_faults)
    }

    /// Demanded pages for which nobody waited.
    pub fn hits(&self) -> u64 {
        let waited = self.read_miss + self.read_late + self.mmap_miss + self.mmap_late;
        self.demanded().saturating_sub(waited)
    }

    /// hits / demanded; `None` where nothing was demanded.
    pub fn hit_ratio(&self) -> Option<f64> {
        ratio(self.hits(), self.demanded())
    }

    /// Speculative pages demanded before eviction / speculative pages retired.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.spec_used, self.spec_used + self.spec_evicted)
    }

    /// Speculative pages demanded / (those + misses).
    pub fn coverage(&self) -> Option<f64> {
        ratio(self.spec_used, self.spec_used + self.read_miss + self.mmap_miss)
    }

    /// Speculative pages demanded that were hits / all speculative pages demanded.
    pub fn timeliness(&self) -> Option<f64> {
        ratio(self.spec_used.saturating_sub(self.spec_used_late), self.spec_used)
    }

    /// Time that tasks slept for demanded pages, ns.
    pub fn stall_ns(&self) -> u64 {
        self.read_stall_ns + self.mmap_stall_ns
    }

    /// Time that the kernel worked for their demands, ns.
    pub fn fill_ns(&self) -> u64 {
        self.read_fill_ns + self.mmap_fill_ns
    }
}

/// `part / whole`, `None` for an empty whole.
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

// Most words are zero most of the time: a record holds [index, value] pairs of the others only.
impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.words().iter().enumerate().filter(|(_, v)| **v != 0).map(|(i, v)| (i as u16, *v)))
    }
}

impl<'de> Deserialize<'de> for Counters {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Counters, D::Error> {
        let mut words = [0; WORDS];
        for (i, v) in Vec::<(u16, u64)>::deserialize(d)? {
            let slot = words
                .get_mut(usize::from(i))
                .ok_or_else(|| D::Error::custom(format!("counter index {i} is beyond the last one, {}", WORDS - 1)))?;
            *slot = v;
        }
        Ok(Counters::from_words(&words))
    }
}

/// How much of what the definitions ask for a sensor could see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// Device statistics only (`/proc/diskstats`): no hits, no misses. Enough for a suggestion, never for a trial.
    Coarse,
    /// Kernel probes, but hits, misses, stall or eviction are not all seen: no trial either.
    Partial,
    /// All that `measures` need.
    Full,
}

/// Cumulative counters of one bdi at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub counters: Counters,
    pub completeness: Completeness,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_round_trip_and_json_is_lossless(values in proptest::collection::vec(any::<u64>(), WORDS)) {
            let words: [u64; WORDS] = values.try_into().unwrap();
            let counters = Counters::from_words(&words);
            prop_assert_eq!(counters.words(), words);
            let json = serde_json::to_string(&counters).unwrap();
            prop_assert_eq!(serde_json::from_str::<Counters>(&json).unwrap(), counters);
        }
    }

    #[test]
    fn counters_have_no_padding() {
        assert_eq!(size_of::<Counters>(), WORDS * 8);
    }

    #[test]
    fn ratios_follow_their_definitions() {
        let c = Counters {
            read_pages: 100,
            read_miss: 10,
            read_late: 5,
            spec_used: 60,
            spec_used_late: 15,
            spec_evicted: 20,
            ..Counters::default()
        };
        assert_eq!(c.hit_ratio(), Some(0.85));
        assert_eq!(c.accuracy(), Some(0.75));
        assert_eq!(c.coverage(), Some(60.0 / 70.0));
        assert_eq!(c.timeliness(), Some(0.75));
        assert_eq!(Counters::default().hit_ratio(), None);
    }

    #[test]
    fn a_restarted_sensor_gives_no_negative_counts() {
        let (old, new) = (Counters { events: 9, ..Counters::default() }, Counters { events: 2, ..Counters::default() });
        assert_eq!(new.since(&old).events, 0);
    }
}
