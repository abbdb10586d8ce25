// SPDX-License-Identifier: MIT OR Apache-2.0
//! The built program from outside: help, usage errors, `check-config` and `doctor`, each with its exit code and output stream.

use assert_cmd::Command;
use keepahead::journal::{AgentLock, Journal};
use std::path::{Path, PathBuf};

fn keepahead() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("keepahead"))
}

/// Runs with arguments; gives exit code, standard output and standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = keepahead().args(args).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("not ended by a signal"), text(&output.stdout), text(&output.stderr))
}

fn config(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keepahead.toml");
    std::fs::write(&file, text).unwrap();
    (dir, file)
}

#[test]
fn help_names_every_verb_and_exit_code() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for word in [
        "run",
        "devices",
        "doctor",
        "history",
        "restore",
        "replay",
        "record",
        "check-config",
        "sim",
        "Exit codes:",
        "KEEPAHEAD_LOG",
    ] {
        assert!(out.contains(word), "{word} is not in the help:\n{out}");
    }
    for option in ["--dry-run", "--device", "--duration", "--config", "--state-dir", "--format"] {
        assert!(run(&["run", "--help"]).1.contains(option), "{option} is not in the help of run");
    }
}

#[test]
fn usage_errors_are_2_and_on_standard_error() {
    for args in [&["--nonsense"][..], &[], &["runn"], &["run", "--duration", "60"], &["replay"], &["doctor", "--format", "xml"]]
    {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(!err.is_empty(), "{args:?}");
    }
    assert!(run(&["run", "--duration", "60"]).2.contains("one of ms, s, m, h, such as 60s"));
}

#[test]
fn the_shipped_config_is_ok() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/keepahead.toml");
    let (code, out, err) = run(&["check-config", file.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, format!("{}: ok\n", file.display()));
}

#[test]
fn a_bad_config_is_2_with_file_line_key_and_way_out() {
    let (_dir, file) = config("[bounds]\nflor_kib = 4\nceiling_kib = 0\n");
    let name = file.display();
    let (code, out, _) = run(&["check-config", file.to_str().unwrap()]);
    assert_eq!(code, 2);
    let wanted = format!(
        "{name}:2: bounds.flor_kib: unknown key; did you mean bounds.floor_kib?\n\
         {name}:3: bounds.ceiling_kib = 0: is below the allowed range, 4 to 1048576, a power of two (KiB)\n"
    );
    assert_eq!(out, wanted);
    let (code, out, _) = run(&["check-config", file.to_str().unwrap(), "--format", "json"]);
    assert_eq!((code, out.lines().count()), (2, 2));
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((first["line"].as_u64(), first["key"].as_str()), (Some(2), Some("bounds.flor_kib")));
}

#[test]
fn a_group_that_this_machine_lacks_is_a_warning() {
    let (_dir, file) = config("[control]\ngroup = \"no-such-group\"\n");
    let (code, out, _) = run(&["check-config", file.to_str().unwrap()]);
    let name = file.display();
    assert_eq!(code, 0);
    assert!(out.starts_with(&format!("{name}: ok\n{name}: warning: control.group = no-such-group: no such group")), "{out}");
    let (code, out, _) = run(&["check-config", file.to_str().unwrap(), "--format", "json"]);
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, line["ok"].as_bool()), (0, Some(true)));
    assert!(line["warning"].as_str().unwrap().contains("no-such-group"), "{out}");
}

/// `run` would go on with the rules, and say so in one line of its log.
#[test]
fn a_model_that_would_be_refused_is_a_warning() {
    let (dir, file) = config("[agent]\npolicy = \"learned\"\nmodel = \"/nonexistent/my.model\"\n");
    let (code, out, _) = run(&["check-config", file.to_str().unwrap()]);
    assert!(code == 0 && out.contains("warning: ") && out.contains("/nonexistent/my.model"), "{out}");
    assert!(out.contains("the rules would go on"), "{out}");
    drop(dir);
}

#[test]
fn users_and_groups_that_this_machine_lacks_are_warnings() {
    let (_dir, file) = config("[control]\ntune = [\"root\", \"no-such-user\"]\nadvise = [\"%no-such-group\", \"*\"]\n");
    let (code, out, _) = run(&["check-config", file.to_str().unwrap()]);
    assert_eq!(code, 0);
    for wanted in ["control.tune = \"no-such-user\": no such user", "control.advise = \"%no-such-group\": no such group"] {
        assert!(out.contains(&format!("warning: {wanted}")), "{out}");
    }
    assert_eq!(out.lines().count(), 3, "{out}");
}

#[test]
fn patterns_that_match_no_device_are_warnings() {
    if !run(&["devices", "--format", "json"]).1.contains("\"tunable\":true") {
        return eprintln!("skipped: no tunable device is here");
    }
    let told = |lists: &str| {
        let (_dir, file) = config(&format!("[devices]\n{lists}\n"));
        let (code, out, _) = run(&["check-config", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{out}");
        out.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let warned = |lists: &str, about: &str| {
        let warnings = told(lists);
        assert!(warnings.len() == 1 && warnings[0].contains(&format!("warning: devices.{about}")), "{warnings:?}");
    };
    warned("include = [\"no-such-disk*\"]", "include = [\"no-such-disk*\"]: no tunable device of this machine");
    warned("exclude = [\"no-such-disk\"]", "exclude = \"no-such-disk\": no device of this machine");
    // A file for many machines.
    assert_eq!(told("include = [\"no-such-disk*\", \"*\"]\nexclude = [\"no-such-disk*\"]"), [""; 0]);
}

#[test]
fn an_absent_config_is_2() {
    let (code, _, err) = run(&["check-config", "/nonexistent/keepahead.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("/nonexistent/keepahead.toml: cannot be read"), "{err}");
}

#[test]
fn restoring_beside_an_agent_is_4() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = AgentLock::take(&Journal::lock_path(dir.path())).unwrap();
    let (code, _, err) = run(&["restore", "--state-dir", dir.path().to_str().unwrap()]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("already running here with pid"), "{err}");
}

#[test]
fn restoring_without_a_record_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (code, out, err) = run(&["restore", "--state-dir", state.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains(&format!("there is no record of changed values in {}", state.display())), "{err}");
    assert!(!state.exists());
}

#[test]
fn a_device_that_is_not_there_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let on = |device: &str| run(&["run", "--device", device, "--state-dir", state.to_str().unwrap(), "--duration", "1s"]);
    let (code, _, err) = on("no-such-device");
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("no tunable device is called no-such-device; `keepahead devices` names them"), "{err}");
    assert!(!state.exists());
    assert!(on("").0 == 2 && on("").2.contains("--device <NAME>"), "{}", on("").2);
}

#[test]
fn what_is_no_journal_is_told_from_one() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::path(dir.path());
    let (state, file) = (dir.path().to_str().unwrap(), journal.to_str().unwrap());
    let foreign = || drop(rusqlite::Connection::open(file).unwrap().execute_batch("CREATE TABLE mail (body)"));
    let makes: [(&dyn Fn(), &str); 3] = [
        (&|| std::fs::write(file, "").unwrap(), "is empty: no run of keepahead has written to it"),
        (&|| std::fs::write(file, [7; 4096]).unwrap(), "is no SQLite database: damaged, or no journal"),
        (&foreign, "is no journal of keepahead's: its tables are others"),
    ];
    for (make, said) in makes {
        let _ = std::fs::remove_file(file);
        make();
        for args in [["history", "--state-dir", state].as_slice(), &["replay", file]] {
            let (code, out, err) = run(args);
            assert!(code == 1 && out.is_empty() && err.contains(said), "{args:?} {code}: {out}{err}");
        }
    }
}

#[cfg(feature = "ebpf")]
#[test]
fn a_key_that_is_too_short_is_told_so() {
    let (_dir, key) = config("too short");
    let (code, _, err) =
        run(&["record", "--device", "no-such-device", "--out", "/nonexistent/x", "--hash-key", key.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(err.contains("it has fewer than 16 bytes; a key is a file of 16 bytes or more"), "{err}");
}

#[test]
fn a_command_that_cannot_be_run_is_126_or_127_as_in_shells() {
    for (command, wanted) in [("no-such-command-anywhere", 127), ("/etc/passwd", 126)] {
        let (code, _, err) = run(&["exec", "--socket", "/nonexistent/control.sock", "--", command]);
        assert_eq!(code, wanted, "{err}");
        assert!(err.contains(&format!("keepahead: {command}: ")), "{err}");
    }
}

#[test]
fn the_doctor_speaks_json_lines_and_exits_0_or_3() {
    let (code, out, _) = run(&["doctor", "--format", "json"]);
    let checks: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).expect("one JSON value a line")).collect();
    assert!(checks.iter().any(|c| c["name"] == "kernel"));
    let missing = checks.iter().any(|c| c["status"] == "missing");
    assert_eq!(code, if missing { 3 } else { 0 });
    let (text_code, text, _) = run(&["doctor"]);
    assert_eq!(text_code, code);
    assert_eq!(text.contains("MISSING"), missing);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let script = format!("{} doctor | true; exit ${{PIPESTATUS[0]}}", assert_cmd::cargo::cargo_bin!("keepahead").display());
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    assert_ne!(output.status.code(), Some(101));
}
