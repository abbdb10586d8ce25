// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead: everything that touches the world around the pure core.

pub mod sensor;
