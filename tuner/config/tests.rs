// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configuration files, good and bad: error texts as people read them, the documented file against the defaults, round trips.

use super::keys::{Limit, documented};
use super::table::{KEYS, ORDERED};
use super::*;
use crate::actuator::rules::Holder;
use keepahead_core::device::{BdiName, DeviceKind, QueueLimits};
use proptest::prelude::*;

/// The problems of a text, a line each.
fn problems(text: &str) -> String {
    let found = Config::parse(text).expect_err("the text is refused");
    found.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_documented_file_is_the_defaults_both_ways() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/keepahead.toml");
    let wanted = documented(&Config::default());
    if std::env::var_os("KEEPAHEAD_BLESS").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text == wanted, "config/keepahead.toml is stale: KEEPAHEAD_BLESS=1 cargo test documented_file writes it anew");
    assert_eq!(Config::parse(&text).unwrap(), Config::default());
    let tree: toml::Table = text.parse().unwrap();
    for key in KEYS {
        assert!(tree[key.table].as_table().unwrap().contains_key(key.name), "{} is not in the file", key.path());
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
}

#[test]
fn values_reach_their_places_in_their_units() {
    let text = r#"
[bounds]
floor_kib = 16
memory_share_percent = 2.5
[guards]
cool_down_s = 30
[agent]
tick_ms = 2000
on_exit = "keep"
[open_files]
deny = [{ comm = "mysqld", uid = 27 }, { cgroup = "/system.slice/*" }]
"#;
    let config = Config::parse(text).unwrap();
    assert_eq!(config.settings.floor, Kib(16));
    assert_eq!(config.settings.memory_share, 0.025);
    assert_eq!(config.settings.cool_down, Nanos(30_000_000_000));
    assert_eq!(config.agent.tick, Nanos(2_000_000_000));
    assert_eq!(config.agent.on_exit, OnExit::Keep);
    let permits = |comm: &str, uid, cgroup: &str| {
        config.open_files.rules().permit(&Holder { comm: comm.into(), uid, cgroups: vec![cgroup.into()] })
    };
    assert!(!permits("mysqld", 27, "/"));
    assert!(permits("mysqld", 28, "/"));
    assert!(!permits("cat", 0, "/system.slice/x.service"));
}

#[test]
fn every_problem_of_a_file_is_told_at_once() {
    let text = r#"floor_kib = 4
[bounds]
flor_kib = 128
ceiling_kib = 3000
memory_share_percent = 0
[trial]
confidence = 1.5
washout_ms = "150ms"
pairs_min = 20
[agnet]
tick_ms = 5
[agent]
tick_ms = 5
on_exit = "reset"
colour = true
[open_files]
files_per_second = 10.5
deny = [{}]
allow = [{ exe = "/bin/sh" }]
"#;
    insta::assert_snapshot!(problems(text), @r#"
    1: floor_kib: unknown key; did you mean bounds.floor_kib?
    3: bounds.flor_kib: unknown key; did you mean bounds.floor_kib?
    4: bounds.ceiling_kib = 3000: is no power of two; the nearest are 2048 and 4096
    5: bounds.memory_share_percent = 0: is below the allowed range, 0.1 to 50 (percent of MemAvailable)
    7: trial.confidence = 1.5: is above the allowed range, 0.5 to 0.9999 (probability)
    8: trial.washout_ms = "150ms": wants a whole number, in ms (the unit is never written), 0 to 60000; not a string
    9: trial.pairs_min = 20: must not be above trial.pairs_max = 12 (its default)
    11: agnet.tick_ms: unknown key; did you mean agent.tick_ms?
    13: agent.tick_ms = 5: is below the allowed range, 100 to 60000 (ms)
    14: agent.on_exit = "reset": wants "restore" or "keep"
    15: agent.colour: unknown key; config/keepahead.toml lists the known ones
    17: open_files.files_per_second = 10.5: wants a whole number, in files a second (the unit is never written), 1 to 100000; not a fraction
    18: open_files.deny = [{}]: a rule without conditions; wanted is a list of { comm = "GLOB", uid = NUMBER, cgroup = "GLOB" }, each with at least one of them
    19: open_files.allow = [{ exe = "/bin/sh" }]: unknown condition exe; the known ones are comm, uid and cgroup
    "#);
}

#[test]
fn what_a_run_would_refuse_is_found_with_its_line() {
    // To the library a word is the name of a module, and all others would fall silent.
    let said = problems("[agent]\nlog = \"loud\"\n");
    assert!(said.contains(r#"agent.log = "loud": is no log filter ("loud" is no level: off, error"#), "{said}");
    let text = "[trial]\nharm_ratio = nan\n[agent]\nlog = \"foo=bar=baz\"\n";
    insta::assert_snapshot!(problems(text), @r#"
    2: trial.harm_ratio = nan: is no number; wanted is 1.01 to 100
    4: agent.log = "foo=bar=baz": is no log filter (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); write a level such as "info", or "keepahead=debug"
    "#);
}

#[test]
fn a_path_that_depends_on_where_one_stands_is_refused() {
    let text = "[agent]\nstate_dir = \"state\"\n[control]\nsocket = \"control.sock\"\n";
    insta::assert_snapshot!(problems(text), @r#"
    2: agent.state_dir = "state": wants an absolute path
    4: control.socket = "control.sock": wants an absolute path
    "#);
}

#[test]
fn the_floor_is_never_zero_nor_below_a_page() {
    for bad in ["0", "3", "2", "-128", "5", "2097152", "999999999999999999999999"] {
        let said = problems(&format!("[bounds]\nfloor_kib = {bad}\n"));
        assert!(said.starts_with(&format!("2: bounds.floor_kib = {bad}: ")), "{said}");
    }
}

#[test]
fn combinations_that_exclude_each_other_are_refused() {
    let text = r#"[bounds]
floor_kib = 1024
ceiling_kib = 64
[trial]
block_min_ms = 5000
pairs_max = 2
harm_ratio = 1.01
[guards]
cool_down_max_s = 2
[agent]
trial_tick_ms = 1500
"#;
    insta::assert_snapshot!(problems(text), @r#"
    3: bounds.floor_kib = 1024: must not be above bounds.ceiling_kib = 64
    5: trial.block_min_ms = 5000: must not be above trial.block_max_ms = 2000 (its default)
    6: trial.pairs_min = 3: must not be above trial.pairs_max = 2
    7: trial.stall_margin_ratio = 1.05: must not be above trial.harm_ratio = 1.01
    9: guards.cool_down_s = 3: must not be above guards.cool_down_max_s = 2
    11: agent.trial_tick_ms = 1500: must not be above agent.tick_ms = 1000 (its default)
    "#);
}

#[test]
fn broken_toml_is_told_with_its_lines() {
    let said = problems("[bounds]\nfloor_kib = \n[trial\nconfidence = 0.9\n");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("2: not TOML: ") && lines[1].starts_with("3: not TOML: "), "{said}");
    assert_eq!(problems("[bounds]\nfloor_kib = 4\nfloor_kib = 8\n"), "3: not TOML: duplicate key");
    assert_eq!(problems("bounds = 3\n"), "1: bounds = 3: is a table: write [bounds] on a line of its own, and its keys below");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/keepahead.toml")).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/keepahead.toml: cannot be read: "), "{error}");
}

#[test]
fn devices_are_selected_by_any_of_their_names() {
    let device = Device {
        bdi: BdiName("259:0".into()),
        node: None,
        label: "nvme0n1".into(),
        kind: DeviceKind::Disk,
        identity: "wwid:eui.0025".into(),
        disks: vec!["nvme0n1".into()],
        original: Kib(128),
        limits: QueueLimits::default(),
    };
    let selects = |include: &str, exclude: &str| {
        let exclude = if exclude.is_empty() { vec![] } else { vec![exclude.to_owned()] };
        DeviceSelection { include: vec![include.into()], exclude }.selects(&device)
    };
    assert!(selects("*", "") && selects("nvme*", "") && selects("259:0", "") && selects("wwid:eui.*", ""));
    assert!(!selects("sd*", "") && !selects("*", "nvme0n1") && !selects("nvme0n1", "wwid:*"));
}

/// A value within the limits of a key, as the file writes it.
fn value(limit: Limit) -> BoxedStrategy<String> {
    let word = "[a-z*?/\"\\\\. é-]{1,12}";
    let quoted = word.prop_map(|w| toml::Value::String(w).to_string()).boxed();
    match limit {
        Limit::Whole { low, high } => (low..=high).prop_map(|v| v.to_string()).boxed(),
        Limit::PowerOfTwo { low, high } => (low.ilog2()..=high.ilog2()).prop_map(|v| (1u64 << v).to_string()).boxed(),
        // Thousandths, as people write them.
        Limit::Number { low, high } => {
            ((low * 1e3).ceil() as u64..=(high * 1e3) as u64).prop_map(|v| format!("{:?}", v as f64 / 1e3)).boxed()
        }
        Limit::Choice(words) => proptest::sample::select(words).prop_map(|w| format!("\"{w}\"")).boxed(),
        Limit::Bool => any::<bool>().prop_map(|b| b.to_string()).boxed(),
        Limit::Text => quoted,
        Limit::AbsolutePath => "\"/[a-z0-9/._-]{0,20}\"".boxed(),
        Limit::LogFilter => proptest::sample::select(&["\"warn\"", "\"keepahead=debug,info\""]).prop_map(str::to_owned).boxed(),
        Limit::Globs => proptest::collection::vec(quoted, 0..4).prop_map(|v| format!("[{}]", v.join(", "))).boxed(),
        Limit::Rules => {
            let rule = (quoted, any::<u32>()).prop_map(|(comm, uid)| format!("{{ comm = {comm}, uid = {uid} }}"));
            proptest::collection::vec(rule, 0..3).prop_map(|v| format!("[{}]", v.join(", "))).boxed()
        }
    }
}

#[test]
fn workload_rules_are_read_written_and_refused_with_reasons() {
    let text = "[[workload]]\nname = \"db\"\ncomm = \"postgres*\"\nuid = 26\n[[workload]]\nname = \"models\"\npath = \"/srv/*.gguf\"\n";
    let config = Config::parse(text).unwrap();
    let [db, models] = config.workloads.as_slice() else { panic!("{config:?}") };
    assert_eq!((db.name.as_str(), db.who.comm.as_deref(), db.who.uid, &db.path), ("db", Some("postgres*"), Some(26), &None));
    assert_eq!((models.path.as_deref(), &models.who), (Some("/srv/*.gguf"), &Rule::default()));
    assert_eq!(Config::parse(&documented(&config)).unwrap(), config);
    for (text, wanted) in [
        ("[workload]\nname = \"db\"", "1: workload = [workload]: is a list of rules: write [[workload]]"),
        ("[[workload]]\ncomm = \"x\"", "wants a name of 1 to 64 printable characters without /, not \"\""),
        ("[[workload]]\nname = \"a/b\"\ncomm = \"x\"", "not \"a/b\""),
        ("[[workload]]\nname = \"db\"", "rule \"db\" has no condition: give at least one of path, comm, uid and cgroup"),
        ("[[workload]]\nname = \"db\"\npath = \"srv\"", "path wants a glob on whole paths, such as \"/srv/db/*\""),
        ("[[workload]]\nname = \"db\"\nuser = 1", "unknown condition user; the known ones are path, comm, uid and cgroup"),
        ("[[workload]]\nname = \"db\"\nuid = \"root\"", "condition uid wants another value"),
        (&format!("{text}[[workload]]\nname = \"db\"\nuid = 1"), "name \"db\" is given to an earlier rule; each wants its own"),
    ] {
        let found = problems(text);
        assert!(found.contains(wanted), "{text:?}: {found:?}");
    }
    let many: String = (0..33).map(|n| format!("[[workload]]\nname = \"{n}\"\nuid = {n}\n")).collect();
    assert!(problems(&many).contains("one rule too many: at most 32"), "{}", problems(&many));
}

proptest! {
    #[test]
    fn any_valid_config_round_trips(values in KEYS.iter().map(|k| value(k.limit)).collect::<Vec<_>>()) {
        let mut text = String::new();
        for (key, value) in KEYS.iter().zip(&values) {
            // Keys of an ordered pair stay at their defaults: their order is tested by name.
            if ORDERED.iter().all(|(low, high)| *low != key.path() && *high != key.path()) {
                text += &format!("{} = {value}\n", key.path());
            }
        }
        let config = Config::parse(&text).expect("valid by construction");
        prop_assert_eq!(Config::parse(&documented(&config)).expect("written by us"), config);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[\\[\\]a-z_.=\"{}0-9\n ,é-]{0,200}") {
        let _ = Config::parse(&text);
    }
}
