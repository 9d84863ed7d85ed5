//! The machine's wall clock, read in one place and passed on as a value.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::time::Timestamp;

/// What the wall clock says. It may jump; `Recorder` keeps the events' time from running backwards.
#[must_use]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
