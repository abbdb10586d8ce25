// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a trace of format `TraceFormat::Msr`.
#![no_main]

use keepahead_fuzz::read_trace;
use keepahead_sim::trace::TraceFormat;

libfuzzer_sys::fuzz_target!(|data: &[u8]| read_trace(TraceFormat::Msr, data));
