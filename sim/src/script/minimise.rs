// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shortest script that still shows something: delta debugging over the operations, then smaller numbers. Takes a script and a
//! question, gives a script for which the answer is still yes.
//!
//! Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 28(2), 2002.

use super::{Op, PAGE, Script};

/// Makes a script as short as `fails` allows, asking at most `tries` times. The script given must fail; so does the one returned.
/// Candidates that cannot be executed are passed over without asking.
pub fn minimise(script: &Script, tries: usize, fails: impl FnMut(&Script) -> bool) -> Script {
    let mut search = Search { best: script.clone(), left: tries, fails };
    // Smaller numbers can make operations superfluous and the other way round.
    loop {
        let before = search.best.clone();
        search.drop_tail();
        search.drop_ops();
        search.drop_files();
        search.shrink();
        if search.best == before || search.left == 0 {
            return search.best;
        }
    }
}

struct Search<F> {
    best: Script,
    left: usize,
    fails: F,
}

impl<F: FnMut(&Script) -> bool> Search<F> {
    /// Keeps the candidate if it still fails.
    fn accept(&mut self, candidate: Script) -> bool {
        if self.left == 0 || candidate == self.best || candidate.check().is_err() {
            return false;
        }
        self.left -= 1;
        let better = (self.fails)(&candidate);
        if better {
            self.best = candidate;
        }
        better
    }

    /// What comes after the failure goes first, by halving: most of a script usually.
    fn drop_tail(&mut self) {
        let mut kept = 0;
        while kept < self.best.ops.len() {
            let half = kept + (self.best.ops.len() - kept) / 2;
            let ops = self.best.ops[..half].to_vec();
            if !self.accept(Script { ops, ..self.best.clone() }) {
                kept = half + 1;
            }
        }
    }

    /// Drops runs of operations, from halves down to single ones.
    fn drop_ops(&mut self) {
        let mut run = self.best.ops.len() / 2;
        while run > 0 {
            let mut at = 0;
            while at < self.best.ops.len() {
                let end = (at + run).min(self.best.ops.len());
                let mut ops = self.best.ops.clone();
                ops.drain(at..end);
                if !self.accept(Script { ops, ..self.best.clone() }) {
                    at = end;
                }
            }
            run /= 2;
        }
    }

    /// Drops files that no operation opens.
    fn drop_files(&mut self) {
        for file in (0..self.best.files.len() as u32).rev() {
            let opens = |op: &Op| matches!(op, Op::Open { file: f, .. } if *f == file);
            if self.best.ops.iter().any(opens) {
                continue;
            }
            let mut candidate = self.best.clone();
            candidate.files.remove(file as usize);
            for op in &mut candidate.ops {
                if let Op::Open { file: f, .. } = op
                    && *f > file
                {
                    *f -= 1;
                }
            }
            self.accept(candidate);
        }
    }

    /// Offers smaller numbers for each operation and rounder sizes for the files.
    fn shrink(&mut self) {
        for at in 0..self.best.ops.len() {
            while let Some(smaller) = smaller(&self.best.ops[at]).into_iter().find(|op| {
                let mut candidate = self.best.clone();
                candidate.ops[at] = *op;
                self.accept(candidate)
            }) {
                debug_assert_eq!(self.best.ops[at], smaller);
            }
        }
        for file in 0..self.best.files.len() {
            let bytes = self.best.files[file];
            for rounder in [bytes / PAGE * PAGE, bytes.next_multiple_of(PAGE)] {
                let mut candidate = self.best.clone();
                candidate.files[file] = rounder;
                self.accept(candidate);
            }
        }
    }
}

/// Simpler forms of an operation, simplest first.
fn smaller(op: &Op) -> Vec<Op> {
    let mut forms = Vec::new();
    match *op {
        Op::Pread { fd, offset, bytes } => {
            let end = (offset + bytes).next_multiple_of(PAGE);
            let start = offset / PAGE * PAGE;
            forms.push(Op::Pread { fd, offset: start, bytes: PAGE });
            forms.push(Op::Pread { fd, offset: start, bytes: end - start });
            forms.push(Op::Pread { fd, offset, bytes: bytes / 2 });
        }
        Op::Fadvise { fd, advice, offset, bytes } if (offset, bytes) != (0, 0) => {
            forms.push(Op::Fadvise { fd, advice, offset: 0, bytes: 0 });
            forms.push(Op::Fadvise { fd, advice, offset: offset / PAGE * PAGE, bytes: bytes / PAGE * PAGE });
        }
        Op::Madvise { map, advice, page, pages } if pages > 1 => {
            forms.push(Op::Madvise { map, advice, page, pages: pages / 2 });
        }
        Op::Mmap { map, fd, page, pages } if pages > 1 => forms.push(Op::Mmap { map, fd, page, pages: pages / 2 }),
        _ => {}
    }
    // Strictly, or two forms of the same weight would be tried in turn for ever.
    forms.retain(|form| weight(form) < weight(op));
    forms
}

/// What shrinking must not raise, or it would not end: bytes past a page, then what is left unaligned.
fn weight(op: &Op) -> (u64, u64) {
    match *op {
        Op::Pread { offset, bytes, .. } => {
            let pages = (offset + bytes).div_ceil(PAGE) - offset / PAGE;
            (pages, offset % PAGE + (offset + bytes) % PAGE)
        }
        Op::Madvise { pages, .. } | Op::Mmap { pages, .. } => (pages, 0),
        Op::Fadvise { offset, bytes, .. } => (u64::from(bytes != 0), offset % PAGE + bytes % PAGE),
        _ => (0, 0),
    }
}
