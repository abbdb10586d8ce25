// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loop against honest devices under virtual time: where it must arrive, and how soon.

#[path = "../world/mod.rs"]
mod world;

mod others;
mod phases;

use keepahead_core::device::BdiName;
use keepahead_core::event::{Arm, Because, Input, Outcome, What};
use keepahead_core::policy::{Context, Decision, Policy};
use keepahead_core::settings::Settings;
use keepahead_core::units::{Kib, Nanos};
use keepahead_policies::learned::Learned;
use keepahead_policies::rules::Rules;
use std::cell::Cell;
use std::rc::Rc;
use world::{Load, World, device};

const SCAN: Load = Load::Sequential { iops: 1000.0, bandwidth: 400.0 };

fn noisy(_: Kib, _: f64, noise: f64) -> f64 {
    0.95 + 0.1 * noise
}

fn one(load: Load, original: u32, seed: u64) -> World {
    let mut world = World::new(Settings::default(), seed);
    world.add(device("7:0", "loop0", original), load, noisy);
    world
}

fn knob(world: &World) -> u32 {
    world.devices[&BdiName("7:0".into())].knob.0
}

/// Counts how often it is asked.
struct Asked(Rc<Cell<u32>>);

impl Policy for Asked {
    fn name(&self) -> &'static str {
        "asked"
    }

    fn decide(&self, context: &Context) -> Decision {
        self.0.set(self.0.get() + 1);
        Rules.decide(context)
    }
}

/// Two windows in a row confirm a pattern: at four ticks a second one was asked of four times.
#[test]
fn ticks_within_a_second_ask_nothing_that_the_second_has_answered() {
    let asked = |tick| {
        let (mut world, count) = (one(Load::RandomRead { iops: 3000.0 }, 128, 1), Rc::new(Cell::new(0)));
        (world.tick, world.policy) = (Nanos::from_millis(tick), Box::new(Asked(count.clone())));
        world.run(30.0);
        count.get()
    };
    let usual = asked(1000);
    assert!(usual >= 25 && asked(250) <= usual, "{usual} and {}", asked(250));
}

#[test]
fn a_sequential_scan_is_raised_until_the_bandwidth_is_reached_within_30_s() {
    for seed in 1..20 {
        let mut world = one(SCAN, 128, seed);
        world.run(30.0);
        assert!(knob(&world) >= 512, "seed {seed}: {} KiB", knob(&world));
        world.stop();
    }
}

#[test]
fn random_mmap_is_lowered_within_30_s() {
    for (seed, original) in (1..20).zip([128, 2048].into_iter().cycle()) {
        let mut world = one(Load::RandomMmap { iops: 3000.0, bandwidth: 150.0 }, original, seed);
        world.run(30.0);
        assert!(knob(&world) <= 32, "seed {seed}: {} KiB", knob(&world));
        world.stop();
    }
}

/// Faults get 18 pages a second at 8 MiB, and two at 64: that was taken for a device at rest.
#[test]
fn a_window_so_large_that_hardly_anything_is_read_is_lowered() {
    for (seed, original) in (1..20).zip([8192, 65536].into_iter().cycle()) {
        let mut world = one(Load::RandomMmap { iops: 3000.0, bandwidth: 150.0 }, original, seed);
        if seed % 4 > 1 {
            world.policy = Box::new(Learned::shipped().unwrap());
        }
        world.run(60.0);
        assert!(knob(&world) <= 32, "seed {seed}: {} KiB after {original}", knob(&world));
        // At once, not in steps: each of them would wait for seconds, and 16 KiB leaves neighbours in the cache that hide for good what a page gains.
        let to = world.records.iter().find_map(|r| match r.what {
            What::TrialStarted { to, .. } => Some(to.0),
            _ => None,
        });
        assert_eq!(to, Some(4), "seed {seed}: KiB from {original}");
        world.stop();
    }
}

#[test]
fn records_say_who_proposed_and_what_the_verdict_compared() {
    let mut world = one(Load::RandomMmap { iops: 3000.0, bandwidth: 150.0 }, 512, 3);
    world.policy = Box::new(Learned::shipped().unwrap());
    world.run(10.0);
    let mut blocks = Vec::new();
    for record in &world.records {
        match &record.what {
            What::TrialStarted { policy, .. } => assert_eq!(policy, "learned-1"),
            What::BlockEnded { block, .. } => blocks.push((block.arm, block.stall_ratio.unwrap().ln())),
            What::TrialEnded { verdict, .. } => {
                let mean = |arm| {
                    let of: Vec<f64> = blocks.iter().filter(|(a, _)| *a == arm).map(|(_, log)| *log).collect();
                    of.iter().sum::<f64>() / of.len() as f64
                };
                let (shown, stated) = ((mean(Arm::New) - mean(Arm::Old)).exp(), verdict.stall_ratio.unwrap().mean);
                assert!((shown / stated - 1.0).abs() < 1e-9, "{shown} from the blocks, {stated} in the verdict");
                return;
            }
            _ => {}
        }
    }
    panic!("no trial ended in ten seconds");
}

#[test]
fn no_trial_goes_further_than_the_configured_step() {
    for learned in [false, true] {
        let load = Load::RandomMmap { iops: 3000.0, bandwidth: 150.0 };
        let mut world = World::new(Settings { max_step: 2, ..Settings::default() }, 5);
        world.add(device("7:0", "loop0", 2048), load, noisy);
        if learned {
            world.policy = Box::new(Learned::shipped().unwrap());
        }
        world.run(300.0);
        let trials = world.records.iter().filter_map(|r| match r.what {
            What::TrialStarted { from, to, .. } => Some((from, to)),
            _ => None,
        });
        let trials: Vec<(Kib, Kib)> = trials.collect();
        assert!(trials.iter().all(|(from, to)| to.0 * 2 >= from.0 && to.0 <= from.0 * 2), "{trials:?}");
        assert!(trials.len() >= 4 && knob(&world) <= 256, "{} KiB after {trials:?}", knob(&world));
    }
}

/// Seconds from the beginning to the first trial's start and to its end.
fn first_trial(world: &World) -> (f64, f64) {
    let begin = keepahead_core::units::Nanos::from_secs(100);
    let first = |wanted: fn(&What) -> bool| {
        world.records.iter().find(|r| wanted(&r.what)).map_or(f64::NAN, |r| r.at.since(begin).as_secs_f64())
    };
    (first(|w| matches!(w, What::TrialStarted { .. })), first(|w| matches!(w, What::TrialEnded { .. })))
}

#[test]
fn a_sure_policy_begins_after_a_second_and_one_that_cannot_say_so_after_a_whole_window() {
    let loads = [SCAN, Load::RandomMmap { iops: 3000.0, bandwidth: 150.0 }];
    for (load, seed) in loads.into_iter().zip(1..) {
        let mut sure = one(load, 128, seed);
        sure.policy = Box::new(Learned::shipped().unwrap());
        let mut rules = one(load, 128, seed);
        sure.run(30.0);
        rules.run(30.0);
        assert!(first_trial(&sure).0 <= 2.0 && first_trial(&rules).0 >= 3.0, "{load:?} {:?}", first_trial(&sure));
        assert!(sure.devices.values().all(|d| d.kept > 0), "{load:?}");
    }
}

#[test]
fn a_plain_difference_is_shown_in_short_blocks_and_a_small_one_is_not() {
    // 512 KiB a fault against 4: ten times the wait. Blocks of half a second took 3 s.
    let mut plain = one(Load::RandomMmap { iops: 3000.0, bandwidth: 150.0 }, 512, 3);
    plain.run(10.0);
    let (begun, ended) = first_trial(&plain);
    assert!(ended - begun <= 2.5, "{begun} to {ended}");
    // Whatever the window, a fault takes nearly the same.
    let mut small = World::new(Settings::default(), 3);
    let gain = |kib: Kib, _: f64, noise: f64| (0.95 + 0.1 * noise) * if kib < Kib(128) { 0.8 } else { 1.0 };
    small.add(device("7:0", "loop0", 128), Load::RandomMmap { iops: 1000.0, bandwidth: 1e6 }, gain);
    small.run(20.0);
    let blocks = small.records.iter().filter_map(|r| match &r.what {
        What::BlockEnded { block, .. } => Some(block.seconds),
        _ => None,
    });
    assert!(blocks.clone().count() > 4 && blocks.into_iter().all(|seconds| seconds >= 0.35));
}

#[test]
fn a_raised_value_whose_windows_evict_each_other_gives_way_at_once() {
    let mut world = one(SCAN, 128, 5);
    world.run(60.0);
    assert!(knob(&world) >= 512, "{} KiB", knob(&world));
    world.devices.values_mut().next().unwrap().evicts_above = Some(Kib(256));
    world.run(8.0);
    assert!(world.records.iter().any(|r| matches!(r.what, What::GaveWay { because: Because::Polluting { .. }, .. })));
    world.run(120.0);
    assert!(knob(&world) <= 256, "{} KiB", knob(&world));
    world.stop();
}

#[test]
fn what_a_raised_value_gives_way_to_below_the_original_is_checked_as_well() {
    for seed in 1..10 {
        let mut world = one(SCAN, 1024, seed);
        let evicts_above = |world: &mut World, kib| world.devices.values_mut().next().unwrap().evicts_above = kib;
        evicts_above(&mut world, Some(Kib(256)));
        world.run(60.0);
        assert!(knob(&world) <= 256, "seed {seed}: {} KiB", knob(&world));
        // Memory comes back, and a check finds that the original is better; and goes again.
        evicts_above(&mut world, None);
        world.run(1200.0);
        assert!(knob(&world) >= 1024, "seed {seed}: {} KiB", knob(&world));
        evicts_above(&mut world, Some(Kib(256)));
        world.run(60.0);
        assert!(knob(&world) <= 256, "seed {seed}: {} KiB", knob(&world));
        evicts_above(&mut world, None);
        world.run(1200.0);
        assert!(knob(&world) >= 1024, "seed {seed}: {} KiB", knob(&world));
        world.stop();
    }
}

#[test]
fn what_the_windows_of_a_rejected_value_evict_is_no_fault_of_the_kept_one() {
    for seed in 1..20 {
        // Above 512 KiB windows evict each other, and a stream keeps them until its file ends.
        let mut world = one(Load::Files { iops: 1000.0, bandwidth: 4000.0, lasts: 7.0 }, 128, seed);
        world.devices.values_mut().next().unwrap().evicts_above = Some(Kib(512));
        world.run(120.0);
        let has = |wanted: fn(&What) -> bool| world.records.iter().any(|r| wanted(&r.what));
        let rejected = |what: &What| matches!(what, What::TrialEnded { to, verdict, .. } if *to > Kib(512) && verdict.outcome != Outcome::Kept);
        assert!(has(rejected), "seed {seed}: no larger value was rejected");
        assert!(!has(|what| matches!(what, What::GaveWay { .. })), "seed {seed}");
        assert!(knob(&world) >= 512, "seed {seed}: {} KiB", knob(&world));
        world.stop();
    }
}

#[test]
fn an_old_value_is_not_measured_while_nothing_shows_that_its_windows_are_back() {
    // 30 MB/s, so that a window of 8 MiB is read in 0.27 s: two ticks of three see none. They were taken for the old value's, which
    // then waited as little as the new one's.
    for seed in 1..20 {
        let mut world = one(Load::Log { pages: 7500.0 }, 128, seed);
        world.run(15.0);
        assert_eq!(knob(&world), 8192, "seed {seed}");
        world.stop();
    }
}

#[test]
fn what_is_cached_or_given_up_in_the_middle_of_a_trial_is_no_verdict_on_the_value() {
    for (seed, cached) in (1..60).map(|n| (n, n % 2 == 0)) {
        let mut world = one(Load::Log { pages: 7500.0 }, 128, seed);
        while !world.records.iter().any(|r| matches!(r.what, What::BlockEnded { .. })) {
            world.run(0.1);
        }
        // The old value is back, its windows are not.
        world.run(0.1 * (seed % 7) as f64);
        let fake = world.devices.values_mut().next().unwrap();
        match cached {
            true => fake.is_cached(),
            false => fake.load = Load::Idle,
        }
        world.run(12.0);
        let ended = world.records.iter().find_map(|r| match &r.what {
            What::TrialEnded { verdict, .. } => Some(verdict.clone()),
            _ => None,
        });
        let verdict = ended.expect("no trial goes on for ever");
        assert_eq!(verdict.outcome, Outcome::Void, "seed {seed}: {verdict:?}");
    }
}

#[test]
fn what_memory_does_not_allow_is_not_asked_for_again_and_again() {
    let mut world = one(Load::Log { pages: 7500.0 }, 128, 3);
    // 2 MiB at most, by `memory_share_percent`; and no window of that size hides the stall.
    world.memory_available = 50 << 20;
    world.run(600.0);
    let mut tried: Vec<Kib> = world
        .records
        .iter()
        .filter_map(|r| match &r.what {
            What::TrialStarted { to, .. } => Some(*to),
            _ => None,
        })
        .collect();
    let all = tried.len();
    tried.sort();
    tried.dedup();
    assert!(all == tried.len() && tried.contains(&Kib(2048)) && tried.len() >= 2, "{all} trials of {tried:?}");
}

#[test]
fn a_value_left_undecided_is_tried_once_more_and_no_more() {
    let (mut once, mut twice) = (0, 0);
    for seed in 1..30 {
        let mut world = World::new(Settings::default(), seed);
        let wild = |kib: Kib, _: f64, noise: f64| (3.0 * (noise - 0.5)).exp() * if kib < Kib(128) { 0.8 } else { 1.0 };
        world.add(device("7:0", "loop0", 128), Load::RandomMmap { iops: 1000.0, bandwidth: 1e6 }, wild);
        world.run(600.0);
        let mut trials: std::collections::BTreeMap<Kib, Vec<bool>> = Default::default();
        for record in &world.records {
            // Not the checks of what was kept.
            if let What::TrialEnded { from, to, verdict, .. } = &record.what
                && matches!(verdict.outcome, Outcome::Reverted | Outcome::Aborted)
                && *from == Kib(128)
            {
                trials.entry(*to).or_default().push(verdict.undecided);
            }
        }
        for of_value in trials.values() {
            assert!(of_value.len() <= 1 || of_value[0] && of_value.len() == 2, "seed {seed}: {of_value:?}");
            once += usize::from(of_value.len() == 1);
            twice += usize::from(of_value.len() == 2);
        }
    }
    assert!(once > 10 && twice >= 2, "{once} once, {twice} twice");
}

#[test]
fn a_reason_is_said_once_though_its_figures_move() {
    for learned in [false, true] {
        let mut world = World::new(Settings { check_share: 0.0, ..Settings::default() }, 3);
        world.add(device("7:0", "loop0", 128), SCAN, noisy);
        if learned {
            world.policy = Box::new(Learned::shipped().unwrap());
        }
        world.run(5.0);
        let seen = world.records.len();
        for second in 0..120 {
            world.memory_pressure = Some(60.0 + f64::from(second % 7));
            world.run(1.0);
        }
        let said = world.records[seen..].iter().filter(|r| matches!(r.what, What::Held { .. })).count();
        assert!((1..=3).contains(&said), "said {said} times: {:?}", &world.records[seen..]);
    }
}

#[test]
fn what_no_process_will_ever_ask_for_again_is_not_remembered() {
    let mut world = World::new(Settings::default(), 5);
    for identity in ["open-files:4711:1", "open-files:{\"name\":\"db\"}", "wwid:x"] {
        let bdi = format!("7:0/{identity}");
        world.add(keepahead_core::device::Device { identity: identity.into(), ..device(&bdi, &bdi, 128) }, SCAN, noisy);
    }
    world.run(40.0);
    let known = |world: &World| world.state.known().into_keys().collect::<Vec<_>>();
    let lasting = ["open-files:{\"name\":\"db\"}", "wwid:x"];
    assert_eq!(known(&world), lasting);
    for bdi in world.devices.keys().cloned().collect::<Vec<_>>() {
        world.feed(Input::Gone { now: world.now, bdi });
    }
    assert_eq!(known(&world), lasting);
}

#[test]
fn random_read_and_idle_are_left_alone() {
    for load in [Load::RandomRead { iops: 3000.0 }, Load::Idle] {
        let mut world = one(load, 128, 3);
        world.run(300.0);
        assert!(world.trials.is_empty() && knob(&world) == 128);
    }
}

#[test]
fn a_device_that_does_not_answer_keeps_its_value_and_trials_grow_rare() {
    let mut world = World::new(Settings::default(), 9);
    // Flat: the wait does not depend on the window.
    let flat = |kib: Kib, _: f64, noise: f64| (0.95 + 0.1 * noise) * kib.pages() as f64 / 32.0;
    world.add(device("7:0", "loop0", 128), Load::Sequential { iops: 1000.0, bandwidth: 131.0 }, flat);
    world.run(600.0);
    assert!(world.trials.values().map(Vec::len).sum::<usize>() <= 6);
    world.stop();
}

/// From `turns` seconds on, 64 pages and more cost ten times as much a page: what was proven is wrong, and demand looks as before.
fn turned(turns: f64, share: f64) -> World {
    let settings = Settings { check_share: share, ..Settings::default() };
    let mut world = World::new(settings, 5);
    let response =
        move |kib: Kib, t: f64, noise: f64| noisy(kib, t, noise) * if t > turns && kib >= Kib(256) { 10.0 } else { 1.0 };
    world.add(device("7:0", "loop0", 128), SCAN, response);
    world
}

#[test]
fn a_kept_value_that_has_become_wrong_is_noticed_and_replaced() {
    let mut world = turned(300.0, 0.01);
    world.run(190.0);
    assert!(knob(&world) >= 512, "{} KiB", knob(&world));
    world.run(1200.0);
    assert!(knob(&world) <= 128, "{} KiB", knob(&world));
    world.stop();
    let mut unchecked = turned(300.0, 0.0);
    unchecked.run(1390.0);
    assert!(knob(&unchecked) >= 512, "without checks nobody notices: {} KiB", knob(&unchecked));
}

#[test]
fn a_kept_value_is_checked_also_while_what_the_policy_wants_is_vetoed() {
    // A volume that could be served better still: the rules ask for more at every window.
    let mut world = World::new(Settings::default(), 3);
    let response =
        move |kib: Kib, t: f64, noise: f64| noisy(kib, t, noise) * if t > 60.0 && kib >= Kib(256) { 10.0 } else { 1.0 };
    world.add(device("7:0", "loop0", 128), SCAN, response);
    world.run(6.0);
    let kept = knob(&world);
    assert!(kept >= 256, "{kept} KiB");
    world.memory_pressure = Some(90.0);
    world.run(1200.0);
    assert_eq!(knob(&world), 128, "kept: {kept} KiB");
}

#[test]
fn checks_of_a_value_that_stays_right_cost_no_more_than_their_share() {
    let mut world = turned(f64::INFINITY, 0.01);
    world.run(60.0);
    let (settled, kept) = (world.now, knob(&world));
    world.run(3600.0);
    assert_eq!(knob(&world), kept);
    let mut begun = None;
    let (mut spent, mut checks) = (0.0, 0);
    for record in world.records.iter().filter(|r| r.at > settled) {
        match &record.what {
            What::TrialStarted { proposal, .. } if proposal.reason.starts_with("check") => begun = Some(record.at),
            What::TrialEnded { .. } => {
                if let Some(begun) = begun.take() {
                    (spent, checks) = (spent + record.at.since(begun).as_secs_f64(), checks + 1);
                }
            }
            _ => {}
        }
    }
    assert!(checks >= 5 && spent <= 0.01 * 3660.0, "{checks} checks took {spent} s of an hour");
}

#[test]
fn devices_on_one_disk_take_turns() {
    let mut world = World::new(Settings::default(), 5);
    let load = SCAN;
    world.add(device("253:0", "sda", 128), load, noisy);
    world.add(device("253:1", "sda", 128), load, noisy);
    world.run(120.0); // `feed` asserts that no two are on trial at once
    assert!(world.devices.values().all(|d| d.kept > 0));
}
