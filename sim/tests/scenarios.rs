// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenario files of the repository: each is read, built, and asked for its operations, all of which must be possible.

use keepahead_core::units::Nanos;
use keepahead_sim::scenario::{Scenario, ScenarioError};
use keepahead_sim::spec::{Control, Spec, TaskSpec};
use keepahead_sim::workload::Op;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const STEPS: u32 = 100_000;

#[expect(clippy::disallowed_methods, reason = "the crate reads no files; its tests read the fixtures")]
fn fixtures() -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/scenarios");
    let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = files.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    all.sort();
    all
}

fn parse(path: &Path, text: &str) -> Scenario {
    Scenario::parse(text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Plays a task with every operation taking a microsecond and checks each against the task's files; a digest of all of them.
fn play(spec: &Spec, task: &mut TaskSpec, steps: u32) -> u64 {
    let mut sizes: Vec<u64> = task.files.iter().map(|open| spec.files[open.file].bytes).collect();
    let (mut now, mut digest) = (task.start, 0u64);
    for _ in 0..steps {
        let op = task.program.next(now);
        digest = digest.wrapping_mul(31).wrapping_add(fold(&format!("{op:?}")));
        now = now + Nanos(1000);
        match op {
            Op::Read { file, offset, bytes } | Op::Write { file, offset, bytes } => {
                assert!(
                    bytes > 0 && offset + bytes <= sizes[file as usize],
                    "{}: {op:?} of {:?}",
                    task.name,
                    sizes[file as usize]
                );
            }
            Op::Fadvise { file, offset, bytes, .. } => assert!(offset + bytes <= sizes[file as usize], "{}: {op:?}", task.name),
            Op::Touch { map, page } => assert!(page < task.maps[map as usize].pages, "{}: {op:?}", task.name),
            Op::Append { file, bytes } => {
                let grown = task.files[file as usize].file;
                for (size, _) in sizes.iter_mut().zip(&task.files).filter(|(_, open)| open.file == grown) {
                    *size += bytes;
                }
            }
            Op::Think(span) => now = now + span,
            Op::Until(due) => now = now.max(due),
            Op::Phase(number) => assert!((number as usize) < spec.phases.len()),
            Op::Reopen { file } | Op::Sync { file } => assert!((file as usize) < sizes.len()),
            Op::Madvise { .. } => panic!("no program gives advice on mappings"),
            Op::End => break,
        }
    }
    digest
}

fn fold(text: &str) -> u64 {
    text.bytes().fold(14_695_981_039_346_656_037, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211))
}

#[test]
fn every_scenario_yields_what_its_files_can_answer() {
    for (path, text) in fixtures() {
        let mut spec = parse(&path, &text).spec().unwrap();
        let mut tasks = std::mem::take(&mut spec.tasks);
        for task in &mut tasks {
            play(&spec, task, STEPS);
        }
    }
}

#[test]
fn equal_scenarios_give_equal_runs() {
    for (path, text) in fixtures() {
        let digests = || -> Vec<u64> {
            let mut spec = parse(&path, &text).spec().unwrap();
            let mut tasks = std::mem::take(&mut spec.tasks);
            tasks.iter_mut().map(|task| play(&spec, task, 2000)).collect()
        };
        assert_eq!(digests(), digests(), "{}", path.display());
    }
}

#[test]
fn a_scenario_is_named_after_its_file_says_what_it_shows_and_has_bands() {
    let all = fixtures();
    assert!(all.len() >= 40, "{}", all.len());
    let mut seeds = BTreeSet::new();
    for (path, text) in all {
        let scenario = parse(&path, &text);
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("{}.toml", scenario.name));
        assert!(!scenario.shows.is_empty() && scenario.bands != Default::default());
        assert!((60.0..=180.0).contains(&scenario.duration_s), "{}", scenario.name);
        assert!(seeds.insert(scenario.seed), "{} has another's seed", scenario.name);
    }
}

#[test]
fn the_scenarios_reach_every_kind_of_program_every_kernel_and_every_happening() {
    let text: String = fixtures().into_iter().map(|(_, text)| text).collect();
    let kinds = [
        "idle",
        "sequential",
        "reverse",
        "strided",
        "random",
        "runs",
        "streams",
        "rocksdb",
        "epochs",
        "weights",
        "install",
        "log",
    ];
    for kind in kinds {
        assert!(text.contains(&format!("program.{kind} = ")), "no scenario has a program {kind}");
    }
    let benchmarks =
        ["readseq", "readrandom", "readreverse", "seekrandom", "readrandomwriterandom", "updaterandom", "mixgraph"];
    for word in benchmarks.into_iter().chain(["5.10", "6.1", "6.6", "6.12", "7.2", "mglru", "two_lists", "xfs", "btrfs", "nfs"])
    {
        // ext4, 6.18 and two lists need not be written.
        assert!(word == "two_lists" || text.contains(&format!("\"{word}\"")), "no scenario says {word}");
    }
    let happenings = ["admin_writes", "kernel_raises", "memory_limit", "degrade", "drop_caches", "sensor", "memory_pressure"];
    for what in happenings {
        assert!(
            text.contains(&format!("what.{what} = ")) || text.contains(&format!("what = \"{what}\"")),
            "no scenario has {what}"
        );
    }
    for profile in ["hdd", "sata-ssd", "nvme", "gp3", "gp2-burst", "nfs", "loop"] {
        assert!(text.contains(&format!("profile = \"{profile}\"")), "no scenario is on {profile}");
    }
}

#[test]
fn nothing_in_a_scenario_text_makes_it_panic() {
    // Every prefix of every fixture, and every line left out.
    for (_, text) in fixtures().into_iter().step_by(7) {
        for (at, _) in text.char_indices().step_by(3) {
            let _: Result<Scenario, ScenarioError> = Scenario::parse(&text[..at]);
        }
        for skipped in 0..text.lines().count() {
            let rest: Vec<&str> = text.lines().enumerate().filter(|(i, _)| *i != skipped).map(|(_, line)| line).collect();
            if let Ok(scenario) = Scenario::parse(&rest.join("\n")) {
                assert!(scenario.spec().is_ok());
            }
        }
    }
}

#[test]
fn a_phase_is_one_however_many_tasks_announce_it() {
    let scenario = parse(
        Path::new("inline"),
        r#"
        name = "two"
        shows = "A scan and lookups in turn."
        duration_s = 3
        memory_mib = 16
        [[device]]
        label = "volume"
        profile = "nvme"
        read_ahead_kb = 128
        [[files]]
        name = "data"
        size_kib = 65536
        [[task]]
        name = "scan"
        [[task.program.phases.of]]
        name = "scan"
        lasts_s = 1
        program.sequential = { files = "data" }
        [[task.program.phases.of]]
        name = "lookups"
        lasts_s = 1
        program.idle = {}
        [[task]]
        name = "lookups"
        copies = 4
        [[task.program.phases.of]]
        name = "scan"
        lasts_s = 1
        program.idle = {}
        [[task.program.phases.of]]
        name = "lookups"
        lasts_s = 1
        program.random = { files = "data" }
        "#,
    );
    let report = keepahead_sim::world::run(scenario.spec().unwrap(), &Control::Default, &()).unwrap();
    let phases: Vec<(&str, f64)> =
        report.disks[0].phases.iter().map(|p| (p.name.as_str(), p.figures.seconds.round())).collect();
    assert_eq!(phases, [("scan", 1.0), ("lookups", 1.0), ("scan", 1.0)]);
}
