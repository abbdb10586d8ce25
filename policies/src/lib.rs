// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead-policies: from features to a proposal. Policies predict; they never see the clock and never write.
//!
//! Two policies, [`named`] in the configuration: [`rules`], and [`learned`], which goes back to the rules wherever its model knows nothing. Fitting (`train` and
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

use keepahead_core::policy::Policy;
use keepahead_core::settings::PolicyName;

/// The policy of this name.
///
/// # Errors
/// The learned one's model is refused; [`rules::Rules`] is what to go on with.
pub fn named(name: PolicyName) -> Result<Box<dyn Policy + Send + Sync>, model::ModelError> {
    Ok(match name {
        PolicyName::Rules => Box::new(rules::Rules),
        PolicyName::Learned => Box::new(learned::Learned::shipped()?),
    })
}
