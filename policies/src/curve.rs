// SPDX-License-Identifier: MIT OR Apache-2.0
//! What physics says of stall over window size: a predicted curve in, the nearest curve that can be out.
//!
//! Random faults read the whole window at each miss, so stall never falls with it. Long runs gain until the bandwidth-delay
//! product is covered and lose when windows evict each other, so stall falls, then rises; so it does for short runs around their
//! length. Random `read(2)` does not depend on the window at all.

use keepahead_core::event::Pattern;

/// The nearest curve of the pattern's form (least squares).
pub fn physical(pattern: Pattern, curve: &[f64]) -> Vec<f64> {
    match pattern {
        Pattern::RandomMmap => increasing(&weighted(curve)),
        Pattern::Sequential | Pattern::ShortRuns => valley(curve),
        Pattern::RandomRead | Pattern::Idle => vec![curve.iter().sum::<f64>() / curve.len().max(1) as f64; curve.len()],
        Pattern::Mixed => curve.to_vec(),
    }
}

fn weighted(curve: &[f64]) -> Vec<(f64, f64)> {
    curve.iter().map(|v| (*v, 1.0)).collect()
}

/// Isotonic regression by pooling adjacent violators (Ayer and others 1955): `(value, weight)` in, never falling values out.
pub fn increasing(values: &[(f64, f64)]) -> Vec<f64> {
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for (value, weight) in values {
        pools.push((*value, *weight, 1));
        while let [.., a, b] = pools[..]
            && a.0 > b.0
        {
            pools.truncate(pools.len() - 2);
            pools.push(((a.0 * a.1 + b.0 * b.1) / (a.1 + b.1), a.1 + b.1, a.2 + b.2));
        }
    }
    pools.iter().flat_map(|(value, _, n)| std::iter::repeat_n(*value, *n)).collect()
}

/// Falls, then rises: the best of all turning points.
fn valley(curve: &[f64]) -> Vec<f64> {
    let fit = |turn: usize| {
        let mut fall: Vec<(f64, f64)> = weighted(&curve[..turn]);
        fall.reverse();
        let mut fitted = increasing(&fall);
        fitted.reverse();
        fitted.extend(increasing(&weighted(&curve[turn..])));
        let error: f64 = fitted.iter().zip(curve).map(|(a, b)| (a - b).powi(2)).sum();
        (error, fitted)
    };
    let best = (0..=curve.len()).map(fit).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(Vec::new, |(_, fitted)| fitted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apart(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
    }

    proptest! {
        #[test]
        fn curves_take_the_form_of_their_pattern(curve in proptest::collection::vec(-5.0..5.0f64, 1..14)) {
            let faults = physical(Pattern::RandomMmap, &curve);
            prop_assert!(faults.windows(2).all(|w| w[0] <= w[1]) && faults.len() == curve.len());
            let runs = physical(Pattern::Sequential, &curve);
            let turn = (0..runs.len()).min_by(|a, b| runs[*a].total_cmp(&runs[*b])).unwrap();
            prop_assert!(runs[..=turn].windows(2).all(|w| w[0] >= w[1] - 1e-9));
            prop_assert!(runs[turn..].windows(2).all(|w| w[0] <= w[1] + 1e-9), "{curve:?} {runs:?}");
            // A rising curve is a valley too, so the valley is no further away.
            prop_assert!(apart(&runs, &curve) <= apart(&faults, &curve) + 1e-9);
            prop_assert_eq!(&physical(Pattern::Sequential, &runs), &runs);
            prop_assert_eq!(&physical(Pattern::Mixed, &curve), &curve);
        }
    }

    #[test]
    fn violators_are_pooled_by_weight() {
        assert_eq!(increasing(&[(1.0, 1.0), (4.0, 3.0), (0.0, 1.0), (9.0, 1.0)]), vec![1.0, 3.0, 3.0, 9.0]);
    }
}
