// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent end to end, on this kernel and a real block device: it helps, and whatever happens to it, the value ends as it began or as
//! somebody else left it.

#[path = "agent/bench.rs"]
mod bench;

mod real_kernel {
    use super::bench::{Agent, Bench, KEEPAHEAD, SmallDisk, kept};
    use keepahead_testbed::workload::Progress;
    use nix::sys::signal::Signal;
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[test]
    fn a_scan_is_raised_and_a_reader_that_opened_before_gets_the_benefit() {
        let Some(bench) = Bench::new() else { return };
        // Opens its file before keepahead starts and never again.
        let mut reader = bench.work("seq-read:60");
        let before: Vec<Progress> = (0..4).map(|_| reader.line().unwrap().unwrap()).collect();
        let mut agent = bench.agent();
        let verdict = agent.wait(30, "kept trial", kept);
        assert!(verdict["to"].as_u64().unwrap() >= 256, "{verdict}");
        let after: Vec<Progress> = (0..80).map_while(|_| reader.line().unwrap()).take(3).collect();
        drop(reader);
        let (status, stderr, seen) = agent.terminate();
        assert!(status.success(), "{stderr}");
        assert_eq!(bench.value(), 128);
        assert!(seen.iter().any(|r| r["record"] == "restored" && r["outcome"] == "restored" && r["to"] == 128), "{seen:?}");
        assert!(seen.iter().any(|r| r["applied"]["files"]["refreshed"] == 1));
        let (slow, fast) = (Progress::mb_per_s(&before), Progress::mb_per_s(&after));
        println!("{slow:.0} MB/s before, {fast:.0} MB/s after");
        // The lines read after the verdict lag behind it (they were waiting in the pipe), so the last seconds are what counts.
        assert!(slow < 160.0, "{slow}");

        let (status, story) = bench.keepahead(&["history"]);
        assert!(status.success() && story.contains(&bench.testbed.name) && story.to_lowercase().contains("kept"), "{story}");
        let (status, lines) = bench.keepahead(&["--format", "json", "history"]);
        assert!(status.success() && lines.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{lines}");
        bench.replays();
    }

    /// What it proposes is its own (the rules state no confidence), a scan is raised all the same, and the journal is replayed under it.
    #[test]
    fn the_learned_policy_proposes_where_it_is_chosen() {
        let Some(bench) = Bench::new() else { return };
        let config = bench.state.path().join("learned.toml");
        std::fs::write(&config, "[agent]\npolicy = \"learned\"\n").unwrap();
        let work = bench.work("seq-read:60");
        let mut agent = Agent::start(bench.command("json").arg("--config").arg(&config));
        let begun = agent.wait(20, "trial", |r| r["record"] == "trial_started");
        let reason = begun["proposal"]["reason"].as_str().unwrap();
        assert!(reason.starts_with("sequential reads (confidence "), "{reason}");
        let verdict = agent.wait(40, "kept trial", kept);
        assert!(verdict["to"].as_u64().unwrap() >= 256, "{verdict}");
        let (status, stderr, _) = agent.terminate();
        drop(work);
        assert!(status.success(), "{stderr}");
        assert_eq!(bench.value(), 128);
        bench.replays();
    }

    /// The search of the first run is not repeated: its value is asked for at once, and still has to prove itself.
    #[test]
    fn what_was_proven_is_tried_first_by_the_next_run() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("seq-read:120");
        let settle = |agent: &mut Agent| {
            agent.wait(60, "settled", |r| r["record"] == "held" && r["reason"]["hold"] == "settled");
            bench.value()
        };
        let mut agent = bench.agent();
        let found = settle(&mut agent);
        assert!(agent.terminate().0.success());
        assert!(found >= 512 && bench.value() == 128, "{found}");
        let mut agent = bench.agent();
        let begun = agent.wait(20, "trial", |r| r["record"] == "trial_started");
        let reason = begun["proposal"]["reason"].as_str().unwrap();
        assert!(
            begun["to"] == found && reason.contains("was proven here for sequential access") && reason.contains("last on 20"),
            "{begun}"
        );
        agent.wait(40, "kept trial", kept);
        assert!(agent.terminate().0.success());
        drop(work);
        assert_eq!(bench.value(), 128);
        bench.replays();
    }

    /// Bad: nothing changes and the caller is told why. Good: from now on, in the policy too; and the journal is replayed through it.
    #[test]
    fn the_configuration_is_read_again_whole_or_not_at_all() {
        let Some(bench) = Bench::new() else { return };
        let (config, socket) = (bench.state.path().join("keepahead.toml"), bench.state.path().join("control.sock"));
        let write = |rest: &str| std::fs::write(&config, format!("[control]\nsocket = {socket:?}\n{rest}")).unwrap();
        let ask = |verb| {
            let output = Command::new(KEEPAHEAD).arg(verb).arg("--socket").arg(&socket).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let (reload, status) = (|| ask("reload"), || ask("status").1);
        write("[guards]\ntrials_per_hour = 0\n");
        let work = bench.work("seq-read:90");
        // Without a terminal, whose end SIGHUP would mean.
        let mut command = Command::new("setsid");
        command.arg(KEEPAHEAD).args(["--format", "json", "run", "--device", &bench.testbed.name, "--state-dir"]);
        let mut agent = Agent::start(command.arg(bench.state.path()).arg("--config").arg(&config));
        agent.wait(20, "hold", |r| r["record"] == "held" && r["reason"].to_string().contains("trials"));

        write("[guards]\ntrials_per_hour = 1000000\n");
        let (done, said) = reload();
        assert!(!done && said.contains("guards.trials_per_hour") && said.contains("3600"), "{said}");
        write("[guards]\ntrials_per_hour = 100\n[agent]\npolicy = \"learned\"\n[journal]\nrecords_days = 7\n");
        let (done, said) = reload();
        assert!(done && said.contains("changed: guards.trials_per_hour, agent.policy\n"), "{said}");
        assert!(said.contains("only after a restart: journal.records_days\n"), "{said}");
        let begun = agent.wait(20, "trial", |r| r["record"] == "trial_started");
        assert!(begun["proposal"]["reason"].as_str().unwrap().starts_with("sequential reads (confidence "), "{begun}");
        assert_eq!(begun["policy"], "learned-1");
        assert!(status().contains(", policy learned-1;"), "{}", status());

        write("[guards]\ntrials_per_hour = 0\n");
        agent.signal(Signal::SIGHUP);
        let ended = agent.wait(20, "verdict", |r| r["record"] == "trial_ended");
        assert_eq!(ended["verdict"]["reason"], "the configuration was read anew", "{ended}");
        // A model that is refused, and the same file mended: no key of the configuration changes then.
        let model = bench.state.path().join("my.model");
        let shipped = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/model/learned.model")).unwrap();
        write(&format!("[guards]\ntrials_per_hour = 0\n[agent]\npolicy = \"learned\"\nmodel = {model:?}\n"));
        for (bytes, policy) in [(&shipped[..shipped.len() / 2], "rules-1"), (&shipped, "learned-1")] {
            std::fs::write(&model, bytes).unwrap();
            let (done, said) = reload();
            assert!(done && status().contains(&format!(", policy {policy};")), "{said}{}", status());
        }
        let (status, stderr, _) = agent.terminate();
        drop(work);
        assert!(status.success(), "{stderr}");
        assert_eq!(bench.value(), 128);
        bench.replays();
    }

    /// Trials go back to the original in every other block, also where it is no power of two (a loop device here began with 2560).
    #[test]
    fn an_odd_original_is_tried_against_and_restored() {
        let Some(bench) = Bench::new() else { return };
        bench.testbed.set_read_ahead(160).unwrap();
        let work = bench.work("seq-read:60");
        let mut agent = bench.agent();
        let verdict = agent.wait(40, "kept trial", kept);
        assert_eq!(verdict["from"], 160, "{verdict}");
        let (status, stderr, seen) = agent.terminate();
        drop(work);
        assert!(status.success(), "{stderr}");
        assert!(!seen.iter().any(|r| r["record"] == "failed"), "{seen:?}");
        assert!(seen.iter().any(|r| r["record"] == "applied" && r["applied"]["wanted"] == 160), "{seen:?}");
        assert_eq!(bench.value(), 160);
    }

    #[test]
    fn the_reader_is_at_least_twice_as_fast_afterwards() {
        let Some(bench) = Bench::new() else { return };
        let reader = bench.work("seq-read:22");
        std::thread::sleep(Duration::from_secs(2));
        let agent = bench.agent();
        let all = reader.finish().unwrap();
        let (status, stderr, _) = agent.terminate();
        assert!(status.success(), "{stderr}");
        let (first, last) = (Progress::mb_per_s(&all[1..4]), Progress::mb_per_s(&all[all.len() - 6..]));
        assert!(last > 1.8 * first, "{first:.0} MB/s before, {last:.0} MB/s with keepahead");
        assert_eq!(bench.value(), 128);
    }

    #[test]
    fn random_pread_and_an_idle_device_are_left_alone() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("rand-pread:7,idle:20");
        let (status, stderr, seen) = Agent::start(bench.command("json").args(["--duration", "12s"])).end();
        drop(work);
        assert!(status.success(), "{stderr}");
        assert!(!seen.iter().any(|r| r["record"] == "trial_started" || r["record"] == "applied"), "{seen:?}");
        assert!(seen.iter().any(|r| r["reason"]["hold"] == "abstained" && r["reason"]["pattern"] == "random_read"), "{seen:?}");
        assert_eq!(bench.value(), 128);
    }

    #[test]
    fn hands_off_when_somebody_else_writes_until_taken_back() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("seq-read:60");
        let mut agent = bench.agent();
        agent.wait_mid_trial();
        let knob = format!("/sys/block/{}/queue/read_ahead_kb", bench.testbed.name);
        let mut admin = Command::new("bash").args(["-c", &format!("echo 64 > {knob}; sleep 0.5; true")]).spawn().unwrap();
        let off = agent.wait(5, "hands-off", |r| r["record"] == "hands_off");
        admin.wait().unwrap();
        assert_eq!((off["found"].as_u64(), off["writer"]["comm"].as_str()), (Some(64), Some("bash")), "{off}");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(bench.value(), 64);
        // A restart is no leave to take it back, nor is another value of his.
        bench.testbed.set_read_ahead(32).unwrap();
        agent.terminate();
        bench.testbed.set_read_ahead(64).unwrap();
        let mut agent = bench.agent();
        agent.wait(5, "hands-off after a restart", |r| r["reason"]["hold"] == "hands_off");
        agent.signal(Signal::SIGUSR1);
        agent.wait(5, "taken back", |r| r["record"] == "taken_back" && r["value"] == 64);
        agent.wait(20, "new trial", |r| r["record"] == "trial_started" && r["from"] == 64);
        let (status, stderr, _) = agent.terminate();
        drop(work);
        assert!(status.success(), "{stderr}");
        assert_eq!(bench.value(), 64, "what the person wrote is the original now");
    }

    #[test]
    fn a_device_that_leaves_mid_trial_is_let_go() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("seq-read:60");
        let mut agent = bench.agent();
        agent.wait_mid_trial();
        drop(work);
        Command::new("umount").arg("-l").arg(bench.testbed.mount()).status().unwrap();
        Command::new("losetup").arg("-d").arg(format!("/dev/{}", bench.testbed.name)).status().unwrap();
        agent.wait(10, "gone", |r| r["record"] == "gone");
        let (status, stderr, seen) = agent.terminate();
        assert!(status.success(), "{stderr}");
        // Without its workload the trial may end a tick before the device does.
        assert!(seen.iter().any(|r| r["record"] == "trial_ended") && !seen.iter().any(kept), "{seen:?}");
    }

    /// To keepahead a device without its file is gone, and another one there; to the kernel it is the same knob.
    #[test]
    fn a_device_that_becomes_another_one_begins_from_its_original() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("seq-read:60");
        let mut agent = bench.agent();
        // From then on it reads 128 in no block either.
        agent.wait(40, "kept trial", kept);
        std::fs::remove_file(bench.testbed.mount().parent().unwrap().join("image")).unwrap();
        agent.wait(10, "gone", |r| r["record"] == "gone");
        let again = agent.wait(5, "appearance", |r| r["record"] == "appeared");
        assert_eq!(again["original"], 128, "{again}");
        let (status, stderr, _) = agent.terminate();
        drop(work);
        assert!(status.success(), "{stderr}");
        assert_eq!(bench.value(), 128);
    }

    /// Nobody saw it being written, and it is a person's all the same.
    #[test]
    fn what_was_written_after_kill_9_is_left_alone() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("seq-read:60");
        let mut agent = bench.agent();
        agent.wait_mid_trial();
        agent.signal(Signal::SIGKILL);
        agent.end();
        bench.testbed.set_read_ahead(64).unwrap();
        for _restart in 0..2 {
            let mut agent = bench.agent();
            agent.wait(10, "hands off", |r| r["reason"]["hold"] == "hands_off");
            let (status, stderr, _) = agent.terminate();
            assert!(status.success(), "{stderr}");
            assert_eq!(bench.value(), 64);
        }
        drop(work);
    }

    #[test]
    fn signals_mid_trial_restore() {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let Some(bench) = Bench::new() else { return };
            let work = bench.work("seq-read:60");
            let mut agent = bench.agent();
            agent.wait_mid_trial();
            agent.signal(signal);
            let (status, stderr, _) = agent.end();
            drop(work);
            assert!(status.success(), "{signal}: {stderr}");
            assert_eq!(bench.value(), 128, "{signal}");
        }
    }

    /// `keepahead run | head`, or a log on a full disk.
    #[test]
    fn an_agent_whose_output_goes_nowhere_leaves_and_restores() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("seq-read:60");
        let mut child = bench.command("json").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // The next line is written while the trial's value is in force.
        let begun = lines.find(|line| line.contains("\"applied\"") && !line.contains("\"read_back\":128,"));
        drop(lines);
        let status = child.wait().unwrap();
        drop(work);
        assert!(begun.is_some());
        assert_eq!(bench.value(), 128, "{status}");
    }

    #[test]
    fn a_panic_restores_and_says_so() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("seq-read:60");
        let (status, stderr, _) = Agent::start(bench.command("json").env("KEEPAHEAD_TEST_PANIC", "first_write")).end();
        drop(work);
        assert!(!status.success() && stderr.contains("after the panic") && stderr.contains("128 KiB"), "{stderr}");
        assert_eq!(bench.value(), 128);
    }

    #[test]
    fn kill_9_mid_trial_is_undone_by_hand_or_by_the_next_start() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("seq-read:90");
        for by_hand in [true, false] {
            let mut agent = bench.agent();
            agent.wait_mid_trial();
            agent.signal(Signal::SIGKILL);
            agent.end();
            assert_ne!(bench.value(), 128);
            let dir = bench.state.path().display().to_string();
            let keepahead = |args: &[&str]| {
                let out = Command::new(env!("CARGO_BIN_EXE_keepahead")).args(args).output().unwrap();
                String::from_utf8([out.stdout, out.stderr].concat()).unwrap()
            };
            // Who does not know the state directory is told.
            let examined = keepahead(&["doctor"]);
            assert!(examined.contains("values left") && examined.contains(&format!("restore --state-dir {dir}")), "{examined}");
            let elsewhere = tempfile::tempdir().unwrap();
            let told = keepahead(&["restore", "--state-dir", elsewhere.path().to_str().unwrap()]);
            assert!(told.contains(&format!("another state directory: --state-dir {dir}")), "{told}");
            if by_hand {
                let other = ["run", "--duration", "1s", "--device", &bench.testbed.name, "--state-dir"];
                let begun = keepahead(&[&other[..], &[elsewhere.path().to_str().unwrap()]].concat());
                assert!(begun.contains("passes for the original now") && begun.contains(&dir), "{begun}");
                let (status, said) = bench.keepahead(&["restore"]);
                assert!(status.success() && said.contains("restored"), "{said}");
            } else {
                let (status, stderr, _) = Agent::start(bench.command("json").args(["--duration", "1s"])).end();
                assert!(status.success() && stderr.contains("left behind by an earlier run"), "{stderr}");
            }
            assert_eq!(bench.value(), 128);
            assert!(!keepahead(&["doctor"]).contains("values left"));
        }
        drop(work);
    }

    #[test]
    fn a_full_disk_under_the_journal_leaves_nothing_behind() {
        let Some(bench) = Bench::new() else { return };
        let disk = SmallDisk::under(bench.state.path());
        let work = bench.work("seq-read:60");
        let mut agent = bench.agent();
        agent.wait_mid_trial();
        disk.fill();
        let failed = agent.wait(20, "failed write", |r| r["record"] == "failed");
        assert!(failed["error"].as_str().unwrap().contains("journal"), "{failed}");
        agent.wait(5, "write back", |r| r["record"] == "applied" && r["applied"]["read_back"] == 128);
        let (_, stderr, _) = agent.terminate();
        drop(work);
        let value = bench.value();
        assert_eq!(value, 128, "{stderr}");
    }

    #[test]
    fn after_kill_9_a_start_on_a_full_disk_fails_and_still_puts_the_value_back() {
        let Some(bench) = Bench::new() else { return };
        let disk = SmallDisk::under(bench.state.path());
        let work = bench.work("seq-read:60");
        let mut agent = bench.agent();
        agent.wait_mid_trial();
        agent.signal(Signal::SIGKILL);
        agent.end();
        let left = bench.value();
        disk.fill();
        let (status, stderr, _) = Agent::start(bench.command("json").args(["--duration", "1s"])).end();
        drop(work);
        let value = bench.value();
        assert_ne!(left, 128);
        assert_eq!((status.code(), value), (Some(1), 128), "{stderr}");
        assert!(stderr.contains("left behind by an earlier run") && stderr.contains("journal.sqlite"), "{stderr}");
    }

    /// Runs in a mount namespace of its own, where `prepare` has changed what is seen.
    fn unshared(bench: &Bench, prepare: &str, more: &str) -> (i32, String) {
        let run = format!(
            "{prepare} && exec {KEEPAHEAD} run --device {} --state-dir {} --duration 4s {more}",
            bench.testbed.name,
            bench.state.path().display()
        );
        let output = Command::new("unshare").args(["-m", "bash", "-c", &run]).output().unwrap();
        let text = [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned()).concat();
        (output.status.code().unwrap_or(-1), text)
    }

    #[test]
    fn read_only_sysfs_is_named() {
        let Some(bench) = Bench::new() else { return };
        let (code, said) = unshared(&bench, "mount -o remount,bind,ro /sys", "");
        assert!(code == 1 && said.contains("read-only"), "{code}: {said}");
        assert_eq!(bench.value(), 128);
    }

    #[test]
    fn missing_btf_is_named_and_a_dry_run_still_works_coarsely() {
        let Some(bench) = Bench::new() else { return };
        let hide = "mount -t tmpfs tmpfs /sys/kernel/btf";
        let (code, said) = unshared(&bench, hide, "");
        assert!(code == 3 && said.contains("BTF") && said.contains("--dry-run"), "{code}: {said}");
        let work = bench.work("seq-read:20");
        let (code, said) = unshared(&bench, hide, "--dry-run");
        drop(work);
        assert!(code == 0 && said.contains("coarse"), "{code}: {said}");
        assert_eq!(bench.value(), 128);
    }

    #[test]
    fn a_missing_capability_is_named() {
        let Some(bench) = Bench::new() else { return };
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-bpf,-perfmon,-sys_admin", KEEPAHEAD, "run", "--duration", "2s", "--state-dir"]);
        let output = command.arg(bench.state.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(3) && said.contains("CAP_BPF"), "{said}");
        assert_eq!(bench.value(), 128);
    }

    #[test]
    fn a_dry_run_suggests_and_writes_nothing() {
        let Some(bench) = Bench::new() else { return };
        let work = bench.work("seq-read:20");
        let absent = bench.state.path().join("absent");
        let mut command = Command::new(KEEPAHEAD);
        command.args(["run", "--dry-run", "--duration", "7s", "--device", &bench.testbed.name, "--state-dir"]).arg(&absent);
        let output = command.output().unwrap();
        drop(work);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("rules-1 suggests 128 KiB -> 512 KiB"), "{said}");
        for wanted in ["hits", "waste", "confidence", "expected stall", "echo 512 > /sys/class/bdi/", "ACTION==\"add|change\""]
        {
            assert!(said.contains(wanted), "{wanted:?} is missing: {said}");
        }
        assert!(!absent.exists());
        assert_eq!(bench.value(), 128);
    }

    #[test]
    fn a_second_agent_is_refused_by_the_pid_of_the_first() {
        let Some(bench) = Bench::new() else { return };
        let mut first = bench.agent();
        first.wait(5, "start", |r| r["record"] == "appeared");
        let elsewhere = tempfile::tempdir().unwrap();
        let mut command = Command::new(KEEPAHEAD);
        let output = command.args(["run", "--duration", "1s", "--state-dir"]).arg(elsewhere.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(4) && said.contains("already running") && said.contains("pid"), "{said}");
        first.terminate();
    }

    #[test]
    fn on_exit_keep_keeps_what_was_proven() {
        let Some(bench) = Bench::new() else { return };
        let config = bench.state.path().join("keep.toml");
        std::fs::write(&config, "[agent]\non_exit = \"keep\"\n").unwrap();
        let work = bench.work("seq-read:60");
        let mut agent = Agent::start(bench.command("json").arg("--config").arg(&config));
        let verdict = agent.wait(30, "kept trial", kept);
        let (status, stderr, _) = agent.terminate();
        drop(work);
        assert!(status.success(), "{stderr}");
        assert_eq!(u64::from(bench.value()), verdict["to"].as_u64().unwrap());
        let (_, said) = bench.keepahead(&["restore"]);
        assert!(!said.contains("restored "), "{said}");
        assert_eq!(u64::from(bench.value()), verdict["to"].as_u64().unwrap());
    }

    /// What was on trial can neither be undone nor put back: it stays noted, for whoever can.
    #[test]
    fn on_exit_keep_keeps_nothing_that_no_trial_proved() {
        let Some(bench) = Bench::new() else { return };
        let config = bench.state.path().join("keep.toml");
        std::fs::write(&config, "[agent]\non_exit = \"keep\"\n").unwrap();
        let work = bench.work("seq-read:60");
        let mut command = Command::new("unshare");
        command.args(["-m", KEEPAHEAD, "--format", "json", "run", "--device", &bench.testbed.name, "--state-dir"]);
        let mut agent = Agent::start(command.arg(bench.state.path()).arg("--config").arg(&config));
        agent.wait_mid_trial();
        let mut read_only = Command::new("nsenter");
        read_only.args(["-m", "-t", &agent.id().to_string(), "mount", "-o", "remount,bind,ro", "/sys"]);
        assert!(read_only.status().unwrap().success());
        let (status, stderr, _) = agent.terminate();
        drop(work);
        assert_ne!(bench.value(), 128, "{stderr}");
        let (_, said) = bench.keepahead(&["restore"]);
        assert_eq!((status.code(), bench.value()), (Some(1), 128), "{stderr}{said}");
    }
}
