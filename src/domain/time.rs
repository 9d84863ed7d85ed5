//! Time as values: the server's clock is read elsewhere and passed in.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A moment in milliseconds since 1970-01-01T00:00:00Z, written as RFC 3339 in UTC. Held as one more than that, so that
/// an `Option` of it takes no more memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(NonZeroU64);

/// Why a text is not a moment.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a time as in RFC 3339, such as 2026-11-20T08:01:02.345Z")]
pub struct InvalidTimestamp(String);

/// The last moment that RFC 3339's four-digit year can write: 9999-12-30T22:00:00Z.
const MAX_MILLIS: i64 = 253_402_207_200_000;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

impl Timestamp {
    /// From milliseconds since 1970; moments outside the years 1970 to 9999 become the nearest inside.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        let millis = u64::try_from(millis.min(MAX_MILLIS)).unwrap_or(0);
        Self(NonZeroU64::MIN.saturating_add(millis))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.get() - 1).unwrap_or(MAX_MILLIS)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// So long after this; at most the last moment there is.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.as_millis().saturating_add(millis))
    }

    /// The day in UTC, counted from 1970-01-01.
    #[must_use]
    pub fn utc_day(self) -> i64 {
        self.as_millis().div_euclid(DAY_MILLIS)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timestamp").field(&self.as_millis()).finish()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", jiff::Timestamp::from(*self))
    }
}

impl From<Timestamp> for jiff::Timestamp {
    fn from(moment: Timestamp) -> Self {
        // every moment here is one there, too
        Self::from_millisecond(moment.as_millis()).unwrap_or(Self::MAX)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let moment: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp(text.to_owned()))?;
        let millis = moment.as_millisecond();
        if (0..=MAX_MILLIS).contains(&millis) {
            Ok(Self::from_millis(millis))
        } else {
            Err(InvalidTimestamp(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;
    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(moment: Timestamp) -> Self {
        moment.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_rfc_3339_with_milliseconds() {
        let text = "2026-11-20T08:01:02.340Z";
        assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        assert_eq!("2026-11-20T09:01:02.34+01:00".parse::<Timestamp>().unwrap().to_string(), text);
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn refuses_what_is_no_moment() {
        for text in ["", "yesterday", "2026-11-20", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        let day = |text: &str| text.parse::<Timestamp>().unwrap().utc_day();
        assert_eq!(day("1970-01-01T23:59:59.999Z"), 0);
        assert_eq!(day("1970-01-02T00:00:00Z"), 1);
        assert_eq!(day("2026-11-20T23:30:00-01:00"), day("2026-11-21T00:30:00Z"));
    }

    #[test]
    fn elapsed_time_never_runs_backwards() {
        let (early, late) = (Timestamp::from_millis(1_000), Timestamp::from_millis(3_500));
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
