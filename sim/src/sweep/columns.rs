// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sweep's row and its columns in Parquet, from one list: types, names and order cannot drift apart.

use super::table::SweepError;
use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::record::{Field, Row as Stored};
use parquet::schema::types::{Type, TypePtr};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A type that a column can have.
pub(crate) trait Column: Sized {
    fn schema(name: &str) -> Result<Type, ParquetError>;
    fn write<'a>(values: impl Iterator<Item = &'a Self>, writer: &mut ColumnWriter) -> Result<(), ParquetError>
    where
        Self: 'a;
    fn read(field: &Field) -> Option<Self>;
}

fn wrong_writer() -> ParquetError {
    ParquetError::General("the schema and its columns are of different types".into())
}

impl Column for String {
    fn schema(name: &str) -> Result<Type, ParquetError> {
        let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY);
        column.with_repetition(Repetition::REQUIRED).with_converted_type(ConvertedType::UTF8).build()
    }
    fn write<'a>(values: impl Iterator<Item = &'a Self>, writer: &mut ColumnWriter) -> Result<(), ParquetError> {
        let ColumnWriter::ByteArrayColumnWriter(writer) = writer else { return Err(wrong_writer()) };
        let values: Vec<ByteArray> = values.map(|text| ByteArray::from(text.as_str())).collect();
        writer.write_batch(&values, None, None).map(drop)
    }
    fn read(field: &Field) -> Option<Self> {
        if let Field::Str(text) = field { Some(text.clone()) } else { None }
    }
}

impl Column for u64 {
    fn schema(name: &str) -> Result<Type, ParquetError> {
        let column = Type::primitive_type_builder(name, Physical::INT64);
        column.with_repetition(Repetition::REQUIRED).with_converted_type(ConvertedType::UINT_64).build()
    }
    fn write<'a>(values: impl Iterator<Item = &'a Self>, writer: &mut ColumnWriter) -> Result<(), ParquetError> {
        let ColumnWriter::Int64ColumnWriter(writer) = writer else { return Err(wrong_writer()) };
        writer.write_batch(&values.map(|value| value.cast_signed()).collect::<Vec<i64>>(), None, None).map(drop)
    }
    fn read(field: &Field) -> Option<Self> {
        if let Field::ULong(value) = field { Some(*value) } else { None }
    }
}

impl Column for Option<f64> {
    fn schema(name: &str) -> Result<Type, ParquetError> {
        Type::primitive_type_builder(name, Physical::DOUBLE).with_repetition(Repetition::OPTIONAL).build()
    }
    fn write<'a>(values: impl Iterator<Item = &'a Self>, writer: &mut ColumnWriter) -> Result<(), ParquetError> {
        let ColumnWriter::DoubleColumnWriter(writer) = writer else { return Err(wrong_writer()) };
        let values: Vec<Option<f64>> = values.copied().collect();
        let defined: Vec<i16> = values.iter().map(|v| i16::from(v.is_some())).collect();
        writer.write_batch(&values.into_iter().flatten().collect::<Vec<f64>>(), Some(&defined), None).map(drop)
    }
    fn read(field: &Field) -> Option<Self> {
        match field {
            Field::Double(value) => Some(Some(*value)),
            Field::Null => Some(None),
            _ => None,
        }
    }
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        /// One run of a sweep, flat. A figure is `None` (null) where there was nothing to divide by; meanings as in
        /// [`Row`](crate::compare::Row).
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct SweepRow { $($(#[$doc])* pub $name: $type,)* }

        impl SweepRow {
            pub(super) fn schema() -> Result<TypePtr, ParquetError> {
                let fields = vec![$(Arc::new(<$type as Column>::schema(stringify!($name))?)),*];
                Ok(Arc::new(Type::group_type_builder("sweep").with_fields(fields).build()?))
            }

            /// Writes column number `index` of all rows.
            pub(super) fn write(rows: &[SweepRow], index: usize, writer: &mut ColumnWriter) -> Result<(), ParquetError> {
                let columns: &[fn(&[SweepRow], &mut ColumnWriter) -> Result<(), ParquetError>] =
                    &[$(|rows, writer| <$type as Column>::write(rows.iter().map(|row| &row.$name), writer)),*];
                columns.get(index).ok_or_else(wrong_writer)?(rows, writer)
            }

            pub(super) fn read(stored: &Stored) -> Result<SweepRow, SweepError> {
                let mut row = SweepRow::default();
                $({
                    let name = stringify!($name);
                    let found = stored.get_column_iter().find(|(column, _)| column.as_str() == name);
                    let value = found.and_then(|(_, field)| <$type as Column>::read(field));
                    row.$name = value.ok_or(SweepError::Column(name))?;
                })*
                Ok(row)
            }
        }
    };
}

columns! {
    scenario: String,
    /// XXH64 of the scenario's or trace's bytes and of every override, hexadecimal.
    scenario_hash: String,
    kernel: String,
    /// As in [`Report::control`](crate::report::Report::control).
    control: String,
    seed: u64,
    sim_version: String,
    hit_ratio: Option<f64>,
    accuracy: Option<f64>,
    coverage: Option<f64>,
    timeliness: Option<f64>,
    pollution_mib_per_s: Option<f64>,
    amplification: Option<f64>,
    stall_us_per_page: Option<f64>,
    throughput_mib_per_s: Option<f64>,
    changes: u64,
    kept: u64,
    reverted: u64,
    settle_s: Option<f64>,
    read_ahead_kib: u64,
}
