//! What the log may drop: pure, with time passed in.

use std::time::Duration;

use crate::{delivery::progress::Progress, domain::time::Timestamp};

/// What holds the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// The sequence of the older of the two kept snapshots: should the newer one be damaged, a start needs every event
    /// after it. `None`: there are not two yet.
    pub older_snapshot: Option<u64>,
    /// The smallest cursor of all sinks that were ever seen and not forgotten. `None`: there is no sink.
    pub slowest_cursor: Option<u64>,
    /// How long events are kept in any case.
    pub retention: Duration,
}

impl Holds {
    /// What sinks with this progress hold.
    #[must_use]
    pub fn slowest<'a>(progress: impl Iterator<Item = &'a Progress>) -> Option<u64> {
        progress.map(|progress| progress.cursor).min()
    }

    /// The first event that has to stay, whatever its age.
    fn needed_from(&self) -> u64 {
        let after = |sequence: u64| sequence.saturating_add(1);
        let snapshot = self.older_snapshot.map_or(0, after);
        snapshot.min(self.slowest_cursor.map_or(u64::MAX, after))
    }

    /// The first of the second and later segments, which begin with these sequences, so that everything before it may
    /// go: the argument of [`turnstiled_wal::Trimmer::trim`]. `None`: nothing may. `time_of` is asked for the time of the
    /// last event of a segment, from the oldest segment on and no further than needed. Where it has no answer, the next
    /// event whose time it knows counts: time never runs backwards in a log, so that one is no earlier. Without any the
    /// segment stays.
    pub fn trim_below(
        &self,
        segment_firsts: &[u64],
        now: Timestamp,
        mut time_of: impl FnMut(u64) -> Option<Timestamp>,
    ) -> Option<u64> {
        let needed_from = self.needed_from();
        let next_firsts = segment_firsts.get(1..).unwrap_or_default();
        let ends = next_firsts.iter().enumerate().take_while(|(_, next_first)| **next_first <= needed_from);
        ends.take_while(|(index, _)| {
            let from_here = next_firsts.get(*index..).unwrap_or_default();
            // the last event of the segment, the first of the next one, its last one, and so on
            let last = from_here.iter().find_map(|next_first| {
                time_of(next_first.saturating_sub(1)).or_else(|| time_of(*next_first))
            });
            last.is_some_and(|last| now.since(last) > self.retention || self.retention.is_zero())
        })
        .last()
        .map(|(_, next_first)| *next_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRSTS: [u64; 4] = [1, 101, 201, 301];

    fn trim_below(older_snapshot: Option<u64>, slowest_cursor: Option<u64>, now: i64) -> Option<u64> {
        let holds = Holds { older_snapshot, slowest_cursor, retention: Duration::from_secs(10) };
        // event n was at second n
        let time_of = |sequence: u64| Some(Timestamp::from_millis(sequence as i64 * 1_000));
        holds.trim_below(&FIRSTS, Timestamp::from_millis(now * 1_000), time_of)
    }

    #[test]
    fn each_of_the_three_holds_whole_segments() {
        assert_eq!(trim_below(Some(400), Some(400), 1_000), Some(301), "never the last segment");
        assert_eq!(trim_below(None, Some(400), 1_000), None);
        assert_eq!(trim_below(Some(400), None, 1_000), Some(301), "no sinks");
        assert_eq!(trim_below(Some(99), Some(400), 1_000), None);
        assert_eq!(trim_below(Some(100), Some(400), 1_000), Some(101));
        assert_eq!(trim_below(Some(400), Some(199), 1_000), Some(101));
        assert_eq!(trim_below(Some(400), Some(200), 1_000), Some(201));
        assert_eq!(trim_below(Some(400), Some(400), 110), None);
        assert_eq!(trim_below(Some(400), Some(400), 111), Some(101));
        assert_eq!(trim_below(Some(400), Some(400), 211), Some(201));
    }

    #[test]
    fn a_segment_of_unknown_age_stays_and_no_more_is_read_than_needed() {
        let holds = Holds { older_snapshot: Some(400), slowest_cursor: Some(250), retention: Duration::ZERO };
        let now = Timestamp::from_millis(1);
        assert_eq!(holds.trim_below(&FIRSTS, now, |_| None), None);
        let mut asked = vec![];
        assert_eq!(
            holds.trim_below(&FIRSTS, now, |sequence| {
                asked.push(sequence);
                Some(now)
            }),
            Some(201)
        );
        assert_eq!(asked, [100, 200]);
    }

    #[test]
    fn an_unreadable_time_is_bounded_by_the_next_one_that_can_be_read() {
        let holds =
            Holds { older_snapshot: Some(400), slowest_cursor: None, retention: Duration::from_secs(10) };
        let trim = |unreadable: &[u64], now: i64| {
            let time_of = |sequence: u64| {
                let is_readable = !unreadable.contains(&sequence);
                is_readable.then(|| Timestamp::from_millis(sequence as i64 * 1_000))
            };
            holds.trim_below(&FIRSTS, Timestamp::from_millis(now * 1_000), time_of)
        };
        assert_eq!(
            (trim(&[100], 111), trim(&[100], 112)),
            (None, Some(101)),
            "the next segment's first event"
        );
        assert_eq!((trim(&[100, 101], 210), trim(&[100, 101], 211)), (None, Some(201)), "its last event");
        assert_eq!((trim(&[100, 101, 200], 211), trim(&[100, 101, 200], 212)), (None, Some(201)));
        assert_eq!(trim(&[100, 101, 200, 201, 300], 1_000), Some(301), "the last segment's first event");
        assert_eq!(trim(&[300, 301], 1_000), Some(201), "nothing bounds it");
    }

    #[test]
    fn the_slowest_sink_counts() {
        let progress = [7, 3, 9].map(Progress::starting_after);
        assert_eq!(Holds::slowest(progress.iter()), Some(3));
        assert_eq!(Holds::slowest([].iter()), None);
    }
}
