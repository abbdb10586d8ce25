// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles every `bpf/*.bpf.c` to a skeleton `$OUT_DIR/<name>.skel.rs`; without the feature `ebpf` it does nothing, so that
//! neither clang nor libelf is needed.

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    #[cfg(feature = "ebpf")]
    skeletons();
}

#[cfg(feature = "ebpf")]
fn skeletons() {
    use std::path::PathBuf;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for entry in std::fs::read_dir("bpf").expect("bpf/ is part of the sources").flatten() {
        let source = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".bpf.c") else { continue };
        if let Err(error) = libbpf_cargo::SkeletonBuilder::new()
            .source(&source)
            .clang_args(["-Wall", "-Werror"])
            .build_and_generate(out.join(format!("{stem}.skel.rs")))
        {
            panic!("{}: {error:#}\nclang 12 or later is needed; or build with --no-default-features", source.display());
        }
    }
}
