// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead-policies: from features to a proposal. Policies predict; they never see the clock and never write.
//!
//! Two policies, named in the configuration: [`rules`], and [`learned`], which goes back to the rules wherever its model knows nothing. Fitting (`train` and
//! what it calls) uses linfa; deciding only reads what was fitted.

pub mod classify;
pub mod curve;
pub mod dataset;
pub mod evaluate;
pub mod features;
pub mod forest;
pub mod learned;
pub mod linear;
pub mod model;
pub mod predict;
pub mod rules;
pub mod scaler;
pub mod tenants;
pub mod train;
