// SPDX-License-Identifier: MIT OR Apache-2.0
//! What programs link or import, against the control socket in this process: no agent, no root. And the promise to old clients.

#[path = "clients/c.rs"]
mod c;
#[path = "control/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "clients/preload.rs"]
mod preload;
#[path = "clients/promise.rs"]
mod promise;
#[path = "clients/reference.rs"]
mod reference;
#[path = "clients/regions.rs"]
mod regions;
#[path = "clients/replay.rs"]
mod replay;
#[path = "clients/rust.rs"]
mod rust;

mod python {
    use super::client::Server;
    use std::path::Path;
    use std::process::Command;

    /// The package's own tests.
    fn unittest(server: Option<&Server>) {
        let here = std::env::current_exe().unwrap();
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/tests");
        let mut command = Command::new("python3");
        command.args(["-B", "-m", "unittest", "discover", "-s"]).arg(tests);
        command.env_remove("KEEPAHEAD_SOCKET").env("KEEPAHEAD_TEST_DIR", here.parent().unwrap());
        if let Some(server) = server {
            command.env("KEEPAHEAD_SOCKET", &server.path);
        }
        let output = match command.output() {
            Ok(output) => output,
            Err(e) => return println!("skipped: python3: {e}"),
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("{}{said}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success() && said.contains("\nOK"), "{said}");
    }

    #[test]
    fn with_an_agent() {
        let server = Server::start();
        unittest(Some(&server));
        server.settle(|s| s["workloads"] == 0 && s["connections"] == 1);
    }

    #[test]
    fn without_an_agent() {
        unittest(None);
    }
}
