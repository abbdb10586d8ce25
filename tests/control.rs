// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control socket over a real Unix socket, with a client in Rust and one in Python, in this process: no agent, no root.

#[path = "control/client.rs"]
mod client;

mod socket {
    use super::client::{Client, Server, cached, file, python};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::io::Write;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    #[test]
    fn it_describes_itself() {
        let server = Server::start();
        let mut client = server.client();
        let info = client.call("org.varlink.service.GetInfo", json!({})).unwrap();
        assert_eq!(info["interfaces"], json!(["org.varlink.service", "io.keepahead.Control"]));
        let ask = json!({ "interface": "io.keepahead.Control" });
        let described = client.call("org.varlink.service.GetInterfaceDescription", ask).unwrap();
        assert!(described["description"].as_str().unwrap().contains("method Register("));
        let status = client.call("Status", json!({})).unwrap();
        assert_eq!((&status["paused"], &status["connections"]), (&json!(false), &json!(1)));
    }

    #[test]
    fn errors_have_their_names_and_say_what_is_allowed() {
        let server = Server::start();
        let mut client = server.client();
        for (method, parameters, error) in [
            ("Frobnicate", json!({}), "org.varlink.service.MethodNotFound"),
            ("io.other.Status", json!({}), "org.varlink.service.InterfaceNotFound"),
            ("Status", json!({ "colour": 1 }), "org.varlink.service.InvalidParameter"),
            ("Register", json!({ "name": "x" }), "org.varlink.service.InvalidParameter"),
            ("Register", json!({ "name": "x", "budget_bytes": 1u64 << 40 }), "io.keepahead.Control.InvalidValue"),
            ("Register", json!({ "name": "x", "budget_bytes": 1, "hint": "often" }), "org.varlink.service.InvalidParameter"),
            ("Plan", json!({ "workload": 9, "ranges": [] }), "io.keepahead.Control.NoSuchWorkload"),
            ("Stats", json!({ "workload": 9 }), "io.keepahead.Control.NoSuchWorkload"),
        ] {
            let refused = client.call(method, parameters).unwrap_err();
            assert_eq!(refused["error"], error, "{refused}");
        }
        // The connection still serves.
        client.call("Status", json!({})).unwrap();
    }

    #[test]
    fn who_is_not_listed_is_refused() {
        let server = Server::with(100.0, |config| config.tune = vec!["nobody-of-that-name".into()]);
        if nix::unistd::getuid().is_root() {
            let said = python(&server, "try: k.call('Pause')\nexcept RuntimeError as e: print(e)", Some(65_534));
            assert!(said.contains("NotPermitted") && said.contains("tune"), "{said}");
            let said = python(&server, "print(k.call('Status')['paused'])", Some(65_534));
            assert_eq!(said.trim(), "False");
        } else {
            let refused = server.client().call("Pause", json!({})).unwrap_err();
            assert_eq!(refused["error"], "io.keepahead.Control.NotPermitted");
        }
    }

    #[test]
    fn a_plan_is_prefetched_counted_and_ends_with_its_client() {
        let server = Server::start();
        let mut client = server.client();
        let (_dir, file) = file(1 << 20);
        let (_dir2, other) = super::client::file(256 << 10);
        let registered = json!({ "name": "test", "budget_bytes": 4 << 20, "hint": "once" });
        let work = client.call_with("Register", registered, &[file.as_fd(), other.as_fd()]).unwrap()["workload"].clone();
        let ranges = json!([{ "file": 0, "offset": 0, "length": 65_536 }, { "file": 1, "offset": 0, "length": 0 }]);
        let total = client.call("Plan", json!({ "workload": work, "ranges": ranges })).unwrap();
        assert_eq!(total["ranges_total"], 2);
        let unknown = json!({ "workload": work, "ranges": [{ "file": 2, "offset": 0, "length": 1 }] });
        assert_eq!(client.call("Plan", unknown).unwrap_err()["parameters"], json!({ "file": 2, "files": 2 }));
        client.wait(&work, |s| s["state"] == "all prefetched");
        client.call("Position", json!({ "workload": work, "range": 1 })).unwrap();
        let stats = client.wait(&work, |s| s["hits"]["ranges"].as_u64() > Some(0));
        assert_eq!(stats["advised"][0]["advice"], "POSIX_FADV_NOREUSE");
        assert_eq!(stats["position"], 1);
        assert!(client.call("Position", json!({ "workload": work, "range": 3 })).is_err());
        drop(client);
        server.settle(|s| s["workloads"] == 0 && s["connections"] == 1);
    }

    #[test]
    fn a_plan_waits_under_memory_pressure() {
        // No machine is below this.
        let server = Server::with(-1.0, |_| {});
        let mut client = server.client();
        let (_dir, file) = file(1 << 20);
        let asked = json!({ "name": "test", "budget_bytes": 1 << 20 });
        let work = client.call_with("Register", asked, &[file.as_fd()]).unwrap()["workload"].clone();
        client.call("Plan", json!({ "workload": work, "ranges": [{ "file": 0, "offset": 0, "length": 0 }] })).unwrap();
        let stats = client.wait(&work, |s| s["state"] == "paused: memory pressure");
        assert_eq!(stats["ahead_bytes"], 0);
    }

    /// What was read for a reader who never came goes again with the plan; what he asked for outright stays.
    #[test]
    fn unread_pages_are_withdrawn_with_their_plan() {
        let server = Server::start();
        let (mut client, mut other) = (server.client(), server.client());
        let (_dir, file) = file(1 << 20);
        let asked = json!({ "name": "test", "budget_bytes": 1 << 20 });
        let all = |work: &Value| json!({ "workload": work, "ranges": [{ "file": 0, "offset": 0, "length": 0 }] });
        let work = client.call_with("Register", asked.clone(), &[file.as_fd()]).unwrap()["workload"].clone();
        let look = other.call_with("Register", asked, &[file.as_fd()]).unwrap()["workload"].clone();
        client.call("Discard", all(&work)).unwrap();
        client.call("Plan", all(&work)).unwrap();
        client.wait(&work, |s| s["prefetched_bytes"] == 1 << 20);
        client.call("Unregister", json!({ "workload": work })).unwrap();
        let mut left = 256;
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(10));
            left = cached(&file);
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0);
        other.call("Prefetch", all(&look)).unwrap();
        drop(other);
        server.settle(|s| s["workloads"] == 0);
        assert_eq!(cached(&file), 256);
    }

    #[test]
    fn descriptors_are_refused_with_the_reason_and_nothing_is_left() {
        let server = Server::start();
        let mut client = server.client();
        let (pipe, _end) = nix::unistd::pipe().unwrap();
        let (_dir, file) = file(4096);
        let asked = json!({ "name": "test", "budget_bytes": 4096 });
        let refused = client.call_with("Register", asked, &[file.as_fd(), pipe.as_fd()]).unwrap_err();
        assert_eq!(refused["parameters"], json!({ "index": 1, "reason": "a pipe has no page cache" }));
        assert_eq!(client.call("Status", json!({})).unwrap()["workloads"], 0);
    }

    #[test]
    fn prefetch_and_discard_answer_when_done() {
        let server = Server::start();
        let mut client = server.client();
        let (_dir, file) = file(1 << 20);
        let asked = json!({ "name": "test", "budget_bytes": 1 << 20 });
        let work = client.call_with("Register", asked, &[file.as_fd()]).unwrap()["workload"].clone();
        let all = json!({ "workload": work, "ranges": [{ "file": 0, "offset": 0, "length": 0 }] });
        client.call("Discard", all.clone()).unwrap();
        assert_eq!(client.call("Prefetch", all).unwrap()["cached_bytes"], 1 << 20);
        let over = json!({ "workload": work, "ranges": [{ "file": 0, "offset": 0, "length": 0 }, { "file": 0, "offset": 0, "length": 0 }] });
        assert_eq!(client.call("Prefetch", over).unwrap_err()["error"], "io.keepahead.Control.InvalidValue");
    }

    #[test]
    fn a_killed_client_is_cleaned_up() {
        let server = Server::start();
        let (_dir, file) = file(1 << 20);
        let opened = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let script = format!(
            "import os, signal\n\
             w = k.call('Register', [open('{opened}', 'rb')], name='doomed', budget_bytes=1 << 20)['workload']\n\
             k.call('Plan', workload=w, ranges=[dict(file=0, offset=0, length=0)])\n\
             print(k.call('Status')['workloads'], flush=True)\n\
             os.kill(os.getpid(), signal.SIGKILL)"
        );
        assert_eq!(python(&server, &script, None).trim(), "1");
        server.settle(|s| s["workloads"] == 0);
    }

    /// A child that inherited the socket keeps it open: only the pidfd tells that the client is gone.
    #[test]
    fn a_client_is_gone_with_its_process_even_where_its_socket_is_not() {
        let server = Server::start();
        let script = "import os, sys, time\n\
             k.call('Register', name='doomed', budget_bytes=1 << 20)\n\
             print(k.call('Status')['workloads'], flush=True)\n\
             if os.fork() == 0:\n\
             \x20   for fd in (0, 1, 2): os.close(fd)\n\
             \x20   time.sleep(20)\n\
             os._exit(0)";
        assert_eq!(python(&server, script, None).trim(), "1");
        server.settle(|s| s["workloads"] == 0 && s["connections"] == 1);
    }

    #[test]
    fn a_client_that_never_reads_delays_nobody() {
        let server = Server::start();
        let mut flood = UnixStream::connect(&server.path).unwrap();
        flood.set_nonblocking(true).unwrap();
        let call = b"{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"io.keepahead.Control\"}}\0";
        let mut client = server.client();
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            for _ in 0..200 {
                let _ = flood.write(call);
            }
            let begun = Instant::now();
            client.call("Status", json!({})).unwrap();
            slowest = slowest.max(begun.elapsed());
        }
        println!("slowest answer beside the flood: {slowest:?}");
    }

    #[test]
    fn a_thousand_connections_are_served_and_go() {
        let server = Server::start();
        let mut clients: Vec<Client> = (0..1000).map(|_| server.client()).collect();
        for client in &mut clients {
            assert_eq!(client.call("Status", json!({})).unwrap()["paused"], false);
        }
        drop(clients);
        server.settle(|s| s["connections"] == 1);
    }

    #[test]
    fn a_stream_of_stats_ends_with_the_workload() {
        let server = Server::start();
        let (mut owner, mut watcher) = (server.client(), server.client());
        let work = owner.call("Register", json!({ "name": "test", "budget_bytes": 4096 })).unwrap()["workload"].clone();
        watcher.send("Stats", json!({ "workload": work, "interval_ms": 100 }), &[], json!({ "more": true }));
        assert_eq!(watcher.receive()["continues"], true);
        owner.call("Unregister", json!({ "workload": work })).unwrap();
        let last = std::iter::repeat_with(|| watcher.receive()).find(|r| r["continues"] == false).unwrap();
        assert_eq!(last["parameters"]["state"], "ended");
        watcher.call("Status", json!({})).unwrap();
    }

    #[test]
    fn memory_of_the_client_is_advised_and_only_his() {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let server = Server::start();
        let (_dir, file) = file(1 << 20);
        let size = std::num::NonZeroUsize::new(1 << 20).unwrap();
        // SAFETY: a private mapping at an address of the kernel's choice; the file keeps its size.
        let map = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, &file, 0) }.unwrap();
        let region = |advice| json!({ "address": map.as_ptr() as u64, "length": 1 << 20, "advice": advice });
        let mut client = server.client();
        match client.call("AdviseMemory", region("willneed")) {
            Ok(reply) => {
                assert_eq!(reply["advised_bytes"], 1 << 20);
                let end = Instant::now() + Duration::from_secs(10);
                while cached(&file) < 256 && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(10));
                }
                assert!(cached(&file) > 0, "nothing was read");
            }
            Err(e) => println!("skipped: {e:?}"),
        }
        let refused = format!("{:?}", client.call("AdviseMemory", region("random")).unwrap_err());
        assert!(refused.contains("DoYourself") && refused.contains("madvise"), "{refused}");
        let nowhere = json!({ "address": 4096, "length": 4096, "advice": "cold" });
        assert!(format!("{:?}", client.call("AdviseMemory", nowhere).unwrap_err()).contains("not all of it is mapped"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
        /// Whatever bytes come, the daemon lives and serves the next client.
        #[test]
        fn any_bytes_are_survived(parts in prop::collection::vec(part(), 0..12)) {
            let server = Server::shared();
            let mut stream = UnixStream::connect(&server.path).unwrap();
            stream.set_nonblocking(true).unwrap();
            for part in &parts {
                let _ = stream.write(part);
            }
            let answer = server.client().call("Status", json!({}));
            prop_assert!(answer.is_ok());
        }
    }

    /// Noise, pieces of calls, whole calls with odd parameters.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        let call = |method: &str, parameters: Value| {
            let mut bytes =
                serde_json::to_vec(&json!({ "method": format!("io.keepahead.Control.{method}"), "parameters": parameters }))
                    .unwrap();
            bytes.push(0);
            bytes
        };
        let number = prop_oneof![Just(0u64), Just(1), Just(u64::MAX), Just(i64::MAX as u64), any::<u64>()];
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            Just(b"{\"method\":".to_vec()),
            Just([&[b'['; 5000][..], b"\0"].concat()),
            Just(b"\0\0\0".to_vec()),
            number.clone().prop_map(move |n| call("Register", json!({ "name": "x", "budget_bytes": n }))),
            (number.clone(), number.clone(), number.clone()).prop_map(move |(w, o, l)| call(
                "Plan",
                json!({ "workload": w, "ranges": [{ "file": 0, "offset": o, "length": l }] })
            )),
            (number.clone(), number.clone())
                .prop_map(move |(w, r)| call("Position", json!({ "workload": w, "range": r, "offset": r }))),
            number.prop_map(move |n| call("Stats", json!({ "workload": 1, "interval_ms": n }))),
        ]
    }
}
