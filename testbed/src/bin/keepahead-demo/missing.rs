// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this machine lacks for the demo, and what works all the same: nobody should leave empty-handed.

/// Why the demo cannot run here; `None` where it can.
pub fn on_this_machine() -> Option<String> {
    keepahead_testbed::unavailable()
}

pub fn explain(why: &str) {
    let root = nix::unistd::geteuid().is_root();
    println!("The demo cannot run here: {why}");
    println!(
        "It needs root (now: {}), the loop driver, block throttling by cgroups, and the kernel's BPF with BTF.",
        yes(root)
    );
    if !root {
        println!("As root, from this build: sudo target/release/keepahead-demo");
    }
    println!("What works here all the same:");
    println!(
        "  target/release/keepahead sim compare FILE                  policies side by side, simulated (fixtures/scenarios)"
    );
    println!(
        "  target/release/keepahead doctor                            what this machine offers, what is missing, what to do"
    );
    println!("  target/release/keepahead devices                           every device and its value");
    println!("  target/release/keepahead check-config FILE                 a configuration checked");
    println!("  cargo test -p keepahead-core -p keepahead-policies         the decisions, without any privilege");
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
