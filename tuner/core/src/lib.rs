// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead-core: everything between what a sensor read and what an actuator is told to do.
//!
//! Pure: no I/O, no clock, no threads. Time comes in with every input, so the agent, the simulator and `replay` run the very
//! same [`step`](step::step), and equal inputs give equal actions and records.
//!
//! One way round: `sample` → `window` → `features` → `policy` → `guard` → (actuator) → `verdict` → `record`.

mod advice;
pub mod betting;
pub mod device;
pub mod elsewhere;
pub mod event;
pub mod features;
pub mod guard;
pub mod known;
pub mod matched;
pub mod order;
pub mod policy;
pub mod recall;
pub mod region;
pub mod sample;
pub mod settings;
pub mod standing;
pub mod step;
pub mod trial;
pub mod units;
pub mod verdict;
pub mod watched;
pub mod window;
