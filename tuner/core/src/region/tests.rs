// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions by themselves, and through `step` with a workload whose stall depends on the advice in force.

use super::*;
use crate::device::{BdiName, Device, DeviceKind, QueueLimits};
use crate::event::{Action, Applied, DeviceTick, Input, Machine, Outcome, Proposal, Record, Tick, What};
use crate::policy::{Context, Decision, Policy};
use crate::settings::Settings;
use crate::step::{State, step};
use crate::units::Kib;

/// Names patterns by the mean run of faults and never wants another window, but for reads 16 KiB.
struct Named;

impl Policy for Named {
    fn name(&self) -> &'static str {
        "named"
    }

    fn decide(&self, context: &Context) -> Decision {
        let read_ahead = Kib(16);
        if context.features.mmap_share == 0.0 && context.features.demand > 25.0 && context.may_try(read_ahead) {
            let (pattern, reason) = (Pattern::ShortRuns, "reads".into());
            return Decision::Propose(Proposal { read_ahead, pattern, expected_stall_ratio: 0.5, confidence: 0.5, reason });
        }
        let pattern = match context.features {
            f if f.demand < 25.0 => Pattern::Idle,
            f if f.mmap_run > 8.0 => Pattern::Sequential,
            _ => Pattern::RandomMmap,
        };
        Decision::Settled { pattern }
    }
}

fn faults(count: u64, sequential: bool, stall_ms: u64) -> Counters {
    let (pages, seq_faults) = if sequential { (count * 16, count * 15 / 16) } else { (count, 0) };
    Counters {
        faults: count,
        mmap_pages: pages,
        seq_faults,
        mmap_miss: count / 2,
        mmap_stall_ns: stall_ms * 1_000_000,
        mmap_think_ns: count * 10_000,
        ..Counters::default()
    }
}

/// A workload of a scan in region 1 and lookups in region 0; `stall_ms` a tick is what the advice in force makes of it.
struct World {
    state: State,
    now: Nanos,
    regions: [Counters; 2],
    in_force: [Advice; 2],
    refused: bool,
    /// Stall of the scan a tick, ms, without and with random advice for the lookups.
    scan_ms: [u64; 2],
    refaults: u64,
    records: Vec<Record>,
    orders: Vec<(u32, Advice)>,
    /// The knob of the whole disk, where that is tuned too.
    disk: Option<Kib>,
}

fn on_loop0(bdi: &str, label: &str, kind: DeviceKind) -> Device {
    Device {
        bdi: BdiName(bdi.into()),
        node: None,
        label: label.into(),
        kind,
        identity: label.into(),
        disks: vec!["loop0".into()],
        original: Kib(128),
        limits: QueueLimits::default(),
    }
}

impl World {
    fn new() -> World {
        let device = on_loop0("7:0/1", "index on loop0", DeviceKind::OpenFiles);
        let mut state = State::new(Settings::default(), false);
        step(&mut state, &Named, &Input::Appeared { now: Nanos(0), device, hands_off: false });
        World {
            state,
            now: Nanos(0),
            regions: Default::default(),
            in_force: [Advice::Normal; 2],
            refused: false,
            scan_ms: [10, 10],
            refaults: 0,
            records: Vec::new(),
            orders: Vec::new(),
            disk: None,
        }
    }

    fn beside_the_disk() -> World {
        let mut world = World { disk: Some(Kib(128)), ..World::new() };
        let device = on_loop0("7:0", "loop0", DeviceKind::Disk);
        world.feed(Input::Appeared { now: Nanos(0), device, hands_off: false });
        world
    }

    /// Its reads wait the same whatever the value.
    fn disk_tick(&self, knob: Kib) -> DeviceTick {
        let ticks = self.now.0 / 100_000_000;
        let counters = Counters {
            read_pages: 500 * ticks,
            read_requests: 500 * ticks,
            read_miss: 250 * ticks,
            read_stall_ns: 90_000_000 * ticks,
            ..Counters::default()
        };
        let sample = Sample { counters, completeness: Completeness::Full };
        DeviceTick { bdi: BdiName("7:0".into()), knob: Some(knob), limits: QueueLimits::default(), writer: None, sample }
    }

    /// 100 ms: the stall and refaults of it, by the advice in force; lookups are sequential too where `alike`.
    fn tick(&mut self, alike: bool, costs: impl Fn([Advice; 2]) -> (u64, u64)) {
        self.now = self.now + Nanos::from_millis(100);
        let (stall, refaults) = costs(self.in_force);
        self.regions[0] = self.regions[0].plus(&faults(100, alike, stall));
        self.regions[1] =
            self.regions[1].plus(&faults(100, true, self.scan_ms[usize::from(self.in_force[0] == Advice::Random)]));
        self.refaults += refaults;
        let (bdi, whole) = (BdiName("7:0/1".into()), self.regions[0].plus(&self.regions[1]));
        let region = |region: usize| RegionTick {
            region: region as u32,
            counters: self.regions[region],
            in_force: Some(self.in_force[region]),
            refused: self.refused,
        };
        self.feed(Input::Regions { now: self.now, bdi: bdi.clone(), regions: vec![region(0), region(1)] });
        let sample = Sample { counters: whole, completeness: Completeness::Full };
        let device = DeviceTick { bdi, knob: None, limits: QueueLimits::default(), writer: None, sample };
        let machine = Machine { memory_available: 1 << 30, memory_pressure: None, refaults: self.refaults };
        let devices = self.disk.map(|knob| self.disk_tick(knob)).into_iter().chain([device]).collect();
        self.feed(Input::Tick(Tick { now: self.now, machine, devices }));
    }

    fn feed(&mut self, input: Input) {
        let out = step(&mut self.state, &Named, &input);
        self.records.extend(out.records);
        for Action::Set { bdi, to, .. } in out.actions {
            let old = self.disk.replace(to).expect("the window is nobody's business here");
            let applied = Applied { bdi, old, wanted: to, read_back: to, files: Default::default() };
            self.feed(Input::Applied { now: self.now, applied });
        }
        for order in out.advice {
            self.orders.push((order.region, order.advice));
            if !self.refused {
                self.in_force[order.region as usize] = order.advice;
            }
        }
    }

    /// On a busy machine waits are all over the place, whatever the advice.
    fn busy_tick(&mut self) {
        let long = (self.now.0 / 700_000_000).is_multiple_of(2);
        self.tick(false, |_| (if long { 110 } else { 20 }, 0));
    }

    fn run(&mut self, seconds: u64, costs: impl Fn([Advice; 2]) -> (u64, u64)) {
        (0..seconds * 10).for_each(|_| self.tick(false, &costs));
    }

    /// Region and advice, in words, and outcome of each trial.
    fn ended(&self) -> Vec<(String, Outcome)> {
        let ended = |r: &Record| match &r.what {
            What::TrialEnded { verdict, .. } => Some((verdict.reason.clone(), verdict.outcome)),
            _ => None,
        };
        self.records.iter().filter_map(ended).collect()
    }
}

#[test]
fn advice_that_helps_the_whole_workload_is_kept_the_scan_first() {
    let mut world = World::new();
    // The scan's pages leave early, and the lookups find theirs.
    world.run(60, |advice| (if advice[1] == Advice::Sequential { 10 } else { 60 }, 0));
    let ended = world.ended();
    assert!(ended[0].0.starts_with("region 1 sequential: ") && ended[0].1 == Outcome::Kept, "{ended:?}");
    assert!(ended.iter().skip(1).all(|(reason, outcome)| reason.starts_with("region 0 random") && *outcome != Outcome::Kept));
    assert_eq!(world.in_force, [Advice::Normal, Advice::Sequential]);
}

#[test]
fn advice_that_does_not_help_is_taken_back_and_not_tried_again() {
    let mut world = World::new();
    world.run(300, |_| (50, 0));
    assert_eq!(world.in_force, [Advice::Normal; 2]);
    let ended = world.ended();
    let of = |region: &str| ended.iter().filter(|(reason, _)| reason.starts_with(region)).count();
    assert_eq!((of("region 0 random"), of("region 1 sequential"), ended.len()), (1, 1, 2), "{ended:?}");
    assert!(ended.iter().all(|(_, outcome)| *outcome == Outcome::Reverted), "{ended:?}");
}

#[test]
fn sequential_advice_whose_gain_a_disturbance_has_hidden_is_tried_again_before_any_other() {
    let mut world = World::new();
    while world.ended().is_empty() {
        world.busy_tick();
    }
    // Random advice for the lookups would be kept now, if it were tried first.
    let gains = |advice: [Advice; 2]| if advice == [Advice::Normal; 2] { (60, 0) } else { (10, 0) };
    world.run(60, gains);
    let ended = world.ended();
    assert_eq!(ended[0].1, Outcome::Reverted, "{ended:?}");
    assert_eq!(world.in_force, [Advice::Normal, Advice::Sequential], "{ended:?}");
}

#[test]
fn sequential_advice_is_not_compared_with_seconds_of_anothers_trial_on_the_disk() {
    let mut world = World::beside_the_disk();
    world.run(30, |_| (60, 0));
    let at = |label: &str, what: fn(&What) -> bool| {
        world.records.iter().find(|r| r.label == label && what(&r.what)).map_or(f64::NAN, |r| r.at.as_secs_f64())
    };
    let ended = at("loop0", |what| matches!(what, What::TrialEnded { .. }));
    let began = at("index on loop0", |what| matches!(what, What::TrialStarted { .. }));
    assert!(began >= ended + 3.0, "ended at {ended} s, the next began at {began} s");
}

#[test]
fn what_stays_open_is_tried_three_times() {
    let mut world = World::new();
    (0..6000).for_each(|_| world.busy_tick());
    let ended = world.ended();
    let sequential = ended.iter().filter(|(reason, _)| reason.starts_with("region 1 sequential")).count();
    assert_eq!(sequential, 3, "{ended:?}");
    assert!(ended[2].0.starts_with("region 0 random"), "{ended:?}");
    assert_eq!(world.in_force[1], Advice::Normal);
}

#[test]
fn a_last_repeat_waits_for_what_was_never_tried() {
    let region = |pattern, repeat| Region { pattern: Some(pattern), repeat, ..Region::new(Nanos(0)) };
    let proposed = |after| {
        let scan = region(Pattern::Sequential, Some(Repeat { at: Nanos(0), after }));
        let all = BTreeMap::from([(0, region(Pattern::RandomMmap, None)), (1, scan)]);
        Regions { all, ..Regions::default() }.propose(Pattern::Idle).unwrap().0.region
    };
    assert_eq!((proposed(1), proposed(2)), (1, 0));
}

#[test]
fn a_gain_that_is_paid_for_with_refaults_is_none() {
    let mut world = World::new();
    world.run(60, |advice| match advice[0] {
        Advice::Random => (20, 80),
        _ => (60, 10),
    });
    let ended = world.ended();
    let random = ended.iter().find(|(reason, _)| reason.starts_with("region 0")).unwrap();
    assert!(random.1 == Outcome::Reverted && random.0.contains("refaults rose"), "{ended:?}");
    assert_eq!(world.in_force[0], Advice::Normal);
}

#[test]
fn what_gets_worse_once_the_cache_has_turned_over_is_taken_back() {
    let mut world = World::new();
    let helps = |advice: [Advice; 2]| (if advice[1] == Advice::Sequential { 10 } else { 60 }, 0);
    while world.ended().is_empty() {
        world.tick(false, helps);
    }
    assert_eq!(world.in_force[1], Advice::Sequential);
    world.run(25, |advice| (if advice[1] == Advice::Sequential { 90 } else { 60 }, 0));
    assert_eq!(world.in_force[1], Advice::Normal);
    let why = world.records.iter().find_map(|r| match &r.what {
        What::RegionAdvised { region: 1, advice: Advice::Normal, why } => Some(why.clone()),
        _ => None,
    });
    assert!(why.unwrap().contains("times that before"));
}

#[test]
fn a_pause_is_no_probation_passed() {
    let mut world = World::new();
    while world.ended().is_empty() {
        world.tick(false, |advice| (if advice[1] == Advice::Sequential { 10 } else { 60 }, 0));
    }
    let harms = |advice: [Advice; 2]| (if advice[1] == Advice::Sequential { 90 } else { 60 }, 0);
    world.feed(Input::Pause { now: world.now });
    world.run(60, harms);
    assert_eq!(world.in_force[1], Advice::Sequential);
    world.feed(Input::Resume { now: world.now });
    world.run(15, harms);
    assert_eq!(world.in_force[1], Advice::Normal);
}

/// The scan gains so much that the whole looks better, at the price of the lookups' hot pages.
#[test]
fn random_advice_must_not_cost_its_own_region_more_than_before() {
    let mut world = World::new();
    world.scan_ms = [60, 5];
    let mut kept = None;
    for _ in 0..900 {
        let age = kept.map_or(0.0, |at: Nanos| world.now.since(at).as_secs_f64());
        world.tick(false, |advice| match advice[0] {
            Advice::Random if age > 5.0 => (90, 0),
            Advice::Random => (30, 0),
            _ => (60, 0),
        });
        if kept.is_none() && world.ended().iter().any(|(_, outcome)| *outcome == Outcome::Kept) {
            kept = Some(world.now);
        }
    }
    assert_eq!(world.in_force[0], Advice::Normal);
    let why = world.records.iter().find_map(|r| match &r.what {
        What::RegionAdvised { why, .. } => Some(why.clone()),
        _ => None,
    });
    assert!(why.unwrap().contains("its own stall"), "kept at {kept:?}");
}

#[test]
fn one_pattern_is_the_windows_affair() {
    let mut world = World::new();
    (0..600).for_each(|_| world.tick(true, |_| (60, 0)));
    assert!(world.orders.is_empty() && world.ended().is_empty());
}

#[test]
fn a_region_that_is_read_in_another_way_loses_its_advice() {
    let mut world = World::new();
    world.run(60, |advice| (if advice[0] == Advice::Random { 10 } else { 60 }, 0));
    assert_eq!(world.in_force[0], Advice::Random);
    // A second trial of the scan may have begun, and takes 20 s.
    (0..300).for_each(|_| world.tick(true, |_| (60, 0)));
    assert_eq!(world.in_force[0], Advice::Normal);
}

#[test]
fn a_process_that_does_not_take_orders_gets_no_more() {
    let mut world = World::new();
    world.refused = true;
    world.run(60, |_| (60, 0));
    assert!(world.orders.is_empty(), "refused before: nothing is asked of it");

    let mut deaf = World::new();
    while deaf.now < Nanos::from_secs(90) {
        deaf.tick(false, |_| (60, 0));
        deaf.in_force = [Advice::Normal; 2];
    }
    assert!(deaf.ended().iter().all(|(_, outcome)| *outcome == Outcome::Void), "{:?}", deaf.ended());
    assert_eq!(deaf.orders.iter().filter(|(_, advice)| *advice != Advice::Normal).count(), 2, "each advice once");
}

#[test]
fn a_pause_ends_a_trial_and_takes_its_advice_back() {
    let mut world = World::new();
    while world.orders.is_empty() {
        world.tick(false, |_| (60, 0));
    }
    world.feed(Input::Pause { now: world.now });
    assert_eq!(world.in_force, [Advice::Normal; 2]);
    world.run(10, |_| (60, 0));
    assert_eq!(world.in_force, [Advice::Normal; 2]);
}

#[test]
fn states_of_before_regions_are_still_read() {
    let state = World::new().state;
    let mut json = serde_json::to_value(&state).unwrap();
    for device in json["devices"].as_object_mut().unwrap().values_mut() {
        assert!(device.as_object_mut().unwrap().remove("regions").is_some());
    }
    assert_eq!(serde_json::from_value::<State>(json).unwrap(), state);
}

#[test]
fn a_second_trial_that_the_process_does_not_take_is_the_last() {
    let mut world = World::new();
    while world.ended().is_empty() {
        world.busy_tick();
    }
    // It has left open whether it helps: a second trial follows, with a process that has gone deaf.
    while world.now < Nanos::from_secs(300) {
        world.busy_tick();
        world.in_force = [Advice::Normal; 2];
    }
    let (ended, orders) = (world.ended(), world.orders.iter().filter(|(_, advice)| *advice == Advice::Sequential).count());
    assert_eq!((ended[0].1, ended[1].1, orders), (Outcome::Reverted, Outcome::Void, 2), "{ended:?}");
}
