// SPDX-License-Identifier: MIT OR Apache-2.0
//! The live view: the workload's throughput on the left, the agent's words on the right. Colours on a terminal only.

use crate::phases::Now;
use crate::words::{self, Sort};
use std::io::{IsTerminal, Write};

/// A line of throughput alone is kept once in so many seconds; in between, a terminal shows it in place.
const KEEP_EVERY_S: u64 = 5;

pub struct Live {
    terminal: bool,
}

impl Live {
    pub fn new() -> Live {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Live { terminal: std::io::stdout().is_terminal() && !plain }
    }

    pub fn bold(&self, text: &str) -> String {
        if self.terminal { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn title(&self, text: &str) {
        println!("\n{}", self.bold(text));
    }

    /// Where the workload is, and what the agent said meanwhile.
    pub fn show(&self, now: &Now, words: &[String]) {
        let left = left(now);
        self.end_of_line();
        if now.whole_second && now.second.is_multiple_of(KEEP_EVERY_S) {
            println!("{left}");
        } else if self.terminal {
            print!("{left}");
        }
        for (i, line) in words.iter().enumerate() {
            if i == 0 && self.terminal {
                self.end_of_line();
            }
            self.words(line);
        }
        let _ = std::io::stdout().flush();
    }

    /// A line of the agent: its decisions stand out, its figures stand back.
    pub fn words(&self, line: &str) {
        let colour = match words::sort(line) {
            _ if !self.terminal => return println!("  | {line}"),
            Sort::Kept => "\x1b[1;32m",
            Sort::Verdict => "\x1b[33m",
            Sort::TrialStarted => "\x1b[36m",
            Sort::Block | Sort::Under | Sort::Switch => "\x1b[2m",
            Sort::Other => "",
        };
        println!("  \x1b[2m|\x1b[0m {colour}{line}\x1b[0m");
    }

    /// Clears the line that is rewritten in place.
    pub fn end_of_line(&self) {
        if self.terminal {
            print!("\r\x1b[K");
        }
    }
}

fn left(now: &Now) -> String {
    format!("{:>4} s  {:<16} {:>7.1} MB/s  read_ahead_kb {:<5}", now.second, now.name, now.mb_per_s, now.knob)
}
