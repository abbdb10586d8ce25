// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bench's command line: a question about it is answered, and nothing is measured.

use std::process::Command;

fn bench(argument: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_keepahead-bench")).args(argument).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_names_the_benches_and_what_they_take() {
    for arguments in [&["--help"][..], &["-h"], &["tuning", "--help"]] {
        let (code, out, _) = bench(arguments);
        assert_eq!(code, Some(0), "{arguments:?}");
        for word in ["tuning", "KEEPAHEAD_BENCH=", "KEEPAHEAD_BENCH_POLICY=", "KEEPAHEAD_BENCH_ROWS="] {
            assert!(out.contains(word), "{arguments:?}: no {word} in\n{out}");
        }
    }
}

#[test]
fn what_is_no_bench_is_2_and_nothing_runs() {
    for arguments in [&["tunning"][..], &["tuning", "more"], &["--quick"]] {
        let (code, out, err) = bench(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err.contains(arguments[arguments.len() - 1]), "{err}");
    }
}
