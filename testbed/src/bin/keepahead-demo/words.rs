// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent's lines, shortened for somebody who watches: of a trial's blocks the first few, and the knob's switching to and fro
//! between them not at all. Whatever is not known here passes as it is.

/// New, old, old: enough to see what is compared.
const BLOCKS_SHOWN: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    TrialStarted,
    Block,
    Verdict,
    Kept,
    /// Under a decision: why, and its figures.
    Under,
    Switch,
    Other,
}

pub fn sort(line: &str) -> Sort {
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    match line {
        _ if line.starts_with("    ") && !has_time(line) => Sort::Under,
        _ if has(&[": KEPT "]) => Sort::Kept,
        _ if has(&[": reverted to ", ": aborted, ", ": void, "]) => Sort::Verdict,
        _ if has(&[": New ", ": Old "]) => Sort::Block,
        _ if has(&[" against "]) => Sort::TrialStarted,
        _ if has(&[": read_ahead_kb "]) && has(&[" -> "]) => Sort::Switch,
        _ => Sort::Other,
    }
}

/// `   12.3 s vdb: …`: whatever is told begins so, and what belongs to it stands below.
fn has_time(line: &str) -> bool {
    line.trim_start().split_once(" s ").is_some_and(|(seconds, _)| seconds.parse::<f64>().is_ok())
}

/// What it has seen of the running trial.
#[derive(Default)]
pub struct Shortener {
    on_trial: bool,
    switches: u32,
    blocks: u32,
}

impl Shortener {
    /// The lines to show for one that came.
    pub fn show(&mut self, line: String) -> Vec<String> {
        match sort(&line) {
            Sort::TrialStarted => *self = Shortener { on_trial: true, ..Shortener::default() },
            Sort::Block => {
                self.blocks += 1;
                if self.blocks > BLOCKS_SHOWN {
                    return Vec::new();
                }
            }
            Sort::Switch if self.on_trial => {
                self.switches += 1;
                // The first one says how many open files were reached.
                if self.switches > 1 {
                    return Vec::new();
                }
            }
            Sort::Kept | Sort::Verdict => {
                let more = self.blocks.saturating_sub(BLOCKS_SHOWN);
                *self = Shortener::default();
                if more > 0 {
                    return vec![format!("{:18}... and {more} more blocks, new and old in turn", ""), line];
                }
            }
            Sort::Under => return vec![format!("{:18}{}", "", line.trim())],
            Sort::Switch | Sort::Other => {}
        }
        vec![line]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_trial_is_shortened_and_its_verdict_kept() {
        let mut shortener = Shortener::default();
        let mut shown = Vec::new();
        let mut lines = vec!["    5.0 s loop2: trial 1: 128 KiB against 512 KiB (rules-1: sequential)".to_owned()];
        lines.extend(
            ["    raise: runs of 900 pages", "    over the last 3.0 s: 131.0 MiB/s demanded (0 % by mmap)"].map(str::to_owned),
        );
        for arm in ["New 512", "Old 128", "Old 128", "New 512", "New 512"] {
            lines.push("  5.0 s loop2: read_ahead_kb 128 KiB -> 512 KiB; 1 open file refreshed".into());
            lines.push(format!("  5.6 s loop2: trial 1: {arm} KiB for 0.40 s: 168.0 MiB demanded"));
        }
        lines.push("  9.4 s loop2: trial 1: KEPT 512 KiB (was 128 KiB): stall fell".into());
        lines.push("  9.4 s loop2: read_ahead_kb 128 KiB -> 512 KiB; 1 open file refreshed".into());
        lines.push("anything else".into());
        for line in lines {
            shown.extend(shortener.show(line));
        }
        let sorts: Vec<Sort> = shown.iter().map(|line| sort(line)).collect();
        use Sort::*;
        assert_eq!(sorts, [TrialStarted, Under, Under, Switch, Block, Block, Block, Under, Kept, Switch, Other]);
        assert!(shown[7].contains("2 more blocks"), "{}", shown[7]);
    }
}
