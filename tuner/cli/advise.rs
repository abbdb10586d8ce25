// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead advise`: takes files and how they are read, has the agent advise the kernel so for every process that has them open, or
//! for a command as it opens them, and withdraws it in the end.

use super::exec::{Shim, become_command, exactly};
use super::holders::{Holders, Identity, identity};
use super::socket::Socket;
use super::{AdviseArgs, Exit, Format, Pattern, Refused, output};
use anyhow::Context;
use rustix::fs::{Advice, fadvise};
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it looks for processes that have opened a file since.
const LOOKS: Duration = Duration::from_secs(1);
/// How soon it notices a signal.
const STOPS: Duration = Duration::from_millis(50);
/// Nothing is read ahead for it; the agent wants a budget all the same.
const BUDGET: u64 = 4096;

pub fn run(args: AdviseArgs, format: Format) -> anyhow::Result<Exit> {
    let named = |path: &std::path::PathBuf| identity(path).with_context(|| path.display().to_string());
    let files = args.files.iter().map(named).collect::<anyhow::Result<Vec<_>>>()?;
    match (args.pattern, args.command.is_empty()) {
        (Pattern::Normal, true) => take_back(&files, format),
        (Pattern::Normal, false) => {
            let message = "a file is normal when it is opened: for a command, say sequential, random or once";
            Err(Refused::new(Exit::Usage, message).into())
        }
        (_, true) => advise(&args, &files, format),
        (_, false) => for_command(&args),
    }
}

fn hint(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Sequential => "sequential",
        Pattern::Random => "random",
        Pattern::Once => "once",
        Pattern::Normal => "normal",
    }
}

fn for_command(args: &AdviseArgs) -> anyhow::Result<Exit> {
    let whole = |path: &std::path::PathBuf| path.canonicalize().with_context(|| path.display().to_string());
    let paths = args.files.iter().map(whole).collect::<anyhow::Result<Vec<_>>>()?;
    let globs = paths.iter().map(|path| exactly(&path.to_string_lossy())).collect::<Vec<_>>().join(":");
    let shim = Shim { at: &args.at, globs, hint: Some(hint(args.pattern)), min_kib: 0, budget_mib: 32 };
    become_command(&shim, &args.command)
}

/// What programs advised themselves goes back to normal. At once, by this program: there is nothing to withdraw later.
fn take_back(files: &[Identity], format: Format) -> anyhow::Result<Exit> {
    let mut holders = Holders::default();
    let done = holders.look(files).iter().filter(|fd| fadvise(fd, 0, None, Advice::Normal).is_ok()).count();
    say(done, holders.refused, "set to normal", format)?;
    Ok(Exit::Ok)
}

fn advise(args: &AdviseArgs, files: &[Identity], format: Format) -> anyhow::Result<Exit> {
    let mut socket = Socket::connect(&args.at)?;
    let except = socket.ask("Status", json!({}))?["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let asked = json!({ "name": "keepahead advise", "budget_bytes": BUDGET, "hint": hint(args.pattern) });
    let workload = socket.ask("Register", asked)?["workload"].clone();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let (begun, mut holders, mut advised) = (Instant::now(), Holders::new(except), 0);
    let mut looked: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) && args.time.is_none_or(|time| begun.elapsed() < time) {
        if looked.is_none_or(|last| last.elapsed() >= LOOKS) {
            let found = hand_over(&mut socket, &workload, &holders.look(files))?;
            advised += found;
            if found > 0 || looked.is_none() {
                say(advised, holders.refused, "advised", format)?;
            }
            looked = Some(Instant::now());
        }
        std::thread::sleep(STOPS);
    }
    socket.ask("Unregister", json!({ "workload": workload }))?;
    say(advised, holders.refused, "back to normal", format)?;
    Ok(Exit::Ok)
}

/// How many the agent took.
fn hand_over(socket: &mut Socket, workload: &Value, fds: &[OwnedFd]) -> anyhow::Result<usize> {
    let mut taken = 0;
    for fd in fds {
        match socket.call("AddFiles", json!({ "workload": workload }), &[fd]) {
            Ok(_) => taken += 1,
            // One that is open for writing only, say; the others are not worse for it.
            Err(refused) if refused.is::<Refused>() => eprintln!("keepahead: {refused}"),
            Err(e) => return Err(e),
        }
    }
    Ok(taken)
}

fn say(descriptors: usize, refused: usize, what: &str, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        output::json_line(&json!({ "what": what, "descriptors": descriptors, "refused": refused }))?;
        return Ok(());
    }
    let more = if refused > 0 { format!("; {refused} of processes out of reach (root reaches all)") } else { String::new() };
    output::text(&format!("{descriptors} open descriptors {what}{more}\n"))?;
    Ok(())
}
