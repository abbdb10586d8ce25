// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files of results: takes a path and bytes, writes the file as a whole. Verbs that work long ask before whether it can be written.
//! Directories on the way are never made: that would hide a mistyped path.

use super::{Exit, Refused};
use anyhow::Context;
use std::io::{self, Write};
use std::path::Path;

/// Fails where [`save`] would.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let dir = directory_of(path)?;
    tempfile::NamedTempFile::new_in(dir).map(drop).with_context(|| unwritable(path))
}

/// The same for a directory of files. It may be made itself, by [`make`].
pub fn check_directory(dir: &Path) -> anyhow::Result<()> {
    if dir.is_dir() {
        return tempfile::NamedTempFile::new_in(dir).map(drop).with_context(|| unwritable(dir));
    }
    if dir.exists() {
        return Err(refuse(dir, "is no directory; name another").into());
    }
    check(dir)
}

/// Makes a directory where it is not there, and none above it.
pub fn make(dir: &Path) -> anyhow::Result<()> {
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e).with_context(|| unwritable(dir)),
        _ => Ok(()),
    }
}

/// Writes a whole file or leaves the old one: a reader never sees half of it.
pub fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let dir = directory_of(path)?;
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        // Temporary files are private; results are as readable as any file of the user.
        #[cfg(unix)]
        std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| unwritable(path))
}

fn directory_of(path: &Path) -> Result<&Path, Refused> {
    // A device or pipe would be replaced, not written to.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return Err(refuse(path, "is no regular file; name another"));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(refuse(path, &format!("there is no directory {}; make it first, or name another place", dir.display())))
}

fn refuse(path: &Path, why: &str) -> Refused {
    Refused::new(Exit::Usage, format!("{}: {why}", path.display()))
}

fn unwritable(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_told_before_and_nothing_is_made_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let (new, file) = (dir.path().join("new"), dir.path().join("file"));
        check(&file).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a check leaves nothing behind");
        for checked in [check(&new.join("x")), save(&new.join("x"), b""), check_directory(&new.join("plots"))] {
            let error = checked.unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Usage);
            assert!(error.to_string().contains(&format!("there is no directory {}", new.display())), "{error}");
        }
        assert!(!new.exists());
        check_directory(&new).unwrap();
        make(&new).unwrap();
        make(&new).unwrap();
        save(&new.join("x"), b"1").unwrap();
        save(&file, b"1").unwrap();
        assert!(check_directory(&file).unwrap_err().to_string().ends_with("is no directory; name another"));
        for none in ["/dev/null", "/tmp", ".."] {
            assert!(check(Path::new(none)).unwrap_err().to_string().contains("is no regular file"), "{none}");
        }
    }
}
