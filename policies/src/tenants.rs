// SPDX-License-Identifier: MIT OR Apache-2.0
//! One device's features in, the two patterns of two tenants out: what is demanded by `read(2)` and what through mappings, each named as if
//! it were alone. Tenants that read in the same way are one pattern, by their runs together.

use keepahead_core::event::Pattern;
use keepahead_core::features::Features;
use std::fmt;

/// Share of the demand, or of the waiting, from which a way to read is a tenant's. (A database that scans a mapping reads some footers: 1 %.)
const MATTERS: f64 = 0.1;

/// One way to read, as if it were alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tenant {
    pub pattern: Pattern,
    pub mapped: bool,
    /// Shares of the demanded pages and of the waiting, 0 to 1.
    pub demand: f64,
    pub waiting: f64,
}

/// The two, where both ways to read matter and `name` gives them different patterns; it gives `None` for what it does not know.
pub fn tenants(f: &Features, name: impl Fn(&Features) -> Option<Pattern>) -> Option<[Tenant; 2]> {
    let reads = Features {
        demand: f.demand * (1.0 - f.mapped_demand),
        mmap_share: 0.0,
        mapped_demand: 0.0,
        mmap_run: 0.0,
        mmap_long_share: 0.0,
        ..*f
    };
    let faults = Features {
        demand: f.demand * f.mapped_demand,
        mmap_share: 1.0,
        mapped_demand: 1.0,
        read_run: 0.0,
        read_long_share: 0.0,
        read_continues: 0.0,
        request: 0.0,
        ..*f
    };
    let tenant = |of: &Features, mapped: bool, demand: f64, waiting: f64| {
        let matters = demand.max(waiting) >= MATTERS;
        matters.then(|| name(of)).flatten().map(|pattern| Tenant { pattern, mapped, demand, waiting })
    };
    let reads = tenant(&reads, false, 1.0 - f.mapped_demand, 1.0 - f.mmap_share)?;
    let faults = tenant(&faults, true, f.mapped_demand, f.mmap_share)?;
    (reads.pattern != faults.pattern).then_some([reads, faults])
}

impl fmt::Display for Tenant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.mapped { "faults" } else { "reads" };
        let (pattern, demand, waiting) = (adjective(self.pattern), self.demand * 100.0, self.waiting * 100.0);
        write!(out, "{pattern} {way} ({demand:.0} % of the pages, {waiting:.0} % of the waiting)")
    }
}

fn adjective(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Sequential => "sequential",
        Pattern::RandomMmap | Pattern::RandomRead => "random",
        Pattern::ShortRuns => "short runs of",
        Pattern::Mixed | Pattern::Idle => "mixed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::classify;
    use proptest::prelude::*;

    fn scan_beside_lookups() -> Features {
        Features {
            demand: 30_000.0,
            mapped_demand: 0.01,
            mmap_share: 0.7,
            mmap_run: 1.1,
            read_run: 1e5,
            read_long_share: 1.0,
            read_continues: 1.0,
            request: 32.0,
            ..Features::default()
        }
    }

    fn named(f: &Features) -> Option<[Tenant; 2]> {
        tenants(f, |part| Some(classify(part, 0.0)))
    }

    #[test]
    fn a_scan_beside_lookups_is_two_patterns() {
        let two = named(&scan_beside_lookups()).map(|two| two.map(|t| t.to_string()));
        let reads = "sequential reads (99 % of the pages, 30 % of the waiting)";
        assert_eq!(two, Some([reads.into(), "random faults (1 % of the pages, 70 % of the waiting)".into()]));
    }

    #[test]
    fn one_program_that_reads_its_footers_and_two_scans_are_one() {
        let footers =
            Features { mapped_demand: 0.99, mmap_share: 0.999, mmap_run: 1e4, mmap_long_share: 1.0, ..scan_beside_lookups() };
        assert_eq!(named(&Features { read_long_share: 0.0, read_run: 2.0, ..footers }), None);
        assert_eq!(named(&Features { mapped_demand: 0.5, mmap_share: 0.5, ..footers }), None, "both sequential");
        assert_eq!(tenants(&scan_beside_lookups(), |_| None), None, "unknown");
    }

    proptest! {
        #[test]
        fn shares_sum_to_one(mapped_demand in 0.0..1.0f64, mmap_share in 0.0..1.0f64) {
            if let Some([reads, faults]) = named(&Features { mapped_demand, mmap_share, ..scan_beside_lookups() }) {
                prop_assert!((reads.demand + faults.demand - 1.0).abs() < 1e-9 && (reads.waiting + faults.waiting - 1.0).abs() < 1e-9);
                prop_assert!(reads.demand.max(reads.waiting) >= MATTERS && faults.demand.max(faults.waiting) >= MATTERS);
            }
        }
    }
}
