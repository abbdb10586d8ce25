// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes on the control socket: cut into reads by the first byte, with a descriptor beside each read where its top bit is set. The
//! messages are those bytes whatever the cuts, no descriptor is lost or doubled, and what is in them is a call or an error.
#![no_main]

use keepahead_client::call::Call;
use keepahead_client::frame::{Assembler, MESSAGE_BYTES, MESSAGE_FDS};
use std::fs::File;
use std::os::fd::OwnedFd;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, wire)) = data.split_first() else { return };
    let beside = || -> Vec<OwnedFd> { File::open("/dev/null").ok().filter(|_| first & 0x80 != 0).into_iter().map(Into::into).collect() };
    let (mut assembler, mut seen, mut given, mut taken) = (Assembler::new(MESSAGE_BYTES), Vec::new(), 0, 0);
    for part in wire.chunks(usize::from(first & 0x7f) + 1) {
        let fds = beside();
        given += fds.len();
        if assembler.take(part, fds).is_err() {
            assert!(given - taken > MESSAGE_FDS);
            return;
        }
        while let Ok(Some(message)) = assembler.next_message() {
            taken += message.fds.len();
            seen.extend_from_slice(&message.body);
            seen.push(0);
            let _ = serde_json::from_slice::<Call>(&message.body);
        }
    }
    assert!(wire.starts_with(&seen) && wire.len() == seen.len() + assembler.pending() && taken <= given);
});
