// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a scenario, and where: takes the text and what the TOML reader or a check said, gives line, column and the
//! nearest known key.

use std::fmt;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A place in the text, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    fn of(text: &str, byte: usize) -> Position {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Position { line, column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, an unknown or missing key, a value of the wrong type.
    #[error("{position}: {message}")]
    Form { position: Position, message: String },
    /// A scenario that cannot be.
    #[error("{}{key} = {value}: {limit}; {way_out}", .position.map(|p| format!("{p}: ")).unwrap_or_default())]
    Impossible {
        /// `None` where the scenario did not come from a text.
        position: Option<Position>,
        /// As in `task[0].program.random.request_kib`, tables of a list counted from 0.
        key: String,
        value: String,
        limit: String,
        way_out: String,
    },
}

impl ScenarioError {
    pub(super) fn impossible(key: impl fmt::Display, value: impl fmt::Display, limit: &str, way_out: &str) -> ScenarioError {
        let (limit, way_out) = (limit.into(), way_out.into());
        ScenarioError::Impossible { position: None, key: key.to_string(), value: value.to_string(), limit, way_out }
    }

    pub(super) fn form(text: &str, error: &toml::de::Error) -> ScenarioError {
        let position = Position::of(text, error.span().map_or(0, |span| span.start));
        let message = error.message().replace('\n', " ");
        let hint = nearest(&message).map(|known| format!(": did you mean `{known}`?")).unwrap_or_default();
        ScenarioError::Form { position, message: format!("{message}{hint}") }
    }

    /// Adds the place of the key in the text it came from: of the key itself, or of the nearest table around it.
    pub(super) fn located(mut self, text: &str) -> ScenarioError {
        if let ScenarioError::Impossible { position, key, .. } = &mut self
            && let Ok(table) = DeTable::parse(text)
        {
            *position = find(table.get_ref(), key).map(|span| Position::of(text, span.start));
        }
        self
    }
}

/// The known name nearest to the one that serde does not know; serde's message lists them in backquotes, the unknown one first.
pub(super) fn nearest(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "))?;
    let mut names = rest.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    let known = names.min_by_key(|name| strsim::damerau_levenshtein(unknown, name))?;
    // Farther than half its length it is another word, not a slip.
    (strsim::damerau_levenshtein(unknown, known) * 2 <= unknown.len().max(known.len())).then_some(known)
}

/// Where `a[1].b.c` stands; where it is not written, where the innermost table around it stands that is.
fn find(root: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let mut span = None;
    let mut table = root;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((written, value)) = table.iter().find(|(known, _)| known.get_ref() == name) else { break };
        span = Some(written.span());
        let value = match (index, value.get_ref()) {
            (Some(index), DeValue::Array(list)) => match list.get(index) {
                Some(element) => {
                    span = Some(element.span());
                    element.get_ref()
                }
                None => break,
            },
            (_, value) => value,
        };
        match value {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    span
}
