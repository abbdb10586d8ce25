// SPDX-License-Identifier: MIT OR Apache-2.0
//! docs/control-reference.md: takes the interface description, gives the page, and fails where the page is another one.
//! `KEEPAHEAD_WRITE_REFERENCE=1 cargo test --test clients reference` writes it.

use std::path::Path;

const DESCRIPTION: &str = include_str!("../../tuner/control/io.keepahead.Control.varlink");

/// One definition with the comment above it: `method`, `type` or `error`, its name, and its text on one line.
struct Definition {
    kind: String,
    name: String,
    text: String,
    comment: String,
}

/// The comment before `interface`, and the definitions.
fn parse(description: &str) -> (String, Vec<Definition>) {
    let (mut head, mut comment, mut open) = (String::new(), String::new(), String::new());
    let mut definitions = Vec::new();
    for line in description.lines() {
        if let (Some(said), true) = (line.strip_prefix('#'), open.is_empty()) {
            comment.push_str(said.trim());
            comment.push('\n');
        } else if line.starts_with("interface ") {
            head = std::mem::take(&mut comment);
        } else if line.trim().is_empty() && open.is_empty() {
            comment.clear();
        } else {
            open.push_str(line.trim());
            open.push(' ');
            if open.matches('(').count() == open.matches(')').count() {
                let text = std::mem::take(&mut open).trim().replace("( ", "(").replace(" )", ")");
                let mut words = text.split([' ', '(']);
                let (kind, name) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
                definitions.push(Definition { kind, name, text, comment: std::mem::take(&mut comment) });
            }
        }
    }
    (head, definitions)
}

/// The fields of the first list in parentheses as rows of a table.
fn rows(fields: &str) -> String {
    let inner = fields.trim().trim_start_matches('(').trim_end_matches(')');
    let pairs = inner.split(", ").filter_map(|field| field.split_once(": "));
    pairs.map(|(name, kind)| format!("| `{name}` | `{kind}` |\n")).collect()
}

fn table(what: &str, fields: &str) -> String {
    match rows(fields) {
        rows if rows.is_empty() => format!("{what}: nothing.\n\n"),
        rows => format!("| {what} | type |\n| --- | --- |\n{rows}\n"),
    }
}

fn page(description: &str) -> String {
    let (head, definitions) = parse(description);
    let mut page = format!(
        "# Reference of `io.keepahead.Control`\n\nMade from `tuner/control/io.keepahead.Control.varlink`; do not edit. How to use it: \
         [control.md](control.md), from a program: [clients.md](clients.md). `?` before a type: may be left out. `[]`: a list.\n\n{head}"
    );
    for (kind, title) in [("method", "Methods"), ("type", "Types"), ("error", "Errors")] {
        page += &format!("\n## {title}\n");
        for d in definitions.iter().filter(|d| d.kind == kind) {
            page += &format!("\n### `{}`\n\n", d.name);
            if !d.comment.is_empty() {
                page += &format!("{}\n", d.comment);
            }
            let fields = d.text.trim_start_matches(&d.kind).trim_start().trim_start_matches(&d.name);
            page += &match fields.split_once(" -> ") {
                Some((given, told)) => table("takes", given) + &table("gives", told),
                None => table("field", fields),
            };
        }
    }
    page.trim_end().to_owned() + "\n"
}

#[test]
fn the_page_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/control-reference.md");
    let made = page(DESCRIPTION);
    if std::env::var_os("KEEPAHEAD_WRITE_REFERENCE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(there == made, "docs/control-reference.md is old: KEEPAHEAD_WRITE_REFERENCE=1 cargo test --test clients reference");
}

#[test]
fn every_definition_is_on_it() {
    let definitions = parse(DESCRIPTION).1;
    let kinds = |kind: &str| DESCRIPTION.lines().filter(|line| line.starts_with(kind)).count();
    for kind in ["method ", "type ", "error "] {
        let found = definitions.iter().filter(|d| d.kind == kind.trim()).count();
        assert_eq!(found, kinds(kind), "{kind}");
    }
    assert!(page(DESCRIPTION).contains("### `Stats`\n\nWith `more`"));
    assert!(page(DESCRIPTION).contains("| `hint` | `?string` |"));
}
