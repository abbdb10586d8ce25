// SPDX-License-Identifier: MIT OR Apache-2.0
//! The promise to old clients: what 0.1 sent and heard still works. `fixtures/control/` is never changed, only added to.

use super::replay::replay;
use crate::client::Server;

#[test]
fn a_client_of_0_1_works() {
    let server = Server::start();
    let sent = replay(&mut server.client(), include_str!("../../fixtures/control/0.1-programs.jsonl"), "none");
    assert!(sent >= 20, "{sent}");
    replay(&mut server.client(), include_str!("../../fixtures/control/0.1-regions.jsonl"), "none");
    server.settle(|s| s["workloads"] == 0);
}
