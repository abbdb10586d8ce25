// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C library: built as its Makefile builds it, with its example as its users build theirs.

use crate::client::{Server, file};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Where the libraries are, built once; `None` where this machine has no compiler.
pub fn built() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        if Command::new("cc").arg("--version").output().is_err() || Command::new("make").arg("--version").output().is_err() {
            println!("skipped: no cc or make");
            return None;
        }
        let out = Path::new(env!("CARGO_BIN_EXE_keepahead")).parent().unwrap().to_owned();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let made = Command::new("make").arg("-C").arg(root.join("clients/c")).arg(format!("OUT={}", out.display())).output();
        succeeded(made.unwrap());
        Some(out)
    };
    BUILT.get_or_init(build).as_deref()
}

fn succeeded(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

/// A program of the source beside this file or of the library's directory.
pub fn compile(library: &Path, source: &str, into: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = into.join("program");
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-O1", "-o"]).arg(&program).arg(root.join(source));
    cc.arg("-I").arg(root.join("clients/c")).arg("-I").arg(root.join("clients/preload"));
    cc.arg("-L").arg(library).arg(format!("-Wl,-rpath,{}", library.display())).arg("-lkeepahead");
    succeeded(cc.output().unwrap());
    program
}

#[test]
fn the_example_reads_with_an_agent_and_without() {
    let Some(library) = built() else { return };
    let (server, into) = (Server::start(), tempfile::tempdir().unwrap());
    let (a, b) = (file(1 << 20), file(100));
    let program = compile(library, "clients/c/example.c", into.path());
    for (socket, said) in [(server.path.as_path(), ""), (Path::new("/nonexistent"), "going on without it")] {
        let mut command = Command::new(&program);
        command.args([a.0.path(), b.0.path()]).env("KEEPAHEAD_SOCKET", socket);
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(said) && stderr.lines().count() == usize::from(!said.is_empty()), "{stderr}");
        let sums = format!("{} {}\n700 {}\n", 7 << 20, a.0.path().display(), b.0.path().display());
        assert_eq!(succeeded(output), sums + &stderr);
    }
}

#[test]
fn every_call_does_as_the_header_says() {
    let Some(library) = built() else { return };
    let (server, into, file) = (Server::start(), tempfile::tempdir().unwrap(), file(1 << 20));
    let program = compile(library, "tests/clients/calls.c", into.path());
    let said = succeeded(Command::new(&program).arg(&server.path).arg(file.0.path()).output().unwrap());
    assert!(said.contains("all calls are right"), "{said}");
    server.settle(|s| s["workloads"] == 0);
}

#[test]
fn the_library_is_installed_and_found_by_pkg_config() {
    let Some(library) = built() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut make = Command::new("make");
    make.args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/clients/c"), "install"]).arg(format!("OUT={}", library.display()));
    succeeded(make.arg(format!("DESTDIR={}", root.path().display())).output().unwrap());
    for file in ["include/keepahead.h", "lib/libkeepahead.so", "lib/keepahead/libkeepahead_preload.so"] {
        assert!(root.path().join("usr").join(file).exists(), "{file}");
    }
    let found = Command::new("pkg-config")
        .env("PKG_CONFIG_PATH", root.path().join("usr/lib/pkgconfig"))
        .args(["--libs", "--modversion", "keepahead"])
        .output();
    match found {
        Ok(output) => {
            let said = succeeded(output);
            assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
        }
        Err(e) => println!("skipped: pkg-config: {e}"),
    }
}
