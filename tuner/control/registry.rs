// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is connected and what is registered, with the limits per user and in all. Lives in the socket's thread alone.

use super::access::Peer;
use super::error::ControlError;
use super::limits::{
    CONNECTIONS, CONNECTIONS_PER_USER, LARGE_MESSAGES_PER_USER, NAME_CHARS, RANGES, RANGES_PER_WORKLOAD, WORKLOADS,
    WORKLOADS_PER_CLIENT,
};
use super::workload::{Hint, Workload};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use tokio::sync::Semaphore;

struct User {
    connections: usize,
    large: Arc<Semaphore>,
}

pub struct Registry {
    users: HashMap<u32, User>,
    connections: usize,
    workloads: BTreeMap<u64, Arc<Workload>>,
    /// Ended, and not all withdrawn yet: a client that comes and goes faster than that must not use up the descriptors.
    ending: Vec<Weak<Workload>>,
    next: u64,
    budget: u64,
    /// Clients whose process is watched: one descriptor more each.
    met: usize,
    /// Descriptors for connections and files.
    descriptors_most: usize,
}

fn reached(what: &'static str, limit: usize) -> ControlError {
    ControlError::LimitReached { what, limit: limit as u64 }
}

impl Registry {
    /// `budget` in bytes for all workloads; `descriptors_most` for all connections and, three quarters of it, for the files of all.
    pub fn new(budget: u64, descriptors_most: usize) -> Registry {
        let (users, workloads, ending) = (HashMap::new(), BTreeMap::new(), Vec::new());
        Registry { users, connections: 0, workloads, ending, next: 1, budget, met: 0, descriptors_most }
    }

    pub fn connections(&self) -> usize {
        self.connections
    }

    pub fn workloads(&self) -> usize {
        self.workloads.len()
    }

    /// A new connection; what its user may have of large messages under way.
    pub fn connect(&mut self, uid: u32) -> Result<Arc<Semaphore>, ControlError> {
        if self.connections >= CONNECTIONS {
            return Err(reached("connections", CONNECTIONS));
        }
        self.room_for_descriptors(1)?;
        let new = || User { connections: 0, large: Arc::new(Semaphore::new(LARGE_MESSAGES_PER_USER)) };
        let user = self.users.entry(uid).or_insert_with(new);
        if uid != 0 && user.connections >= CONNECTIONS_PER_USER {
            return Err(reached("connections of one user", CONNECTIONS_PER_USER));
        }
        user.connections += 1;
        self.connections += 1;
        Ok(user.large.clone())
    }

    /// A client's process is watched from now on.
    pub fn meet(&mut self) -> Result<(), ControlError> {
        self.room_for_descriptors(1)?;
        self.met += 1;
        Ok(())
    }

    /// `met`: his process was watched.
    pub fn disconnect(&mut self, uid: u32, met: bool) {
        self.connections -= 1;
        self.met -= usize::from(met);
        if let Some(user) = self.users.get_mut(&uid) {
            user.connections -= 1;
            if user.connections == 0 {
                self.users.remove(&uid);
            }
        }
    }

    /// A new workload of a connection that has `own` already. One user other than root gets at most half of the whole budget.
    pub fn register(
        &mut self,
        peer: &Peer,
        own: usize,
        name: String,
        budget: u64,
        hint: Option<Hint>,
    ) -> Result<Arc<Workload>, ControlError> {
        if name.is_empty() || name.chars().count() > NAME_CHARS || name.chars().any(char::is_control) {
            let allowed = format!("1 to {NAME_CHARS} printable characters");
            return Err(ControlError::InvalidValue { parameter: "name", value: name.chars().take(80).collect(), allowed });
        }
        if own >= WORKLOADS_PER_CLIENT {
            return Err(reached("workloads of a connection", WORKLOADS_PER_CLIENT));
        }
        if self.workloads.len() >= WORKLOADS {
            return Err(reached("workloads", WORKLOADS));
        }
        let taken = |of: &dyn Fn(&Workload) -> bool| self.workloads.values().filter(|w| of(w)).map(|w| w.budget).sum::<u64>();
        let mut left = self.budget.saturating_sub(taken(&|_| true));
        if peer.uid != 0 {
            left = left.min((self.budget / 2).saturating_sub(taken(&|w| w.uid == peer.uid)));
        }
        if budget == 0 || budget > left {
            let allowed = format!("1 to {left}, what control.budget_mib leaves now");
            return Err(ControlError::InvalidValue { parameter: "budget_bytes", value: budget.to_string(), allowed });
        }
        let workload = Arc::new(Workload::new(self.next, name, (peer.uid, peer.pid), budget, hint));
        self.workloads.insert(self.next, workload.clone());
        self.next += 1;
        Ok(workload)
    }

    pub fn remove(&mut self, id: u64) {
        self.ending.retain(|ending| ending.strong_count() > 0);
        self.ending.extend(self.workloads.remove(&id).map(|workload| Arc::downgrade(&workload)));
    }

    /// A workload that this user may look at.
    pub fn visible(&self, id: u64, peer: &Peer) -> Result<Arc<Workload>, ControlError> {
        let found = self.workloads.get(&id).filter(|w| peer.uid == 0 || w.uid == peer.uid);
        found.cloned().ok_or(ControlError::NoSuchWorkload { workload: id })
    }

    /// A workload that this process has registered, on whatever connection.
    pub fn of_process(&self, id: u64, peer: &Peer) -> Result<Arc<Workload>, ControlError> {
        let found = self.workloads.get(&id).filter(|w| (w.uid, w.pid) == (peer.uid, peer.pid));
        found.cloned().ok_or(ControlError::NoSuchWorkload { workload: id })
    }

    fn files(&self) -> usize {
        let ending = self.ending.iter().filter_map(Weak::upgrade).map(|w| w.descriptors()).sum::<usize>();
        ending + self.workloads.values().map(|w| w.descriptors()).sum::<usize>()
    }

    /// The agent needs descriptors of its own for every look at its devices: what clients hold must end before the process's limit.
    fn room_for_descriptors(&self, more: usize) -> Result<(), ControlError> {
        let (most, held) = (self.descriptors_most, self.connections + self.met + self.files());
        if held + more > most { Err(reached("descriptors for connections and files", most)) } else { Ok(()) }
    }

    /// Whether so many files more may be held.
    pub fn room_for_files(&self, more: usize) -> Result<(), ControlError> {
        // Each is opened a second time.
        let most = self.descriptors_most / 4 * 3;
        if self.files() + 2 * more > most {
            return Err(reached("descriptors for files of all workloads", most));
        }
        self.room_for_descriptors(2 * more)
    }

    /// Whether a plan may have so many ranges more.
    pub fn room_for_ranges(&self, workload: &Workload, more: usize) -> Result<(), ControlError> {
        if workload.progress().plan.held() + more > RANGES_PER_WORKLOAD {
            return Err(reached("ranges of a plan that lie ahead", RANGES_PER_WORKLOAD));
        }
        let held: usize = self.workloads.values().map(|w| w.progress().plan.held()).sum();
        if held + more > RANGES { Err(reached("ranges of all plans", RANGES)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Peer {
        let mut peer = Peer::of(&std::os::unix::net::UnixStream::pair().unwrap().0).unwrap();
        peer.uid = uid;
        peer
    }

    #[test]
    fn one_user_gets_half_of_the_budget_and_it_comes_back() {
        let mut registry = Registry::new(100, 10);
        let first = registry.register(&user(7), 0, "a".into(), 50, None).unwrap();
        let error = registry.register(&user(7), 0, "b".into(), 1, None).unwrap_err();
        assert!(matches!(error, ControlError::InvalidValue { parameter: "budget_bytes", .. }), "{error}");
        assert!(registry.register(&user(0), 0, "root".into(), 50, None).is_ok());
        registry.remove(first.id);
        assert!(registry.register(&user(7), 0, "b".into(), 50, None).is_ok());
    }

    #[test]
    fn names_workloads_and_connections_are_bounded() {
        let mut registry = Registry::new(100, 2 * CONNECTIONS_PER_USER);
        for name in [String::new(), "x".repeat(65), "a\nb".into()] {
            assert!(registry.register(&user(7), 0, name, 1, None).is_err());
        }
        assert!(registry.register(&user(7), WORKLOADS_PER_CLIENT, "x".into(), 1, None).is_err());
        for _ in 0..CONNECTIONS_PER_USER {
            registry.connect(7).unwrap();
        }
        assert!(registry.connect(7).is_err() && registry.connect(8).is_ok() && registry.connect(0).is_ok());
        registry.disconnect(7, false);
        assert!(registry.connect(7).is_ok());
    }

    #[test]
    fn clients_leave_the_agent_descriptors_of_its_own() {
        let mut registry = Registry::new(100, 20);
        (0..10).for_each(|_| drop(registry.connect(7).unwrap()));
        (0..4).for_each(|_| registry.meet().unwrap());
        assert!(registry.room_for_files(3).is_ok() && registry.room_for_files(4).is_err(), "14 of 20 are taken");
        (0..6).for_each(|_| drop(registry.connect(7).unwrap()));
        assert!(registry.connect(0).is_err() && registry.meet().is_err() && registry.room_for_files(1).is_err());
        registry.disconnect(7, true);
        assert!(registry.room_for_files(1).is_ok() && registry.room_for_files(2).is_err());
    }

    #[test]
    fn files_count_until_their_workload_is_withdrawn() {
        let mut registry = Registry::new(100, 16);
        let peer = user(nix::unistd::getuid().as_raw());
        let workload = registry.register(&peer, 0, "a".into(), 1, None).unwrap();
        let exe = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        workload.add(vec![super::super::file::ClientFile::adopt(0, exe.into(), &peer).unwrap()]).unwrap();
        assert_eq!(workload.descriptors(), 2);
        registry.remove(workload.id);
        assert!(registry.room_for_files(5).is_ok() && registry.room_for_files(6).is_err());
        drop(workload);
        assert!(registry.room_for_files(6).is_ok());
    }

    #[test]
    fn others_do_not_see_a_workload() {
        let mut registry = Registry::new(100, 10);
        let id = registry.register(&user(7), 0, "a".into(), 1, None).unwrap().id;
        assert!(registry.visible(id, &user(7)).is_ok() && registry.visible(id, &user(0)).is_ok());
        assert!(registry.visible(id, &user(8)).is_err());
    }
}
