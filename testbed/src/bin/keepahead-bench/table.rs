// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows as JSON for machines and as a table for people.

use anyhow::Context;
use serde_json::Value;
use std::path::{Path, PathBuf};

const DIR: &str = "target/bench";

pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(format!("{name}.json"))
}

/// Writes the rows to `target/bench/NAME.json`.
pub fn write(name: &str, rows: &[Value]) -> anyhow::Result<()> {
    std::fs::create_dir_all(DIR).context(DIR)?;
    let path = path(name);
    std::fs::write(&path, serde_json::to_string_pretty(rows)? + "\n").with_context(|| format!("{}", path.display()))
}

/// Prints the given columns of the rows, aligned.
pub fn print(rows: &[Value], columns: &[&str]) {
    let cell = |row: &Value, column: &str| match &row[column] {
        Value::Null => "-".to_owned(),
        Value::Number(n) if n.is_f64() => format!("{:.2}", n.as_f64().unwrap_or(f64::NAN)),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let mut lines = vec![columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|c| cell(row, c)).collect()));
    let widths: Vec<usize> =
        (0..columns.len()).map(|i| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0)).collect();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
    for row in rows.iter().filter(|r| r["why"].is_string()) {
        println!("{}: {}", row["name"].as_str().unwrap_or("?"), row["why"].as_str().unwrap_or_default());
    }
}
