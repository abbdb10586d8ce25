// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripts as text and back, random ones, the shortest ones, and the transcript of golden events.

use keepahead_sim::event::{Event, RaState};
use keepahead_sim::script::random::Options;
use keepahead_sim::script::{
    Environment, Filesystem, Op, Pace, Recording, Script, compare, golden, minimise::minimise, simulate_at,
};
use keepahead_sim::spec::Generation;
use proptest::prelude::*;

fn parsed(text: &str) -> Result<Script, String> {
    text.parse::<Script>().map_err(|error| error.to_string())
}

fn state() -> impl Strategy<Value = RaState> {
    (any::<u64>(), any::<[u32; 3]>(), any::<u8>(), any::<u16>(), any::<i64>()).prop_map(
        |(start, [size, async_size, ra_pages], order, mmap_miss, prev_pos)| RaState {
            start,
            size,
            async_size,
            ra_pages,
            order,
            mmap_miss,
            prev_pos,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let (file, index) = (any::<u32>(), any::<u64>());
    (file, index, any::<u64>(), state(), 0..8).prop_map(|(file, index, count, ra, kind)| match kind {
        0 => Event::SyncRa { file, index, req_count: count, ra },
        1 => Event::AsyncRa { file, index, req_count: count, ra },
        2 => {
            let RaState { size, async_size, ra_pages, order, .. } = ra;
            Event::RaOrder { file, index, order, size, async_size, ra_pages }
        }
        3 => Event::RaUnbounded { file, index, nr_to_read: count, lookahead: ra.start },
        4 => Event::Add { file, index, order: ra.order },
        5 => Event::Delete { file, index, order: ra.order },
        6 => Event::Fault { file, index },
        _ => Event::MapPages { file, first: index, last: count },
    })
}

proptest! {
    #[test]
    fn a_script_survives_its_text(seed: u64) {
        let script = Script::random(seed, &Options::default());
        prop_assert_eq!(script.check(), Ok(()));
        prop_assert_eq!(parsed(&script.to_string()), Ok(script));
    }

    #[test]
    fn a_recording_survives_its_text(seed: u64, events in proptest::collection::vec(event(), 0..40)) {
        let script = Script::random(seed, &Options { operations: (3, 10), ..Options::default() });
        let mut steps = vec![Vec::new(); script.ops.len()];
        for (at, event) in events.into_iter().enumerate() {
            let step = at % steps.len();
            steps[step].push(event);
            // A run of folios, which shares a line.
            let order = (at % 10) as u8;
            steps[step].extend((0..at as u64).map(|n| Event::Add { file: 0, index: n << order, order }));
        }
        let environment = Environment { filesystem: Filesystem::Xfs, kernel: "6.18.44".into(), max_sectors_kb: 1280 };
        let recording = Recording { environment, script, steps };
        let read = recording.to_string().parse::<Recording>();
        prop_assert_eq!(read, Ok(recording));
    }

    #[test]
    fn text_of_any_kind_is_refused_without_a_panic(text: String) {
        let _ = text.parse::<Script>();
        let _ = text.parse::<Recording>();
        let _ = golden::parse(&text);
    }

    /// Whatever the condition, the result still meets it, and no operation can be taken away.
    #[test]
    fn the_shortest_script_still_fails(seed: u64, reads in 1usize..5) {
        let script = Script::random(seed, &Options::default());
        let count = |s: &Script| s.ops.iter().filter(|op| matches!(op, Op::Pread { .. } | Op::Touch { .. })).count();
        prop_assume!(count(&script) >= reads);
        let short = minimise(&script, 100_000, |s| count(s) >= reads);
        prop_assert_eq!(count(&short), reads);
        prop_assert_eq!(short.check(), Ok(()));
        // Each access needs at most its open and its mapping.
        prop_assert!(short.ops.len() <= 3 * reads, "{}", short);
    }
}

#[test]
fn equal_seeds_give_equal_scripts_and_others_do_not() {
    let of = |seed| Script::random(seed, &Options::default());
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

#[test]
fn random_scripts_hold_every_kind_of_operation() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let text = Script::random(seed, &Options::default()).to_string();
        let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        kinds.extend(words.map(|w| if w[0].ends_with("advise") { format!("{} {}", w[0], w[2]) } else { w[0].to_owned() }));
    }
    let wanted = ["file", "open", "close", "pread", "mmap", "munmap", "touch", "read_ahead_kb"];
    let advice = ["normal", "sequential", "random", "willneed", "dontneed"];
    let advice = advice.iter().flat_map(|a| [format!("fadvise {a}"), format!("madvise {a}")]);
    let wanted = wanted.iter().map(|w| w.to_string()).chain(advice).chain(["fadvise noreuse".into()]);
    assert_eq!(kinds, wanted.collect());
}

#[test]
fn mistakes_are_told_with_their_line() {
    let head = "read_ahead_kb 128\nfile f0 8192 # two pages\nopen d0 f0\n";
    for (line, message) in [
        ("open d0 f0", "line 4: d0 is in use: close or unmap it first"),
        ("open d1 f1", "line 4: f1: the script has 1 files, numbered from 0"),
        ("pread d1 0 1", "line 4: d1 does not exist here"),
        ("pread d0 0", "line 4: bytes is missing"),
        ("pread d0 0 x", "line 4: bytes: \"x\" is not what belongs here"),
        ("pread d0 0 1 2", "line 4: \"2\" is too much on this line"),
        ("pread d0 0 99999999999", "line 4: bytes read: 99999999999 is above 67108864"),
        ("mmap m0 d0 1 2", "line 4: 2 pages from 1 do not lie within pages 0..2"),
        ("mmap m0 d0 0 18446744073709551615", "line 4: 18446744073709551615 pages from 0 do not lie within pages 0..2"),
        ("jump", "line 4: \"jump\" is no statement of a script"),
        ("file f1 3", "line 4: files are numbered from 0 in order, before the operations; f1 is next"),
        ("fadvise d0 maybe 0 0", "line 4: advice: \"maybe\" is not what belongs here"),
    ] {
        assert_eq!(parsed(&format!("{head}{line}\n")), Err(message.to_owned()), "{line}");
    }
    assert_eq!(parsed("open d0 f0"), Err("line 1: the first statement must be read_ahead_kb".into()));
}

#[test]
fn the_golden_transcript_gives_scripts_and_events() {
    let all = golden::parse(include_str!("../../fixtures/golden/readahead-6.18.txt")).unwrap();
    assert_eq!(all.len(), 8);
    for one in &all {
        assert_eq!(one.script.check(), Ok(()), "{}", one.title);
        assert_eq!(golden::visible(&one.events), one.events);
    }
    let page_1000 = &all[1];
    assert_eq!(page_1000.script.ops[1], Op::Pread { fd: 0, offset: 1000 * 4096, bytes: 4096 });
    assert_eq!(page_1000.script.ops.last(), Some(&Op::Pread { fd: 0, offset: 1024 * 4096, bytes: 4096 }));
    assert_eq!(all[7].script.ops.len(), 102);
    assert_eq!(all[7].events[2], Event::MapPages { file: 0, first: 0, last: 15 });
}

/// What 6.18 did, recorded before there was a simulator.
#[test]
fn the_simulator_gives_the_golden_events() {
    let environment = Environment { filesystem: Filesystem::Ext4, kernel: "6.18.44".into(), max_sectors_kb: 1280 };
    for one in golden::parse(include_str!("../../fixtures/golden/readahead-6.18.txt")).unwrap() {
        let pace = if one.in_flight { Pace::InFlight } else { Pace::Settled };
        let simulated = simulate_at(pace, &one.script, &environment, Generation::V6_18).concat();
        if let Some(mismatch) = compare(&one.events, &golden::visible(&simulated)) {
            panic!("{}\n{mismatch}", one.title);
        }
    }
}
