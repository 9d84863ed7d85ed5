//! The live feed: which events someone sees, and the places in the log that they go on from.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::{ids::LogName, pattern::Pattern, record::EventRecord, scope::Scope};

/// The most patterns of one feed.
pub const MAX_FEED_PATTERNS: usize = 32;

/// What someone wants to see, and may.
#[derive(Clone, Debug)]
pub struct FeedFilter {
    /// Types that match one of these; all types if there are none.
    pub types: Vec<Pattern>,
    /// What they may see.
    pub scope: Scope,
}

/// How far someone has come: `<log>:<sequence>`. Everything up to there that they may see they have been sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPlace {
    /// The log.
    pub log: LogName,
    /// The last sequence.
    pub sequence: u64,
}

/// Why a text is no place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Last-Event-ID must be the id of an event of this feed, such as hq-1.1:42")]
pub struct InvalidPlace;

impl FeedFilter {
    /// Whether this event is to be sent.
    #[must_use]
    pub fn wants(&self, event: &EventRecord) -> bool {
        let is_of_type =
            self.types.is_empty() || self.types.iter().any(|types| types.matches(event.event_type()));
        is_of_type && self.scope.covers(event.building())
    }
}

impl fmt::Display for FeedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.log, self.sequence)
    }
}

impl FromStr for FeedPlace {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let (log, sequence) = text.rsplit_once(':').ok_or(InvalidPlace)?;
        // `parse` alone takes a plus sign, too
        let is_number = sequence.bytes().all(|byte| byte.is_ascii_digit());
        let sequence = sequence.parse().ok().filter(|_| is_number).ok_or(InvalidPlace)?;
        Ok(Self { log: log.parse().map_err(|_| InvalidPlace)?, sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::BuildingId;
    use proptest::prelude::*;

    fn event(event_type: &str, building: &str) -> EventRecord {
        EventRecord::encode(event_type, building, "", b"{}").unwrap()
    }

    #[test]
    fn type_and_building_must_both_agree() {
        let scope = Scope::building(BuildingId::parse("hq").unwrap());
        let types = vec!["access.**".parse().unwrap(), "presence.*".parse().unwrap()];
        let filter = FeedFilter { types, scope };
        assert!(filter.wants(&event("access.entry.granted", "hq")));
        assert!(filter.wants(&event("presence.expired", "hq")));
        assert!(!filter.wants(&event("card.lost", "hq")));
        assert!(!filter.wants(&event("access.entry.granted", "annex")));
        assert!(!filter.wants(&event("access.entry.granted", "")));
        let all = FeedFilter { types: vec![], scope: Scope::Everywhere };
        assert!(all.wants(&event("card.lost", "")));
    }

    #[test]
    fn a_place_names_its_log() {
        let place: FeedPlace = "hq.west-1.3:42".parse().unwrap();
        assert_eq!((place.log.to_string().as_str(), place.sequence), ("hq.west-1.3", 42));
        assert_eq!(place.to_string(), "hq.west-1.3:42");
        for text in ["", "42", ":42", "hq-1.1", "hq-1.1:", "hq-1:4", "hq-1.1:+4", "hq-1.1:-1", "hq-1.1:4 "] {
            assert_eq!(text.parse::<FeedPlace>(), Err(InvalidPlace), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(server in "[a-z0-9.:-]{1,20}", epoch in any::<u64>(), sequence in any::<u64>()) {
            let place = FeedPlace { log: LogName { server, epoch }, sequence };
            prop_assert_eq!(place.to_string().parse(), Ok(place));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}") {
            let _ = text.parse::<FeedPlace>();
        }
    }
}
