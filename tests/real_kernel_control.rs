// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control socket of a running agent, on this kernel and a real slow device: orders reach the knob, and a plan pays.

#[path = "agent/bench.rs"]
#[allow(dead_code)]
mod bench;
#[path = "control/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "clients/replay.rs"]
mod replay;

mod real_kernel {
    mod clients;

    use super::bench::{Agent, KEEPAHEAD};
    use keepahead_testbed::{Fs, Testbed, unavailable};
    use serde_json::Value;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    const FILES: usize = 2000;

    /// A device like a cloud volume, many small files on it, and an agent behind the same throttle: what it reads ahead for others
    /// comes from the same device.
    struct Volume {
        agent: Option<Agent>,
        testbed: Testbed,
        dir: tempfile::TempDir,
    }

    impl Volume {
        fn new() -> Option<Volume> {
            let no_bpf = (!Path::new("/sys/kernel/btf/vmlinux").exists()).then(|| "no BTF".to_string());
            if let Some(why) = unavailable().or(no_bpf) {
                println!("skipped: {why}");
                return None;
            }
            let testbed = Testbed::new(900, Fs::Ext4).unwrap();
            testbed.set_read_ahead(128).unwrap();
            testbed.limit(3000, 150_000_000, 512).unwrap();
            Some(Volume { agent: None, testbed, dir: tempfile::tempdir().unwrap() })
        }

        fn socket(&self) -> PathBuf {
            self.dir.path().join("control.sock")
        }

        /// Starts the agent in the workload's group.
        fn start(&mut self) {
            let config = self.dir.path().join("keepahead.toml");
            let text = format!("[control]\nsocket = {:?}\nmode = \"0666\"\n", self.socket().display().to_string());
            std::fs::write(&config, text).unwrap();
            let mut command = self.testbed.cgroup.command(KEEPAHEAD);
            command.args(["--format", "json", "run", "--device", &self.testbed.name, "--config"]).arg(&config);
            command.arg("--state-dir").arg(self.dir.path().join("state"));
            let mut agent = Agent::start(&mut command);
            agent.wait(20, "appearance", |r| r["record"] == "appeared");
            self.agent = Some(agent);
        }

        /// 64 to 256 KiB each, written with other bytes than zeros.
        fn fill(&self) {
            let block: Vec<u8> = (0..256u32 << 10).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            for n in 0..FILES {
                let size = (64 + n * 37 % 193) << 10;
                std::fs::File::create(self.testbed.mount().join(format!("f{n}"))).unwrap().write_all(&block[..size]).unwrap();
            }
            Command::new("sync").status().unwrap();
        }

        /// Reads all files in a shuffled order from a cold cache; with a plan where `planned`.
        fn epoch(&self, work_ms: f64, planned: bool) -> Value {
            self.testbed.drop_caches().unwrap();
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control/epoch.py");
            let mut command = self.testbed.cgroup.command("python3");
            command.arg(script).arg(self.testbed.mount()).args([FILES.to_string(), work_ms.to_string()]);
            if planned {
                command.arg(self.socket());
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice(&output.stdout).unwrap()
        }

        fn keepahead(&self, arguments: &[&str]) -> (bool, String) {
            let output = Command::new(KEEPAHEAD).args(arguments).arg("--socket").arg(self.socket()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            (output.status.success(), said)
        }
    }

    /// What a plan adds is that reading and computing overlap: nearly every file is there when the reader comes. How much faster that is
    /// depends on what a read costs without it, and the disk below the testbed swings by four (1.2 to 2.2 times were seen); whole
    /// runs are compared, three times at most.
    #[test]
    fn a_plan_over_shuffled_files_lets_reading_and_computing_overlap() {
        let Some(mut volume) = Volume::new() else { return };
        volume.fill();
        volume.start();
        // Against the kernel's default, and nothing that the agent finds meanwhile.
        let (done, said) = volume.keepahead(&["pin", &volume.testbed.name, "128"]);
        assert!(done, "{said}");
        let speed = |run: &Value| run["mb_per_s"].as_f64().unwrap();
        let mut seen = String::new();
        for _ in 0..3 {
            let (without, with) = (volume.epoch(1.0, false), volume.epoch(1.0, true));
            let ratio = speed(&with) / speed(&without);
            seen += &format!(
                "{:.1} MB/s without a plan, {:.1} with: x{ratio:.2}; {}\n",
                speed(&without),
                speed(&with),
                with["stats"]
            );
            println!("{seen}");
            let of = |what: &str| with["stats"][what]["ranges"].as_u64().unwrap();
            assert_eq!(of("hits") + of("late") + of("lost") + of("missed"), FILES as u64);
            if ratio > 0.95 && of("hits") > FILES as u64 * 9 / 10 {
                return;
            }
        }
        panic!("{seen}");
    }

    #[test]
    fn orders_reach_the_knob_and_the_originals_come_back() {
        let Some(mut volume) = Volume::new() else { return };
        volume.start();
        let name = volume.testbed.name.clone();
        let reads = |volume: &Volume| volume.testbed.read_ahead().unwrap();
        let (done, said) = volume.keepahead(&["pin", &name, "1024"]);
        assert!(done && reads(&volume) == 1024, "{said}");
        let (done, said) = volume.keepahead(&["status"]);
        assert!(done && said.contains(&name) && said.contains("pinned") && said.contains("1024"), "{said}");
        for (value, error) in [("1000", "power of two"), ("1073741824", "power of two from")] {
            let (done, said) = volume.keepahead(&["pin", &name, value]);
            assert!(!done && said.contains(error), "{said}");
        }
        let (done, said) = volume.keepahead(&["pin", "sdnone", "64"]);
        assert!(!done && said.contains("sdnone") && said.contains(&name), "{said}");
        let (done, said) = volume.keepahead(&["unpin", &name]);
        assert!(done && reads(&volume) == 128, "{said}");
        // Somebody else writes: hands off until it is taken back.
        volume.testbed.set_read_ahead(64).unwrap();
        volume.agent.as_mut().unwrap().wait(10, "hands off", |r| r["record"] == "hands_off");
        let (done, said) = volume.keepahead(&["take-back", &name]);
        assert!(done && said.contains('1'), "{said}");
        assert!(volume.keepahead(&["pause"]).0 && volume.keepahead(&["status"]).1.contains("paused"));
        assert!(volume.keepahead(&["resume"]).0 && !volume.keepahead(&["status"]).1.contains("paused"));
        assert!(volume.keepahead(&["pin", &name, "512"]).0);
        let (status, stderr, _) = volume.agent.take().unwrap().terminate();
        assert!(status.success(), "{stderr}");
        assert_eq!(reads(&volume), 64);
        assert!(!volume.socket().exists());
        let (done, said) = volume.keepahead(&["status"]);
        assert!(!done && said.contains("keepahead run"), "{said}");
    }

    /// As systemd does it: the socket is there before the agent, as descriptor 3, and stays.
    #[test]
    fn a_socket_that_is_handed_over_is_served() {
        use std::os::fd::AsRawFd;
        use std::os::unix::process::CommandExt;
        let Some(volume) = Volume::new() else { return };
        let listener = std::os::unix::net::UnixListener::bind(volume.socket()).unwrap();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"",
            "sh",
            KEEPAHEAD,
            "--format",
            "json",
            "run",
            "--device",
        ]);
        command.arg(&volume.testbed.name).arg("--state-dir").arg(volume.dir.path().join("state"));
        let raw = listener.as_raw_fd();
        // SAFETY: dup2 and fcntl alone, which are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                match if raw == 3 { nix::libc::fcntl(3, nix::libc::F_SETFD, 0) } else { nix::libc::dup2(raw, 3) } {
                    -1 => Err(std::io::Error::last_os_error()),
                    _ => Ok(()),
                }
            });
        }
        let mut agent = Agent::start(&mut command);
        agent.wait(20, "appearance", |r| r["record"] == "appeared");
        let mut said = String::new();
        for _ in 0..100 {
            said = volume.keepahead(&["status"]).1;
            if said.contains(&volume.testbed.name) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(said.contains(&volume.testbed.name), "{said}");
        assert!(agent.terminate().0.success() && volume.socket().exists());
    }

    #[test]
    fn files_are_prefetched_from_the_shell() {
        let Some(mut volume) = Volume::new() else { return };
        let file = volume.testbed.file("data", 100).unwrap();
        volume.start();
        let (done, said) = volume.keepahead(&["prefetch", &file.display().to_string()]);
        assert!(done && said.contains("100.0 MiB"), "{said}");
        let (done, said) = volume.keepahead(&["prefetch", "/proc"]);
        assert!(!done && said.contains("/proc: a directory is not read through the page cache"), "{said}");
        let (done, said) = volume.keepahead(&["prefetch", "/proc/self/status"]);
        assert!(!done && said.contains("procfs"), "{said}");
    }
}
