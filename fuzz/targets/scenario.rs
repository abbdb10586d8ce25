// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any text as a scenario: it is refused with its reason, or what it describes can be built.
#![no_main]

use keepahead_sim::scenario::Scenario;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Scenario::parse(text) {
        Err(e) => assert!(!e.to_string().is_empty()),
        // Building is bounded, but a thousand huge databases are not worth a fuzzer's time.
        Ok(scenario) if text.len() < 4096 => drop(scenario.spec()),
        Ok(_) => {}
    }
});
