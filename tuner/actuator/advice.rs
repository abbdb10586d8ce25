// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which open files the application advised itself, told apart from those that merely carry an old value. Pure bookkeeping over
//! successive scans.
//!
//! `POSIX_FADV_SEQUENTIAL` leaves twice the bdi's value in `ra_pages`, and trials move by factors of two: the number alone says
//! nothing. So every file is followed by identity, and its number is judged by when it changed: a value that appeared while the
//! bdi held it came from `open` or from us, any other came from the application.

use super::scan::{ADVISED_MODES, OpenFile};
use keepahead_core::device::BdiName;
use std::collections::{BTreeSet, HashMap};

/// What a file's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It carries the bdi's present value.
    Current,
    /// It carries an old value of the bdi: a refresh may reach it.
    Stale,
    /// The application advised it: never touched.
    Advised,
}

type Key = (u64, u64, u32);

fn key(file: &OpenFile) -> Key {
    (file.file, file.inode, file.tgid)
}

#[derive(Debug)]
struct Known {
    bdi: BdiName,
    /// `ra_pages` at the last scan.
    seen: u32,
    advised: bool,
    round: u64,
}

/// All files met so far, and the values that their bdis have held since the last scan.
#[derive(Debug, Default)]
pub struct Ledger {
    known: HashMap<Key, Known>,
    held: HashMap<BdiName, BTreeSet<u32>>,
    round: u64,
}

impl Ledger {
    /// Takes one scan of `bdis` in and gives each file's standing, in the order of the scan.
    pub fn learn(&mut self, bdis: &[BdiName], files: &[OpenFile]) -> Vec<Standing> {
        self.round += 1;
        for file in files {
            self.held.entry(file.bdi.clone()).or_default().insert(file.bdi_ra_pages);
        }
        let standings = files.iter().map(|file| self.judge(file)).collect();
        let round = self.round;
        self.known.retain(|_, known| known.round == round || !bdis.contains(&known.bdi));
        for file in files {
            self.held.insert(file.bdi.clone(), BTreeSet::from([file.bdi_ra_pages]));
        }
        standings
    }

    /// A value that the bdi holds from now on: files opened before the next scan may carry it.
    pub fn holds(&mut self, bdi: &BdiName, ra_pages: u32) {
        self.held.entry(bdi.clone()).or_default().insert(ra_pages);
    }

    /// keepahead itself refreshed this file: it now carries what the bdi holds.
    pub fn refreshed(&mut self, file: &OpenFile, ra_pages: u32) {
        if let Some(known) = self.known.get_mut(&key(file)) {
            known.seen = ra_pages;
            known.advised = false;
        }
    }

    /// Forgets a bdi that is gone.
    pub fn forget(&mut self, bdi: &BdiName) {
        self.known.retain(|_, known| known.bdi != *bdi);
        self.held.remove(bdi);
    }

    fn judge(&mut self, file: &OpenFile) -> Standing {
        let plain = self.came_from_the_bdi(file);
        let (round, ra_pages) = (self.round, file.ra_pages);
        let known = self
            .known
            .entry(key(file))
            .and_modify(|known| {
                // An unchanged number keeps its meaning, even where the bdi has meanwhile come to hold the same one.
                if known.seen != ra_pages {
                    known.advised = !plain;
                }
                known.seen = ra_pages;
                known.round = round;
            })
            .or_insert_with(|| Known { bdi: file.bdi.clone(), seen: ra_pages, advised: !plain, round });
        if known.advised || file.f_mode & ADVISED_MODES != 0 {
            Standing::Advised
        } else if ra_pages == file.bdi_ra_pages {
            Standing::Current
        } else {
            Standing::Stale
        }
    }

    /// Whether a number that appeared since the last scan was the bdi's at some time since then. Where it may as well be twice
    /// another value held since then, the application gets the benefit of the doubt.
    fn came_from_the_bdi(&self, file: &OpenFile) -> bool {
        let held = self.held.get(&file.bdi);
        let holds = |pages: u32| held.is_some_and(|held| held.contains(&pages));
        let doubled = file.ra_pages.is_multiple_of(2) && file.ra_pages > 0 && holds(file.ra_pages / 2);
        holds(file.ra_pages) && !doubled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actuator::scan::open_file;
    use proptest::prelude::*;

    fn bdi() -> BdiName {
        BdiName("7:0".into())
    }

    fn file(id: u64, ra_pages: u32, bdi_ra_pages: u32) -> OpenFile {
        OpenFile { bdi_ra_pages, ..open_file(id, "reader", ra_pages) }
    }

    fn scan(ledger: &mut Ledger, files: &[OpenFile]) -> Vec<Standing> {
        ledger.learn(&[bdi()], files)
    }

    #[test]
    fn a_file_opened_before_a_change_is_stale_after_it() {
        let mut ledger = Ledger::default();
        assert_eq!(scan(&mut ledger, &[file(1, 32, 32)]), [Standing::Current]);
        assert_eq!(scan(&mut ledger, &[file(1, 32, 128)]), [Standing::Stale]);
        ledger.refreshed(&file(1, 32, 128), 128);
        assert_eq!(scan(&mut ledger, &[file(1, 128, 128)]), [Standing::Current]);
    }

    #[test]
    fn sequential_advice_is_never_mistaken_for_a_trial_value() {
        let mut ledger = Ledger::default();
        scan(&mut ledger, &[file(1, 32, 32)]);
        // Advised at 32 pages, so it carries 64; the bdi then goes to 64, back to 32, on to 128.
        for held in [32, 64, 32, 128] {
            assert_eq!(scan(&mut ledger, &[file(1, 64, held)]), [Standing::Advised], "bdi at {held}");
        }
        // The application takes its advice back.
        assert_eq!(scan(&mut ledger, &[file(1, 128, 128)]), [Standing::Current]);
    }

    #[test]
    fn a_file_first_met_with_another_number_is_left_alone() {
        let mut ledger = Ledger::default();
        assert_eq!(scan(&mut ledger, &[file(1, 64, 32)]), [Standing::Advised]);
        assert_eq!(scan(&mut ledger, &[file(1, 64, 64)]), [Standing::Advised]);
    }

    #[test]
    fn a_file_opened_while_an_earlier_value_stood_is_stale_not_advised() {
        let mut ledger = Ledger::default();
        ledger.holds(&bdi(), 32);
        ledger.holds(&bdi(), 512);
        assert_eq!(scan(&mut ledger, &[file(1, 32, 512)]), [Standing::Stale]);
    }

    #[test]
    fn modes_that_normal_would_clear_are_advice() {
        let mut ledger = Ledger::default();
        for mode in [0x1000, 1 << 23] {
            let advised = OpenFile { f_mode: 1 | mode, ..file(1, 32, 32) };
            assert_eq!(scan(&mut ledger, &[advised]), [Standing::Advised]);
        }
        assert_eq!(scan(&mut ledger, &[file(1, 32, 32)]), [Standing::Current]);
    }

    #[test]
    fn files_that_are_closed_are_forgotten() {
        let mut ledger = Ledger::default();
        scan(&mut ledger, &[file(1, 64, 32), file(2, 32, 32)]);
        scan(&mut ledger, &[file(2, 32, 32)]);
        assert_eq!(ledger.known.len(), 1);
    }

    /// What can happen to one file between two scans, and to its bdi.
    #[derive(Clone, Debug)]
    enum Step {
        Sequential,
        Normal,
        /// The bdi changes by a power of two, keepahead scans before and after and refreshes what is stale.
        Write(u32),
        Scan,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Sequential),
            Just(Step::Normal),
            (2u32..10).prop_map(|n| Step::Write(1 << n)),
            Just(Step::Scan)
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// Whatever the order of advice and trial values: a file under SEQUENTIAL advice is never judged fit for a refresh. One
        /// without it is, unless its number is still the advised one of the last look (taken back unseen: nothing shows).
        #[test]
        fn advice_survives_any_order_of_writes(steps in steps()) {
            let mut ledger = Ledger::default();
            let (mut held, mut carried, mut advised, mut looked) = (32u32, 32u32, false, None);
            scan(&mut ledger, &[file(1, carried, held)]);
            for step in steps {
                match step {
                    Step::Sequential => (carried, advised) = (held * 2, true),
                    Step::Normal => (carried, advised) = (held, false),
                    Step::Write(_) | Step::Scan => {
                        let mut standing = scan(&mut ledger, &[file(1, carried, held)])[0];
                        if let Step::Write(to) = step {
                            held = to;
                            standing = scan(&mut ledger, &[file(1, carried, held)])[0];
                        }
                        prop_assert!(standing == Standing::Advised || !advised, "taken for ours");
                        prop_assert!(standing != Standing::Advised || advised || looked == Some(carried), "given up");
                        looked = (standing == Standing::Advised).then_some(carried);
                        if standing == Standing::Stale {
                            carried = held;
                            ledger.refreshed(&file(1, carried, held), held);
                        }
                    }
                }
            }
        }
    }
}
