// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead-policies: from features to a proposal. Policies predict; they never see the clock and never write.

pub mod classify;
pub mod curve;
pub mod dataset;
pub mod features;
pub mod forest;
pub mod linear;
pub mod predict;
pub mod rules;
pub mod scaler;
