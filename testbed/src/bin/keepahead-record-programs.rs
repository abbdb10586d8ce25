// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead-record-programs DIR [NAME…]`: takes DIR/programs.toml, runs each program on a throttled device with a cold cache, gives
//! DIR/NAME.katrace of what it demanded. Root, and a kernel with BPF, as for `keepahead record`.

use anyhow::{Context, ensure};
use clap::Parser;
use keepahead_testbed::{Fs, Testbed, program, run, unavailable};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The device: slow enough that some seconds of a program make some tens of KiB of trace.
const MIB: u64 = 6144;
const IOPS: u64 = 1000;
const BYTES_PER_S: u64 = 40_000_000;
const MEMORY_MIB: u64 = 384;
const READ_AHEAD_KIB: u32 = 128;
/// Largest trace that is kept: they are in the repository.
const MOST_BYTES: u64 = 100 << 10;

#[derive(Parser)]
struct Arguments {
    dir: PathBuf,
    /// Only these; what they need is prepared by others in the list, so all before them are prepared too.
    names: Vec<String>,
}

#[derive(Deserialize)]
struct List {
    program: Vec<Recorded>,
}

/// The part of an entry that recording needs.
#[derive(Deserialize)]
struct Recorded {
    name: String,
    #[serde(default)]
    prepare: String,
    command: String,
    seconds: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let list = arguments.dir.join("programs.toml");
    let text = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let list: List = toml::from_str(&text).with_context(|| list.display().to_string())?;
    if let Some(why) = unavailable() {
        anyhow::bail!("{why}");
    }
    let testbed = Testbed::new(MIB, Fs::Ext4)?;
    testbed.set_read_ahead(READ_AHEAD_KIB)?;
    testbed.limit(IOPS, BYTES_PER_S, MEMORY_MIB)?;
    for entry in &list.program {
        if !entry.prepare.is_empty() {
            let prepared = run(&mut shell(Command::new("bash"), &entry.prepare, &testbed));
            if let Err(error) = prepared {
                eprintln!("{}: skipped: cannot be prepared: {error:#}", entry.name);
                continue;
            }
        }
        if arguments.names.is_empty() || arguments.names.contains(&entry.name) {
            match record(entry, &testbed, &arguments.dir) {
                Ok(bytes) => println!("{}: {bytes} bytes", entry.name),
                Err(error) => eprintln!("{}: not recorded: {error:#}", entry.name),
            }
        }
    }
    Ok(())
}

/// A command line, in the device's root.
fn shell(mut command: Command, line: &str, testbed: &Testbed) -> Command {
    command.args(["-c", line]).current_dir(testbed.mount()).env("D", testbed.mount()).stdin(Stdio::null());
    command
}

fn record(entry: &Recorded, testbed: &Testbed, dir: &Path) -> anyhow::Result<u64> {
    let trace = dir.join(format!("{}.katrace", entry.name));
    let new = testbed.mount().with_extension("katrace");
    let _ = fs::remove_file(&new);
    testbed.drop_caches()?;
    let mut recorder = Command::new(program("keepahead")?);
    recorder.args(["record", "--device", &testbed.name, "--duration", &format!("{}s", entry.seconds), "--out"]).arg(&new);
    let recorder = recorder.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("keepahead record")?;
    // The probes need a moment to attach; what a program reads before that would be missing.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let command = testbed.cgroup.command("bash");
    let running = shell(command, &entry.command, testbed).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let ended = recorder.wait_with_output();
    testbed.cgroup.kill();
    running.context("bash")?.wait()?;
    let ended = ended?;
    ensure!(ended.status.success(), "keepahead record: {}", String::from_utf8_lossy(&ended.stderr).trim());
    let bytes = fs::metadata(&new)?.len();
    ensure!(bytes <= MOST_BYTES, "{bytes} bytes, at most {MOST_BYTES} are kept: lower its `seconds`");
    fs::copy(&new, &trace).with_context(|| trace.display().to_string())?;
    Ok(bytes)
}
