//! How following a queue of cards goes: what to say of it, and how long to wait. Calls nobody and knows no clock.

use std::time::Duration;

use crate::delivery::retry::Backoff;

/// How long what the log refused is left in its queue: each time it is received counts for the queue's redrive policy, which
/// takes it for unreadable in the end. The cap is for that, and for whoever revokes a card meanwhile: that waits, too.
/// Without jitter, because a queue has one reader.
const REFUSED: Backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_mins(5) };

/// What a look at the queue came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The log took a change for which it needs what entries need: it takes everything.
    Took,
    /// Nothing was refused, and nothing shows that the log would take a change: there was none, or only such as a full disk
    /// takes.
    Quiet,
    /// The log refused a change for now.
    Refused,
}

/// How it has gone so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Course {
    /// Of the queue, in a row.
    failures: u32,
    /// Of the log, since it last took everything.
    refusals: u32,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// All is well: changes are taken as they come.
    pub(super) is_well: bool,
    /// It is another way than before: to be said, once.
    pub(super) is_news: bool,
    /// Before the next look.
    pub(super) wait: Duration,
}

impl Course {
    /// After a look.
    pub(super) fn looked(&mut self, look: Look) -> Next {
        let before = *self;
        self.failures = 0;
        match look {
            Look::Took => self.refusals = 0,
            Look::Quiet => {}
            Look::Refused => self.refusals = self.refusals.saturating_add(1),
        }
        let is_well = self.refusals == 0;
        let is_news = if is_well { before != *self } else { before.refusals == 0 };
        let wait = if look == Look::Refused { REFUSED.delay(self.refusals, 1.0) } else { Duration::ZERO };
        Next { is_well, is_news, wait }
    }

    /// After a look that failed, with `random` drawn from `0.0..1.0`.
    pub(super) fn failed(&mut self, random: f64, retry_after: Option<Duration>) -> Next {
        let is_news = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        let wait = Backoff::RECORD.delay_after(self.failures, random, retry_after);
        Next { is_well: false, is_news, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(is_well: bool, wait: Duration) -> Next {
        Next { is_well, is_news: true, wait }
    }

    #[test]
    fn what_was_refused_is_not_over_before_the_log_takes_a_change() {
        let mut course = Course::default();
        let none = Duration::ZERO;
        assert_eq!(course.looked(Look::Quiet), Next { is_well: true, is_news: false, wait: none });
        assert_eq!(course.looked(Look::Refused), news(false, Duration::from_secs(10)));
        for _ in 0..3 {
            assert_eq!(course.looked(Look::Quiet), Next { is_well: false, is_news: false, wait: none });
        }
        // the queue away, and back: of the log that says nothing
        assert!(course.failed(0.5, None).is_news);
        assert!(!course.looked(Look::Quiet).is_well);
        let again = Next { is_well: false, is_news: false, wait: Duration::from_secs(20) };
        assert_eq!(course.looked(Look::Refused), again);
        assert_eq!(course.looked(Look::Took), news(true, none));
        assert_eq!(course.looked(Look::Took), Next { is_well: true, is_news: false, wait: none });
        assert_eq!(course.looked(Look::Refused).wait, Duration::from_secs(10), "from the beginning");
    }

    #[test]
    fn a_queue_that_fails_is_well_again_when_it_answers() {
        let mut course = Course::default();
        assert_eq!(course.failed(1.0, None), news(false, Duration::from_millis(100)));
        assert!(!course.failed(1.0, None).is_news);
        assert_eq!(course.looked(Look::Quiet), news(true, Duration::ZERO));
        assert_eq!(course.failed(0.0, Some(Duration::from_secs(3))).wait, Duration::from_secs(3));
    }

    /// README, "Several servers", has this time.
    #[test]
    fn ten_receives_last_for_half_an_hour_of_a_full_disk() {
        let mut course = Course::default();
        let waits: Duration = (0..10).map(|_| course.looked(Look::Refused).wait).sum();
        assert_eq!(waits, Duration::from_secs(10 + 20 + 40 + 80 + 160 + 5 * 300));
        assert_eq!(waits.as_secs() / 60, 30);
    }
}
