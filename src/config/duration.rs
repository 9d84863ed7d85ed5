//! Durations: a whole number and its unit, `"250ms"`, `"16h"`, `"30d"`.

use std::time::Duration;

use thiserror::Error;

/// The units, in milliseconds. Days are 24 hours; months and years have no one length and are left out.
const UNITS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DurationError {
    /// Not a whole number followed by a unit.
    #[error("is not a duration")]
    Form,
    /// A number without a unit could be anything.
    #[error("is a duration without its unit")]
    NoUnit,
    /// More milliseconds than 64 bits hold.
    #[error("is too long a duration")]
    TooLong,
}

/// Reads a duration.
///
/// # Errors
/// [`DurationError`] if the text is not one whole number and one unit.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(DurationError::Form)?;
    if number.is_empty() {
        return Err(DurationError::Form);
    }
    if unit.is_empty() {
        return Err(DurationError::NoUnit);
    }
    let (_, unit_ms) = UNITS_MS.iter().find(|(name, _)| *name == unit).ok_or(DurationError::Form)?;
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number.checked_mul(*unit_ms).map(Duration::from_millis).ok_or(DurationError::TooLong)
}

/// The shortest text that [`parse_duration`] reads back, for messages. Parts of a millisecond are lost.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let found = UNITS_MS.iter().rev().find(|(_, unit_ms)| ms >= *unit_ms && ms.is_multiple_of(*unit_ms));
    found.map_or_else(|| "0s".to_owned(), |(unit, unit_ms)| format!("{}{unit}", ms / unit_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("16h"), Ok(Duration::from_secs(57_600)));
        assert_eq!(parse_duration("30d"), Ok(Duration::from_secs(2_592_000)));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "h", "1.5h", "-1s", " 1s", "1 s", "1h30m", "1w", "1S", "é"] {
            assert_eq!(parse_duration(bad), Err(DurationError::Form), "{bad:?}");
        }
        assert_eq!(parse_duration("15"), Err(DurationError::NoUnit));
        assert_eq!(parse_duration("99999999999999999999s"), Err(DurationError::TooLong));
        assert_eq!(parse_duration("18446744073709551615d"), Err(DurationError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_formatted_is_read_back(ms in any::<u64>()) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,24}") {
            let _ = parse_duration(&text);
        }
    }
}
