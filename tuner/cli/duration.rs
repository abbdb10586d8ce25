// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spans of time on the command line: takes `500ms`, `60s`, `5m`, `1h`; gives a `Duration`, or says what is wrong. The unit is
//! required, because a bare number is read as seconds by some and as minutes by others.

use std::time::Duration;

const MAX_SECONDS: u64 = 365 * 24 * 3600;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("{0:?} is no duration: write a whole number and one of ms, s, m, h, such as 60s")]
    Form(String),
    #[error("{0:?} is no duration to run for: the shortest is 1ms, the longest 8760h (a year)")]
    Range(String),
}

pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let form = || DurationError::Form(text.into());
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(form)?;
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(form()),
    };
    if number.is_empty() {
        return Err(form());
    }
    let range = || DurationError::Range(text.into());
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).ok_or_else(range)?;
    if ms == 0 || ms > MAX_SECONDS * 1000 { Err(range()) } else { Ok(Duration::from_millis(ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_required_and_understood() {
        for (text, ms) in [("500ms", 500), ("60s", 60_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)));
        }
        for text in ["", "60", "s", "1.5s", "-3s", "6 s", "10min", "١s"] {
            assert_eq!(parse(text), Err(DurationError::Form(text.into())));
        }
        for text in ["0s", "9999999h", "99999999999999999999s"] {
            assert_eq!(parse(text), Err(DurationError::Range(text.into())));
        }
    }
}
