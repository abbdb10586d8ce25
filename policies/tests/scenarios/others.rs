// SPDX-License-Identifier: MIT OR Apache-2.0
//! A person and the kernel, who write the knob too.

use super::world::{Load, World};
use super::{SCAN, knob, one, turned};
use keepahead_core::device::{BdiName, QueueLimits};
use keepahead_core::event::{Because, Input, What, Writer};
use keepahead_core::settings::Settings;
use keepahead_core::units::Kib;

#[test]
fn a_person_wins_until_taken_back() {
    let mut world = one(SCAN, 128, 5);
    world.run(4.5);
    assert!(world.state.on_trial());
    let fake = world.devices.values_mut().next().unwrap();
    (fake.knob, fake.writer) = (Kib(64), Some(Writer { pid: 42, comm: "tuned".into() }));
    world.run(60.0);
    assert_eq!(knob(&world), 64);
    assert!(world.records.iter().any(|r| matches!(&r.what, What::HandsOff { writer: Some(w), .. } if w.comm == "tuned")));
    // Windows of open files are given over theirs, and give it back.
    let original = |world: &World| world.state.devices().next().unwrap().device.original;
    assert_eq!(original(&world), Kib(64));
    world.devices.values_mut().next().unwrap().knob = Kib(1024);
    world.run(2.0);
    assert_eq!(original(&world), Kib(1024));
    world.devices.values_mut().next().unwrap().knob = Kib(64);
    world.run(2.0);
    let now = world.now;
    world.feed(Input::TakeBack { now, bdi: BdiName("7:0".into()) });
    world.run(60.0);
    assert!(knob(&world) >= 256, "{} KiB", knob(&world));
}

#[test]
fn a_pinned_device_is_left_alone_and_goes_back_to_what_it_had() {
    let mut world = one(SCAN, 128, 5);
    world.run(4.5);
    assert!(world.state.on_trial());
    let (now, bdi) = (world.now, BdiName("7:0".into()));
    world.feed(Input::Pin { now, bdi: bdi.clone(), value: Kib(32) });
    assert_eq!(knob(&world), 32);
    let before = world.records.len();
    world.run(60.0);
    assert_eq!(knob(&world), 32);
    assert!(!world.records[before..].iter().any(|r| matches!(r.what, What::TrialStarted { .. })));
    let now = world.now;
    world.feed(Input::Unpin { now, bdi });
    assert_eq!(knob(&world), 128);
    world.run(60.0);
    assert!(knob(&world) >= 256, "{} KiB", knob(&world));
}

#[test]
fn a_kept_value_that_a_pin_interrupts_is_checked_afterwards_as_before() {
    let mut world = turned(60.0, 0.01);
    world.run(40.0);
    let kept = knob(&world);
    assert!(kept >= 512, "{kept} KiB");
    let bdi = BdiName("7:0".into());
    world.feed(Input::Pin { now: world.now, bdi: bdi.clone(), value: Kib(64) });
    world.run(30.0);
    world.feed(Input::Unpin { now: world.now, bdi });
    assert_eq!(knob(&world), kept);
    world.run(1200.0);
    assert!(knob(&world) <= 128, "it has become wrong meanwhile: {} KiB", knob(&world));
}

#[test]
fn a_kept_value_that_new_bounds_leave_out_gives_way_to_the_original() {
    let mut world = one(SCAN, 128, 5);
    world.run(40.0);
    assert!(knob(&world) >= 512, "{} KiB", knob(&world));
    let settings = Settings { ceiling: Kib(256), ..Settings::default() };
    world.feed(Input::Settings { now: world.now, settings: Box::new(settings) });
    world.run(1.0);
    assert_eq!(knob(&world), 128);
    assert!(world.records.iter().any(|r| matches!(r.what, What::GaveWay { because: Because::Bounds { .. }, .. })));
    world.run(60.0);
    assert_eq!(knob(&world), 256, "what the bounds leave is tried");
}

#[test]
fn a_value_that_could_not_be_put_back_is_put_back_when_it_can_be() {
    let mut world = one(SCAN, 128, 5);
    while !world.state.on_trial() {
        world.run(0.1);
    }
    assert!(knob(&world) > 128);
    world.devices.values_mut().next().unwrap().fail_writes = true;
    world.run(600.0);
    let left = knob(&world);
    assert!(left > 128, "a trial's value is left behind");
    let before = world.records.len();
    assert!(!world.state.on_trial());
    world.devices.values_mut().next().unwrap().fail_writes = false;
    world.run(61.0);
    let began = |r: &keepahead_core::event::Record| matches!(r.what, What::TrialStarted { from, .. } if from != Kib(128));
    assert!(!world.records[before..].iter().any(began), "nothing is tried from there");
    let applied = world.records[before..].iter().find_map(|r| match &r.what {
        What::Applied { applied } => Some(applied.wanted),
        _ => None,
    });
    assert_eq!(applied, Some(Kib(128)));
}

#[test]
fn a_pin_that_could_not_be_written_is_tried_again_as_one() {
    let mut world = one(Load::Idle, 128, 5);
    world.run(4.5);
    world.devices.values_mut().next().unwrap().fail_writes = true;
    let (now, bdi) = (world.now, BdiName("7:0".into()));
    world.feed(Input::Pin { now, bdi, value: Kib(32) });
    assert_eq!(knob(&world), 128);
    world.devices.values_mut().next().unwrap().fail_writes = false;
    world.run(2.0);
    assert_eq!(knob(&world), 32);
    assert!(world.state.devices().all(|d| d.pinned()));
}

#[test]
fn a_pin_outlasts_the_kernel_and_one_after_it_goes_back_to_what_was_before_both() {
    let mut world = one(Load::Idle, 128, 5);
    world.run(4.5);
    let bdi = BdiName("7:0".into());
    world.feed(Input::Pin { now: world.now, bdi: bdi.clone(), value: Kib(32) });
    world.run(1.0);
    let fake = world.devices.values_mut().next().unwrap();
    fake.knob = Kib(8192);
    fake.limits = QueueLimits { max_sectors_kb: 8192, ..QueueLimits::default() };
    world.run(3.0);
    assert_eq!(knob(&world), 32);
    world.feed(Input::Pin { now: world.now, bdi: bdi.clone(), value: Kib(64) });
    world.run(1.0);
    world.feed(Input::Unpin { now: world.now, bdi: bdi.clone() });
    assert_eq!(knob(&world), 128);
    // Also where it is the original, as after an order to put every original back.
    world.feed(Input::Pin { now: world.now, bdi, value: Kib(128) });
    let fake = world.devices.values_mut().next().unwrap();
    fake.knob = Kib(5120);
    fake.limits = QueueLimits { max_sectors_kb: 5120, ..QueueLimits::default() };
    world.run(3.0);
    assert_eq!(knob(&world), 128);
}

#[test]
fn a_pause_ends_the_trial_and_holds_until_resume() {
    let mut world = one(SCAN, 128, 5);
    world.run(4.5);
    assert!(world.state.on_trial());
    world.feed(Input::Pause { now: world.now });
    assert_eq!(knob(&world), 128);
    world.run(60.0);
    assert_eq!(knob(&world), 128);
    assert!(!world.state.on_trial());
    world.feed(Input::Resume { now: world.now });
    world.run(60.0);
    assert!(knob(&world) >= 256, "{} KiB", knob(&world));
}

#[test]
fn a_limit_update_of_the_kernel_is_not_taken_for_a_person() {
    let mut world = one(Load::RandomMmap { iops: 3000.0, bandwidth: 150.0 }, 128, 5);
    world.run(30.0);
    let kept = knob(&world);
    let fake = world.devices.values_mut().next().unwrap();
    fake.knob = Kib(1024);
    fake.limits = QueueLimits { max_sectors_kb: 512, ..QueueLimits::default() };
    world.run(3.0);
    assert_eq!(knob(&world), kept);
    assert!(world.records.iter().any(|r| matches!(r.what, What::KernelRaised { .. })));
    assert!(!world.records.iter().any(|r| matches!(r.what, What::HandsOff { .. })));
}

#[test]
fn a_limit_update_in_a_trial_brings_the_proven_value_back_and_not_the_candidate() {
    let mut world = one(Load::Sequential { iops: 1000.0, bandwidth: 4000.0 }, 128, 5);
    let second = |world: &World| {
        world.records.iter().rev().find_map(|r| match r.what {
            What::TrialStarted { trial: 2, from, to, .. } => Some((from, to)),
            _ => None,
        })
    };
    for _ in 0..1000 {
        if second(&world).is_none() {
            world.run(0.1);
        }
    }
    let (proven, candidate) = second(&world).expect("a second trial");
    assert!(proven > Kib(128) && knob(&world) == candidate.0);
    let fake = world.devices.values_mut().next().unwrap();
    fake.knob = Kib(16384);
    fake.limits = QueueLimits { optimal_io_bytes: 8 << 20, ..QueueLimits::default() };
    world.run(1.0);
    // At once: each rewrite is one of the few that are allowed.
    let raised = world.records.iter().position(|r| matches!(r.what, What::KernelRaised { .. })).expect("seen");
    let written = world.records[raised..].iter().find_map(|r| match &r.what {
        What::Applied { applied } => Some(applied.wanted),
        _ => None,
    });
    assert_eq!((written, knob(&world)), (Some(proven), proven.0));
}
