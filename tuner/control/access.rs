// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may call what: takes the peer of a connection as the kernel names it and the lists of the configuration, gives yes or the
//! refusal. Nothing that a client says of itself counts.

use super::error::ControlError;
use crate::config;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Group, Uid, User};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// What a method belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Monitor,
    Advise,
    Tune,
    Admin,
}

impl Class {
    /// The class of a method of the interface; `None` where there is no such method.
    pub fn of(method: &str) -> Option<Class> {
        Some(match method {
            "Status" | "Devices" | "History" | "Trials" => Class::Monitor,
            "Register" | "AddFiles" | "Unregister" | "Plan" | "Position" | "Prefetch" | "Discard" | "AdviseMemory"
            | "AddRegions" | "RemoveRegion" | "Orders" | "Stats" => Class::Advise,
            "Pause" | "Resume" | "TakeBack" | "Pin" | "Unpin" => Class::Tune,
            "Restore" | "Reload" => Class::Admin,
            _ => return None,
        })
    }

    /// As the configuration and the errors spell it.
    pub fn word(self) -> &'static str {
        match self {
            Class::Monitor => "monitor",
            Class::Advise => "advise",
            Class::Tune => "tune",
            Class::Admin => "admin",
        }
    }
}

/// The process at the other end, as it was when it connected.
#[derive(Clone)]
pub struct Peer {
    pub uid: u32,
    pub pid: i32,
    groups: Vec<Gid>,
    user: String,
}

impl Peer {
    pub fn of(socket: &impl AsFd) -> io::Result<Peer> {
        let credentials = getsockopt(socket, PeerCredentials)?;
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
        let mut groups = peer_groups(socket).unwrap_or_default();
        groups.push(Gid::from_raw(gid));
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or(uid.to_string(), |u| u.name);
        Ok(Peer { uid, pid, groups, user })
    }

    /// Readable once the process has ended.
    pub fn process(&self, socket: &impl AsFd) -> Option<OwnedFd> {
        // Before 6.5 the number has to do; had it been used again meanwhile, the connection itself would have ended.
        let by_number = || Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        peer_pidfd(socket).or_else(by_number)
    }

    /// Whether the configuration lets this peer call a method.
    pub fn may(&self, method: &str, class: Class, control: &config::Control) -> Result<(), ControlError> {
        let list = match class {
            Class::Monitor => &control.monitor,
            Class::Advise => &control.advise,
            Class::Tune => &control.tune,
            Class::Admin => &control.admin,
        };
        if self.uid == 0 || list.iter().any(|entry| self.is(entry)) {
            return Ok(());
        }
        Err(ControlError::NotPermitted { method: method.into(), needs: class.word(), user: self.user.clone() })
    }

    /// `*`, a user's name or number, or `%` and a group's.
    fn is(&self, entry: &str) -> bool {
        match entry.strip_prefix('%') {
            _ if entry == "*" => true,
            Some(group) => match group.parse() {
                Ok(number) => self.groups.contains(&Gid::from_raw(number)),
                Err(_) => Group::from_name(group).ok().flatten().is_some_and(|g| self.groups.contains(&g.gid)),
            },
            None => entry.parse() == Ok(self.uid) || entry == self.user,
        }
    }
}

/// An entry of a list that lets nobody in, because this machine knows no such user or group, and what it would be.
pub fn names_nobody(entry: &str) -> Option<&'static str> {
    // A number needs no name.
    let number = |text: &str| text.parse::<u32>().is_ok();
    match entry.strip_prefix('%') {
        _ if entry == "*" => None,
        Some(group) => (!number(group) && Group::from_name(group).ok().flatten().is_none()).then_some("group"),
        None => (!number(entry) && User::from_name(entry).ok().flatten().is_none()).then_some("user"),
    }
}

/// SO_PEERPIDFD (6.5 and later): the very process that connected, whatever became of its number.
fn peer_pidfd(socket: &impl AsFd) -> Option<OwnedFd> {
    const SO_PEERPIDFD: i32 = 77;
    let (mut fd, mut length) = (-1i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: both pointers are to live locals of the sizes stated.
    let done = unsafe {
        let (fd, length) = ((&raw mut fd).cast(), &raw mut length);
        libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, fd, length)
    };
    // SAFETY: the kernel has just made this descriptor for us.
    (done == 0 && fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// SO_PEERGROUPS (4.13 and later): supplementary groups at the time of the connection.
fn peer_groups(socket: &impl AsFd) -> Option<Vec<Gid>> {
    const SO_PEERGROUPS: i32 = 59;
    let ask = |groups: &mut [libc::gid_t]| {
        let mut length = size_of_val(groups) as libc::socklen_t;
        // SAFETY: the buffer is as long as `length` says.
        let done = unsafe {
            let (room, length) = (groups.as_mut_ptr().cast(), &raw mut length);
            libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, SO_PEERGROUPS, room, length)
        };
        (done == 0, length as usize / size_of::<libc::gid_t>())
    };
    // Where the room does not do, the kernel says how much would (ERANGE). Room for NGROUPS_MAX would be 256 KiB a connection.
    let mut groups = vec![0; ask(&mut []).1];
    ask(&mut groups).0.then(|| groups.into_iter().map(Gid::from_raw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, groups: &[u32]) -> Peer {
        let groups = groups.iter().map(|g| Gid::from_raw(*g)).collect();
        Peer { uid, pid: 1, groups, user: format!("user{uid}") }
    }

    fn control(advise: &[&str]) -> config::Control {
        config::Control { advise: advise.iter().map(ToString::to_string).collect(), ..config::Control::default() }
    }

    #[test]
    fn lists_name_users_groups_or_everybody() {
        let may = |peer: &Peer, list: &[&str]| peer.may("Plan", Class::Advise, &control(list)).is_ok();
        assert!(may(&peer(0, &[]), &[]), "root");
        assert!(!may(&peer(7, &[7]), &[]));
        for list in [&["7"][..], &["user7"], &["%9"], &["*"], &["nobody-of-that-name", "user7"]] {
            assert!(may(&peer(7, &[9]), list), "{list:?}");
            assert!(list == ["*"] || !may(&peer(8, &[8]), list), "{list:?}");
        }
    }

    #[test]
    fn what_names_nobody_is_told_apart() {
        for entry in ["*", "root", "0", "%0", "%root", "4242"] {
            assert_eq!(names_nobody(entry), None, "{entry}");
        }
        assert_eq!(names_nobody("no-such-user"), Some("user"));
        for entry in ["%no-such-group", "%"] {
            assert_eq!(names_nobody(entry), Some("group"), "{entry}");
        }
    }

    #[test]
    fn a_refusal_names_method_class_and_user() {
        let refused = peer(7, &[]).may("Plan", Class::Advise, &control(&[])).unwrap_err().reply();
        assert_eq!(refused["error"], "io.keepahead.Control.NotPermitted");
        assert_eq!(refused["parameters"], serde_json::json!({ "method": "Plan", "needs": "advise", "user": "user7" }));
    }

    #[test]
    fn the_kernel_names_the_peer() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&here).unwrap();
        assert_eq!((peer.uid, peer.pid), (nix::unistd::getuid().as_raw(), std::process::id() as i32));
        assert!(peer.process(&here).is_some());
    }

    #[test]
    fn the_groups_of_a_peer_take_the_room_that_they_need() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut groups = peer_groups(&one).unwrap();
        assert!(groups.capacity() <= groups.len().max(4), "room for {} of {}", groups.capacity(), groups.len());
        let mut own = nix::unistd::getgroups().unwrap();
        groups.sort_by_key(|g| g.as_raw());
        own.sort_by_key(|g| g.as_raw());
        assert_eq!(groups, own);
    }
}
