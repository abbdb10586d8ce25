// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that can go wrong while acting, in words that name the thing, its value, the limit and the way out.

use keepahead_core::device::BdiName;
use keepahead_core::units::Kib;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ActuatorError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {source}", path = path.display())]
    Proc { path: PathBuf, source: procfs::ProcError },
    #[error("{path}: expected a number of KiB, found {found:?}", path = path.display())]
    NotANumber { path: PathBuf, found: String },
    #[error("bdi {0} is gone: {1} does not exist; the device was removed or unmounted")]
    Gone(BdiName, PathBuf),
    #[error("{path}: permission denied; run as root, or as the owner of the file with CAP_DAC_OVERRIDE", path = path.display())]
    Denied { path: PathBuf },
    #[error("{path}: sysfs is read-only here (a container?); run on the host or mount /sys read-write", path = path.display())]
    ReadOnly { path: PathBuf },
    #[error("read_ahead_kb of {bdi}: expected {expected}, found {found}: somebody else wrote it; nothing was written")]
    OtherValue { bdi: BdiName, expected: Kib, found: Kib },
    #[error("{first}; and then the device could not be put back to {present}: {then}")]
    NotPutBack { first: Box<ActuatorError>, present: Kib, then: Box<ActuatorError> },
    #[error("no open file took a window of {window}: the kernel made {found} of it in read_ahead_kb of {bdi}")]
    NotTaken { bdi: BdiName, window: Kib, found: Kib },
    #[error("read_ahead_kb of {bdi}: {wanted} is below the floor of 4 KiB (0 makes every read a request of one page)")]
    BelowFloor { bdi: BdiName, wanted: Kib },
    #[error("read_ahead_kb of {bdi}: {wanted} is not a power of two; since Linux 6.16 such windows lose their alignment")]
    NotAPowerOfTwo { bdi: BdiName, wanted: Kib },
    #[error("{what} needs {missing}; run as root or grant it (setcap, or AmbientCapabilities= of the systemd unit)")]
    Capability { what: &'static str, missing: String },
    #[error("fanotify: {0}; who else writes read_ahead_kb is then found by its value alone, without the writer's name")]
    Fanotify(nix::errno::Errno),
    #[error("listing open files by BPF iter/task_file (Linux 5.8 and later, with BTF): {0}")]
    Bpf(String),
    #[error("bdi name {0:?} is longer than the 31 bytes that the listing of open files compares")]
    LongName(BdiName),
}

impl ActuatorError {
    /// An I/O error on a knob file, as the condition it stands for.
    pub(crate) fn knob(bdi: &BdiName, path: PathBuf, source: io::Error) -> ActuatorError {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => ActuatorError::Gone(bdi.clone(), path),
            Some(libc::EACCES | libc::EPERM) => ActuatorError::Denied { path },
            Some(libc::EROFS) => ActuatorError::ReadOnly { path },
            _ => ActuatorError::Io { path, source },
        }
    }
}
