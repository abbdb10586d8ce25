// SPDX-License-Identifier: MIT OR Apache-2.0
//! The blocking client: takes what a program will read, tells the agent. Where there is none, or it goes away, it says so once and
//! every call does nothing from then on; only a refusal by a living agent is an error.

use crate::call::{Call, ClientError, Hint, Range, Stats, Workload, number};
use crate::connection::Connection;
use crate::frame::MESSAGE_FDS;
use serde_json::{Value, json};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Ranges in one message: 4096 of 20 digits each are a quarter of what the agent takes.
const RANGES_AT_ONCE: usize = 4096;

/// A program's line to the agent, if there is one. Its workloads end with it.
#[derive(Debug)]
pub struct Client {
    connection: Option<Connection>,
}

impl Client {
    /// Connects to [`crate::socket_path`]. Never fails.
    pub fn connect() -> Client {
        Client::connect_to(&crate::socket_path())
    }

    /// Connects to an agent's socket. Never fails.
    pub fn connect_to(socket: &Path) -> Client {
        let opened = Connection::open(socket);
        if let Err(e) = &opened {
            crate::say_once(&format_args!("no agent at {}: {e}", socket.display()));
        }
        Client { connection: opened.ok() }
    }

    /// Whether an agent listens.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// `None`: there is no agent.
    fn ask(&mut self, call: &Call, files: &[BorrowedFd<'_>]) -> Result<Option<Value>, ClientError> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        match connection.ask(call, files) {
            Ok(reply) => Ok(Some(reply)),
            Err(refused @ ClientError::Refused { .. }) => Err(refused),
            Err(gone) => {
                crate::say_once(&gone);
                self.connection = None;
                Ok(None)
            }
        }
    }
}

/// The calls, for a client with `ask`: once blocking, once async.
macro_rules! calls {
    ($client:ty, [$($async:tt)?], [$($wait:tt)*]) => {
        impl $client {
            /// Registers a workload. `budget`: bytes that may lie prefetched and unread. The files are its numbers 0, 1, 2 ...;
            /// they may be closed afterwards.
            pub $($async)? fn register<F: AsFd>(
                &mut self, name: &str, budget: u64, hint: Option<Hint>, files: &[F],
            ) -> Result<Workload, ClientError> {
                let mut parameters = json!({ "name": name, "budget_bytes": budget });
                if let Some(hint) = hint {
                    parameters["hint"] = json!(hint);
                }
                let Some(reply) = self.ask(&Call::new("Register", parameters), &[]) $($wait)* ? else { return Ok(Workload(None)) };
                let work = Workload(Some(number("Register", &reply, "workload")?));
                if let Err(refused) = self.add_files(work, files) $($wait)* {
                    self.unregister(work) $($wait)* ?;
                    return Err(refused);
                }
                Ok(work)
            }

            /// Adds files; the number of the first. Any number of them: more than one message carries go in several.
            pub $($async)? fn add_files<F: AsFd>(&mut self, work: Workload, files: &[F]) -> Result<u64, ClientError> {
                let Some(id) = work.0 else { return Ok(0) };
                let mut first = None;
                for part in files.chunks(MESSAGE_FDS) {
                    let fds: Vec<BorrowedFd<'_>> = part.iter().map(AsFd::as_fd).collect();
                    let added = self.ask(&Call::new("AddFiles", json!({ "workload": id })), &fds) $($wait)* ?;
                    let Some(reply) = added else { break };
                    first = first.or(Some(number("AddFiles", &reply, "first")?));
                }
                Ok(first.unwrap_or(0))
            }

            /// Appends ranges in the order in which they will be read; reading ahead begins at once. How many the plan has.
            pub $($async)? fn plan(&mut self, work: Workload, ranges: &[Range]) -> Result<u64, ClientError> {
                let Some(id) = work.0 else { return Ok(0) };
                let mut total = 0;
                for part in ranges.chunks(RANGES_AT_ONCE) {
                    let call = Call::new("Plan", json!({ "workload": id, "ranges": part }));
                    let Some(reply) = self.ask(&call, &[]) $($wait)* ? else { break };
                    total = number("Plan", &reply, "ranges_total")?;
                }
                Ok(total)
            }

            /// The reader begins with range `range` of the plan, `offset` bytes into it. Nothing is waited for: it costs one send,
            /// and a number beyond the plan is passed over.
            pub $($async)? fn position(&mut self, work: Workload, range: u64, offset: u64) -> Result<(), ClientError> {
                let Some(id) = work.0 else { return Ok(()) };
                let at = json!({ "workload": id, "range": range, "offset": offset });
                self.ask(&Call { oneway: true, ..Call::new("Position", at) }, &[]) $($wait)* .map(|_| ())
            }

            /// Reads ranges into the page cache now and waits for them. Bytes that are cached then; 0 without an agent.
            pub $($async)? fn prefetch(&mut self, work: Workload, ranges: &[Range]) -> Result<u64, ClientError> {
                self.at_once("Prefetch", work, ranges, "cached_bytes") $($wait)*
            }

            /// Drops ranges from the page cache where they are clean and unmapped. Bytes that were dropped, as far as the kernel tells.
            pub $($async)? fn discard(&mut self, work: Workload, ranges: &[Range]) -> Result<u64, ClientError> {
                self.at_once("Discard", work, ranges, "dropped_bytes") $($wait)*
            }

            $($async)? fn at_once(
                &mut self, method: &str, work: Workload, ranges: &[Range], field: &str,
            ) -> Result<u64, ClientError> {
                let Some(id) = work.0 else { return Ok(0) };
                let mut bytes = 0;
                for part in ranges.chunks(RANGES_AT_ONCE) {
                    let call = Call::new(method, json!({ "workload": id, "ranges": part }));
                    let Some(reply) = self.ask(&call, &[]) $($wait)* ? else { break };
                    bytes += number(method, &reply, field)?;
                }
                Ok(bytes)
            }

            /// The figures of a workload; `None` without an agent.
            pub $($async)? fn stats(&mut self, work: Workload) -> Result<Option<Stats>, ClientError> {
                let Some(id) = work.0 else { return Ok(None) };
                let reply = self.ask(&Call::new("Stats", json!({ "workload": id })), &[]) $($wait)* ?;
                let read = |reply| serde_json::from_value(reply).map_err(|e| e.to_string());
                reply.map(read).transpose().map_err(|reason| ClientError::Answer { method: "Stats".into(), reason })
            }

            /// Ends a workload: what was advised for it is withdrawn, and what was read ahead and never reached is dropped.
            pub $($async)? fn unregister(&mut self, work: Workload) -> Result<(), ClientError> {
                let Some(id) = work.0 else { return Ok(()) };
                self.ask(&Call::new("Unregister", json!({ "workload": id })), &[]) $($wait)* .map(|_| ())
            }
        }
    };
}
calls!(Client, [], []);

#[cfg(feature = "tokio")]
mod with_tokio {
    use super::*;
    use crate::tokio::Client as Async;
    calls!(Async, [async], [.await]);
}
