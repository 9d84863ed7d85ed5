//! The time of day at which nobody is inside any more: whoever is, has left without a swipe.
//!
//! Nothing waits for that time to come: what counts is whether someone entered before the last one.

use std::cell::Cell;

use jiff::{
    ToSpan,
    civil::{Date, Time},
    tz::{AmbiguousOffset, TimeZone},
};

use crate::domain::time::Timestamp;

/// When a building is taken to be empty, each day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyReset {
    /// The time of day,
    pub at: Time,
    /// on this zone's clocks.
    pub zone: TimeZone,
}

/// The days beside today that are looked at: zones have skipped a whole day.
const DAYS_AROUND: i64 = 2;

impl DailyReset {
    /// The last reset at or before `now`, and the next one after it.
    #[must_use]
    pub fn around(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let moment = jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or_default();
        let today = self.zone.to_datetime(moment).date();
        let days = (-DAYS_AROUND..=DAYS_AROUND).filter_map(|days| today.checked_add(days.days()).ok());
        let (mut last, mut next) = (Timestamp::from_millis(0), Timestamp::from_millis(i64::MAX));
        for reset in days.filter_map(|day| self.on(day)) {
            if reset <= now {
                last = last.max(reset);
            } else {
                next = next.min(reset);
            }
        }
        (last, next)
    }

    /// The reset of a day. A time that clocks skip that day is the moment at which they skip it; of one that they show
    /// twice it is the first.
    fn on(&self, day: Date) -> Option<Timestamp> {
        let local = self.zone.to_ambiguous_timestamp(day.to_datetime(self.at));
        let moment = match local.offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local.datetime()).ok()?
            }
            AmbiguousOffset::Gap { after, .. } => {
                // read with the offset from after the gap, the time lies before it
                let before = after.to_timestamp(local.datetime()).ok()?;
                self.zone.following(before).next()?.timestamp()
            }
        };
        Some(Timestamp::from_millis(moment.as_millisecond()))
    }
}

/// The last reset, worked out once a day. What it holds is no state: two of them are always equal.
#[derive(Clone, Debug, Default)]
pub(super) struct LastReset(Cell<Option<(Timestamp, Timestamp)>>);

impl PartialEq for LastReset {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl LastReset {
    /// The last reset at or before `now`.
    pub(super) fn at(&self, reset: &DailyReset, now: Timestamp) -> Timestamp {
        match self.0.get() {
            Some((last, next)) if last <= now && now < next => last,
            _ => {
                let around = reset.around(now);
                self.0.set(Some(around));
                around.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn reset(zone: &str, hour: i8, minute: i8) -> DailyReset {
        DailyReset { at: Time::constant(hour, minute, 0, 0), zone: TimeZone::get(zone).unwrap() }
    }

    fn around(zone: &str, (hour, minute): (i8, i8), now: &str) -> [String; 2] {
        let (last, next) = reset(zone, hour, minute).around(at(now));
        [last, next].map(|moment| moment.to_string().replace(":00.000Z", "Z"))
    }

    #[test]
    fn the_day_is_the_buildings() {
        let berlin = |now| around("Europe/Berlin", (4, 0), now);
        assert_eq!(berlin("2026-11-21T02:59:59.999Z"), ["2026-11-20T03:00Z", "2026-11-21T03:00Z"]);
        assert_eq!(berlin("2026-11-21T03:00:00Z"), ["2026-11-21T03:00Z", "2026-11-22T03:00Z"]);
        let tokyo = around("Asia/Tokyo", (0, 0), "2026-11-21T15:30:00Z");
        assert_eq!(tokyo, ["2026-11-21T15:00Z", "2026-11-22T15:00Z"]);
    }

    #[test]
    fn a_skipped_time_is_when_it_is_skipped_and_of_a_doubled_one_the_first_counts() {
        // 02:00 to 03:00 in Berlin: not on 29 March, twice on 25 October
        let berlin = |now| around("Europe/Berlin", (2, 30), now);
        assert_eq!(berlin("2026-03-29T00:59:59Z"), ["2026-03-28T01:30Z", "2026-03-29T01:00Z"]);
        assert_eq!(berlin("2026-03-29T01:00:00Z"), ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
        assert_eq!(berlin("2026-10-25T00:29:00Z"), ["2026-10-24T00:30Z", "2026-10-25T00:30Z"]);
        assert_eq!(berlin("2026-10-25T01:45:00Z"), ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
        // Samoa had no 30 December 2011: its reset is the end of the 29th
        let apia = around("Pacific/Apia", (4, 0), "2011-12-30T10:00:00Z");
        assert_eq!(apia, ["2011-12-30T10:00Z", "2011-12-30T14:00Z"]);
    }

    #[test]
    fn time_has_ends() {
        let utc = reset("UTC", 4, 0);
        assert_eq!(utc.around(Timestamp::from_millis(0)).0, Timestamp::from_millis(0));
        let end = Timestamp::from_millis(i64::MAX);
        assert!(utc.around(end).0 <= end && utc.around(end).1 == end);
    }

    const ZONES: [&str; 8] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "America/Sao_Paulo",
        "Africa/Casablanca",
    ];

    proptest! {
        /// Held against the clocks themselves, minute by minute: the last minute up to `now` whose reading is at or past
        /// the time, where the reading before it was not, on a day that had no reset yet.
        #[test]
        fn it_is_the_first_minute_of_a_day_at_or_past_the_time(
            zone in 0..ZONES.len(), hour in 0..24_i8, minute in 0..60_i8,
            // 1995 to 2035
            now in 788_918_400_000..2_051_222_400_000_i64,
        ) {
            let reset = reset(ZONES[zone], hour, minute);
            let now = Timestamp::from_millis(now);
            let (last, next) = reset.around(now);
            prop_assert!(last <= now && now < next);
            let read = |moment: Timestamp| {
                reset.zone.to_datetime(jiff::Timestamp::from_millisecond(moment.as_millis()).unwrap())
            };
            let minute_before = |moment: Timestamp| Timestamp::from_millis(moment.as_millis() - 60_000);
            for moment in [last, next] {
                let due = read(moment).date().to_datetime(reset.at);
                // the clock has just come to it, or jumped over it
                prop_assert!(read(moment) >= due || read(moment).time() == Time::midnight());
                prop_assert!(read(minute_before(moment)) < due);
            }
            // nothing between: a day has one, whatever its clocks do
            prop_assert!(next.since(last) <= std::time::Duration::from_secs(49 * 3_600));
            prop_assert!(next.since(last) >= std::time::Duration::from_secs(3_600));
            let mut moment = Timestamp::from_millis(last.as_millis() + 60_000 - last.as_millis() % 60_000);
            while moment < next {
                let due = read(moment).date().to_datetime(reset.at);
                let comes = read(moment) >= due && read(minute_before(moment)) < due;
                let is_second = comes && read(last).date() == read(moment).date();
                prop_assert!(!comes || is_second, "a reset at {moment} was missed");
                moment = Timestamp::from_millis(moment.as_millis() + 60_000);
            }
        }

        #[test]
        fn what_is_cached_is_what_would_be_worked_out(
            zone in 0..ZONES.len(), hour in 0..24_i8, start in 0..2_000_000_000_000_i64,
            steps in proptest::collection::vec(0..200_000_000_i64, 1..20),
        ) {
            let (reset, cache, mut now) = (reset(ZONES[zone], hour, 0), LastReset::default(), start);
            for step in steps {
                now += step;
                let moment = Timestamp::from_millis(now);
                prop_assert_eq!(cache.at(&reset, moment), reset.around(moment).0);
            }
        }
    }
}
