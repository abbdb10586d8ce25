// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes, lengths and times that differ: takes a number or a table from a scenario, gives samples. A plain number always gives itself
//! and draws nothing, so adding a program without chance changes nobody's random numbers.

use rand::Rng;
use rand_distr::{Distribution as _, Exp, LogNormal};
use rand_xoshiro::Xoshiro256StarStar;
use rand_xoshiro::rand_core::SeedableRng;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use std::fmt;

/// A program's own random numbers. `stream` tells programs of one scenario apart.
pub fn random(seed: u64, stream: u64) -> Xoshiro256StarStar {
    // The golden ratio in 64 bits keeps neighbouring streams apart before SplitMix64 (inside `seed_from_u64`) spreads them.
    Xoshiro256StarStar::seed_from_u64(seed.wrapping_add(stream.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// A quantity of which each use draws its own value. The unit is the key's.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    Fixed(f64),
    /// Evenly between the two.
    Uniform(f64, f64),
    /// Exponential with this mean: the gaps of a Poisson process.
    Exponential(f64),
    /// Lognormal with this median and this standard deviation of the logarithm, cut at `max`. File sizes on real systems are close to
    /// it (Douceur and Bolosky, SIGMETRICS 1999).
    Lognormal {
        median: f64,
        sigma: f64,
        max: f64,
    },
    /// One of these, all equally likely.
    Choice(Vec<f64>),
}

impl Distribution {
    pub fn sample(&self, rng: &mut Xoshiro256StarStar) -> f64 {
        match self {
            Distribution::Fixed(value) => *value,
            Distribution::Uniform(low, high) => low + (high - low) * rng.r#gen::<f64>(),
            Distribution::Exponential(mean) => Exp::new(1.0 / mean).map_or(*mean, |d| d.sample(rng)),
            Distribution::Lognormal { median, sigma, max } => {
                LogNormal::new(median.ln(), *sigma).map_or(*median, |d| d.sample(rng)).min(*max)
            }
            Distribution::Choice(values) => values[rng.gen_range(0..values.len())],
        }
    }

    /// A sample of `unit` bytes (or ns) each, as a whole number of at least `least`.
    pub fn whole(&self, unit: f64, least: u64, rng: &mut Xoshiro256StarStar) -> u64 {
        ((self.sample(rng) * unit).round() as u64).max(least)
    }

    /// All numbers that were written, for the checks.
    pub fn numbers(&self) -> Vec<f64> {
        match self {
            Distribution::Fixed(v) | Distribution::Exponential(v) => vec![*v],
            Distribution::Uniform(low, high) => vec![*low, *high],
            Distribution::Lognormal { median, sigma, max } => vec![*median, *sigma, *max],
            Distribution::Choice(values) => values.clone(),
        }
    }

    /// Largest value a sample can have.
    pub fn max(&self) -> f64 {
        match self {
            Distribution::Exponential(_) => f64::INFINITY,
            Distribution::Lognormal { max, .. } => *max,
            other => other.numbers().into_iter().fold(0.0, f64::max),
        }
    }
}

/// The table forms; a number alone is [`Distribution::Fixed`].
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Table {
    Uniform([f64; 2]),
    Exponential(f64),
    Lognormal { median: f64, sigma: f64, max: f64 },
    Choice(Vec<f64>),
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Distribution, D::Error> {
        deserializer.deserialize_any(NumberOrTable)
    }
}

/// By hand, because an untagged enum would say no more than "did not match any variant".
struct NumberOrTable;

impl<'de> Visitor<'de> for NumberOrTable {
    type Value = Distribution;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or one of { uniform = [LOW, HIGH] }, { exponential = MEAN }, { lognormal = { median, sigma, max } }, { choice = [..] }")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Distribution, E> {
        Ok(Distribution::Fixed(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Distribution, E> {
        Ok(Distribution::Fixed(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Distribution, A::Error> {
        Ok(match Table::deserialize(MapAccessDeserializer::new(map))? {
            Table::Uniform([low, high]) => Distribution::Uniform(low, high),
            Table::Exponential(mean) => Distribution::Exponential(mean),
            Table::Lognormal { median, sigma, max } => Distribution::Lognormal { median, sigma, max },
            Table::Choice(values) => Distribution::Choice(values),
        })
    }
}
