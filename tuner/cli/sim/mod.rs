// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim …`.

pub mod calibrate;
