// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead devices`: every tunable device with its value, disks and mounts; and what is not tunable, with why.

use super::Format;
use crate::actuator::{Discovery, Roots, discover};
use serde_json::json;
use std::io::{self, Write};

/// Prints what is there, to standard output.
pub fn run(format: Format, roots: &Roots) -> anyhow::Result<()> {
    let found = discover(roots)?;
    let mut out = io::stdout().lock();
    match format {
        Format::Text => text(&found, &mut out)?,
        Format::Json => json_lines(&found, &mut out)?,
    }
    Ok(())
}

/// One table, then one line for each thing that is not tunable.
pub fn text(found: &Discovery, out: &mut impl Write) -> io::Result<()> {
    let mut rows = vec![["DEVICE", "BDI", "KIND", "READ_AHEAD_KB", "DISKS", "MOUNTED"].map(str::to_owned)];
    for device in &found.tunable {
        let kind = serde_json::to_value(device.kind).ok().and_then(|k| k.as_str().map(str::to_owned)).unwrap_or_default();
        let mounted = found.mounted.get(&device.bdi).filter(|m| !m.is_empty()).map_or("-".to_owned(), |m| m.join("; "));
        let disks = if device.disks.is_empty() { "-".to_owned() } else { device.disks.join(",") };
        rows.push([device.label.clone(), device.bdi.0.clone(), kind, device.original.0.to_string(), disks, mounted]);
    }
    let widths: [usize; 6] = std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    for row in &rows {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    if found.tunable.is_empty() {
        writeln!(out, "(no tunable device)")?;
    }
    if !found.not_tunable.is_empty() {
        writeln!(out, "\nNot tunable:")?;
        let width = found.not_tunable.iter().map(|n| n.label.chars().count()).max().unwrap_or(0);
        for no in &found.not_tunable {
            writeln!(out, "  {:width$}  {}", no.label, no.why)?;
        }
    }
    Ok(())
}

/// One object a line: `"tunable": true` with the device's fields, or `false` with `why`.
pub fn json_lines(found: &Discovery, out: &mut impl Write) -> io::Result<()> {
    for device in &found.tunable {
        let mounted = found.mounted.get(&device.bdi).cloned().unwrap_or_default();
        // An agent takes the value that it finds for the original; here it may be one that an agent has written.
        let mut device = serde_json::to_value(device)?;
        if let Some(fields) = device.as_object_mut()
            && let Some(value) = fields.remove("original")
        {
            fields.insert("read_ahead_kb".into(), value);
        }
        writeln!(out, "{}", json!({ "tunable": true, "device": device, "mounted": mounted }))?;
    }
    for no in &found.not_tunable {
        writeln!(out, "{}", json!({ "tunable": false, "label": no.label, "bdi": no.bdi, "why": no.why }))?;
    }
    Ok(())
}
