// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim` from outside: what it prints, writes and refuses. Needs no privilege.

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn scenario(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios").join(name);
    file.to_str().unwrap().to_owned()
}

/// Exit code, standard output, standard error of `keepahead sim …`.
fn sim(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("keepahead")).arg("sim").args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("not ended by a signal"), text(&output.stdout), text(&output.stderr))
}

fn written(name: &str, content: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    std::fs::write(&file, content).unwrap();
    (dir, file)
}

#[test]
fn compare_shows_every_policy_and_writes_csv_and_plots() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, svg) = (dir.path().join("rows.csv"), dir.path().join("plots"));
    let file = scenario("phases-three.toml");
    let args = ["compare", &file, "--values", "64,512", "--csv", csv.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    let (code, out, err) = sim(&args);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for control in
        ["default", "static 64 KiB", "static 512 KiB", "per-phase oracle", "rules-1", "learned-1", "Best static value"]
    {
        assert!(out.contains(control), "{control} is missing:\n{out}");
    }
    assert_eq!(std::fs::read_to_string(csv).unwrap().lines().count(), 7);
    for plot in ["policies.svg", "window.svg", "hit-and-waste.svg"] {
        assert!(std::fs::read_to_string(svg.join(plot)).unwrap().contains("</svg>"), "{plot}");
    }
}

#[test]
fn a_model_of_ones_own_takes_the_place_of_the_shipped_one_and_a_damaged_one_is_refused() {
    let shipped = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/model/learned.model")).unwrap();
    let (_dir, whole) = written("my.model", &shipped);
    let (_dir2, cut) = written("cut.model", &shipped[..shipped.len() / 2]);
    let file = scenario("testbed-seq-read.toml");
    let learned = |model: &Path| sim(&["run", &file, "--policy", "learned", "--model", model.to_str().unwrap()]);
    assert_eq!(learned(&whole), sim(&["run", &file, "--policy", "learned"]));
    let (code, _, err) = learned(&cut);
    assert!(code == 1 && err.contains("cut.model: the model file is damaged"), "{code}: {err}");
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let file = scenario("two-devices.toml");
    let (one, four) = (
        sim(&["compare", &file, "--threads", "1", "--format", "json"]),
        sim(&["compare", &file, "--threads", "4", "--format", "json"]),
    );
    assert_eq!(one.0, 0, "{}", one.2);
    assert_eq!(one, four);
    assert_ne!(one, sim(&["compare", &file, "--seed", "99", "--format", "json"]), "the seed has an effect");
}

#[test]
fn a_measured_profile_takes_the_place_of_a_named_one() {
    let (_dir, device) =
        written("slow.toml", b"channels = 1\nbandwidth_mb = 10\nmax_sectors_kb = 128\nlatency = { median_us = 1000 }\n");
    let file = scenario("testbed-seq-read.toml");
    let throughput = |profile: &str| {
        let (code, out, err) = sim(&["run", &file, "--policy", "128", "--device-profile", profile, "--format", "json"]);
        assert_eq!(code, 0, "{err}");
        let report: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        report["disks"][0]["figures"]["work_bytes"].as_f64().unwrap() / 60.0 / 1048576.0
    };
    let slow = throughput(device.to_str().unwrap());
    assert!(slow < 10.0 && throughput("nvme") > 10.0 * slow, "{slow}");
    let (code, _, err) = sim(&["run", &file, "--device-profile", "missing.toml"]);
    assert!(code == 2 && err.contains("missing.toml"), "{code} {err}");
}

#[test]
fn run_reports_under_any_policy_kernel_and_device() {
    let file = scenario("phases-three.toml");
    let (code, out, err) =
        sim(&["run", &file, "--policy", "256", "--kernel", "5.10", "--device-profile", "hdd", "--format", "json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["control"], "static 256 KiB");
    assert_ne!(out, sim(&["run", &file, "--policy", "256", "--format", "json"]).1, "the overrides have an effect");
    assert!(sim(&["run", &file]).1.contains("rules-1"));
}

#[test]
fn shards_merge_into_the_whole_and_a_second_sweep_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (a, b, both, whole) = (path("a.parquet"), path("b.parquet"), path("both.parquet"), path("whole.parquet"));
    let files = [scenario("no-effect.toml"), scenario("zipf-extents.toml")];
    let sweep = |out: &str, shard: &str| {
        let policies = "default,64,rules";
        sim(&["sweep", &files[0], &files[1], "--kernels", "5.10,6.18", "--policies", policies, "--out", out, "--shard", shard])
    };
    for (out, shard) in [(&a, "1/2"), (&b, "2/2"), (&whole, "1/1")] {
        assert_eq!(sweep(out, shard).0, 0);
    }
    assert_eq!(sim(&["sweep", "merge", &a, &b, "--out", &both]).0, 0);
    let bytes = std::fs::read(&whole).unwrap();
    assert_eq!(std::fs::read(&both).unwrap(), bytes);
    let (code, out, _) = sweep(&whole, "1/1");
    assert_eq!((code, out.lines().count()), (0, 1 + 2 * 2 * 3));
    assert_eq!(std::fs::read(&whole).unwrap(), bytes);
}

#[test]
fn bad_scenarios_are_2_with_file_and_position() {
    let (_dir, file) = written("bad.toml", b"name = \"x\"\nshows = \"y\"\nduration_s = 1\nmemory_mb = 5\n");
    let (code, out, err) = sim(&["compare", file.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains(&format!("{}: line 4, column 1: ", file.display())) && err.contains("memory_mib"), "{err}");
}

#[test]
fn bad_traces_are_2_with_the_position_and_the_way_out() {
    let (_dir, file) =
        written("cut.iolog", b"fio version 2 iolog\n/data add\n/data open\n/data read 0 4096\n/data read zero 4096\n");
    let path = file.to_str().unwrap();
    let (code, _, err) = sim(&["run", path]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains(path) && err.contains("line 5") && err.contains("--accept-damage"), "{err}");
    assert_eq!(sim(&["run", path, "--accept-damage"]).0, 0, "what comes before the damage is replayed");
    let (_dir, file) = written("noise.bin", &[7; 64]);
    assert_eq!(sim(&["run", file.to_str().unwrap()]).0, 2);
}

#[test]
fn bad_options_are_2_and_say_what_is_possible() {
    let file = scenario("no-effect.toml");
    for (args, said) in [
        (vec!["run", &file, "--kernel", "4.4"], "known are 5.10"),
        (vec!["run", &file, "--policy", "fast"], "default, rules or learned"),
        (vec!["run", &file, "--device-profile", "floppy"], "floppy"),
        (vec!["compare", &file, "--values", "64,x"], "number of KiB"),
        (vec!["compare", &file, "--memory-mib=-1"], "memory_mib"),
        (vec!["sweep", &file, "--out", "x.parquet", "--shard", "4/3"], "1/16"),
        (vec!["sweep", &file], "--out"),
        (vec!["sweep", &file, "--out", "x.parquet", "--seeds", "1,"], "\"\" is no seed: write whole numbers"),
        (vec!["run", &file, "--pace", "recorded"], "--pace is for traces"),
        (vec!["compare", &file, "--speed", "2"], "--speed is for traces"),
        (vec!["run", &file, "--read-ahead-kb", "128"], "--read-ahead-kb is for traces"),
        (vec!["run", &file, "--accept-damage"], "--accept-damage is for traces"),
        (vec!["run", "fixtures/scenarios/no-efect.toml"], "no-efect.toml: No such file"),
        (vec!["compare", "today.ka"], "today.ka: No such file"),
        (vec!["sweep", "merge", "missing.parquet", "--out", "x.parquet"], "missing.parquet: No such file"),
    ] {
        let (code, _, err) = sim(&args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(said), "{args:?}: {err}");
    }
}

/// These scenarios take seconds, and so many seeds hours.
#[test]
fn a_place_that_takes_no_file_is_found_before_the_work() {
    let file = scenario("no-effect.toml");
    let seeds = (1..=20_000).map(|seed: u32| seed.to_string()).collect::<Vec<_>>().join(",");
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    let (csv, svg, table) = (new.join("x.csv"), new.join("deep/plots"), new.join("x.parquet"));
    let [csv, svg, table] = [&csv, &svg, &table].map(|path| path.to_str().unwrap());
    for (args, wanted) in [
        (vec!["run", &file, "--csv", csv], 2),
        (vec!["run", &file, "--svg", svg], 2),
        (vec!["compare", &file, "--csv", csv], 2),
        (vec!["compare", &file, "--svg", svg], 2),
        (vec!["sweep", &file, "--seeds", &seeds, "--out", table], 2),
        (vec!["sweep", &file, "--seeds", &seeds, "--out", "/proc/x.parquet"], 1),
    ] {
        let (code, out, err) = sim(&args);
        assert_eq!((code, out.as_str()), (wanted, ""), "{err}");
        assert!(
            err.contains(if wanted == 1 { "/proc/x.parquet: cannot be written" } else { "there is no directory" }),
            "{err}"
        );
    }
    assert!(!new.exists(), "nothing is made on the way");
}

#[test]
fn a_shard_without_a_run_is_a_table_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (file, tables, both) = (scenario("no-effect.toml"), [path("1"), path("2")], path("both"));
    for (table, shard) in tables.iter().zip(["1/2", "2/2"]) {
        let (code, _, err) = sim(&["sweep", &file, "--policies", "default", "--shard", shard, "--out", table]);
        assert_eq!(code, 0, "{err}");
    }
    let (code, _, err) = sim(&["sweep", "merge", &tables[0], &tables[1], "--out", &both]);
    assert!(code == 0 && err.contains("1 runs"), "{code} {err}");
    assert_eq!(std::fs::read(both).unwrap(), std::fs::read(&tables[0]).unwrap());
}

#[test]
fn a_table_that_is_none_is_refused_and_left_alone() {
    let (_dir, file) = written("notes.parquet", b"my notes");
    let (code, _, err) = sim(&["sweep", &scenario("no-effect.toml"), "--out", file.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(err.contains("not a readable Parquet file"), "{err}");
    assert_eq!(std::fs::read(file).unwrap(), b"my notes");
}

#[cfg(unix)]
#[test]
fn an_interruption_ends_cleanly_with_what_is_known() {
    use std::process::{Command, Stdio};
    let file = scenario("no-effect.toml");
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("table.parquet");
    let seeds = (1..=20_000).map(|seed: u32| seed.to_string()).collect::<Vec<_>>().join(",");
    let mut sweep = Command::new(assert_cmd::cargo::cargo_bin!("keepahead"));
    sweep.args(["sim", "sweep", &file, "--policies", "default", "--seeds", &seeds, "--out"]).arg(&table);
    let child = sweep.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The first runs are in the table: it is at work, and far from its end.
    while !table.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
    let runs = String::from_utf8_lossy(&output.stdout).lines().count() - 1;
    assert!((1..20_000).contains(&runs), "{runs}");
}
