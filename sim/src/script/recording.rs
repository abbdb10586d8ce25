// SPDX-License-Identifier: MIT OR Apache-2.0
//! A script together with what a real kernel did about it. The same text as a script, with the environment above it and the events of
//! each operation below that operation, indented: a fixture that a person can read.

use super::text::{Builder, ScriptError, Trouble, Words};
use super::{Script, event_text};
use crate::event::Event;
use std::fmt;
use std::str::FromStr;

/// The file systems that scripts run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filesystem {
    Ext4,
    Xfs,
}

impl Filesystem {
    pub const ALL: [Filesystem; 2] = [Filesystem::Ext4, Filesystem::Xfs];

    pub fn name(self) -> &'static str {
        match self {
            Filesystem::Ext4 => "ext4",
            Filesystem::Xfs => "xfs",
        }
    }
}

impl FromStr for Filesystem {
    type Err = ();

    fn from_str(word: &str) -> Result<Filesystem, ()> {
        Filesystem::ALL.into_iter().find(|one| one.name() == word).ok_or(())
    }
}

/// What the events depend on besides the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    pub filesystem: Filesystem,
    /// Release of the kernel, as `uname -r` has it.
    pub kernel: String,
    /// `queue/max_sectors_kb` in KiB: the kernel's `io_pages`, the most that advice or one large read asks for at once.
    pub max_sectors_kb: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    pub environment: Environment,
    pub script: Script,
    /// Events of each operation, in the order of the operations.
    pub steps: Vec<Vec<Event>>,
}

impl Recording {
    /// All events in order.
    pub fn events(&self) -> Vec<Event> {
        self.steps.concat()
    }

    /// The operation (its number from 0) during which event `at` came, or would have come next.
    pub fn operation_of(&self, at: usize) -> usize {
        let mut seen = 0;
        let of = self.steps.iter().position(|step| {
            seen += step.len();
            at < seen
        });
        of.unwrap_or(self.steps.len().saturating_sub(1))
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Environment { filesystem, kernel, max_sectors_kb } = &self.environment;
        write!(
            f,
            "filesystem {}\nkernel {kernel}\nmax_sectors_kb {max_sectors_kb}\n{}",
            filesystem.name(),
            self.script.head()
        )?;
        for (op, events) in self.script.ops.iter().zip(&self.steps) {
            writeln!(f, "{op}")?;
            event_text::write(f, events)?;
        }
        Ok(())
    }
}

/// A recording as it is read: the environment first, then the script.
#[derive(Default)]
struct Reader {
    filesystem: Option<Filesystem>,
    kernel: Option<String>,
    max_sectors_kb: Option<u32>,
    builder: Builder,
    steps: Vec<Vec<Event>>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Trouble> {
        let mut words = Words::of(line);
        if line.starts_with(' ') && !line.trim_start().starts_with('#') && !line.trim().is_empty() {
            let step = self.steps.last_mut().ok_or(Trouble::EventWithoutOperation)?;
            step.extend(event_text::parse(&mut words)?);
            return Ok(());
        }
        match words.next() {
            Some("filesystem") => self.filesystem = Some(words.parse("filesystem")?),
            Some("kernel") => self.kernel = Some(words.parse("release")?),
            Some("max_sectors_kb") => self.max_sectors_kb = Some(words.parse("KiB")?),
            _ => {
                if self.builder.line(line)? {
                    self.steps.push(Vec::new());
                }
                return Ok(());
            }
        }
        words.end()
    }

    fn finish(self) -> Result<Recording, Trouble> {
        let environment = Environment {
            filesystem: self.filesystem.ok_or(Trouble::Missing { what: "filesystem" })?,
            kernel: self.kernel.ok_or(Trouble::Missing { what: "kernel" })?,
            max_sectors_kb: self.max_sectors_kb.ok_or(Trouble::Missing { what: "max_sectors_kb" })?,
        };
        Ok(Recording { environment, script: self.builder.finish()?, steps: self.steps })
    }
}

impl FromStr for Recording {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Recording, ScriptError> {
        let mut reader = Reader::default();
        let mut last = 0;
        for (at, line) in text.lines().enumerate() {
            last = at + 1;
            reader.line(line).map_err(|trouble| ScriptError { line: last, trouble })?;
        }
        reader.finish().map_err(|trouble| ScriptError { line: last, trouble })
    }
}
