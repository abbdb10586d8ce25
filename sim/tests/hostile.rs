// SPDX-License-Identifier: MIT OR Apache-2.0
//! Damaged and hostile traces: the corpus of the fuzz targets (`fixtures/fuzz`), and the shipped traces with bytes changed, cut out and
//! put in. Whatever comes, a reader does not panic, yields nothing out of range, and names the place of what is wrong.
#![expect(clippy::disallowed_methods, reason = "the corpus is a folder that fuzzing adds to")]

use keepahead_sim::trace::{ACCESS_BYTES_MAX, Kind, OFFSET_MAX, ReadOptions, TraceFormat, open};
use proptest::prelude::*;
use std::io::Cursor;
use std::path::PathBuf;

fn fixtures(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(folder);
    let paths = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Accesses, and the error at the end.
fn drain(bytes: &[u8], format: Option<TraceFormat>) -> (u64, Option<String>) {
    let mut accesses = 0;
    let mut source = match open(Box::new(Cursor::new(bytes.to_vec())), format, &ReadOptions::default()) {
        Ok((_, source)) => source,
        Err(e) => return (0, Some(placed(&e))),
    };
    while let Some(access) = source.next() {
        match access {
            Ok(access) => {
                assert!(access.offset + u64::from(access.bytes) <= OFFSET_MAX);
                assert!(access.kind == Kind::Trim || u64::from(access.bytes) <= ACCESS_BYTES_MAX);
                accesses += 1;
            }
            Err(e) => {
                assert!(source.next().is_none(), "nothing comes after an error");
                return (accesses, Some(placed(&e)));
            }
        }
    }
    (accesses, None)
}

fn placed(error: &keepahead_sim::trace::TraceError) -> String {
    let text = error.to_string();
    assert!(text.starts_with(&error.position().to_string()), "{text}");
    assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
    text
}

#[test]
fn every_reader_bears_the_whole_corpus() {
    let mut seeds = 0;
    for target in ["own", "own_entries", "fio_iolog", "oracle_general", "cache_csv", "msr", "blkparse"] {
        for (_, bytes) in fixtures(&format!("fuzz/{target}")) {
            seeds += 1;
            drain(&bytes, None);
            for format in TraceFormat::ALL {
                drain(&bytes, Some(format));
            }
        }
    }
    assert!(seeds >= 20, "{seeds} seeds");
}

/// What the seeds made by hand are for.
#[test]
fn hostile_seeds_are_refused_for_their_reason() {
    for (seed, format, wanted) in [
        ("own/cut", TraceFormat::Keepahead, "the trace ends within a block"),
        ("fio_iolog/version", TraceFormat::FioIolog, "`fio version 2 iolog` or `fio version 3 iolog` is needed"),
        ("fio_iolog/offset-beyond", TraceFormat::FioIolog, "from 0 to 9223372036854771711 is needed"),
        ("oracle_general/cut", TraceFormat::OracleGeneral, "byte 250: the trace ends within a record of 24 bytes, 10 accesses"),
        ("oracle_general/zst-cut", TraceFormat::OracleGeneral, "the trace ends within"),
        ("cache_csv/two-columns", TraceFormat::CacheCsv, "column 3 is needed"),
        ("cache_csv/size-beyond", TraceFormat::CacheCsv, "from 0 to 2147479552 is needed"),
        ("msr/type", TraceFormat::Msr, "Read and Write are known"),
        ("blkparse/sector-beyond", TraceFormat::Blkparse, "from 0 to 18014398509481975 is needed"),
    ] {
        let bytes = std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fuzz").join(seed)).unwrap();
        let error = drain(&bytes, Some(format)).1.unwrap_or_default();
        assert!(error.contains(wanted), "{seed}: {error:?}");
    }
}

/// A change to a trace: at a place (a fraction of its length) bytes are changed, cut out or put in.
#[derive(Clone, Debug)]
enum Change {
    Flip(f64, u8),
    Cut(f64, usize),
    Insert(f64, Vec<u8>),
    End(f64),
}

fn change() -> impl Strategy<Value = Change> {
    let place = 0.0f64..1.0;
    prop_oneof![
        (place.clone(), 1u8..).prop_map(|(at, with)| Change::Flip(at, with)),
        (place.clone(), 1usize..40).prop_map(|(at, bytes)| Change::Cut(at, bytes)),
        (place.clone(), proptest::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        place.prop_map(Change::End),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let place = |at: &f64| (bytes.len() as f64 * at) as usize;
    match change {
        Change::Flip(at, with) => {
            let at = place(at);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= with;
            }
        }
        Change::Cut(at, count) => {
            let at = place(at);
            bytes.drain(at..(at + count).min(bytes.len()));
        }
        Change::Insert(at, more) => {
            let at = place(at);
            bytes.splice(at..at, more.iter().copied());
        }
        Change::End(at) => bytes.truncate(place(at)),
    }
}

proptest! {
    #[test]
    fn changed_traces_do_no_harm(changes in proptest::collection::vec(change(), 1..6)) {
        for (path, mut bytes) in fixtures("traces") {
            let format = match path.extension().and_then(|e| e.to_str()) {
                Some("katrace") => TraceFormat::Keepahead,
                Some("iolog") => TraceFormat::FioIolog,
                Some("bin" | "zst") => TraceFormat::OracleGeneral,
                Some("txt") => TraceFormat::Blkparse,
                Some("csv") if path.ends_with("msr.csv") => TraceFormat::Msr,
                Some("csv") => TraceFormat::CacheCsv,
                _ => continue,
            };
            changes.iter().for_each(|change| apply(&mut bytes, change));
            drain(&bytes, Some(format));
            drain(&bytes, None);
        }
    }
}
