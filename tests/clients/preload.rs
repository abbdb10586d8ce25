// SPDX-License-Identifier: MIT OR Apache-2.0
//! The preload shim under unchanged programs, through `keepahead exec` and `keepahead advise -- CMD`.

use crate::c::built;
use crate::client::{Server, cached, file};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const KEEPAHEAD: &str = env!("CARGO_BIN_EXE_keepahead");

fn exec(socket: &Path, options: &[&str], command: &[&str]) -> Command {
    let mut keepahead = Command::new(KEEPAHEAD);
    keepahead.arg("exec").args(options).arg("--socket").arg(socket).arg("--").args(command);
    keepahead
}

fn cold(file: &File) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        // A page that somebody looks at in this moment stays.
        match cached(file) {
            0 => return,
            left => assert!(Instant::now() < end, "{left} pages stay"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a file that nobody reads is in the cache.
fn comes(file: &File) {
    let end = Instant::now() + Duration::from_secs(20);
    while cached(file) < 256 {
        assert!(Instant::now() < end, "only {} pages have come", cached(file));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A program that opens its files, says so, and waits; the test looks at the page cache meanwhile.
fn opens(socket: &Path, options: &[&str], program: &str, files: &[&File], paths: &[&Path]) -> Output {
    files.iter().for_each(|file| cold(file));
    let mut command = exec(socket, options, &["python3", "-c", program]);
    let mut child = command.args(paths).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    files.iter().for_each(|file| comes(file));
    drop(child.stdin.take());
    child.wait_with_output().unwrap()
}

#[test]
fn an_opened_file_is_read_ahead() {
    let (Some(_), server) = (built(), Server::start()) else { return };
    let (name, open) = file(1 << 20);
    let program = "import sys; f = open(sys.argv[1], 'rb'); sys.stdin.read()";
    let output = opens(&server.path, &["--hint", "shuffled"], program, &[&open], &[name.path()]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    server.settle(|s| s["workloads"] == 0);
}

/// A child has a line of its own, and so has a program that closed every descriptor it did not know.
#[test]
fn it_lives_through_fork_and_a_program_that_closes_everything() {
    let (Some(_), server) = (built(), Server::start()) else { return };
    let (a, b, c) = (file(1 << 20), file(1 << 20), file(1 << 20));
    let program = "import os, sys\n\
         f = open(sys.argv[1], 'rb')\n\
         if os.fork() == 0:\n\
         \x20   g = open(sys.argv[2], 'rb'); sys.stdin.read(); os._exit(0)\n\
         os.closerange(3, 65536)\n\
         mine = [os.open('/dev/null', os.O_RDWR) for _ in range(700)]\n\
         g = open(sys.argv[3], 'rb')\n\
         sys.stdin.read(); os.wait()\n\
         print([os.fstat(fd).st_rdev for fd in mine].count(os.makedev(1, 3)))";
    // The first goes with the connection that was closed under it.
    let files = [&b.1, &c.1];
    let output = opens(&server.path, &["--hint", "once"], program, &files, &[a.0.path(), b.0.path(), c.0.path()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "700");
}

/// What does not fit, or has no disk, is not sent.
#[test]
fn only_what_fits_is_handed_over() {
    let (Some(_), server) = (built(), Server::start()) else { return };
    let (small, other, wanted) = (file(4096), file(1 << 20), file(1 << 20));
    cold(&other.1);
    let glob = wanted.0.path().display().to_string();
    let program = "import sys\n\
         f = [open('/proc/self/maps', 'rb')] + [open(p, 'rb') for p in sys.argv[1:]] + [open(sys.argv[3], 'rb+')]\n\
         sys.stdin.read()";
    let paths = [small.0.path(), other.0.path(), wanted.0.path()];
    opens(&server.path, &["--hint", "shuffled", "--match", "/nowhere/*", "--match", &glob], program, &[&wanted.1], &paths);
    assert_eq!(cached(&other.1), 0);
    let memory = tempfile::NamedTempFile::new_in("/dev/shm").ok();
    let Some(memory) = memory else { return println!("skipped: no /dev/shm") };
    memory.as_file().set_len(1 << 20).unwrap();
    let paths = [memory.path(), other.0.path(), wanted.0.path()];
    opens(&server.path, &["--hint", "shuffled"], program, &[&other.1, &wanted.1], &paths);
}

#[test]
fn a_thousand_opens_by_many_threads_change_nothing_for_the_program() {
    let (Some(_), server) = (built(), Server::start()) else { return };
    let (name, _open) = file(128 << 10);
    let program = "import sys, threading, os\n\
         def work():\n\
         \x20   for _ in range(400):\n\
         \x20       with open(sys.argv[1], 'rb') as f: assert len(f.read()) == 131072\n\
         t = [threading.Thread(target=work) for _ in range(4)]\n\
         [x.start() for x in t]; [x.join() for x in t]; print('done')";
    let output = exec(&server.path, &["--hint", "shuffled"], &["python3", "-c", program]).arg(name.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && output.stdout == b"done\n", "{said}");
    // On a machine so busy that the agent does not answer in time, it is given up; that is said, and nothing else.
    assert!(said.is_empty() || said.lines().count() == 1 && said.contains("timed out"), "{said}");
    server.settle(|s| s["workloads"] == 0);
}

#[test]
fn without_an_agent_the_command_runs_and_that_is_said_once() {
    let Some(library) = built() else { return };
    let output = exec(Path::new("/nonexistent"), &[], &["sh", "-c", "cat /etc/passwd >/dev/null; exit 7"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(7), 1), "{said}");
    let shim = library.join("libkeepahead_preload.so");
    let mut cat = Command::new("cat");
    cat.args(["/etc/passwd", "/etc/passwd"]).env("LD_PRELOAD", shim).env("KEEPAHEAD_PRELOAD_MIN_KIB", "0");
    let output = cat.env("KEEPAHEAD_SOCKET", "/nonexistent").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.lines().count() == 1 && said.contains("going on without it"), "{said}");
}

#[test]
fn a_refused_budget_is_said_in_words_and_the_command_runs() {
    let (Some(_), server) = (built(), Server::start()) else { return };
    let (name, _open) = file(1 << 20);
    let output = exec(&server.path, &["--budget-mib", "999999"], &["cat"]).arg(name.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && output.stdout.len() == 1 << 20, "{said}");
    assert!(said.contains("a budget of 999999 MiB (--budget-mib) is refused; allowed are, in bytes, 1 to "), "{said}");
    assert!(said.contains("what control.budget_mib leaves now; going on without it") && !said.contains('{'), "{said}");
}

#[test]
fn a_command_is_advised_about_its_files() {
    let (Some(_), server) = (built(), Server::start()) else { return };
    let (name, open) = file(1 << 20);
    cold(&open);
    let mut keepahead = Command::new(KEEPAHEAD);
    keepahead.arg("advise").arg(name.path()).args(["--pattern", "sequential", "--socket"]).arg(&server.path);
    keepahead.args(["--", "python3", "-c", "import sys; f = open(sys.argv[1], 'rb'); sys.stdin.read()"]).arg(name.path());
    let mut child = keepahead.stdin(Stdio::piped()).spawn().unwrap();
    comes(&open);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let mut normal = Command::new(KEEPAHEAD);
    let output = normal.arg("advise").arg(name.path()).args(["--pattern", "normal", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// The open file of another process, reached by pidfd_getfd(2).
#[test]
fn what_others_have_open_is_advised_for_a_time() {
    let server = Server::start();
    let (name, _open) = file(1 << 20);
    let mut holder = Command::new("sleep");
    let mut holder = holder.arg("60").stdin(File::open(name.path()).unwrap()).spawn().unwrap();
    let mut keepahead = Command::new(KEEPAHEAD);
    keepahead.arg("advise").arg(name.path()).args(["--pattern", "random", "--for", "500ms", "--socket"]).arg(&server.path);
    let output = keepahead.output().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if said.contains("out of reach") {
        return println!("skipped: {said}");
    }
    // This process has it open too, but it is the agent's.
    assert!(
        output.status.success() && said.contains("1 open descriptors advised") && said.contains("back to normal"),
        "{said}"
    );
}
