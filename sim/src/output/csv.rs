// SPDX-License-Identifier: MIT OR Apache-2.0
//! CSV with a header line: takes flat rows, gives text; an absent figure is an empty field.

use serde::Serialize;

pub fn csv<T: Serialize>(rows: &[T]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}
