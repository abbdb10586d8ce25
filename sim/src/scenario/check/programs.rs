// SPDX-License-Identifier: MIT OR Apache-2.0
//! Refuses programs that cannot be: takes one as read and the sizes of the files, gives the number of files that it opens, or what is
//! wrong with it.

use super::{Checked, pace, range};
use crate::scenario::error::ScenarioError;
use crate::scenario::layout::{Group, Layout};
use crate::scenario::program::*;
use crate::scenario::schema::Scenario;
use crate::workload::distribution::Distribution;

/// 64 MiB: no single request of a real program is larger, and a piece of work stays small in memory.
const REQUEST_KIB: f64 = 65_536.0;
/// Files that are read as a whole in one piece of work, and tensors.
const WHOLE_KIB: f64 = (4u64 << 20) as f64;

type Checks = Result<(), ScenarioError>;

pub(super) fn check(key: &str, program: &ProgramSpec, layout: &Layout, scenario: &Scenario) -> Result<usize, ScenarioError> {
    let at = Place { key, layout };
    match program {
        ProgramSpec::Idle {} => Ok(0),
        ProgramSpec::Sequential(s) => at.scan("sequential", s),
        ProgramSpec::Reverse(s) => at.scan("reverse", s),
        ProgramSpec::Strided(s) => {
            let group = at.files("strided", "files", &s.files)?;
            at.request("strided", s.request_kib, group)?;
            let way_out = "a stride below request_kib would read bytes twice, one beyond the file reads only its start";
            let key = format!("{key}.strided.stride_kib");
            range(key, s.stride_kib as f64, s.request_kib as f64, kib(group.largest()), way_out)?;
            Ok(group.sizes.len())
        }
        ProgramSpec::Random(s) => {
            let group = at.files("random", "files", &s.files)?;
            at.request("random", s.request_kib, group)?;
            let zipf = s.zipf.unwrap_or(1.0);
            range(format!("{key}.random.zipf"), zipf, 0.0, 10.0, "1.0 is typical; leave it out for uniform")?;
            Ok(group.sizes.len())
        }
        ProgramSpec::Runs(s) => at.runs(s),
        ProgramSpec::Streams(s) => at.streams(s),
        ProgramSpec::Phases(s) => phases(key, s, layout, scenario),
        ProgramSpec::Rocksdb(s) => at.rocksdb(s),
        ProgramSpec::Epochs(s) => {
            let group = at.files("epochs", "files", &s.files)?;
            at.request("epochs", s.request_kib, group)?;
            at.whole("epochs", "files", group)?;
            Ok(group.sizes.len())
        }
        ProgramSpec::Weights(s) => at.weights(s),
        ProgramSpec::Install(s) => {
            let (from, to) = (at.files("install", "files", &s.files)?, at.files("install", "to", &s.to)?);
            range(format!("{key}.install.request_kib"), s.request_kib as f64, 1.0, REQUEST_KIB, "128 is typical")?;
            at.whole("install", "files", from)?;
            Ok(from.sizes.len() + to.sizes.len())
        }
        ProgramSpec::Log(s) => at.log(s),
    }
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

fn phases(key: &str, s: &PhasesSpec, layout: &Layout, scenario: &Scenario) -> Result<usize, ScenarioError> {
    range(format!("{key}.phases.of"), s.of.len() as f64, 1.0, 1000.0, "give at least one phase")?;
    let mut files = 0;
    for (i, phase) in s.of.iter().enumerate() {
        let key = format!("{key}.phases.of[{i}]");
        // A phase of no length would be announced for ever at one point in time.
        range(format!("{key}.lasts_s"), phase.lasts_s, 0.001, 86_400.0, "a phase takes time")?;
        pace(&key, &phase.think_us, phase.arrival)?;
        if matches!(phase.program, ProgramSpec::Phases(_)) {
            let (limit, way_out) = ("must not be phases again", "write the inner phases one by one");
            return Err(ScenarioError::impossible(format!("{key}.program"), "phases", limit, way_out));
        }
        files += check(&format!("{key}.program"), &phase.program, layout, scenario)?;
    }
    Ok(files)
}

/// A program's place in the scenario.
struct Place<'a> {
    key: &'a str,
    layout: &'a Layout,
}

impl<'a> Place<'a> {
    fn files(&self, program: &str, part: &str, name: &str) -> Result<&'a Group, ScenarioError> {
        self.layout.group(&format!("{}.{program}.{part}", self.key), name)
    }

    fn request(&self, program: &str, request_kib: u64, group: &Group) -> Checks {
        let key = format!("{}.{program}.request_kib", self.key);
        range(&key, request_kib as f64, 1.0, REQUEST_KIB, "4 to 1024 are typical")?;
        // Rounded up to a page: a small file is read by one request of a page too.
        let most = group.largest().next_multiple_of(4096).max(128 << 10);
        range(key, request_kib as f64, 1.0, kib(most), "a request beyond the end of the largest file is cut: make it smaller")
    }

    fn whole(&self, program: &str, part: &str, group: &Group) -> Checks {
        let key = format!("{}.{program}.{part}", self.key);
        range(key, kib(group.largest()), 0.0, WHOLE_KIB, "its largest file (KiB) is too large to be read in one piece")
    }

    fn scan(&self, program: &str, s: &ScanSpec) -> Result<usize, ScenarioError> {
        let group = self.files(program, "files", &s.files)?;
        self.request(program, s.request_kib, group)?;
        let key = format!("{}.{program}.start_kib", self.key);
        if !s.start_kib.is_multiple_of(s.request_kib) {
            let way_out = "requests are counted from the start of the file";
            return Err(ScenarioError::impossible(
                key,
                s.start_kib,
                &format!("must be a multiple of {}", s.request_kib),
                way_out,
            ));
        }
        let last = kib(group.total() - 1);
        range(key, s.start_kib as f64, 0.0, last, "it must lie before the end of the files")?;
        Ok(group.sizes.len())
    }

    fn runs(&self, s: &RunsSpec) -> Result<usize, ScenarioError> {
        let group = self.files("runs", "files", &s.files)?;
        self.request("runs", s.request_kib, group)?;
        let key = format!("{}.runs.pages", self.key);
        let most = group.largest().div_ceil(4096).min(1 << 16) as f64;
        s.pages.check(&key, 1.0, most, "a run has at least a page and ends within its file")?;
        Ok(group.sizes.len())
    }

    fn streams(&self, s: &StreamsSpec) -> Result<usize, ScenarioError> {
        let group = self.files("streams", "files", &s.files)?;
        self.request("streams", s.request_kib, group)?;
        range(format!("{}.streams.streams", self.key), s.streams as f64, 1.0, 65_536.0, "use fewer streams")?;
        range(format!("{}.streams.burst", self.key), f64::from(s.burst), 1.0, 64.0, "use a larger request_kib instead")?;
        Ok(group.sizes.len().max(s.streams as usize))
    }

    fn rocksdb(&self, s: &RocksdbSpec) -> Result<usize, ScenarioError> {
        let group = self.files("rocksdb", "files", &s.files)?;
        let key = |part: &str| format!("{}.rocksdb.{part}", self.key);
        let most = (group.smallest() as f64 - 24.0).clamp(512.0, 1_048_576.0);
        range(
            key("block_bytes"),
            s.block_bytes as f64,
            512.0,
            most,
            "RocksDB's default is 4096; a block and its index entry of 24 bytes must fit the smallest file",
        )?;
        range(key("entry_bytes"), s.entry_bytes as f64, 16.0, 65_536.0, "a key of 16 bytes and its value")?;
        range(key("nexts"), s.nexts as f64, 1.0, 100_000.0, "db_bench's --seek_nexts, 50 in the testbed")?;
        range(key("memtable_kib"), s.memtable_kib as f64, 64.0, (64u64 << 20) as f64, "RocksDB's default is 65536")?;
        range(key("compaction_tables"), f64::from(s.compaction_tables), 0.0, 1000.0, "4 is typical")?;
        if !s.benchmark.writes() {
            return Ok(group.sizes.len());
        }
        let way_out = "two files take the new tables, at least one holds the data: raise count";
        range(key("files"), group.sizes.len() as f64, 3.0, f64::MAX, way_out)?;
        match &s.log {
            Some(log) => {
                self.files("rocksdb", "log", log)?;
                Ok(group.sizes.len() + 1)
            }
            None => Err(ScenarioError::impossible(
                key("log"),
                "none",
                "this benchmark writes",
                "name a group of [[files]] for the log",
            )),
        }
    }

    fn weights(&self, s: &WeightsSpec) -> Result<usize, ScenarioError> {
        let group = self.files("weights", "files", &s.files)?;
        self.request("weights", s.request_kib, group)?;
        let key = format!("{}.weights.tensor_kib", self.key);
        s.tensor_kib.check(&key, 4.0, WHOLE_KIB, "a tensor has at least a page")?;
        let least = match &s.tensor_kib {
            Distribution::Lognormal { median, .. } => *median,
            other => other.numbers().into_iter().fold(f64::INFINITY, f64::min),
        };
        let way_out = "these are more than a million tensors: make them larger, or the files smaller";
        range(key, least, kib(group.total()) / 1e6, f64::MAX, way_out)?;
        Ok(group.sizes.len())
    }

    fn log(&self, s: &LogSpec) -> Result<usize, ScenarioError> {
        let group = self.files("log", "files", &s.files)?;
        let key = |part: &str| format!("{}.log.{part}", self.key);
        range(key("files"), group.sizes.len() as f64, 1.0, 1.0, "a log is one file: use count = 1 and a task for each log")?;
        s.record_kib.check(&key("record_kib"), 0.001, REQUEST_KIB, "a record has at least a byte")?;
        for (i, lag) in s.reader_lag_kib.iter().enumerate() {
            let way_out = "a reader cannot stay farther behind than the log is long at the start";
            range(key(&format!("reader_lag_kib[{i}]")), *lag as f64, 0.0, kib(group.smallest()), way_out)?;
        }
        range(key("reader_lag_kib"), s.reader_lag_kib.len() as f64, 0.0, 1000.0, "use fewer readers")?;
        Ok(1 + s.reader_lag_kib.len())
    }
}
