// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of a client's process: takes the process, a range of its addresses and advice; gives the bytes that the kernel took it for.
//!
//! `process_madvise(2)` takes from others what cannot change what a program reads: WILLNEED, COLD and PAGEOUT. The advice that a mapping
//! keeps, and populating it, a process can only give itself (`process_madvise_remote_valid`, `mm/madvise.c`).

use super::error::ControlError;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Names and numbers of `include/uapi/asm-generic/mman-common.h`.
const REMOTE: &[(&str, i32)] = &[("willneed", 3), ("cold", 20), ("pageout", 21)];
const ONLY_ITSELF: &[&str] = &["normal", "random", "sequential", "populate_read"];

/// Advises `length` bytes at `address` of the process.
pub fn advise(process: &OwnedFd, address: u64, length: u64, advice: &str) -> Result<u64, ControlError> {
    let Some((_, number)) = REMOTE.iter().find(|(name, _)| *name == advice) else {
        if ONLY_ITSELF.contains(&advice) {
            let reason = "the kernel takes it from the process itself alone: call madvise(2)".into();
            return Err(ControlError::DoYourself { advice: advice.into(), reason });
        }
        let names: Vec<&str> = REMOTE.iter().map(|(name, _)| *name).chain(ONLY_ITSELF.iter().copied()).collect();
        return Err(ControlError::InvalidValue { parameter: "advice", value: advice.into(), allowed: names.join(", ") });
    };
    let page = rustix::param::page_size() as u64;
    if !address.is_multiple_of(page) || length == 0 || address.checked_add(length).is_none() {
        let (value, allowed) =
            (format!("{address} + {length}"), format!("an address that is a multiple of {page}, and 1 byte or more"));
        return Err(ControlError::InvalidValue { parameter: "address", value, allowed });
    }
    let mut done = 0;
    while done < length {
        match process_madvise(process, address + done, length - done, *number) {
            // The last page may be counted whole.
            Ok(bytes) if bytes > 0 => done += bytes.min(length - done),
            Ok(_) => break,
            Err(e) if done > 0 => {
                tracing::debug!("process_madvise after {done} bytes: {e}");
                break;
            }
            Err(e) => return Err(explained(&e, advice)),
        }
    }
    Ok(done)
}

fn explained(error: &io::Error, advice: &str) -> ControlError {
    ControlError::failed(match error.raw_os_error() {
        Some(libc::ENOMEM) => "not all of it is mapped".to_owned(),
        Some(libc::ESRCH) => "the process that connected has ended".to_owned(),
        Some(libc::EINVAL) => {
            format!("this kernel does not take {advice} for another process (6.1 and later does), or for this mapping")
        }
        _ => format!("process_madvise: {error}"),
    })
}

fn process_madvise(process: &OwnedFd, address: u64, length: u64, advice: i32) -> io::Result<u64> {
    // A u64 that does not fit an address here is nobody's memory.
    let place = |n: u64| usize::try_from(n).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM));
    let range = libc::iovec { iov_base: place(address)? as *mut libc::c_void, iov_len: place(length)? };
    // SAFETY: the kernel reads one iovec, which lives through the call; the addresses in it are the other process's and not touched
    // here.
    let taken = unsafe { libc::syscall(libc::SYS_process_madvise, process.as_raw_fd(), &raw const range, 1, advice, 0) };
    u64::try_from(taken).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    const MIB: usize = 1 << 20;

    #[test]
    fn regions_are_advised_and_what_a_process_must_do_itself_is_told() {
        let me = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let size = std::num::NonZeroUsize::new(MIB).unwrap();
        // SAFETY: new memory at an address of the kernel's choice.
        let map =
            unsafe { mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE) }.unwrap();
        let address = map.as_ptr() as u64;
        match advise(&me, address, MIB as u64, "cold") {
            Ok(bytes) => assert_eq!(bytes, MIB as u64),
            Err(e) => println!("skipped: {e}"),
        }
        for advice in ONLY_ITSELF {
            assert!(matches!(advise(&me, address, 4096, advice), Err(ControlError::DoYourself { .. })));
        }
        let refused = |address, length, advice| advise(&me, address, length, advice).unwrap_err().to_string();
        assert!(refused(address, 4096, "dontneed").contains("willneed, cold, pageout"));
        assert!(refused(address + 1, 4096, "cold").contains("multiple of"));
        assert!(refused(address, 0, "cold").contains("1 byte"));
        assert!(
            refused(u64::MAX - 4095, 4096, "cold").contains("multiple of")
                || refused(0, 4096, "cold").contains("not all of it")
        );
    }
}
