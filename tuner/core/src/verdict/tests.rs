// SPDX-License-Identifier: MIT OR Apache-2.0
//! Simulated blocks in, verdicts out: errors stay where they are stated, and each condition that prevents a keep does so. Whole trials
//! under worse noise are in `benches/verify`.

use super::*;
use crate::order::{next_arm, seed};

/// A small generator, so that the pure crate needs no dependency for noise: xorshift64*, Box-Muller.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
    fn block(&mut self, log_stall: f64, spread: f64) -> Comparison {
        Comparison {
            log_stall: log_stall + spread * self.normal(),
            hit_change: 0.01 * self.normal(),
            hit_variance: 0.0,
            mapped: 0.0,
        }
    }
}

fn seen<'a>(blocks: &'a [Measured], before: &'a [Comparison]) -> Seen<'a> {
    Seen { blocks, before, one_way: false, only_a_second: false, others: &[], delivered: &[], wasted: 0.0, stale: 0.0 }
}

/// Blocks in the order of a trial's coin until they are judged. `effect`: of the new value on a block's log stall, by its number.
fn run(trial: u64, noise: &mut Noise, spread: f64, effect: impl Fn(usize, Arm) -> f64) -> Verdict {
    run_with(trial, noise, spread, 0.0, effect)
}

/// The same where this share of windows is of files that keep an old value.
fn run_with(trial: u64, noise: &mut Noise, spread: f64, stale: f64, effect: impl Fn(usize, Arm) -> f64) -> Verdict {
    let before = [noise.block(0.0, spread), noise.block(0.0, spread), noise.block(0.0, spread)];
    let (mut blocks, mut arms) = (Vec::new(), Vec::new());
    loop {
        let (arm, tossed) = next_arm(seed(trial, trial), &arms);
        blocks.push(Measured { arm, tossed, against: noise.block(effect(arms.len(), arm), spread) });
        arms.push(arm);
        if let Finding::Decided(verdict) = judge(&Seen { stale, ..seen(&blocks, &before) }, &TrialSettings::default()) {
            return verdict;
        }
    }
}

fn constant(effect: f64) -> impl Fn(usize, Arm) -> f64 {
    move |_, arm| if arm == Arm::New { effect } else { 0.0 }
}

#[test]
fn a_halved_stall_is_kept_where_any_gain_may_be() {
    let settings = TrialSettings { min_gain: 0.0, ..TrialSettings::default() };
    let mut noise = Noise(7);
    let (mut blocks, mut arms) = (Vec::new(), Vec::new());
    let verdict = loop {
        let (arm, tossed) = next_arm(seed(1, 1), &arms);
        blocks.push(Measured { arm, tossed, against: noise.block(constant(0.5f64.ln())(arms.len(), arm), 0.03) });
        arms.push(arm);
        if let Finding::Decided(verdict) = judge(&seen(&blocks, &[]), &settings) {
            break verdict;
        }
    };
    assert_eq!((verdict.outcome, blocks.len() < 12), (Outcome::Kept, true), "{} after {} blocks", verdict.reason, blocks.len());
}

#[test]
fn a_value_that_was_proven_gives_way_to_harm_that_is_seen_and_a_new_one_to_harm_that_is_not_excluded() {
    let against = |log_stall| Comparison { log_stall, hit_change: 0.0, hit_variance: 0.0, mapped: 0.0 };
    let looks = |settings: &TrialSettings, only_a_second: bool, logs: [f64; 2]| {
        let blocks = logs.map(|log| Measured { arm: Arm::New, tossed: true, against: against(log) });
        match judge(&Seen { only_a_second, ..seen(&blocks, &[against(0.0)]) }, settings) {
            Finding::Undecided => None,
            Finding::Decided(verdict) => Some((verdict.outcome, verdict.undecided, (verdict.looked.unwrap() * 100.0).round())),
        }
    };
    let (new, proven) = (TrialSettings::default(), TrialSettings::default().of_proven());
    let [little, much] = [[0.05, 0.07], [0.11, 0.13]];
    assert_eq!(looks(&new, false, little), Some((Outcome::Aborted, false, 106.0)));
    assert_eq!(looks(&proven, false, little), None);
    assert_eq!(looks(&proven, false, much), Some((Outcome::Aborted, false, 113.0)));
    // Nothing but a second was seen beside it: either may be tried once more.
    assert_eq!(looks(&new, true, little), Some((Outcome::Aborted, true, 106.0)));
    assert_eq!(looks(&proven, true, much), Some((Outcome::Aborted, true, 113.0)));
}

#[test]
fn nothing_is_kept_before_it_is_known_of_a_busy_neighbour() {
    let (new, old) = (
        Comparison { log_stall: -0.7, hit_change: 0.0, hit_variance: 0.0, mapped: 0.0 },
        Comparison { log_stall: 0.0, hit_change: 0.0, hit_variance: 0.0, mapped: 0.0 },
    );
    // Four of the new value, one of the old: the gain is plain, and one block says nothing of the neighbour.
    let arms = [Arm::New, Arm::New, Arm::New, Arm::New, Arm::Old, Arm::New, Arm::Old, Arm::New, Arm::Old, Arm::Old];
    let measured = |arm| Measured { arm, tossed: true, against: if arm == Arm::New { new } else { old } };
    let blocks: Vec<Measured> = arms.into_iter().map(measured).collect();
    let finding = |count: usize, stall: f64, every: usize| {
        let log = |(i, arm): (usize, &Arm)| {
            (i % every == 0).then(|| (*arm, 0.01 * (i % 3) as f64 + if *arm == Arm::New { stall } else { 0.0 }))
        };
        let others = vec![arms[..count].iter().enumerate().filter_map(log).collect::<Vec<_>>()];
        judge(&Seen { others: &others, ..seen(&blocks[..count], &[old, old, old]) }, &TrialSettings::default())
    };
    let outcome = |finding| match finding {
        Finding::Decided(verdict) => Some((verdict.outcome, verdict.reason)),
        Finding::Undecided => None,
    };
    assert_eq!(outcome(finding(6, 0.0, 1)), None);
    assert_eq!(outcome(finding(8, 0.0, 1)).unwrap().0, Outcome::Kept);
    assert_eq!(outcome(finding(8, 0.5, 1)).unwrap().1, "another device got worse");
    // One that is hardly ever busy holds nothing up.
    assert_eq!(outcome(finding(6, 0.0, 4)).unwrap().0, Outcome::Kept);
}

#[test]
fn false_keeps_stay_below_the_stated_error_under_noise_that_hangs_together() {
    let mut noise = Noise(7);
    // A step in the middle, a slope, a wave as long as a pair was: none of them knows the coin.
    let workloads: [fn(usize, Arm) -> f64; 4] = [
        |_, _| 0.0,
        |i, _| if i > 5 { -0.7 } else { 0.0 },
        |i, _| -0.1 * i as f64,
        |i, _| if matches!(i % 4, 0 | 3) { -0.4 } else { 0.0 },
    ];
    for (n, workload) in workloads.into_iter().enumerate() {
        let kept = (0..4000).filter(|t| run(*t, &mut noise, 0.1, workload).outcome == Outcome::Kept).count();
        assert!(kept <= 200, "workload {n}: {kept} of 4000 trials without effect were kept, 5 % allowed");
    }
}

#[test]
fn large_effects_are_found_in_few_blocks() {
    let mut noise = Noise(11);
    let gains: Vec<Verdict> = (0..500).map(|t| run(t, &mut noise, 0.1, constant(-0.7))).collect();
    let kept = gains.iter().filter(|v| v.outcome == Outcome::Kept).count();
    assert!(kept >= 495, "{kept} of 500");
    assert!(gains.iter().map(|v| f64::from(v.pairs)).sum::<f64>() / 500.0 < 4.0);
}

#[test]
fn a_gain_that_was_in_sight_and_not_shown_is_undecided() {
    let mut noise = Noise(17);
    let verdicts: Vec<Verdict> = (0..500).map(|t| run(t, &mut noise, 0.6, constant(0.8f64.ln()))).collect();
    let undecided: Vec<&Verdict> = verdicts.iter().filter(|v| v.undecided).collect();
    assert!(undecided.len() > 20, "{} of 500", undecided.len());
    for verdict in &undecided {
        assert!(verdict.outcome == Outcome::Reverted && verdict.reason.contains("in sight"), "{verdict:?}");
    }
    assert!(verdicts.iter().any(|v| v.outcome == Outcome::Reverted && !v.undecided), "most are given up for other reasons");
}

#[test]
fn harm_ends_with_the_second_block_of_the_new_value() {
    let mut noise = Noise(13);
    for trial in 0..500 {
        let verdict = run(trial, &mut noise, 0.05, constant(0.3));
        assert_eq!(verdict.outcome, Outcome::Aborted, "{verdict:?}");
        assert!(verdict.pairs <= 3 && verdict.stall_ratio.is_none_or(|r| r.mean > 1.05), "{verdict:?}");
    }
}

#[test]
fn with_blocks_from_before_false_keeps_stay_below_the_stated_error_too() {
    let (mut noise, settings) = (Noise(13), TrialSettings::default());
    let mut kept = |effect: f64| {
        let before = [noise.block(0.0, 0.1), noise.block(0.0, 0.1), noise.block(0.0, 0.1)];
        let mut blocks = Vec::new();
        loop {
            blocks.push(Measured { arm: Arm::New, tossed: false, against: noise.block(effect, 0.1) });
            if let Finding::Decided(v) = judge(&Seen { one_way: true, ..seen(&blocks, &before) }, &settings) {
                return v.outcome == Outcome::Kept;
            }
        }
    };
    assert!((0..2000).filter(|_| kept(0.0)).count() <= 100);
    assert!((0..500).filter(|_| kept(-1.0)).count() >= 490);
}

/// Sixteen blocks in turns, each as it should be.
fn steady(log_stall: f64, hit_change: f64) -> Vec<Measured> {
    let arm = |i: usize| if i.is_multiple_of(2) { Arm::New } else { Arm::Old };
    let against = |arm| match arm {
        Arm::New => Comparison { log_stall, hit_change, hit_variance: 0.0, mapped: 0.0 },
        Arm::Old => Comparison { log_stall: 0.0, hit_change: 0.0, hit_variance: 0.0, mapped: 0.0 },
    };
    (0..16).map(|i| Measured { arm: arm(i), tossed: i > 0, against: against(arm(i)) }).collect()
}

fn outcome(seen: Seen) -> Outcome {
    match judge(&seen, &TrialSettings::default()) {
        Finding::Decided(v) => v.outcome,
        Finding::Undecided => panic!("undecided"),
    }
}

#[test]
fn waste_over_budget_and_harm_to_others_revert_a_gain() {
    let blocks = steady(-0.7, 0.0);
    let others = [blocks.iter().map(|b| (b.arm, if b.arm == Arm::New { 0.5 } else { 0.0 })).collect::<Vec<_>>()];
    let gain = seen(&blocks, &[]);
    assert_eq!(outcome(gain), Outcome::Kept);
    assert_eq!(outcome(Seen { wasted: 0.5, ..gain }), Outcome::Reverted);
    assert_eq!(outcome(Seen { others: &others, ..gain }), Outcome::Reverted);
}

#[test]
fn a_hit_ratio_of_a_few_faults_is_chance() {
    // 64 MiB against 16 KiB, three blocks of each. By chance most of the few faults under the old value hit.
    let judged = |hit_variance: f64| {
        let (new, old) = ([0.24, 0.25, 0.27], [0.7, 0.74, 0.68]);
        let against = |log_stall, hit_change, hit_variance| Comparison { log_stall, hit_change, hit_variance, mapped: 1.0 };
        let block = |arm, against| Measured { arm, tossed: true, against };
        let blocks = (0..3)
            .flat_map(|i| [block(Arm::New, against(-4.6, new[i], 1e-4)), block(Arm::Old, against(0.0, old[i], hit_variance))]);
        let blocks: Vec<Measured> = blocks.collect();
        judge(&seen(&blocks, &[]), &TrialSettings::default())
    };
    assert!(matches!(judged(1e-4), Finding::Decided(v) if v.reason == "the hit ratio is worse"));
    assert!(matches!(judged(0.06), Finding::Decided(v) if v.outcome == Outcome::Kept));
}

#[test]
fn a_gain_by_which_less_is_read_is_none() {
    let blocks = steady(-0.7, 0.0);
    let rates = |new: [f64; 2]| -> Vec<(Arm, f64)> {
        let of = |(i, b): (usize, &Measured)| (b.arm, if b.arm == Arm::New { new[i / 2 % 2] } else { 1100.0 });
        blocks.iter().enumerate().map(of).collect()
    };
    let judged = |new| outcome(Seen { delivered: &rates(new), ..seen(&blocks, &[]) });
    // One reader, MB/s, under windows of 128 KiB and of 2 MiB: it waited 0.34 times as long, and got half as far.
    assert_eq!(judged([480.0, 620.0]), Outcome::Reverted);
    assert_eq!(judged([1000.0, 1100.0]), Outcome::Kept);
    // One slow block is not the value's doing, nor is one fast one of the other's.
    assert_eq!(judged([300.0, 1200.0]), Outcome::Kept);
    let mut fast = rates([1000.0, 1000.0]);
    fast[1].1 = 9000.0;
    fast[3].1 = 900.0;
    assert_eq!(outcome(Seen { delivered: &fast, ..seen(&blocks, &[]) }), Outcome::Kept);
    // Though one in five or more be as fast as the old value's.
    let mut slow = rates([600.0, 600.0]);
    slow[2].1 = 1200.0;
    assert_eq!(outcome(Seen { delivered: &slow, ..seen(&blocks, &[]) }), Outcome::Reverted);
    // But next to a single block of the old value, which may be the fast one.
    let new = [600.0, 600.0, 1200.0, 600.0, 600.0].map(|rate| (Arm::New, rate));
    let next_to = |old: &[f64]| [&new[..], &old.iter().map(|rate| (Arm::Old, *rate)).collect::<Vec<_>>()].concat();
    assert_eq!(outcome(Seen { delivered: &next_to(&[1100.0]), ..seen(&blocks, &[]) }), Outcome::Kept);
    assert_eq!(outcome(Seen { delivered: &next_to(&[1100.0; 3]), ..seen(&blocks, &[]) }), Outcome::Reverted);
}

#[test]
fn a_rise_of_the_hit_ratio_alone_is_enough_unless_stall_is_worse() {
    assert_eq!(outcome(seen(&steady(0.0, 0.03), &[])), Outcome::Kept);
    assert_eq!(outcome(seen(&steady(0.2, 0.03), &[])), Outcome::Aborted);
}

#[test]
fn a_gain_that_costs_hits_ends_early() {
    let mut blocks = steady(-0.2, -0.2);
    blocks.truncate(6);
    match judge(&seen(&blocks, &[]), &TrialSettings::default()) {
        Finding::Decided(v) => assert_eq!((v.outcome, v.reason.as_str()), (Outcome::Reverted, "the hit ratio is worse")),
        Finding::Undecided => panic!("nothing could make it a keep"),
    }
}

#[test]
fn how_near_to_nothing_a_new_block_waits_hides_no_gain_one_way() {
    let against = |ratio: f64| Comparison { log_stall: ratio.ln(), hit_change: 0.0, hit_variance: 0.0, mapped: 0.0 };
    let before = [0.7, 1.0, 1.4].map(against);
    // Of a run on a busy machine.
    let ratios = [0.02, 0.3, 0.01, 0.45, 0.02, 0.35, 0.05, 0.4, 0.01, 0.4, 0.03, 0.3];
    let blocks = ratios.map(|ratio| Measured { arm: Arm::New, tossed: false, against: against(ratio) });
    let judged = (1..=12).map(|n| judge(&Seen { one_way: true, ..seen(&blocks[..n], &before) }, &TrialSettings::default()));
    let verdicts: Vec<Verdict> = judged.filter_map(|f| if let Finding::Decided(v) = f { Some(v) } else { None }).collect();
    // The first is where a trial ends; what it says must be believed there too.
    let first = verdicts.first().unwrap();
    assert!(first.outcome == Outcome::Kept && first.stall_ratio.unwrap().high < 0.8, "{first:?}");
}

#[test]
fn a_gain_in_sight_of_a_wild_workload_gets_more_pairs_and_no_gain_does_not() {
    let mut noise = Noise(29);
    let gains: Vec<Verdict> = (0..300).map(|trial| run(trial, &mut noise, 0.5, constant(-0.5))).collect();
    let kept = |within: u32| gains.iter().filter(|v| v.outcome == Outcome::Kept && v.pairs <= within).count();
    let most = TrialSettings::default().pairs_max;
    println!("kept within {most} pairs {}, in all {}", kept(most), kept(u32::MAX));
    assert!(kept(u32::MAX) >= kept(most) + 30, "{} within {most} pairs, {} in all", kept(most), kept(u32::MAX));
    let small: Vec<Verdict> = (0..300).map(|trial| run(trial, &mut noise, 0.08, constant(0.91f64.ln()))).collect();
    let shown = |within: u32| small.iter().filter(|v| v.outcome == Outcome::Kept && v.pairs <= within).count();
    assert!(
        shown(u32::MAX) >= shown(most) + 30,
        "a small gain: {} within {most} pairs, {} in all",
        shown(most),
        shown(u32::MAX)
    );
    let never = (0..300).map(|trial| run_with(trial, &mut noise, 0.5, 0.95, constant(-0.5)));
    assert!(never.into_iter().all(|v| v.pairs <= most && v.outcome != Outcome::Kept), "what cannot be kept gets no more");
    let nothing: Vec<Verdict> = (0..1000).map(|trial| run(trial, &mut noise, 0.5, constant(0.0))).collect();
    assert!(nothing.iter().filter(|v| v.outcome == Outcome::Kept).count() <= 50);
    let mean = nothing.iter().map(|v| f64::from(v.pairs)).sum::<f64>() / 1000.0;
    assert!(mean < 10.0, "{mean} pairs without effect");
}
