// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pattern that a program has by construction: takes how it gets at its bytes and how long its runs are, gives the name that the
//! definitions in [`Pattern`] give to it. Nothing measured goes in, so it can be held against what the policies see.

use crate::workload::distribution::{Distribution, random};
use crate::workload::place::Access;
use keepahead_core::event::Pattern;

/// A run of so many pages is long: 256 KiB, from where a window of the default size pays ([`keepahead_core::features`]).
const LONG: f64 = 64.0;
/// Enough for shares to one percent.
const SAMPLES: u32 = 10_000;

/// Runs of `pages` at places that have nothing to do with each other, in requests of `request` pages. The bounds are those of
/// [`keepahead_policies::rules::classify`].
pub fn pattern(access: Access, request: f64, pages: &Distribution) -> Pattern {
    let mut rng = random(1, 0);
    let (mut all, mut long, mut requests) = (0.0, 0.0, 0.0);
    for _ in 0..SAMPLES {
        let run = pages.sample(&mut rng).round().max(1.0);
        all += run;
        long += if run >= LONG { run } else { 0.0 };
        requests += (run / request).ceil();
    }
    let continues = 1.0 - f64::from(SAMPLES) / requests;
    match (long / all, access) {
        (share, _) if share >= 0.7 => Pattern::Sequential,
        (share, _) if share > 0.4 => Pattern::Mixed,
        (_, Access::Mmap) if all < 2.0 * f64::from(SAMPLES) => Pattern::RandomMmap,
        (_, Access::Read) if continues < 0.25 => Pattern::RandomRead,
        _ => Pattern::ShortRuns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_at_their_ends() {
        use Distribution::{Fixed, Uniform};
        for (access, request, pages, wanted) in [
            (Access::Read, 1.0, Fixed(1.0), Pattern::RandomRead),
            (Access::Read, 8.0, Fixed(8.0), Pattern::RandomRead),
            (Access::Read, 1.0, Fixed(8.0), Pattern::ShortRuns),
            (Access::Mmap, 1.0, Fixed(1.0), Pattern::RandomMmap),
            (Access::Mmap, 1.0, Fixed(8.0), Pattern::ShortRuns),
            (Access::Read, 1.0, Fixed(64.0), Pattern::Sequential),
            (Access::Mmap, 1.0, Fixed(4096.0), Pattern::Sequential),
            (Access::Read, 1.0, Uniform(2.0, 88.0), Pattern::Mixed),
        ] {
            assert_eq!(pattern(access, request, &pages), wanted, "{access:?} {request} {pages:?}");
        }
    }
}
