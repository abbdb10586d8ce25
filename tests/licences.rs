// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every source file says its licence in its first lines: user space MIT OR Apache-2.0, what is loaded into the kernel
//! GPL-2.0-only; and the three licence texts are there.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Kinds of files that carry the line, by extension or by name.
const MARKED: &[&str] = &["rs", "c", "h", "sh", "toml", "service", "Makefile", "setup", "demo", "bench"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files under version control; of a source archive without git, all but build results.
fn files() -> Vec<PathBuf> {
    let ls = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").arg("-C").arg(root()).args(ls).output();
    if let Some(output) = listed.ok().filter(|o| o.status.success()) {
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        return names.split('\0').filter(|n| !n.is_empty()).map(PathBuf::from).collect();
    }
    let (mut found, mut dirs) = (vec![], vec![root().to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("target") || path.ends_with(".git") => {}
                true => dirs.push(path),
                false => found.push(path.strip_prefix(root()).unwrap().to_owned()),
            }
        }
    }
    found
}

fn marked(file: &Path) -> bool {
    let is = |part: Option<&std::ffi::OsStr>| part.and_then(|p| p.to_str()).is_some_and(|p| MARKED.contains(&p));
    // A Cargo.toml has a license field of its own; rustfmt.toml is two options.
    !file.ends_with("Cargo.toml") && !file.ends_with("rustfmt.toml") && (is(file.extension()) || is(file.file_name()))
}

#[test]
fn every_source_file_says_its_licence() {
    let files: Vec<_> = files().into_iter().filter(|f| marked(f) && root().join(f).is_file()).collect();
    assert!(files.len() > 20, "only {} files found: the list is broken", files.len());
    let wrong: Vec<_> = files
        .iter()
        .filter(|file| {
            let licence = if file.starts_with("bpf") { "GPL-2.0-only" } else { "MIT OR Apache-2.0" };
            let text = std::fs::read_to_string(root().join(file)).unwrap();
            let line = format!("SPDX-License-Identifier: {licence}");
            // In C the line may close a comment; a script has its interpreter first.
            !text.lines().take(2).any(|l| l.trim_end_matches("*/").trim_end().ends_with(&line))
        })
        .collect();
    assert!(wrong.is_empty(), "no or another SPDX line: {wrong:?}");
}

#[test]
fn the_licence_texts_are_there() {
    for (file, words) in [
        ("LICENSE-MIT", "Permission is hereby granted, free of charge"),
        ("LICENSE-APACHE", "Version 2.0, January 2004"),
        ("bpf/LICENSE", "Version 2, June 1991"),
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(text.contains(words), "{file} is missing or another text");
    }
}
