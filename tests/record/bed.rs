// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of recording share: a loop device, a recorder as a program and as a library, the trace read back.

use keepahead::record::{Naming, Options, RecordError, Summary, record};
use keepahead_sim::trace::{Access, FileName, Header, Reader, Source, Totals};
use keepahead_testbed::{Fs, Testbed};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

/// One at a time within this process too.
static MACHINE: Mutex<()> = Mutex::new(());
pub const PAGE: u64 = 4096;
pub const FILE_MIB: u64 = 16;

pub struct Bed {
    pub testbed: Testbed,
    pub file: PathBuf,
    /// Where traces go.
    pub dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

pub fn bed() -> Option<Bed> {
    let turn = MACHINE.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(why) = keepahead_testbed::unavailable() {
        println!("skipped: {why}");
        return None;
    }
    let testbed = Testbed::new(96, Fs::Ext4).unwrap();
    let file = testbed.file("data", FILE_MIB).unwrap();
    Some(Bed { testbed, file, dir: tempfile::tempdir().unwrap(), _turn: turn })
}

impl Bed {
    pub fn options(&self, name: &str) -> Options {
        Options {
            device: self.testbed.name.clone(),
            out: self.dir.path().join(name),
            duration: None,
            one_file_in: 1,
            naming: Naming::Plain,
            max_bytes: 1 << 30,
            buffer_bytes: 8 << 20,
        }
    }
}

pub struct Trace {
    pub header: Header,
    pub accesses: Vec<Access>,
    pub names: Vec<FileName>,
    pub totals: Totals,
}

pub fn trace(path: &Path) -> Trace {
    let mut reader = Reader::new(BufReader::new(File::open(path).unwrap())).unwrap();
    let accesses: Vec<Access> = reader.by_ref().map(Result::unwrap).collect();
    let names = (0..reader.files().len() as u64).map(|id| reader.files().get(id).unwrap().name.clone()).collect();
    Trace { header: reader.header().clone(), names, totals: *reader.totals().unwrap(), accesses }
}

/// The program itself, recording; this process is what is recorded.
pub struct Recorder(Child);

impl Recorder {
    pub fn start(bed: &Bed, out: &Path, more: &[&str]) -> Recorder {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("keepahead"));
        command.args(["record", "--device", &bed.testbed.name, "--out"]).arg(out).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("accesses"), "{first}");
        Recorder(child)
    }

    /// Ctrl-C.
    pub fn end(mut self) -> String {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.0.wait().unwrap().success(), "{said}");
        said
    }
}

/// The library, recording children of this process.
pub struct Recording {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Summary, RecordError>>,
}

pub fn start(options: Options) -> Recording {
    let stop = Arc::new(AtomicBool::new(false));
    let (ready, started) = mpsc::channel();
    let flag = Arc::clone(&stop);
    // `Options` moves there whole; the sender of a failed recording is dropped, which ends the wait.
    let thread = std::thread::spawn(move || record(options, &flag, &mut |_| ready.send(()).unwrap_or_default()));
    let _ = started.recv();
    Recording { stop, thread }
}

impl Recording {
    pub fn end(self) -> Result<Summary, RecordError> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
