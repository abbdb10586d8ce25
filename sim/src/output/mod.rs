// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results for people and programs: takes comparisons, reports and sweep rows, gives text tables, CSV and SVG. JSON needs nothing of
//! its own: all of them serialise.

pub mod csv;
pub mod plot;
pub mod table;
