// SPDX-License-Identifier: MIT OR Apache-2.0
//! `step` against a world that lies, drifts, collapses, fails and interferes: bounds, cool-downs, turns and restore always hold.
//! (The checks are in `world`: each action and record is held against them.)

mod world;

use keepahead_core::device::QueueLimits;
use keepahead_core::event::{Input, Writer};
use keepahead_core::settings::Settings;
use keepahead_core::units::{Kib, Nanos};
use proptest::prelude::*;
use world::{Load, World, device};

#[derive(Clone, Copy, Debug)]
enum Response {
    /// Better while young, far worse later: every trial is a lie.
    Lies,
    Drifts,
    /// Any value but the original stops the workload.
    Collapses,
    Noise,
}

#[derive(Clone, Copy, Debug)]
enum Blow {
    Nothing,
    Write(u32),
    KernelRaise,
    FailWrites(bool),
    Switch(u8),
    TakeBack,
    Pin(u8),
    Unpin,
    Pause,
    Resume,
    Vanish,
}

fn response(kind: Response, original: u32) -> impl Fn(Kib, f64, f64) -> f64 {
    move |kib, t, noise| match kind {
        Response::Lies => {
            if kib.0 == original || t % 13.0 > 6.0 {
                1.0 + noise
            } else {
                0.3 + noise
            }
        }
        Response::Drifts => 1.0 + (t / 7.0).sin().abs() * 4.0 + noise,
        Response::Collapses => {
            if kib.0 == original {
                1.0 + 0.1 * noise
            } else {
                40.0
            }
        }
        Response::Noise => (noise * 6.0 - 3.0).exp(),
    }
}

fn load(n: u8) -> Load {
    match n % 6 {
        0 => Load::Sequential { iops: 1000.0, bandwidth: 400.0 },
        1 => Load::RandomMmap { iops: 3000.0, bandwidth: 150.0 },
        2 => Load::RandomRead { iops: 3000.0 },
        3 => Load::Log { pages: 7500.0 },
        4 => Load::Files { iops: 1000.0, bandwidth: 400.0, lasts: 7.0 },
        _ => Load::Idle,
    }
}

fn strike(world: &mut World, blow: Blow) {
    let now = world.now;
    let Some((bdi, fake)) = world.devices.iter_mut().next().map(|(b, f)| (b.clone(), f)) else { return };
    match blow {
        Blow::Nothing => {}
        Blow::Write(kib) => (fake.knob, fake.writer) = (Kib(kib), Some(Writer { pid: 1, comm: "admin".into() })),
        Blow::KernelRaise => {
            fake.knob = Kib(fake.knob.0.saturating_mul(2));
            fake.limits = QueueLimits { max_sectors_kb: fake.limits.max_sectors_kb + 1, ..fake.limits };
        }
        Blow::FailWrites(fail) => fake.fail_writes = fail,
        Blow::Switch(n) => fake.load = load(n),
        Blow::TakeBack => world.feed(Input::TakeBack { now, bdi }),
        Blow::Pin(size) => world.feed(Input::Pin { now, bdi, value: Kib(4 << size) }),
        Blow::Unpin => world.feed(Input::Unpin { now, bdi }),
        Blow::Pause => world.feed(Input::Pause { now }),
        Blow::Resume => world.feed(Input::Resume { now }),
        Blow::Vanish => {
            world.devices.remove(&bdi);
            world.feed(Input::Gone { now, bdi });
        }
    }
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        6 => Just(Blow::Nothing),
        1 => (0u32..100_000).prop_map(Blow::Write),
        1 => Just(Blow::KernelRaise),
        1 => any::<bool>().prop_map(Blow::FailWrites),
        2 => any::<u8>().prop_map(Blow::Switch),
        1 => Just(Blow::TakeBack),
        1 => (0u8..10).prop_map(Blow::Pin),
        1 => Just(Blow::Unpin),
        1 => Just(Blow::Pause),
        2 => Just(Blow::Resume),
        1 => Just(Blow::Vanish),
    ]
}

fn kind() -> impl Strategy<Value = Response> {
    prop_oneof![Just(Response::Lies), Just(Response::Drifts), Just(Response::Collapses), Just(Response::Noise)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn promises_hold_in_an_adversarial_world(
        seed in any::<u64>(),
        kinds in proptest::collection::vec((kind(), 0u8..4, 2u32..13), 1..4),
        blows in proptest::collection::vec((blow(), 0.3..20.0f64), 1..12),
    ) {
        let mut world = World::new(Settings { trials_per_hour: 12, ..Settings::default() }, seed);
        for (i, (kind, n, size)) in kinds.iter().enumerate() {
            let original = 1 << size;
            // The first two share a disk.
            let disk = if i < 2 { "sda" } else { "sdb" };
            world.add(device(&format!("8:{}", i * 16), disk, original), load(*n), response(*kind, original));
        }
        for (blow, pause) in blows {
            strike(&mut world, blow);
            world.run(pause);
        }
        world.stop();
    }

    #[test]
    fn a_value_that_collapses_the_device_is_left_within_half_a_second(seed in any::<u64>(), n in 0u8..2, size in 5u32..8) {
        let original = 1 << size;
        let mut world = World::new(Settings::default(), seed);
        world.add(device("8:0", "sda", original), load(n), response(Response::Collapses, original));
        world.run(60.0);
        let fake = world.devices.values().next().unwrap();
        prop_assert_eq!(fake.kept, 0);
        prop_assert!(fake.longest_harm <= Nanos::from_millis(500), "{:?}", fake.longest_harm);
        world.stop();
    }
}
