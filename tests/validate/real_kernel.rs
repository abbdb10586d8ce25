// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorder and the executor against the running kernel.

use keepahead::cli::Exit;
use keepahead::cli::output::Format;
use keepahead::cli::sim::validate::{ValidateArgs, Where, run};
use keepahead::validate::{Session, ValidateError};
use keepahead_sim::event::Event;
use keepahead_sim::script::random::Options;
use keepahead_sim::script::{Filesystem, Recording, Script, compare, golden};
use std::path::Path;

/// A session, or a word why there is none here.
fn session(filesystem: Filesystem) -> Option<Session> {
    if let Some(why) = Session::unavailable(filesystem) {
        println!("skipped: {why}");
        return None;
    }
    match Session::open(filesystem, 300) {
        Ok(session) => Some(session),
        Err(error @ ValidateError::Recorder(_)) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn recorded(session: &mut Session, text: &str) -> Recording {
    session.record(&text.parse().unwrap()).unwrap()
}

#[test]
fn the_golden_scripts_give_the_golden_events_again() {
    let Some(mut session) = session(Filesystem::Ext4) else { return };
    let kernel = &session.environment().kernel;
    if !kernel.starts_with("6.18.") {
        println!("skipped: the golden events are those of Linux 6.18, this is {kernel}");
        return;
    }
    for one in golden::parse(include_str!("../../fixtures/golden/readahead-6.18.txt")).unwrap() {
        let mut run = || match one.in_flight {
            true => session.record_hurried(&one.script).unwrap(),
            false => session.record(&one.script).unwrap().events(),
        };
        // What is in flight at a touch is a matter of microseconds: one run of some must be the golden one.
        let runs = if one.in_flight { 20 } else { 1 };
        let differences: Vec<_> = (0..runs).map_while(|_| compare(&one.events, &golden::visible(&run()))).collect();
        if one.in_flight {
            println!("{}: golden after {} other runs", one.title, differences.len());
        }
        assert!(differences.len() < runs, "{}\n{}", one.title, differences[0]);
    }
}

/// What the events add to the cache less what they take away is what reads found missing, so a second pass adds nothing.
#[test]
fn a_file_read_twice_is_added_once() {
    for filesystem in Filesystem::ALL {
        let Some(mut session) = session(filesystem) else { return };
        let text = "read_ahead_kb 128\nfile f0 1000000\nopen d0 f0\npread d0 0 1000000\npread d0 0 1000000\n";
        let recording = recorded(&mut session, text);
        let pages = |step: &[Event]| -> u64 {
            step.iter().map(|event| if let Event::Add { order, .. } = event { 1 << order } else { 0 }).sum()
        };
        assert_eq!(pages(&recording.steps[1]), 1_000_000u64.div_ceil(4096), "{recording}");
        assert_eq!(recording.steps[2], []);
    }
}

#[test]
fn every_call_of_a_script_does_what_it_says() {
    let Some(mut session) = session(Filesystem::Xfs) else { return };
    let text = "read_ahead_kb 64\nfile f0 4194304\nfile f1 4194304\n\
        open d0 f0\nread_ahead_kb 256\nopen d1 f1\n\
        pread d0 0 1\npread d1 0 1\n\
        fadvise d0 dontneed 0 0\nfadvise d1 random 0 0\npread d1 2000000 8192\n\
        mmap m0 d1 16 512\nmadvise m0 random 16 512\ntouch m0 300\nmadvise m0 normal 16 512\ntouch m0 100\n\
        fadvise d0 willneed 409600 40960\nmunmap m0\nclose d1\n";
    let recording = recorded(&mut session, text);
    let step = |text: &str| {
        let at = recording.script.ops.iter().position(|op| op.to_string() == text).unwrap();
        recording.steps[at].as_slice()
    };
    // ra_pages is copied at open(2).
    for (op, pages, number) in [("pread d0 0 1", 16, 0), ("pread d1 0 1", 64, 1)] {
        let [Event::SyncRa { file, ra, .. }, ..] = step(op) else { panic!("{recording}") };
        assert_eq!((ra.ra_pages, *file), (pages, number));
    }
    assert!(step("fadvise d0 dontneed 0 0").iter().all(|event| matches!(event, Event::Delete { file: 0, .. })));
    assert!(!step("fadvise d0 dontneed 0 0").is_empty());
    // FMODE_RANDOM and VM_RAND_READ: what is asked for, no window.
    let added = |op| step(op).iter().filter(|event| matches!(event, Event::Add { .. })).count();
    assert_eq!(added("pread d1 2000000 8192"), 3);
    assert_eq!(added("touch m0 300"), 1);
    let window = |event: &Event| matches!(event, Event::RaOrder { index: 68, size: 64, .. });
    assert!(step("touch m0 100").iter().any(window), "{recording}");
    assert_eq!(added("fadvise d0 willneed 409600 40960"), 10);
}

/// Nothing but the script decides: else no simulator could be right.
#[test]
fn scripts_give_the_same_events_twice() {
    for filesystem in Filesystem::ALL {
        let Some(mut session) = session(filesystem) else { return };
        let scripts = (0..50).map(|seed| Script::random(seed, &Options::default()));
        let differ = scripts.filter(|script| session.record(script).unwrap() != session.record(script).unwrap()).count();
        // A host that takes the CPU away at the wrong moment can do that to one.
        assert!(differ <= 1, "{differ} of 50 on {filesystem:?}");
    }
}

fn arguments(save: &Path) -> ValidateArgs {
    ValidateArgs {
        scripts: 3,
        seed: 1,
        filesystem: Where::Ext4,
        keep_going: false,
        script: Vec::new(),
        save: save.into(),
        record: None,
    }
}

/// A simulator in which nothing ever happens: the difference comes down to one read of one page.
#[test]
fn a_mismatch_becomes_a_short_fixture() {
    if session(Filesystem::Ext4).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("long");
    let reads: String = (0..60).map(|n| format!("pread d1 {} 9000\nfadvise d0 normal 0 0\n", n * 4096)).collect();
    let text = format!("read_ahead_kb 128\nfile f0 1\nfile f1 1048577\nopen d0 f0\nopen d1 f1\n{reads}close d0\n");
    std::fs::write(&script, text).unwrap();
    let args = ValidateArgs { script: vec![script], ..arguments(dir.path()) };
    assert_eq!(run(&args, Format::Text, |_, _| Vec::new()).unwrap(), Exit::Failure);
    let shortest: Recording = std::fs::read_to_string(dir.path().join("long.script")).unwrap().parse().unwrap();
    assert_eq!(shortest.script.files.len(), 1);
    let ops: Vec<String> = shortest.script.ops.iter().map(|op| op.to_string()).collect();
    assert!(matches!(ops.as_slice(), [open, read] if open == "open d1 f0" && read.ends_with(" 4096")), "{shortest}");
    assert!(matches!(shortest.steps[1][..], [Event::SyncRa { .. }, ..]), "{shortest}");
}

/// What was recorded is what a simulator that is right would give.
#[test]
fn equal_events_are_counted_as_identical() {
    if session(Filesystem::Ext4).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let record = ValidateArgs { record: Some(dir.path().into()), ..arguments(dir.path()) };
    assert_eq!(run(&record, Format::Text, |_, _| Vec::new()).unwrap(), Exit::Ok);
    let recordings = std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.path());
    let recordings: Vec<Recording> = recordings.map(|path| std::fs::read_to_string(path).unwrap().parse().unwrap()).collect();
    assert_eq!(recordings.len(), 3);
    let right = |script: &Script, _: &_| recordings.iter().find(|r| r.script == *script).map_or(Vec::new(), Recording::events);
    assert_eq!(run(&arguments(dir.path()), Format::Json, right).unwrap(), Exit::Ok);
}

#[test]
fn nothing_is_left_on_the_machine() {
    let Some(session) = session(Filesystem::Ext4) else { return };
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mine = format!("keepahead-testbed-{}-", std::process::id());
    assert!(mounts().contains(&mine));
    drop(session);
    assert!(!mounts().contains(&mine));
}

/// 50 random scripts on each file system. Windows of more than 256 pages are several requests, and what of them is there when the
/// faulting task wakes is a race: scripts with such windows are left to `keepahead sim validate`, which looks many times.
#[test]
fn random_scripts_give_the_simulator_s_events() {
    use keepahead_sim::script::{Op, simulate};
    use keepahead_sim::spec::Generation;
    for filesystem in Filesystem::ALL {
        let Some(mut session) = session(filesystem) else { return };
        let environment = session.environment().clone();
        let Some(generation) = Generation::of_release(&environment.kernel) else {
            println!("skipped: {} is older than what is simulated", environment.kernel);
            return;
        };
        let small = |script: &Script| {
            let largest = script.ops.iter().map(|op| if let Op::ReadAheadKb(kib) = op { *kib } else { 0 }).max();
            script.read_ahead_kb.max(largest.unwrap_or(0)) <= 512
        };
        for script in (1..).map(|seed| Script::random(seed, &Options::default())).filter(small).take(50) {
            let simulated = simulate(&script, &environment, generation).concat();
            // The kernel may begin a fault anew, and then says twice that it mapped the same pages (seen once, on 6.18). What the simulator
            // gets wrong it gets wrong again.
            let mut look = || compare(&session.record(&script).unwrap().events(), &simulated);
            if let Some(mismatch) = look().and_then(|_| look()) {
                panic!("{} on {}:\n{mismatch}\n{script}", environment.kernel, filesystem.name());
            }
        }
    }
}
