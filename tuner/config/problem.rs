// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a configuration, and how it is said: line, key, value, limit and the way out.

use std::fmt;
use std::path::PathBuf;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read: {source}; name another file", .file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{}", lines(file, problems))]
    Refused { file: PathBuf, problems: Vec<Problem> },
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    pub line: usize,
    /// The key's full name (`bounds.floor_kib`); none where the text is no TOML at all.
    pub key: Option<String>,
    /// The value as written.
    pub value: Option<String>,
    /// What is wrong, the limit, and the way out.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        match (&self.key, &self.value) {
            (Some(key), Some(value)) => write!(f, "{key} = {value}: ")?,
            (Some(key), None) => write!(f, "{key}: ")?,
            (None, _) => {}
        }
        f.write_str(&self.message)
    }
}

fn lines(file: &std::path::Path, problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{}:{p}", file.display())).collect::<Vec<_>>().join("\n")
}
