//! PURE: which lines of the log about requests are written, however many requests there are. Time is passed in.

use std::{num::NonZeroU32, time::Duration};

use crate::rate::RateCap;

/// Lines a second of each kind, however many requests there are; what is beyond is counted, and the next line says how
/// many there were.
const LOGGED_PER_SECOND: Option<NonZeroU32> = NonZeroU32::new(1);
/// How long unused lines are saved up: so many seconds' worth may be written at once.
const LOG_BURST: Duration = Duration::from_secs(20);

/// Lines of one kind.
#[derive(Debug)]
pub(super) struct LogLines {
    cap: RateCap,
    /// Since the last line.
    not_logged: u64,
}

impl Default for LogLines {
    fn default() -> Self {
        Self { cap: RateCap::new(LOGGED_PER_SECOND, LOG_BURST), not_logged: 0 }
    }
}

impl LogLines {
    /// Asks for a line at `now`, by a clock that only runs forwards: how many were left out since the last one, or `None`,
    /// and this one is left out, too.
    pub(super) fn take(&mut self, now: Duration) -> Option<u64> {
        if self.cap.admits_from() > now {
            self.not_logged = self.not_logged.saturating_add(1);
            return None;
        }
        self.cap.take(now, 1);
        Some(std::mem::take(&mut self.not_logged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_at_once_then_one_a_second_that_says_how_many_were_left_out() {
        let (mut lines, start) = (LogLines::default(), Duration::from_secs(100));
        let written = (0..1_000).filter(|_| lines.take(start).is_some()).count();
        assert_eq!(written, 21, "a burst, and the one that begins a debt");
        assert_eq!(lines.take(start + Duration::from_secs(1)), Some(979));
        assert_eq!(lines.take(start + Duration::from_secs(1)), None);
        assert_eq!(lines.take(start + Duration::from_secs(100)), Some(1));
    }
}
