// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every trace target does: takes bytes as a trace of one format, reads it to its end, and checks what a reader promises.

use keepahead_sim::trace::{ACCESS_BYTES_MAX, Kind, OFFSET_MAX, ReadOptions, Streams, Survey, TraceFormat, open};
use std::io::Cursor;

/// # Panics
/// An access out of range, anything after an error, or an error without its place: that is the find.
pub fn read_trace(format: TraceFormat, data: &[u8]) {
    let options = ReadOptions::default();
    let input = || Box::new(Cursor::new(data.to_vec()));
    match open(input(), Some(format), &options) {
        Err(e) => assert!(e.to_string().contains(&e.position().to_string())),
        Ok((_, mut source)) => {
            while let Some(access) = source.next() {
                match access {
                    Ok(access) => {
                        assert!(access.offset + u64::from(access.bytes) <= OFFSET_MAX);
                        assert!(access.kind == Kind::Trim || u64::from(access.bytes) <= ACCESS_BYTES_MAX);
                    }
                    Err(e) => {
                        assert!(e.to_string().contains(&e.position().to_string()));
                        assert!(source.next().is_none());
                    }
                }
            }
        }
    }
    if let Ok((_, mut source)) = open(input(), None, &options) {
        let _ = Survey::of(&mut *source, Streams::PerFile);
    }
}
