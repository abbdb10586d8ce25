// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device is like: takes TOML (a named profile, and what differs from it), gives a checked [`Profile`] and, with a seed, the
//! disk that behaves so.

use super::Disk;
use super::bucket::BucketLimits;
use super::model::Model;
use super::throttle::ThrottleLimits;
use serde::{Deserialize, Serialize};

/// The built-in profiles, with the source of each figure.
const PROFILES: &str = include_str!("profiles.toml");

/// A device in figures. Units are in the names; what is left out is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Requests in service at a time; more wait for the channel that is free first.
    pub channels: u32,
    /// Decimal MB a second of the whole device.
    pub bandwidth_mb: f64,
    /// Decimal MB a second of one request: what its latency grows by with its size. The device's bandwidth where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mb: Option<f64>,
    /// Largest request; longer reads are split (`queue/max_sectors_kb`).
    pub max_sectors_kb: u32,
    /// `queue/optimal_io_size`, 0 for unknown.
    #[serde(default)]
    pub optimal_io_bytes: u64,
    /// A read that continues the last request within this time is merged into it; 0: only at the very same moment, as within a plug.
    #[serde(default)]
    pub plug_us: f64,
    /// Time to the first byte.
    pub latency: Latency,
    /// The same for a request that does not continue the one before it, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_latency: Option<Latency>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotational: Option<Rotational>,
    /// blk-throttle, for reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<ThrottleLimits>,
    /// The provider's limit in I/Os, reads and writes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<BucketLimits>,
    /// The provider counts a request of more than this as several I/Os; 0: never.
    #[serde(default)]
    pub iops_unit_kb: u32,
    /// The provider's limit in bytes, reads and writes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<BucketLimits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_touch: Option<FirstTouch>,
}

/// A distribution of latencies: a fixed part plus a lognormal one, or the lines between a few quantiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    pub fixed_us: f64,
    /// Median of the lognormal part, µs; 0: there is none.
    pub median_us: f64,
    /// Standard deviation of its logarithm.
    pub sigma: f64,
    /// `[probability, µs]`, both ascending; instead of the other three.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<[f64; 2]>,
}

/// A disk with an arm: a request that does not continue the last one pays a seek and a part of a turn. The seek grows with the square
/// root of the distance (Ruemmler and Wilkes, "An introduction to disk drive modeling", IEEE Computer 27(3), 1994).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotational {
    pub track_seek_ms: f64,
    pub full_seek_ms: f64,
    pub rpm: f64,
    /// What a full seek crosses, decimal GB.
    pub capacity_gb: f64,
}

/// A volume restored from a snapshot: each block is fetched from the object store when it is first read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstTouch {
    pub block_kb: u32,
    pub latency_ms: f64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ProfileError {
    #[error("device profile {0:?} is not known: use one of {1}")]
    Unknown(String, String),
    #[error("device profile: {0}")]
    Form(String),
    #[error("device profile: {field} = {value}: must be {wanted}")]
    Value { field: &'static str, value: String, wanted: &'static str },
}

impl Profile {
    /// A built-in profile.
    pub fn named(name: &str) -> Result<Profile, ProfileError> {
        let mut all = builtin()?;
        match all.remove(name) {
            Some(toml::Value::Table(table)) => Profile::from_table(table),
            _ => Err(ProfileError::Unknown(name.into(), all.keys().map(String::as_str).collect::<Vec<_>>().join(", "))),
        }
    }

    /// A profile as a scenario gives it: `{ profile = "gp3", iops = { baseline = 6000 } }` is gp3 with other IOPS; without `profile`
    /// every figure must be there.
    pub fn from_table(mut table: toml::Table) -> Result<Profile, ProfileError> {
        let base = match table.remove("profile") {
            None => toml::Table::new(),
            Some(toml::Value::String(name)) => {
                let named = Profile::named(&name)?;
                toml::Table::try_from(named).map_err(|e| ProfileError::Form(e.to_string()))?
            }
            Some(other) => return Err(ProfileError::Form(format!("profile = {other}: must be the name of a profile"))),
        };
        let profile: Profile = overlay(base, table)
            .try_into()
            .map_err(|e: toml::de::Error| ProfileError::Form(e.to_string().trim().replace('\n', " ")))?;
        profile.check()?;
        Ok(profile)
    }

    /// Names of the built-in profiles.
    pub fn names() -> Result<Vec<String>, ProfileError> {
        Ok(builtin()?.into_iter().map(|(name, _)| name).collect())
    }

    /// The disk. Equal seeds give equal disks.
    pub fn build(self, seed: u64) -> Result<Box<dyn Disk>, ProfileError> {
        self.check()?;
        Ok(Box::new(Model::new(self, seed)))
    }
}

fn builtin() -> Result<toml::Table, ProfileError> {
    PROFILES.parse().map_err(|e: toml::de::Error| ProfileError::Form(e.to_string()))
}

/// `over` laid over `base`; tables within are laid over each other too, but a distribution is replaced whole: half of one and half of
/// another would be neither.
fn overlay(mut base: toml::Table, over: toml::Table) -> toml::Table {
    for (key, value) in over {
        match (base.remove(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) if !key.ends_with("latency") => {
                base.insert(key, toml::Value::Table(overlay(below, above)));
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
    base
}
