// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clients with a running agent and a real slow device: the Python package's own tests, the orders of an old client, weights in a
//! scattered order, and advice on a file that another process has open.

use super::super::client::Client;
use super::super::replay::replay;
use super::{KEEPAHEAD, Volume};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

fn here(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[test]
fn the_python_package_and_an_old_client_work_with_a_running_agent() {
    let Some(mut volume) = Volume::new() else { return };
    volume.start();
    let mut python = Command::new("python3");
    python.args(["-B", "-m", "unittest", "discover", "-s"]).arg(here("clients/python/tests"));
    python.env("KEEPAHEAD_SOCKET", volume.socket()).env("KEEPAHEAD_TEST_DIR", volume.testbed.mount());
    let output = python.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("\nOK"), "{said}");
    let mut client = Client::connect(&volume.socket());
    replay(&mut client, include_str!("../../fixtures/control/0.1-programs.jsonl"), &volume.testbed.name);
    replay(&mut client, include_str!("../../fixtures/control/0.1-people.jsonl"), &volume.testbed.name);
}

/// Nearly every tensor is there when the load comes to it, and the whole is not slower. How much faster depends on what a read costs
/// without a plan: the testbed's device has a throttle and next to no latency, and the kernel keeps it busy by itself on a good day
/// (150 MB/s both ways); on a busy machine 53 and 117 were seen.
#[test]
fn weights_in_a_scattered_order_are_there_with_a_plan() {
    let Some(mut volume) = Volume::new() else { return };
    volume.start();
    let (done, said) = volume.keepahead(&["pin", &volume.testbed.name, "128"]);
    assert!(done, "{said}");
    let file = volume.testbed.mount().join("model.safetensors");
    let made = Command::new("python3").arg(here("tests/clients/weights.py")).arg(&file).args(["make", "300"]).status();
    assert!(made.unwrap().success());
    let load = |planned: bool| -> Value {
        volume.testbed.drop_caches().unwrap();
        let mut command = volume.testbed.cgroup.command("python3");
        command.arg("-B").arg(here("tests/clients/weights.py")).arg(&file).arg("4");
        if planned {
            command.arg(volume.socket());
        }
        let output = command.env("KEEPAHEAD_QUIET", "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let mut seen = String::new();
    for _ in 0..3 {
        let (without, with) = (load(false), load(true));
        let speed = |run: &Value| run["mb_per_s"].as_f64().unwrap();
        seen += &format!("{:.1} MB/s without a plan, {:.1} with; {}\n", speed(&without), speed(&with), with["stats"]);
        println!("{seen}");
        if speed(&with) > 0.9 * speed(&without) && with["stats"]["hits"]["ranges"].as_u64().unwrap() > 270 {
            return;
        }
    }
    panic!("{seen}");
}

/// Advised from the shell for half a second, and back to what it was.
#[test]
fn what_another_process_has_open_is_advised_and_withdrawn() {
    let Some(mut volume) = Volume::new() else { return };
    let file = volume.testbed.file("data", 8).unwrap();
    volume.start();
    // In one expression: the command keeps the file open in this process for as long as it lives.
    let open = std::fs::File::open(&file).unwrap();
    let mut holder = Command::new("sleep").arg("60").stdin(open).stdout(Stdio::null()).spawn().unwrap();
    let mut advise = Command::new(KEEPAHEAD);
    advise.arg("advise").arg(&file).args(["--pattern", "sequential", "--for", "1500ms", "--socket"]).arg(volume.socket());
    let output = advise.output().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Looked twice, and the agent's own descriptors on the file are passed over.
    assert!(output.status.success() && said.ends_with("1 open descriptors back to normal\n"), "{said}");
}
