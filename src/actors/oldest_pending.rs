//! How old the oldest pending event of a sink is, read from the log as seldom as will do: a sink that lags far behind
//! is in an old segment, and opening that may read all of it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::domain::time::Timestamp;

/// How long after a look the next one may be, when the cursor has moved. Until then the older time is shown.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same when the event could not be read, and the cursor has not moved.
const UNREADABLE_EVERY: Duration = Duration::from_secs(60);

/// Of one sink.
#[derive(Debug, Default)]
pub(super) struct OldestPending(Mutex<Option<Look>>);

/// The last look at the log.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// `None` while nothing is pending.
    cursor: Option<u64>,
    /// `None`: nothing is pending, or it could not be read.
    time: Option<Timestamp>,
    at: Instant,
}

impl OldestPending {
    /// When the oldest pending event was decided, as far as it is known.
    pub(super) fn time(&self) -> Option<Timestamp> {
        self.look().as_ref().and_then(|look| look.time)
    }

    /// Takes the time of the first event past `cursor` (`None`: nothing is pending) from `read`, if it is due. No lock
    /// is held meanwhile, and others who come do not read, too.
    pub(super) fn refresh(
        &self,
        cursor: Option<u64>,
        now: Instant,
        read: impl FnOnce(u64) -> Option<Timestamp>,
    ) {
        let Some(cursor) = cursor else {
            if let Some(look) = self.look().as_mut() {
                (look.cursor, look.time) = (None, None);
            }
            return;
        };
        if !self.takes_turn(cursor, now) {
            return;
        }
        let time = read(cursor);
        *self.look() = Some(Look { cursor: Some(cursor), time, at: now });
    }

    fn takes_turn(&self, cursor: u64, now: Instant) -> bool {
        let mut look = self.look();
        let is_due = look.is_none_or(|look| {
            let every = match (look.cursor == Some(cursor), look.time) {
                (true, Some(_)) => return false,
                (true, None) => UNREADABLE_EVERY,
                (false, _) => LOOK_EVERY,
            };
            now.saturating_duration_since(look.at) >= every
        });
        if is_due {
            let time = look.and_then(|look| look.time);
            *look = Some(Look { cursor: Some(cursor), time, at: now });
        }
        is_due
    }

    fn look(&self) -> MutexGuard<'_, Option<Look>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_read_when_the_cursor_has_moved_and_not_too_often() {
        let (oldest, start) = (OldestPending::default(), Instant::now());
        let reads = std::cell::Cell::new(0);
        let refresh = |cursor: Option<u64>, seconds: u64, time: Option<i64>| {
            oldest.refresh(cursor, start + Duration::from_secs(seconds), |_| {
                reads.set(reads.get() + 1);
                // another scrape meanwhile waits for nothing and does not read
                oldest.refresh(cursor, start + Duration::from_secs(seconds), |_| panic!("read twice"));
                oldest.time();
                time.map(Timestamp::from_millis)
            });
            (reads.get(), oldest.time().map(Timestamp::as_millis))
        };
        assert_eq!(refresh(None, 0, None), (0, None));
        assert_eq!(refresh(Some(7), 0, Some(70)), (1, Some(70)));
        assert_eq!(refresh(Some(7), 1_000, Some(71)), (1, Some(70)), "it has not moved");
        assert_eq!(refresh(Some(8), 1_000, Some(80)), (2, Some(80)));
        assert_eq!(refresh(Some(9), 1_004, Some(90)), (2, Some(80)), "too soon");
        assert_eq!(refresh(Some(9), 1_005, None), (3, None));
        assert_eq!(refresh(Some(9), 1_064, Some(90)), (3, None), "it could not be read");
        assert_eq!(refresh(Some(9), 1_065, Some(90)), (4, Some(90)));
        assert_eq!(refresh(None, 1_066, None), (4, None), "it has caught up");
        assert_eq!(refresh(Some(10), 1_067, Some(100)), (4, None));
        assert_eq!(refresh(Some(10), 1_070, Some(100)), (5, Some(100)));
    }
}
