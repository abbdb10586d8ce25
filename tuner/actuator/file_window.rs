// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives open files a readahead window of their own, of any size. Takes descriptors that share the client's open file description.
//!
//! `POSIX_FADV_NORMAL` copies the bdi's `ra_pages` into the open file (`mm/fadvise.c`), and nothing else changes it afterwards. So the
//! knob is set to the window for the few microseconds that the advice takes, and back. It reaches `read(2)` and mappings alike, which
//! `POSIX_FADV_RANDOM` does not (it leaves read-around alone), and needs no help from the client, which `MADV_RANDOM` would. A file of
//! somebody else that is opened in just these microseconds gets the window too, until its next refresh.

use super::error::ActuatorError;
use super::knob::Knob;
use keepahead_core::device::BdiName;
use keepahead_core::units::Kib;
use rustix::fs::Advice;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whoever gives `POSIX_FADV_NORMAL` from another thread holds this meanwhile, or a file may get a window that is meant for another.
static KNOB: Mutex<()> = Mutex::new(());

/// The knobs read what they should while this is held.
pub fn knobs_at_rest() -> MutexGuard<'static, ()> {
    KNOB.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives `files` the window, if their owner is `still` there once it is his turn. `present`: what the knob reads and reads again
/// afterwards. How many files took it.
///
/// # Errors
/// The knob reads something else, cannot be written, or could not be put back; or no file took the window.
pub fn give<F: AsFd>(
    knob: &Knob,
    bdi: &BdiName,
    present: Kib,
    window: Kib,
    files: &[F],
    still: impl Fn() -> bool,
) -> Result<usize, ActuatorError> {
    let _swapped = knobs_at_rest();
    if !still() {
        return Ok(0);
    }
    let normal = |file: &&F| rustix::fs::fadvise(file, 0, None, Advice::Normal).is_ok();
    let (given, stands) = match knob.restore(bdi, present, window) {
        Ok(found) => {
            let taken = if found == window { files.iter().filter(normal).count() } else { 0 };
            let none = taken == 0 && !files.is_empty();
            let given = if none { Err(ActuatorError::NotTaken { bdi: bdi.clone(), window, found }) } else { Ok(taken) };
            (given, Ok(found))
        }
        // Nothing of ours stands there.
        Err(e @ (ActuatorError::OtherValue { .. } | ActuatorError::Gone(..))) => return Err(e),
        // It may have been written all the same.
        Err(e) => (Err(e), knob.read(bdi)),
    };
    let put_back = stands.and_then(|stands| knob.restore(bdi, stands, present));
    match (given, put_back) {
        (given, Ok(_)) => given,
        (Ok(_), Err(e)) => Err(e),
        (Err(first), Err(then)) => Err(ActuatorError::NotPutBack { first: first.into(), present, then: then.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::{sys::stat::Mode, unistd::mkfifo};
    use std::fs::{self, File};
    use std::io::Write;
    use std::sync::mpsc::{Receiver, channel};

    /// A knob that says this to one read after another, `None`: takes a write, and what is written to it. It is a named pipe: each read is
    /// from another one.
    fn scripted(script: &'static [Option<&str>]) -> (tempfile::TempDir, Knob, Receiver<String>) {
        let root = tempfile::tempdir().unwrap();
        let knob = Knob::new(root.path());
        let path = knob.path(&bdi());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let (send, written) = channel();
        std::thread::spawn(move || {
            for step in script {
                let Some(said) = step else {
                    let text = fs::read_to_string(&path).unwrap();
                    send.send(text).unwrap();
                    continue;
                };
                let mut pipe = File::options().write(true).open(&path).unwrap();
                let next = path.with_extension("next");
                mkfifo(&next, Mode::S_IRWXU).unwrap();
                fs::rename(next, &path).unwrap();
                pipe.write_all(said.as_bytes()).unwrap();
            }
        });
        (root, knob, written)
    }

    fn bdi() -> BdiName {
        BdiName("7:0".into())
    }

    /// 16 KiB to one file on a device with 128. What was made of it, and what was written.
    fn give_16(script: &'static [Option<&str>]) -> (Result<usize, String>, Vec<String>) {
        let (_root, knob, written) = scripted(script);
        let files = [tempfile::tempfile().unwrap()];
        let given = give(&knob, &bdi(), Kib(128), Kib(16), &files, || true).map_err(|e| e.to_string());
        (given, written.try_iter().collect())
    }

    #[test]
    fn the_device_has_its_value_back() {
        let said = give_16(&[Some("128"), None, Some("16"), Some("16"), None, Some("128")]);
        assert_eq!(said, (Ok(1), vec!["16".into(), "128".into()]));
    }

    #[test]
    fn also_where_the_window_could_not_be_read_back() {
        let (given, written) = give_16(&[Some("128"), None, Some("?"), Some("16"), Some("16"), None, Some("128")]);
        assert_eq!(written, ["16", "128"]);
        let error = given.unwrap_err();
        assert!(error.ends_with("expected a number of KiB, found \"?\""), "{error}");
        let (given, _) = give_16(&[Some("128"), None, Some("?"), Some("!")]);
        let error = given.unwrap_err();
        assert!(
            error.contains("found \"?\"; and ") && error.contains("put back to 128 KiB") && error.contains("\"!\""),
            "{error}"
        );
    }

    #[test]
    fn what_the_kernel_made_of_a_window_that_no_file_took_is_named() {
        let (given, written) = give_16(&[Some("128"), None, Some("0"), Some("0"), None, Some("128")]);
        assert_eq!(written, ["16", "128"]);
        let error = given.unwrap_err();
        assert!(error.contains("16 KiB") && error.contains("made 0 KiB of it"), "{error}");
    }
}
