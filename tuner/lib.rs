// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead: closed-loop adaptive readahead for Linux. This library is everything that touches the world; what decides is in
//! `keepahead-core` and `keepahead-policies`, which are pure.

pub mod actuator;
pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod journal;
pub mod sensor;
