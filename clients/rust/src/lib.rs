// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client of keepahead's control socket: takes what a program is about to read and the descriptors of its files, gives them to the
//! agent, which reads them ahead. Without an agent every call does nothing and returns as if it had been made; that is said once.
//!
//! ```no_run
//! use keepahead_client::{Client, Hint, Range};
//! use std::fs::File;
//!
//! let files = [File::open("a")?, File::open("b")?];
//! let mut client = Client::connect();
//! let work = client.register("two files", 16 << 20, Some(Hint::Shuffled), &files)?;
//! client.plan(work, &[Range::whole(1), Range::whole(0)])?;
//! client.position(work, 0, 0)?; // now `b` is being read
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod call;
mod client;
mod connection;
pub mod frame;
mod regions;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use call::{Advised, ClientError, Hint, Range, Stats, Tally, Workload};
pub use client::Client;
pub use connection::Connection;
pub use regions::{Advice, Orders, Region};

use std::path::PathBuf;

/// The Varlink interface.
pub const INTERFACE: &str = "io.keepahead.Control";

/// Where an agent listens if its configuration says nothing else.
pub const DEFAULT_SOCKET: &str = "/run/keepahead/control.sock";

/// `KEEPAHEAD_SOCKET` of the environment, or the default.
pub fn socket_path() -> PathBuf {
    std::env::var_os("KEEPAHEAD_SOCKET").filter(|p| !p.is_empty()).map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from)
}

/// Says once in the life of a process why nothing will be read ahead: to the log where there is one, else to standard error.
/// `KEEPAHEAD_QUIET=1` silences it.
fn say_once(why: &dyn std::fmt::Display) {
    static SAID: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("KEEPAHEAD_QUIET").is_some_and(|v| !v.is_empty() && v != "0") {
        return;
    }
    SAID.call_once(|| match tracing::dispatcher::has_been_set() {
        true => tracing::warn!("keepahead: {why}; going on without it"),
        false => eprintln!("keepahead: {why}; going on without it"),
    });
}
