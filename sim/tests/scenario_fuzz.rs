// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios that somebody mangled: fixtures with bytes, numbers, lines and keys changed are refused or can be built, and never panic.
//! What the fuzzer starts from (`fixtures/fuzz/scenario`) goes through the same.

use keepahead_sim::scenario::{Scenario, ScenarioError};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

#[expect(clippy::disallowed_methods, reason = "the crate reads no files; its tests read the fixtures")]
fn texts(dir: &str) -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(dir);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Numbers on the edges of what types and checks allow.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "4",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e-308",
    "18446744073709551615",
    "9223372036854775807",
    "0.5",
    "[]",
    "{}",
];

#[derive(Clone, Debug)]
enum Change {
    Byte(prop::sample::Index, u8),
    Number(prop::sample::Index, usize),
    Drop(prop::sample::Index),
    Double(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Cut(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 0u8..128).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (at(), 0..NUMBERS.len()).prop_map(|(at, number)| Change::Number(at, number)),
        at().prop_map(Change::Drop),
        at().prop_map(Change::Double),
        (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
        at().prop_map(Change::Cut),
    ]
}

fn mangle(text: &str, change: &Change) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    let count = lines.len();
    match change {
        Change::Byte(at, byte) => {
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            chars[at] = char::from(*byte);
            return chars.into_iter().collect();
        }
        Change::Number(at, number) => return with_number(text, at, NUMBERS[*number]),
        Change::Cut(at) => return text.chars().take(at.index(text.chars().count())).collect(),
        Change::Drop(at) => drop(lines.remove(at.index(count))),
        Change::Double(at) => lines.insert(at.index(count), lines[at.index(count)]),
        Change::Swap(a, b) => lines.swap(a.index(count), b.index(count)),
    }
    lines.join("\n")
}

/// One of the text's numbers replaced.
fn with_number(text: &str, at: &prop::sample::Index, number: &str) -> String {
    let starts: Vec<usize> = text
        .char_indices()
        .filter(|(i, c)| c.is_ascii_digit() && !text[..*i].ends_with(|p: char| p.is_alphanumeric() || "._".contains(p)))
        .map(|(i, _)| i)
        .collect();
    if starts.is_empty() {
        return text.into();
    }
    let start = *at.get(&starts);
    let length = text[start..].find(|c: char| !c.is_ascii_digit() && !"._".contains(c)).unwrap_or(text.len() - start);
    format!("{}{number}{}", &text[..start], &text[start + length..])
}

/// Parses; what passes must build, what fails must say why.
fn judge(text: &str) {
    match Scenario::parse(text) {
        Ok(scenario) => {
            assert!(scenario.spec().is_ok() && scenario.settings().is_ok(), "passes the check and cannot be built:\n{text}")
        }
        Err(error @ (ScenarioError::Form { .. } | ScenarioError::Impossible { .. })) => assert!(!error.to_string().is_empty()),
    }
}

#[test]
fn what_the_fuzzer_starts_from_never_panics() {
    let corpus = texts("fuzz/scenario");
    assert!(corpus.len() >= 6);
    corpus.iter().for_each(|text| judge(text));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn mangled_scenarios_are_refused_or_can_be_built(which in any::<prop::sample::Index>(), changes in prop::collection::vec(change(), 1..5)) {
        let all = texts("scenarios");
        let text = changes.iter().fold(which.get(&all).clone(), |text, change| mangle(&text, change));
        judge(&text);
    }
}
