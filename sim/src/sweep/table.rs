// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sweeps as Parquet: takes rows, gives bytes, and back; merges tables. The schema's version is in the file, and a file of another
//! version is refused, never guessed at.

use super::SweepRow;
use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of the columns and their meanings: goes up with every change of either.
pub const SCHEMA_VERSION: u32 = 1;
const VERSION_KEY: &str = "keepahead.sweep.version";

#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error("not a readable Parquet file: {0}")]
    Parquet(#[from] ParquetError),
    #[error("{VERSION_KEY} is missing: this Parquet file was not written by `keepahead sim sweep`")]
    Foreign,
    #[error(
        "{VERSION_KEY} is {0:?}, this keepahead reads {SCHEMA_VERSION}: run the sweep again, or read it with the version that wrote it"
    )]
    Version(String),
    #[error(
        "column {0}: missing or of another type than version {SCHEMA_VERSION} has; the file was changed after it was written"
    )]
    Column(&'static str),
    #[error(
        "two rows of {key} differ: the same run must give the same figures; one of the files was changed, or a build differs under one version number"
    )]
    Conflict { key: String },
}

/// What a run is known by: equal keys are the same run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub scenario_hash: String,
    pub kernel: String,
    pub control: String,
    pub seed: u64,
    pub sim_version: String,
}

impl SweepRow {
    pub fn key(&self) -> Key {
        Key {
            scenario_hash: self.scenario_hash.clone(),
            kernel: self.kernel.clone(),
            control: self.control.clone(),
            seed: self.seed,
            sim_version: self.sim_version.clone(),
        }
    }
}

/// Rows as a Parquet file. Equal rows give equal bytes.
pub fn write(rows: &[SweepRow]) -> Result<Vec<u8>, SweepError> {
    let version = KeyValue::new(VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(vec![version]))
        .build();
    let mut out = Vec::new();
    let mut file = SerializedFileWriter::new(&mut out, SweepRow::schema()?, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    let mut index = 0;
    while let Some(mut column) = group.next_column()? {
        SweepRow::write(rows, index, column.untyped())?;
        column.close()?;
        index += 1;
    }
    group.close()?;
    file.close()?;
    Ok(out)
}

/// The reverse of [`write`].
pub fn read(bytes: Vec<u8>) -> Result<Vec<SweepRow>, SweepError> {
    let file = SerializedFileReader::new(Bytes::from(bytes))?;
    let metadata = file.metadata().file_metadata();
    let entries = metadata.key_value_metadata().map_or(&[][..], Vec::as_slice);
    let version = entries.iter().find(|entry| entry.key == VERSION_KEY).ok_or(SweepError::Foreign)?;
    let version = version.value.as_deref().unwrap_or_default();
    if version != SCHEMA_VERSION.to_string() {
        return Err(SweepError::Version(version.to_owned()));
    }
    file.get_row_iter(None)?.map(|row| SweepRow::read(&row?)).collect()
}

/// All rows once, in the order of scenario and key.
pub fn merge(tables: impl IntoIterator<Item = Vec<SweepRow>>) -> Result<Vec<SweepRow>, SweepError> {
    let mut rows: BTreeMap<(String, Key), SweepRow> = BTreeMap::new();
    for row in tables.into_iter().flatten() {
        let key = (row.scenario.clone(), row.key());
        match rows.get(&key) {
            Some(known) if *known != row => return Err(SweepError::Conflict { key: format!("{:?}", key.1) }),
            Some(_) => {}
            None => {
                rows.insert(key, row);
            }
        }
    }
    Ok(rows.into_values().collect())
}
