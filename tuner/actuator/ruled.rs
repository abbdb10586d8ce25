// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open files of programs that cannot be changed: takes the rules of the configuration and the list of open files, gives each rule's
//! files on each device. An allow-list: what no rule names is not touched.
//!
//! No descriptor is held: a deleted file would stay on the disk and a file system could not be unmounted. Descriptors are borrowed anew
//! (`pidfd_getfd(2)`) each time that a window is given or taken back, and closed at once.

use super::error::ActuatorError;
use super::rules::{Holder, Rule, cgroups};
use super::scan::{ADVISED_MODES, OpenFile};
use crate::config::glob_matches;
use keepahead_core::device::BdiName;
use keepahead_core::units::Kib;
use rustix::fs::{Advice, AtFlags, StatxFlags, statx};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// One `[[workload]]` of the configuration: all conditions given must hold, and one must be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadRule {
    pub name: String,
    pub who: Rule,
    /// Glob on the file's path as `/proc/PID/fd` shows it: absolute, symbolic links resolved.
    pub path: Option<String>,
}

impl WorkloadRule {
    /// Whether the rule names this open file. `proc`: `/proc`.
    pub fn names(&self, file: &OpenFile, proc: &Path) -> bool {
        let paths = if self.who.cgroup.is_some() { cgroups(proc, file.tgid) } else { Vec::new() };
        let holder = Holder { comm: file.comm.clone(), uid: file.uid, cgroups: paths };
        let anybody = self.who == Rule::default() && self.path.is_some();
        (anybody || self.who.fits(&holder)) && self.path.as_ref().is_none_or(|glob| opened_as(file, proc, glob))
    }
}

fn opened_as(file: &OpenFile, proc: &Path, glob: &str) -> bool {
    let link = std::fs::read_link(proc.join(file.tgid.to_string()).join("fd").join(file.fd.to_string()));
    link.is_ok_and(|path| glob_matches(glob, &path.to_string_lossy()))
}

/// Whose files bear a window of their own.
#[derive(Clone, Debug, PartialEq)]
pub enum Bearer {
    Process(u32),
    Rule(Box<WorkloadRule>),
}

/// A file, its inode and the process that was met with it.
type Key = (u64, u64, u32);

/// Files on a device that one rule names.
pub type Found = BTreeMap<(BdiName, usize), Vec<OpenFile>>;

type Scan = Box<dyn FnMut(&[BdiName]) -> Result<Vec<OpenFile>, ActuatorError>>;

/// The rules, and which files they were found to name.
pub struct Ruled {
    rules: Vec<WorkloadRule>,
    scan: Scan,
    proc: PathBuf,
    me: u32,
    /// The rule of each file met; none where no rule names it, or its program has advised it itself.
    met: HashMap<Key, Option<usize>>,
}

impl Ruled {
    /// With the kernel's list of open files.
    pub fn load(rules: Vec<WorkloadRule>, proc: &Path) -> Result<Ruled, ActuatorError> {
        #[cfg(feature = "ebpf")]
        {
            let mut scanner = super::scan::Scanner::load()?;
            Ok(Ruled::over(rules, proc, Box::new(move |bdis| scanner.scan(bdis))))
        }
        #[cfg(not(feature = "ebpf"))]
        {
            let _ = (rules, proc);
            Err(ActuatorError::Bpf("this keepahead was built without it".into()))
        }
    }

    /// With any list.
    pub fn over(rules: Vec<WorkloadRule>, proc: &Path, scan: Scan) -> Ruled {
        Ruled { rules, scan, proc: proc.into(), me: std::process::id(), met: HashMap::new() }
    }

    pub fn rule(&self, index: usize) -> &WorkloadRule {
        &self.rules[index]
    }

    /// Each rule's files on these devices. `given`: the window, in pages, that the files of a rule on a device have from us, if any.
    ///
    /// A file that carries another number than its device when it is first met was advised by its program, or is late (the refresh
    /// of open files will reach it); one that changes under us was advised since. Such files are left alone.
    pub fn look(
        &mut self,
        bdis: &[BdiName],
        given: impl Fn(&BdiName, &WorkloadRule) -> Option<u32>,
    ) -> Result<Found, ActuatorError> {
        let listed = (self.scan)(bdis)?;
        let (mut found, mut met) = (Found::new(), HashMap::new());
        for file in listed.into_iter().filter(|f| f.tgid != self.me) {
            let key = (file.file, file.inode, file.tgid);
            let plain = file.f_mode & ADVISED_MODES == 0;
            let follows = file.ra_pages == file.bdi_ra_pages;
            let rule = match self.met.get(&key) {
                Some(rule) => rule.filter(|n| plain && (follows || given(&file.bdi, &self.rules[*n]) == Some(file.ra_pages))),
                None if plain && follows => self.rules.iter().position(|rule| rule.names(&file, &self.proc)),
                // Not met yet: it may come to follow its device.
                None => continue,
            };
            met.insert(key, rule);
            if let Some(rule) = rule {
                found.entry((file.bdi.clone(), rule)).or_default().push(file);
            }
        }
        self.met = met;
        Ok(found)
    }
}

/// Takes one of these windows back from files that somebody has open on `bdi`: they follow their device again. How many.
#[cfg(feature = "ebpf")]
pub fn withdraw(bdi: &BdiName, from: &Bearer, windows: &[Kib], proc: &Path) -> Result<usize, ActuatorError> {
    let pages: Vec<u64> = windows.iter().map(|w| w.pages()).collect();
    let (listed, me) = (super::scan::Scanner::load()?.scan(std::slice::from_ref(bdi))?, std::process::id());
    let theirs = |file: &OpenFile| match from {
        Bearer::Process(pid) => file.tgid == *pid,
        Bearer::Rule(rule) => file.tgid != me && rule.names(file, proc),
    };
    let ours = |f: &&OpenFile| f.ra_pages != f.bdi_ra_pages && pages.contains(&u64::from(f.ra_pages)) && theirs(f);
    Ok(listed.iter().filter(ours).filter(|file| advise_normal(file)).count())
}

#[cfg(not(feature = "ebpf"))]
pub fn withdraw(_: &BdiName, _: &Bearer, _: &[Kib], _: &Path) -> Result<usize, ActuatorError> {
    Err(ActuatorError::Bpf("this keepahead was built without it".into()))
}

/// Re-reads the bdi's value into an open file of another process. `false` where it is out of reach (the process or the descriptor
/// is gone, Yama or a user namespace refuses): the file then counts as stale if it is still there.
pub fn advise_normal(file: &OpenFile) -> bool {
    let Some(fd) = borrow(file) else { return false };
    // Length 0: to the end of the file. The descriptor is closed on return, whatever happens.
    rustix::fs::fadvise(&fd, 0, None, Advice::Normal).is_ok()
}

/// The same open file in this process, made sure to be the one that was listed: between the listing and now the descriptor may
/// have been closed and its number used again. Nobody else is asked: a server of NFS that is gone must not hold the agent up.
pub fn borrow(file: &OpenFile) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(file.tgid).ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let fd = pidfd_getfd(&pidfd, i32::try_from(file.fd).ok()?, PidfdGetfdFlags::empty()).ok()?;
    let stat = statx(&fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
    let same_dev = (stat.stx_dev_major, stat.stx_dev_minor) == (file.dev >> 20, file.dev & 0xf_ffff);
    // btrfs shows each subvolume's own device number, which the superblock does not have: the inode number has to do there.
    let btrfs = file.bdi.0.starts_with("btrfs-");
    (stat.stx_ino == file.ino && (same_dev || btrfs)).then_some(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actuator::scan::open_file as file;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn rule(name: &str, comm: &str) -> WorkloadRule {
        WorkloadRule { name: name.into(), who: Rule { comm: Some(comm.into()), ..Rule::default() }, path: None }
    }

    /// The inodes that each of two rules names after one listing after another.
    fn looks(listings: &[Vec<OpenFile>], given: Option<u32>) -> Vec<[Vec<u64>; 2]> {
        let now = Rc::new(RefCell::new(Vec::new()));
        let listed = now.clone();
        let scan: Scan = Box::new(move |_| Ok(listed.borrow().clone()));
        let mut ruled = Ruled::over(vec![rule("db", "postgres*"), rule("rest", "post*")], Path::new("/proc"), scan);
        let mut look = |listing: &Vec<OpenFile>| {
            *now.borrow_mut() = listing.clone();
            let found = ruled.look(&[BdiName("7:0".into())], |_, _| given).unwrap();
            [0, 1]
                .map(|n| found.iter().filter(|((_, rule), _)| *rule == n).flat_map(|(_, f)| f.iter().map(|f| f.ino)).collect())
        };
        listings.iter().map(&mut look).collect()
    }

    #[test]
    fn the_first_rule_that_names_a_file_has_it_and_nobody_else_is_touched() {
        let listing = vec![file(1, "postgres: wal", 32), file(2, "postfix", 32), file(3, "fio", 32)];
        assert_eq!(looks(&[listing], None), [[vec![1], vec![2]]]);
    }

    #[test]
    fn what_a_program_has_advised_itself_is_left_alone() {
        let random = OpenFile { f_mode: 1 | ADVISED_MODES, ..file(2, "postgres", 32) };
        let before = vec![file(1, "postgres", 64), random, file(3, "postgres", 32)];
        // Number 1 comes to follow its device; 3 has our window, then one of its own, and then looks like any other.
        let given = vec![file(1, "postgres", 32), file(3, "postgres", 4)];
        let advised = vec![file(1, "postgres", 32), file(3, "postgres", 64)];
        let again = vec![file(1, "postgres", 32), file(3, "postgres", 32)];
        let seen: Vec<Vec<u64>> =
            looks(&[before, given, advised, again], Some(4)).into_iter().map(|[first, _]| first).collect();
        assert_eq!(seen, [vec![3], vec![1, 3], vec![1], vec![1]]);
    }

    #[test]
    fn paths_are_those_under_which_the_program_has_the_file_open() {
        use std::os::fd::AsRawFd;
        let here = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let mine = OpenFile { tgid: std::process::id(), fd: here.as_raw_fd() as u32, ..file(1, "x", 32) };
        let by_path = |glob: &str| WorkloadRule { path: Some(glob.into()), ..WorkloadRule::default() };
        let exe = std::env::current_exe().unwrap().canonicalize().unwrap();
        let parent = exe.parent().unwrap().display().to_string();
        assert!(by_path(&format!("{parent}/*")).names(&mine, Path::new("/proc")));
        assert!(!by_path("/nowhere/*").names(&mine, Path::new("/proc")));
        assert!(!WorkloadRule::default().names(&mine, Path::new("/proc")), "a rule without conditions");
    }
}
