// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two devices on one disk, through `step`.

use crate::device::{BdiName, Device, DeviceKind, QueueLimits};
use crate::event::{Action, Applied, DeviceTick, Input, Machine, Pattern, Proposal, Record, Tick, What};
use crate::policy::{Context, Decision, Policy};
use crate::sample::{Completeness, Counters, Sample};
use crate::settings::Settings;
use crate::step::{State, step};
use crate::units::{Kib, Nanos};

/// Wants to try 16 KiB once.
struct Once;

impl Policy for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn decide(&self, context: &Context) -> Decision {
        let (pattern, read_ahead) = (Pattern::RandomRead, Kib(16));
        if !context.may_try(read_ahead) || context.current == read_ahead {
            return Decision::Settled { pattern };
        }
        let reason = "once".into();
        Decision::Propose(Proposal { read_ahead, pattern, expected_stall_ratio: 0.5, confidence: 0.5, reason })
    }
}

#[test]
fn what_was_seen_beside_anothers_trial_on_the_same_disk_is_not_what_a_trial_is_compared_with() {
    let mut state = State::new(Settings::default(), false);
    let names = ["8:0", "8:16"].map(|name| BdiName(name.into()));
    for bdi in &names {
        let device = Device {
            bdi: bdi.clone(),
            label: bdi.0.clone(),
            kind: DeviceKind::Disk,
            identity: bdi.0.clone(),
            disks: vec!["sda".into()],
            original: Kib(128),
            limits: QueueLimits::default(),
        };
        step(&mut state, &Once, &Input::Appeared { now: Nanos(0), device, hands_off: false });
    }
    let (mut records, mut knobs): (Vec<Record>, _) = (Vec::new(), [Kib(128); 2]);
    for tick in 0..300 {
        let now = Nanos::from_millis(100 * tick);
        let counters = Counters {
            read_pages: 500 * tick,
            read_requests: 500 * tick,
            read_miss: 250 * tick,
            read_stall_ns: 90_000_000 * tick,
            ..Counters::default()
        };
        let sample = Sample { counters, completeness: Completeness::Full };
        let device = |i: usize| DeviceTick {
            bdi: names[i].clone(),
            knob: Some(knobs[i]),
            limits: QueueLimits::default(),
            writer: None,
            sample: sample.clone(),
        };
        let machine = Machine { memory_available: 1 << 30, memory_pressure: None, refaults: 0 };
        let out = step(&mut state, &Once, &Input::Tick(Tick { now, machine, devices: vec![device(0), device(1)] }));
        records.extend(out.records);
        for Action::Set { bdi, to, .. } in out.actions {
            let knob = &mut knobs[usize::from(bdi == names[1])];
            let old = *knob;
            *knob = to;
            step(
                &mut state,
                &Once,
                &Input::Applied { now, applied: Applied { bdi, old, wanted: to, read_back: to, files: Default::default() } },
            );
        }
    }
    let at = |bdi: &BdiName, what: fn(&What) -> bool| records.iter().find(|r| r.bdi == *bdi && what(&r.what)).map(|r| r.at);
    let ended = at(&names[0], |what| matches!(what, What::TrialEnded { .. })).unwrap();
    let began = at(&names[1], |what| matches!(what, What::TrialStarted { .. })).unwrap();
    assert!(began >= ended + Nanos::from_millis(2900), "ended {ended:?}, the next began {began:?}");
}
