// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decision trees (linfa) over vectors, with mean curves in their leaves.
//!
//! linfa's trees classify. Which size is best is ordered, so each tree answers one question, "does more than this size pay?"
//! (ordinal classification by binary questions: Frank and Hall, ECML 2001), and every leaf keeps the mean curve of its rows; the
//! prediction is the mean over the trees. Two classes a tree also make the fit the same every time: linfa sums over a `HashMap`,
//! and only two terms add up alike in any order.

use crate::dataset::Row;
use crate::features::COUNT;
use crate::predict::{log2_stall, targets};
use crate::scaler::rounded;
use linfa::traits::Fit;
use linfa::{Dataset, ParamGuard};
use linfa_trees::{DecisionTree, TreeNode};
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const DEPTH: usize = 7;
/// Rows that a leaf has at least: some runs at every size, not one run.
const LEAF: f32 = 24.0;
/// Of two sizes this close in stall (log2; 3 %) the smaller is best: it costs less memory.
const ALIKE: f64 = 0.043;
/// Weight of a "yes" against a "no": exact in f32, and keeps counts from being equal, which linfa would decide by hash order.
const YES: f32 = 1.0 + 1.0 / 1024.0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    trees: Vec<Vec<Node>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Node {
    /// To `left` up to the threshold, else to `right`: both further on in the tree.
    Split {
        feature: usize,
        threshold: f64,
        left: usize,
        right: usize,
    },
    Leaf(Vec<f64>),
}

/// Position of the smallest size whose stall is the least, or as good as that.
pub(crate) fn best(row: &Row) -> usize {
    let stall: Vec<f64> = row.labels.iter().map(log2_stall).collect();
    let least = stall.iter().copied().fold(f64::INFINITY, f64::min);
    stall.iter().position(|s| *s <= least + ALIKE).unwrap_or(0)
}

impl Forest {
    pub fn fit(rows: &[&Row]) -> Result<Forest, String> {
        let x: Vec<f64> = rows.iter().flat_map(|r| r.features.iter().copied()).collect();
        let x = Array2::from_shape_vec((rows.len(), COUNT), x).map_err(|e| e.to_string())?;
        let best: Vec<usize> = rows.iter().map(|r| best(r)).collect();
        let curves: Vec<Vec<f64>> = rows.iter().map(|r| targets(r)).collect();
        let mut trees = Vec::new();
        for size in 0..rows[0].labels.len().saturating_sub(1) {
            let more: Vec<bool> = best.iter().map(|b| *b > size).collect();
            if more.iter().all(|m| *m == more[0]) {
                continue;
            }
            let weights = more.iter().map(|m| if *m { YES } else { 1.0 }).collect();
            let data = Dataset::new(x.clone(), Array1::from(more)).with_weights(weights);
            let params = DecisionTree::params().max_depth(Some(DEPTH)).min_weight_leaf(LEAF).min_weight_split(2.0 * LEAF);
            let tree = params.check().map_err(|e| e.to_string())?.fit(&data).map_err(|e| e.to_string())?;
            trees.push(with_curves(tree.root_node(), rows, &curves));
        }
        if trees.is_empty() {
            trees.push(vec![leaf(&(0..rows.len()).collect::<Vec<_>>(), &curves)]);
        }
        Ok(Forest { trees })
    }

    /// `None` for a vector of another length.
    pub fn apply(&self, x: &[f64]) -> Option<Vec<f64>> {
        if x.len() != COUNT {
            return None;
        }
        let mut sum: Vec<f64> = Vec::new();
        for tree in &self.trees {
            let curve = walk(tree, x)?;
            sum.resize(curve.len(), 0.0);
            sum.iter_mut().zip(curve).for_each(|(s, c)| *s += c / self.trees.len() as f64);
        }
        Some(sum)
    }

    pub fn is_sound(&self, outputs: usize) -> bool {
        let node = |(at, node): (usize, &Node), nodes: usize| match node {
            Node::Leaf(curve) => curve.len() == outputs && curve.iter().all(|x| x.is_finite()),
            // Only ever further on: a walk ends.
            Node::Split { feature, threshold, left, right } => {
                *feature < COUNT && threshold.is_finite() && at < *left.min(right) && *left.max(right) < nodes
            }
        };
        !self.trees.is_empty() && self.trees.iter().all(|t| !t.is_empty() && t.iter().enumerate().all(|n| node(n, t.len())))
    }
}

fn walk<'a>(tree: &'a [Node], x: &[f64]) -> Option<&'a [f64]> {
    let mut at = 0;
    loop {
        match tree.get(at)? {
            Node::Leaf(curve) => return Some(curve),
            Node::Split { feature, threshold, left, right } => {
                at = if x[*feature] <= *threshold { *left } else { *right };
            }
        }
    }
}

/// linfa's tree as a list, with the mean curve of the rows that end up in each leaf.
fn with_curves(root: &TreeNode<f64, bool>, rows: &[&Row], curves: &[Vec<f64>]) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut open = vec![(root, (0..rows.len()).collect::<Vec<_>>(), None)];
    // Parent's position and side of each node, filled in when the node gets its own position.
    let mut place: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    while let Some((node, members, parent)) = open.pop() {
        let at = nodes.len();
        if let Some((parent, right)) = parent {
            let sides: &mut (usize, usize) = place.entry(parent).or_default();
            if right { sides.1 = at } else { sides.0 = at }
        }
        match node.children()[..] {
            [Some(left), Some(right)] if !node.is_leaf() => {
                let (feature, threshold, _) = node.split();
                let threshold = rounded(threshold);
                nodes.push(Node::Split { feature, threshold, left: 0, right: 0 });
                let (low, high): (Vec<usize>, Vec<usize>) =
                    members.into_iter().partition(|m| rows[*m].features[feature] <= threshold);
                if low.is_empty() || high.is_empty() {
                    // Rounding the threshold moved all rows to one side.
                    nodes[at] = leaf(&[low, high].concat(), curves);
                } else {
                    open.push((right, high, Some((at, true))));
                    open.push((left, low, Some((at, false))));
                }
            }
            _ => nodes.push(leaf(&members, curves)),
        }
    }
    for (parent, (l, r)) in place {
        if let Node::Split { left, right, .. } = &mut nodes[parent] {
            (*left, *right) = (l, r);
        }
    }
    nodes
}

fn leaf(members: &[usize], curves: &[Vec<f64>]) -> Node {
    let mean = |i: usize| members.iter().map(|m| curves[*m][i]).sum::<f64>() / members.len().max(1) as f64;
    // Hundredths of a doubling (and of a hit ratio) are finer than any label.
    Node::Leaf((0..curves[0].len()).map(|i| (mean(i) * 1000.0).round() / 1000.0).collect())
}
