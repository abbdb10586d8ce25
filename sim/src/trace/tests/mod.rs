// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trace formats against themselves, against counts made by other programs, and against damage.

mod own;
