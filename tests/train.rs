// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead train` from outside: equal seeds give equal files, a data set that is there is read, and what is no data set is refused.

use assert_cmd::Command;
use std::path::Path;

fn train(args: &[&str]) -> std::process::Output {
    Command::new(assert_cmd::cargo::cargo_bin!("keepahead")).arg("train").args(args).output().expect("the program starts")
}

fn data(dir: &Path, name: &str, more: &[&str]) -> Vec<u8> {
    let path = dir.join(name);
    let output = train(&[&["--worlds", "2", "--data", path.to_str().unwrap()], more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(path).unwrap()
}

#[test]
fn equal_seeds_give_equal_data_sets() {
    let dir = tempfile::tempdir().unwrap();
    let one = data(dir.path(), "one", &["--threads", "1"]);
    assert_eq!(one, data(dir.path(), "two", &["--threads", "2"]));
    assert_ne!(one, data(dir.path(), "three", &["--seed", "2"]));
}

#[test]
fn what_is_no_data_set_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    std::fs::write(&path, "not Parquet").unwrap();
    let output = train(&["--data", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a readable Parquet file"));
    assert_eq!(std::fs::read(path).unwrap(), b"not Parquet");
}

/// Before the worlds are made, which for so many takes hours.
#[test]
fn a_place_that_takes_no_file_is_found_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let (new, whole) = (dir.path().join("new/x"), dir.path().join("x"));
    let (new, whole) = (new.to_str().unwrap(), whole.to_str().unwrap());
    for (args, code) in [
        (vec!["--out", "/proc/x.model"], 1),
        (vec!["--out", new], 2),
        (vec!["--out", whole, "--card", new], 2),
        (vec!["--out", whole, "--data", new], 2),
    ] {
        let output = train(&[&["--worlds", "100000"], &args[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(if code == 1 { "cannot be written" } else { "there is no directory" }), "{said}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn it_must_be_told_what_to_write() {
    let output = train(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--out FILE"));
}
