// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server without an agent, and clients of it.

use keepahead::config;
use keepahead::control::{AgentEnd, Control, Listening, PressureMost, Workload, board};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

pub struct Server {
    pub path: PathBuf,
    _control: Control,
    agent: Mutex<AgentEnd>,
    _dir: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Server {
        Server::with(100.0, |_| {})
    }

    /// `pressure_most`: above which nothing is prefetched.
    pub fn with(pressure_most: f64, change: impl FnOnce(&mut config::Control)) -> Server {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("control.sock");
        let mode = config::SocketMode::Everyone;
        let group = nix::unistd::getgid().to_string();
        let mut config = config::Control { socket: path.clone(), mode, group, ..config::Control::default() };
        change(&mut config);
        let (board, agent) = board(config.clone(), PressureMost::new(pressure_most)).unwrap();
        let listening = Listening::open(&config).unwrap();
        let control = Control::start(listening, board).unwrap();
        Server { path, _control: control, agent: Mutex::new(agent), _dir: dir }
    }

    /// One for many cases.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Server::start)
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path)
    }

    /// As the agent sees them.
    #[allow(dead_code)] // not by every test that has a server
    pub fn workloads(&self) -> Vec<Arc<Workload>> {
        self.agent.lock().unwrap().roll.living()
    }

    /// The number of the workload that was registered last.
    #[allow(dead_code)]
    pub fn newest(&self) -> u64 {
        self.workloads().last().map_or(0, |workload| workload.id)
    }

    /// Answers what was ordered of the agent, which is not there.
    #[allow(dead_code)]
    pub fn answer_orders(&self) {
        let agent = self.agent.lock().unwrap();
        while let Some(asked) = agent.next_order() {
            let _ = asked.answer.send(Ok(json!({})));
        }
    }

    /// Waits until the status is as wanted.
    pub fn settle(&self, wanted: impl Fn(&Value) -> bool) {
        let mut client = self.client();
        wait("status", || client.call("Status", json!({})).unwrap(), wanted);
    }
}

fn wait(what: &str, look: impl FnMut() -> Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let (end, mut look) = (Instant::now() + Duration::from_secs(20), look);
    loop {
        let found = look();
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < end, "the {what} is not as wanted: {found}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(path: &Path) -> Client {
        Client { stream: UnixStream::connect(path).unwrap(), buffer: Vec::new() }
    }

    pub fn send(&mut self, method: &str, parameters: Value, fds: &[BorrowedFd<'_>], flags: Value) {
        let method = if method.contains('.') { method.to_owned() } else { format!("io.keepahead.Control.{method}") };
        let mut call = flags;
        call["method"] = method.into();
        call["parameters"] = parameters;
        let mut bytes = serde_json::to_vec(&call).unwrap();
        bytes.push(0);
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let beside: &[ControlMessage] = if raw.is_empty() { &[] } else { &rights };
        let sent = sendmsg::<()>(self.stream.as_raw_fd(), &[IoSlice::new(&bytes)], beside, MsgFlags::empty(), None).unwrap();
        self.stream.write_all(&bytes[sent..]).unwrap();
    }

    /// Bytes as they are, descriptors beside the first of them.
    #[allow(dead_code)]
    pub fn send_bytes(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let beside: &[ControlMessage] = if raw.is_empty() { &[] } else { &rights };
        let sent = sendmsg::<()>(self.stream.as_raw_fd(), &[IoSlice::new(bytes)], beside, MsgFlags::MSG_NOSIGNAL, None)?;
        self.stream.write_all(&bytes[sent..])
    }

    pub fn receive(&mut self) -> Value {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == 0) {
                let message: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&message[..end]).unwrap();
            }
            let mut part = [0; 65_536];
            let n = self.stream.read(&mut part).unwrap();
            assert!(n > 0, "the server has closed the connection");
            self.buffer.extend_from_slice(&part[..n]);
        }
    }

    /// The reply's parameters, or the whole error.
    pub fn call_with(&mut self, method: &str, parameters: Value, fds: &[BorrowedFd<'_>]) -> Result<Value, Value> {
        self.send(method, parameters, fds, json!({}));
        let mut reply = self.receive();
        if reply["error"].is_null() { Ok(reply["parameters"].take()) } else { Err(reply) }
    }

    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.call_with(method, parameters, &[])
    }

    /// Waits until a workload's figures are as wanted.
    pub fn wait(&mut self, work: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        wait("workload", || self.call("Stats", json!({ "workload": work })).unwrap(), wanted)
    }
}

/// A file of so many bytes on a real file system, on the disk.
pub fn file(bytes: usize) -> (tempfile::NamedTempFile, File) {
    let here = std::env::current_exe().unwrap();
    let mut file = tempfile::NamedTempFile::new_in(here.parent().unwrap()).unwrap();
    file.write_all(&vec![7; bytes]).unwrap();
    file.as_file().sync_all().unwrap();
    let open = File::open(file.path()).unwrap();
    (file, open)
}

/// What a script prints that has the Python client as `k`; as another user where one is named.
pub fn python(server: &Server, script: &str, uid: Option<u32>) -> String {
    use std::os::unix::process::CommandExt;
    let client = include_str!("../../clients/python/keepahead/_client.py");
    let program = format!("{client}\nk = Connection({:?})\n{script}\n", server.path.display().to_string());
    let mut command = Command::new("python3");
    command.args(["-c", &program]).current_dir("/");
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let output = command.output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Pages of a file that are in memory, as `mincore(2)` tells.
pub fn cached(file: &File) -> usize {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
    let length = std::num::NonZeroUsize::new(file.metadata().unwrap().len() as usize).unwrap();
    let mut pages = vec![0u8; length.get().div_ceil(4096)];
    // SAFETY: a fresh mapping of its own, looked at and unmapped here; `pages` has a byte for each of its pages.
    unsafe {
        let at = mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0).unwrap();
        assert_eq!(nix::libc::mincore(at.as_ptr(), length.get(), pages.as_mut_ptr()), 0);
        munmap(at, length.get()).unwrap();
    }
    pages.iter().filter(|p| **p & 1 == 1).count()
}
