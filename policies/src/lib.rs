// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead-policies: from features to a proposal. Policies predict; they never see the clock and never write.

pub mod dataset;
pub mod features;
pub mod rules;
