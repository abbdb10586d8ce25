// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model file: what was fitted in, bytes out, and back. A damaged file, or one for other features, is refused by name of what
//! is wrong with it, and the rules act instead.
//!
//! First line: `keepahead-model SCHEMA CRC32`, the checksum in hex over everything after it. Then one JSON object.

use crate::classify::Classifier;
use crate::features::{NAMES, VERSION};
use crate::predict::Predictor;
use serde::{Deserialize, Serialize};

/// Raised whenever the meaning of the file changes.
pub const SCHEMA: u32 = 1;
/// What the models were fitted with: linfa promises no stability between versions.
pub const LINFA: &str = "0.8.1";
/// Largest file, bytes: it ships inside the agent and is parsed at start.
pub const LARGEST: usize = 256 * 1024;

const MAGIC: &str = "keepahead-model";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub linfa: String,
    pub features_version: u32,
    pub feature_names: Vec<String>,
    /// SipHash-2-4 of the rows that it was fitted to, hex.
    pub training_set: String,
    pub seed: u64,
    pub classifier: Classifier,
    pub predictor: Predictor,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("the model file has {0} bytes, more than the {LARGEST} allowed: is it a model of keepahead?")]
    TooLarge(usize),
    #[error("not a model file: the first line is not `{MAGIC} SCHEMA CRC32`; make one with `keepahead train`")]
    NoModel,
    #[error("model of schema {0}, this keepahead reads {SCHEMA}: train it anew with `keepahead train`")]
    Schema(u32),
    #[error("the model file is damaged: checksum {found:08x}, the first line says {expected:08x}; copy or train it anew")]
    Damaged { expected: u32, found: u32 },
    #[error("the model file does not parse: {0}; train it anew with `keepahead train`")]
    Parse(String),
    #[error("model fitted with linfa {0}, this keepahead was built with {LINFA}: train it anew with `keepahead train`")]
    Linfa(String),
    #[error("model for version {0} of the features, this keepahead has {VERSION}: train it anew with `keepahead train`")]
    Features(u32),
    #[error("model with other features than this keepahead's, first `{0}`: train it anew with `keepahead train`")]
    Names(String),
    #[error("the model's {0} has lengths or numbers that cannot be: train it anew with `keepahead train`")]
    Unsound(&'static str),
}

impl Model {
    /// The same model gives the same bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let body = serde_json::to_string(self).map_err(|e| ModelError::Parse(e.to_string()))?;
        let file = format!("{MAGIC} {SCHEMA} {:08x}\n{body}\n", crc32fast::hash(format!("{body}\n").as_bytes()));
        if file.len() > LARGEST { Err(ModelError::TooLarge(file.len())) } else { Ok(file.into_bytes()) }
    }

    pub fn from_bytes(file: &[u8]) -> Result<Model, ModelError> {
        if file.len() > LARGEST {
            return Err(ModelError::TooLarge(file.len()));
        }
        let end = file.iter().position(|b| *b == b'\n').ok_or(ModelError::NoModel)?;
        let (head, body) = (std::str::from_utf8(&file[..end]).map_err(|_| ModelError::NoModel)?, &file[end + 1..]);
        let mut words = head.split(' ');
        let (Some(MAGIC), Some(schema), Some(crc), None) = (words.next(), words.next(), words.next(), words.next()) else {
            return Err(ModelError::NoModel);
        };
        let schema = schema.parse().map_err(|_| ModelError::NoModel)?;
        if schema != SCHEMA {
            return Err(ModelError::Schema(schema));
        }
        let expected = u32::from_str_radix(crc, 16).map_err(|_| ModelError::NoModel)?;
        let found = crc32fast::hash(body);
        if found != expected {
            return Err(ModelError::Damaged { expected, found });
        }
        let model: Model = serde_json::from_slice(body).map_err(|e| ModelError::Parse(e.to_string()))?;
        model.check()?;
        Ok(model)
    }

    fn check(&self) -> Result<(), ModelError> {
        if self.linfa != LINFA {
            return Err(ModelError::Linfa(self.linfa.clone()));
        }
        if self.features_version != VERSION {
            return Err(ModelError::Features(self.features_version));
        }
        if self.feature_names != NAMES {
            let other = self.feature_names.iter().zip(NAMES).find(|(a, b)| a != b).map_or("(length)", |(a, _)| a);
            return Err(ModelError::Names(other.into()));
        }
        if !self.classifier.is_sound() {
            return Err(ModelError::Unsound("classifier"));
        }
        if self.predictor.is_sound() { Ok(()) } else { Err(ModelError::Unsound("predictor")) }
    }
}
