// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorded programs in `fixtures/traces/programs`: at least a dozen, small, each replayed into rows at every size.

#![allow(clippy::disallowed_methods)] // fixtures are files
use keepahead_sim::training::{LADDER, Programs};
use std::path::Path;

fn dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/traces/programs")
}

#[test]
fn programs_are_small_and_give_rows() {
    let list: Programs = toml::from_str(&std::fs::read_to_string(dir().join("programs.toml")).unwrap()).unwrap();
    let (mut recorded, mut bytes) = (0, 0);
    for (run, program) in list.program.iter().enumerate() {
        let path = dir().join(program.file());
        let Ok(trace) = std::fs::read(&path) else { continue };
        assert!(trace.len() <= 100 << 10, "{}: {} bytes", path.display(), trace.len());
        let rows = program.rows(&trace, 1, run as u32).unwrap();
        assert!(!rows.is_empty(), "{}: no rows", program.name);
        assert!(rows.iter().all(|row| row.labels.len() == LADDER.len() && row.pattern == program.pattern));
        (recorded, bytes) = (recorded + 1, bytes + trace.len());
    }
    assert!(recorded >= 12, "{recorded} programs");
    assert!(bytes <= 2 << 20, "{bytes} bytes");
}

#[test]
fn a_damaged_trace_is_refused_by_name() {
    let list: Programs = toml::from_str(&std::fs::read_to_string(dir().join("programs.toml")).unwrap()).unwrap();
    let error = list.program[0].rows(b"nonsense", 1, 0).unwrap_err();
    assert!(error.to_string().contains(&list.program[0].name), "{error}");
}
