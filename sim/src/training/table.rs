// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data set as Parquet: takes rows, gives bytes, and back. One flat column a feature (`feature.NAME`) and a label
//! (`label.KIB.NAME`), so that any reader of Parquet can use it. The versions of schema and features are in the file, and a file of
//! others is refused, never guessed at.

use super::LADDER;
use crate::sweep::columns::Column;
use bytes::Bytes;
use keepahead_core::event::Pattern;
use keepahead_policies::dataset::{Label, Row};
use keepahead_policies::features;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::schema::types::Type;
use std::sync::Arc;

/// Version of the columns and their meanings: goes up with every change of either.
pub const SCHEMA_VERSION: u32 = 1;
const VERSION_KEY: &str = "keepahead.training.version";

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("not a readable Parquet file: {0}")]
    Parquet(#[from] ParquetError),
    #[error("{VERSION_KEY} is missing: this Parquet file was not written by `keepahead train`")]
    Foreign,
    #[error(
        "{VERSION_KEY} is {found:?}, this keepahead reads {wanted:?}: leave out --data for a new data set, or read it with the version that wrote it"
    )]
    Version { found: String, wanted: String },
    #[error(
        "row {row}, column {column}: missing, or not what version {SCHEMA_VERSION} has there; the file was changed after it was written"
    )]
    Column { row: usize, column: String },
    #[error("{found} labels where the ladder has {}: rows must have one of every size", LADDER.len())]
    Ladder { found: usize },
}

/// Of schema and features: a vector means nothing without its names.
fn version() -> String {
    format!("{SCHEMA_VERSION}, features {}", features::VERSION)
}

/// A column's name and its value in a row.
type Taken<R, T> = (&'static str, fn(&R) -> T);

const TEXTS: [Taken<Row, String>; 5] = [
    ("workload", |row| row.workload.clone()),
    ("family", |row| row.family.clone()),
    ("device", |row| row.device.clone()),
    ("kernel", |row| row.kernel.clone()),
    ("pattern", |row| word(row.pattern).to_owned()),
];
const NUMBERS: [Taken<Row, u32>; 3] = [("memory_mib", |row| row.memory_mib), ("run", |row| row.run), ("kib", |row| row.kib)];
const FIGURES: [Taken<Label, f64>; 4] = [
    ("stall_ns_per_mib", |label| label.stall_ns_per_mib),
    ("hit_ratio", |label| label.hit_ratio),
    ("pollution_mib_per_s", |label| label.pollution_mib_per_s),
    ("throughput_mib_per_s", |label| label.throughput_mib_per_s),
];
const PATTERNS: [(&str, Pattern); 6] = [
    ("idle", Pattern::Idle),
    ("sequential", Pattern::Sequential),
    ("short_runs", Pattern::ShortRuns),
    ("random_mmap", Pattern::RandomMmap),
    ("random_read", Pattern::RandomRead),
    ("mixed", Pattern::Mixed),
];

/// A pattern's name in files.
pub fn word(pattern: Pattern) -> &'static str {
    PATTERNS.iter().find(|(_, p)| *p == pattern).map_or("mixed", |(name, _)| name)
}

fn feature_columns() -> impl Iterator<Item = String> {
    features::NAMES.iter().map(|name| format!("feature.{name}"))
}

fn label_columns() -> impl Iterator<Item = String> {
    LADDER.iter().flat_map(|kib| FIGURES.iter().map(move |(name, _)| format!("label.{kib}.{name}")))
}

/// Rows as a Parquet file. Equal rows give equal bytes.
///
/// # Errors
/// [`DataError::Ladder`].
pub fn write(rows: &[Row]) -> Result<Vec<u8>, DataError> {
    if let Some(row) = rows.iter().find(|row| row.labels.len() != LADDER.len()) {
        return Err(DataError::Ladder { found: row.labels.len() });
    }
    let mut fields = Vec::new();
    fields.extend(TEXTS.iter().map(|(name, _)| String::schema(name)));
    fields.extend(NUMBERS.iter().map(|(name, _)| u64::schema(name)));
    fields.extend(feature_columns().chain(label_columns()).map(|name| Option::<f64>::schema(&name)));
    let fields = fields.into_iter().map(|field| Ok(Arc::new(field?))).collect::<Result<Vec<_>, ParquetError>>()?;
    let schema = Arc::new(Type::group_type_builder("training").with_fields(fields).build()?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(vec![KeyValue::new(VERSION_KEY.to_owned(), version())]))
        .build();
    let mut out = Vec::new();
    let mut file = SerializedFileWriter::new(&mut out, schema, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    let mut index = 0;
    while let Some(mut column) = group.next_column()? {
        let writer = column.untyped();
        match (TEXTS.get(index), NUMBERS.get(index.wrapping_sub(TEXTS.len()))) {
            (Some((_, of)), _) => String::write(rows.iter().map(of).collect::<Vec<_>>().iter(), writer)?,
            (_, Some((_, of))) => u64::write(rows.iter().map(|row| u64::from(of(row))).collect::<Vec<_>>().iter(), writer)?,
            _ => {
                let at = index - TEXTS.len() - NUMBERS.len();
                let values: Vec<Option<f64>> = rows.iter().map(|row| number(row, at)).collect();
                Option::<f64>::write(values.iter(), writer)?;
            }
        }
        column.close()?;
        index += 1;
    }
    group.close()?;
    file.close()?;
    Ok(out)
}

/// Feature or label number `at`, in the order of the columns.
fn number(row: &Row, at: usize) -> Option<f64> {
    match at.checked_sub(features::NAMES.len()) {
        None => row.features.get(at).copied(),
        Some(at) => row.labels.get(at / FIGURES.len()).map(|label| FIGURES[at % FIGURES.len()].1(label)),
    }
}

/// The reverse of [`write`].
///
/// # Errors
/// Every [`DataError`] but [`DataError::Ladder`].
pub fn read(bytes: Vec<u8>) -> Result<Vec<Row>, DataError> {
    let file = SerializedFileReader::new(Bytes::from(bytes))?;
    let metadata = file.metadata().file_metadata();
    let entries = metadata.key_value_metadata().map_or(&[][..], Vec::as_slice);
    let found = entries.iter().find(|entry| entry.key == VERSION_KEY).ok_or(DataError::Foreign)?;
    let found = found.value.clone().unwrap_or_default();
    if found != version() {
        return Err(DataError::Version { found, wanted: version() });
    }
    let rows = file.get_row_iter(None)?;
    rows.enumerate().map(|(at, stored)| row(at, stored?.get_column_iter())).collect()
}

/// A row from its fields, in the order of the columns.
fn row<'a>(at: usize, fields: impl Iterator<Item = (&'a String, &'a Field)>) -> Result<Row, DataError> {
    let mut fields = fields.map(|(_, field)| field);
    let mut next = |column: &str| fields.next().ok_or_else(|| DataError::Column { row: at, column: column.into() });
    let wrong = |column: &str| DataError::Column { row: at, column: column.into() };
    let mut text = |column| String::read(next(column)?).ok_or_else(|| wrong(column));
    let (workload, family, device, kernel) = (text("workload")?, text("family")?, text("device")?, text("kernel")?);
    let pattern = text("pattern")?;
    let pattern = PATTERNS.iter().find(|(name, _)| *name == pattern).map(|(_, p)| *p).ok_or_else(|| wrong("pattern"))?;
    let mut whole = |column| u64::read(next(column)?).and_then(|value| u32::try_from(value).ok()).ok_or_else(|| wrong(column));
    let (memory_mib, run, kib) = (whole("memory_mib")?, whole("run")?, whole("kib")?);
    let mut figure = |column: &str| Option::<f64>::read(next(column)?).flatten().ok_or_else(|| wrong(column));
    let features = feature_columns().map(|column| figure(&column)).collect::<Result<Vec<f64>, DataError>>()?;
    let labels = LADDER.map(|kib| -> Result<Label, DataError> {
        let mut of = |name: &str| figure(&format!("label.{kib}.{name}"));
        Ok(Label {
            kib,
            stall_ns_per_mib: of("stall_ns_per_mib")?,
            hit_ratio: of("hit_ratio")?,
            pollution_mib_per_s: of("pollution_mib_per_s")?,
            throughput_mib_per_s: of("throughput_mib_per_s")?,
        })
    });
    let labels = labels.into_iter().collect::<Result<Vec<Label>, DataError>>()?;
    Ok(Row { workload, family, device, kernel, memory_mib, run, pattern, kib, features, labels })
}
