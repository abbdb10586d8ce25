// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said about scenarios that cannot be: place, key, value, limit and the way out.

use keepahead_sim::scenario::{Position, Scenario, ScenarioError};

/// Line 1 is `name`.
const GOOD: &str = r#"name = "good"
shows = "That it works."
duration_s = 60
memory_mib = 64

[[device]]
label = "sda"
profile = "hdd"

[[files]]
name = "data"
size_kib = 1024

[[task]]
name = "reader"
program.random = { files = "data", request_kib = 4 }
"#;

fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    Scenario::parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_good_scenario_passes() {
    Scenario::parse(GOOD).unwrap().spec().unwrap();
}

#[test]
fn unknown_keys_are_refused_with_their_place_and_the_nearest_known_one() {
    insta::assert_snapshot!(refused("memory_mib", "memry_mib"), @r#"line 4, column 1: unknown field `memry_mib`, expected one of `name`, `shows`, `seed`, `duration_s`, `kernel`, `reclaim`, `memory_mib`, `sensor_noise`, `wake_us`, `ladder_kib`, `settings`, `bands`, `cgroup`, `device`, `files`, `task`, `happening`: did you mean `memory_mib`?"#);
    insta::assert_snapshot!(refused("request_kib", "reqest_kib"), @r#"line 16, column 36: unknown field `reqest_kib`, expected one of `files`, `access`, `request_kib`, `extent_kib`, `zipf`: did you mean `request_kib`?"#);
    insta::assert_snapshot!(refused("program.random", "program.rando"), @r#"line 16, column 9: unknown variant `rando`, expected one of `idle`, `sequential`, `reverse`, `strided`, `random`, `runs`, `streams`, `phases`, `rocksdb`, `epochs`, `weights`, `install`, `log`: did you mean `random`?"#);
    insta::assert_snapshot!(refused("profile =", "read_ahead_kib = 4\nprofile ="), @r#"line 8, column 1: unknown field `read_ahead_kib`, expected one of `label`, `profile`, `figures`, `read_ahead_kb`, `filesystem`: did you mean `read_ahead_kb`?"#);
    insta::assert_snapshot!(refused("name = \"reader\"", "name = \"reader\"\nthink_us = { unifrom = [1, 2] }"), @r#"line 16, column 14: unknown variant `unifrom`, expected one of `uniform`, `exponential`, `lognormal`, `choice`: did you mean `uniform`?"#);
    insta::assert_snapshot!(refused("\n[[device]]", "[settings]\ncieling = 64\n[[device]]"), @r#"line 6, column 1: settings.cieling = { cieling = 64 }: unknown field `cieling`, expected one of `policy`, `floor`, `ceiling`, `max_step`, `memory_share`, `window_slots`, `min_demand_pages_per_s`, `min_stall_share`, `trial`, `cool_down`, `cool_down_max`, `trials_per_hour`, `check_share`, `memory_pressure_max`, `refaults_per_s_max`; did you mean `ceiling`?"#);
    insta::assert_snapshot!(refused("\n[[device]]", "[settings]\npolicy = \"learned\"\n[[device]]"), @r#"line 6, column 1: settings.policy = "learned": a scenario says what happens to a policy, not which one it is; leave it out and choose with --policy"#);
}

#[test]
fn what_is_no_toml_or_of_the_wrong_type_is_refused_with_its_place() {
    insta::assert_snapshot!(refused("duration_s = 60", "duration_s = = 60"), @r#"line 3, column 14: extra `=`, expected nothing"#);
    insta::assert_snapshot!(refused("request_kib = 4", "request_kib = -4"), @r#"line 16, column 50: invalid value: integer `-4`, expected u64"#);
    insta::assert_snapshot!(refused("size_kib = 1024", "size_kib = \"1 MiB\""), @r#"line 12, column 12: invalid type: string "1 MiB", expected a number, or one of { uniform = [LOW, HIGH] }, { exponential = MEAN }, { lognormal = { median, sigma, max } }, { choice = [..] }"#);
    insta::assert_snapshot!(refused("duration_s = 60\n", ""), @r#"line 1, column 1: missing field `duration_s`"#);
    insta::assert_snapshot!(refused("duration_s = 60", "duration_s = 60\nkernel = \"6.2\""), @r#"line 4, column 10: unknown variant `6.2`, expected one of `5.10`, `6.1`, `6.6`, `6.12`, `6.18`, `7.2`: did you mean `6.1`?"#);
}

#[test]
fn the_impossible_is_refused_with_key_value_limit_and_way_out() {
    insta::assert_snapshot!(refused("memory_mib = 64", "memory_mib = 0.2"), @r#"line 6, column 1: device[0].read_ahead_kb = 128: must be 0 to 102.4; the smallest memory_mib must hold two windows: make it larger, or the window smaller"#);
    insta::assert_snapshot!(refused("size_kib = 1024", "size_kib = 0"), @r#"line 12, column 1: files[0].size_kib = 0: must be 1 to 1073741824; an empty file has no pages to read"#);
    insta::assert_snapshot!(refused("duration_s = 60", "duration_s = -60"), @r#"line 3, column 1: duration_s = -60: must be 0.001 to 86400; 60 to 180 s are enough to settle"#);
    insta::assert_snapshot!(refused("duration_s = 60", "duration_s = nan"), @r#"line 3, column 1: duration_s = NaN: must be 0.001 to 86400; 60 to 180 s are enough to settle"#);
    insta::assert_snapshot!(refused("files = \"data\"", "files = \"date\""), @r#"line 16, column 20: task[0].program.random.files = "date": is no group of [[files]]; use one of these: data"#);
    insta::assert_snapshot!(refused("random = { files = \"data\", request_kib = 4 }", "sequential = { files = \"data\", start_kib = 1024 }"), @r#"line 16, column 40: task[0].program.sequential.start_kib = 1024: must be 0 to 896; it must lie before the end of the files"#);
    insta::assert_snapshot!(refused("random = { files = \"data\", request_kib = 4 }", "runs = { files = \"data\", pages = 512 }"), @r#"line 16, column 34: task[0].program.runs.pages = 512: must be 1 to 256; a run has at least a page and ends within its file"#);
    insta::assert_snapshot!(refused("random = { files = \"data\", request_kib = 4 }", "rocksdb = { files = \"data\", benchmark = \"mixgraph\" }"), @r#"line 16, column 21: task[0].program.rocksdb.files = 1: must be at least 3; two files take the new tables, at least one holds the data: raise count"#);
    insta::assert_snapshot!(refused("name = \"reader\"", "name = \"reader\"\nstart_s = -1"), @r#"line 16, column 1: task[0].start_s = -1: must be 0 to 60; start within duration_s"#);
    insta::assert_snapshot!(refused("\n[[device]]", "[[happening]]\nat_s = 61\nwhat = \"drop_caches\"\n[[device]]"), @r#"line 6, column 1: happening[0].at_s = 61: must be 0 to 60; it must happen within duration_s"#);
    insta::assert_snapshot!(refused("\n[[device]]", "[bands]\nchanges = { min = 3, max = 2 }\n[[device]]"), @r#"line 6, column 1: bands.changes = { min = 3, max = 2 }: min must not be above max; swap them"#);
    insta::assert_snapshot!(refused("\n[[device]]", "[settings.trial]\npairs_mix = 3\n[[device]]"), @r#"line 6, column 1: settings.trial.pairs_mix = { trial = { pairs_mix = 3 } }: unknown field `pairs_mix`, expected one of `confidence`, `washout`, `block_min`, `block_max`, `block_pages`, `pairs_min`, `pairs_max`, `harm_ratio`, `stall_margin`, `hit_margin`, `min_gain`, `waste_budget` in `trial`; did you mean `pairs_min`?"#);
    insta::assert_snapshot!(refused("profile = \"hdd\"", "profile = \"floppy\""), @r#"line 8, column 1: device[0].profile = "floppy": device profile "floppy" is not known: use one of gp2-burst, gp3, hdd, loop, nfs, nvme, sata-ssd; correct the profile or its figures"#);
    insta::assert_snapshot!(refused("profile = \"hdd\"", "profile = \"hdd\"\nfigures.bandwidth_mb = -1"), @r#"line 9, column 1: device[0].figures = { bandwidth_mb = -1 }: device profile: bandwidth_mb = -1: must be above 0 (and finite); correct the profile or its figures"#);
    insta::assert_snapshot!(refused("size_kib = 1024", "size_kib = 1024\ncount = 9_000_000"), @r#"line 13, column 1: files[0].count = 9000000: must be 1 to 1048576; use fewer files"#);
}

#[test]
fn a_cache_that_shrinks_below_two_windows_is_refused() {
    let text = GOOD.to_owned() + "\n[[happening]]\nat_s = 3\nwhat.memory_limit = { memory_mib = 0.2 }\n";
    let error = Scenario::parse(&text).unwrap_err();
    // The window is the starting value of the first device.
    assert!(
        matches!(&error, ScenarioError::Impossible { position: Some(Position { line: 6, .. }), key, .. } if key == "device[0].read_ahead_kb"),
        "{error}"
    );
}

#[test]
fn a_scenario_that_was_changed_after_reading_is_checked_again() {
    let mut scenario = Scenario::parse(GOOD).unwrap();
    scenario.duration_s = f64::INFINITY;
    let error = scenario.spec().err().unwrap();
    assert!(matches!(error, ScenarioError::Impossible { position: None, .. }), "{error}");
}

#[test]
fn settings_are_laid_over_the_defaults() {
    let text = GOOD.replacen("\n[[device]]", "[settings]\nceiling = 4096\n[settings.trial]\npairs_max = 5\n[[device]]", 1);
    let settings = Scenario::parse(&text).unwrap().settings().unwrap();
    assert_eq!((settings.ceiling.0, settings.trial.pairs_max, settings.floor.0), (4096, 5, 4));
}

#[test]
fn figures_are_laid_over_the_profile() {
    let text = GOOD.replacen("profile = \"hdd\"", "profile = \"gp3\"\nfigures.max_sectors_kb = 512", 1);
    let spec = Scenario::parse(&text).unwrap().spec().unwrap();
    assert_eq!(spec.disks[0].disk.limits().max_sectors_kb, 512);
}

const DOCS: &str = include_str!("../../docs/scenarios.md");

#[test]
fn the_example_of_the_docs_runs() {
    let example = DOCS.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let spec = Scenario::parse(example).unwrap().spec().unwrap();
    assert_eq!((spec.tasks.len(), spec.files.len(), spec.happenings.len()), (4, 20, 5));
    assert_eq!(spec.phases, ["quiet", "report"]);
}

/// The known keys that an error about an unknown one lists.
fn known(from: &str, to: &str) -> Vec<String> {
    let message = refused(from, to);
    let names = message.split('`').skip(1).step_by(2).map(str::to_owned);
    names.filter(|name| name != "nonsense").collect()
}

#[test]
fn the_docs_name_every_key() {
    let program = "random = { files = \"data\", request_kib = 4 }";
    let mut keys = known("duration_s = 60", "nonsense = 1");
    for table in ["[bands]", "[[cgroup]]", "[[device]]", "[[files]]", "[[task]]", "[[happening]]"] {
        keys.extend(known("\n[[device]]", &format!("{table}\nnonsense = 1\n[[device]]")));
    }
    keys.extend(known("\n[[device]]", "[[happening]]\nat_s = 1\nwhat = \"nonsense\"\n[[device]]"));
    for what in ["admin_writes", "kernel_raises", "memory_limit", "degrade", "sensor", "memory_pressure"] {
        keys.extend(known("\n[[device]]", &format!("[[happening]]\nat_s = 1\nwhat.{what} = {{ nonsense = 1 }}\n[[device]]")));
    }
    let programs = known(program, "nonsense = {}");
    for name in programs.iter().filter(|name| *name != "idle") {
        keys.extend(known(program, &format!("{name} = {{ nonsense = 1 }}")));
    }
    keys.extend(known(program, "rocksdb = { files = \"data\", benchmark = \"nonsense\" }"));
    keys.extend(known(program, "phases.of = [{ nonsense = 1 }]"));
    keys.extend(known(program, "streams = { files = \"data\", streams = 1, turns = \"nonsense\" }"));
    keys.extend(programs);
    assert!(keys.len() > 100, "{keys:?}");
    for key in keys {
        let named = [format!("`{key}`"), format!("`\"{key}\"`"), format!("[{key}]")];
        assert!(named.iter().any(|name| DOCS.contains(name)), "docs/scenarios.md does not name {key}");
    }
}
