// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as the entries of a block whose frame is right: what the CRC keeps target `own` from reaching. The first byte is the
//! number of entries.
#![no_main]

use keepahead_fuzz::read_trace;
use keepahead_sim::trace::{Header, TraceFormat, Writer};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&records, plain)) = data.split_first() else { return };
    let mut trace = Vec::new();
    let Ok(writer) = Writer::new(&mut trace, &Header::default()) else { return };
    drop(writer);
    let Ok(packed) = zstd::bulk::compress(plain, 1) else { return };
    // docs/trace-format.md, "The file".
    let mut frame = vec![1u8];
    for number in [packed.len() as u32, plain.len() as u32, records.into()] {
        frame.extend_from_slice(&number.to_le_bytes());
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&frame);
    crc.update(&packed);
    frame.extend_from_slice(&crc.finalize().to_le_bytes());
    frame.extend_from_slice(&packed);
    trace.extend_from_slice(&frame);
    read_trace(TraceFormat::Keepahead, &trace);
});
