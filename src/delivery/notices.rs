//! When the log says that a sink is away, held or back: at once, and then seldom.

use std::time::Duration;

use super::{
    outcome::Trouble,
    status::{SinkState, Status},
};

/// While a sink is held or away it is said again after so long.
pub const REPEAT_EVERY: Duration = Duration::from_mins(10);
/// The same is said of a sink at most so often, however often it comes and goes: what comes back sooner is said then,
/// if it still lasts.
pub const MIN_GAP: Duration = Duration::from_mins(1);

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An operator has to mend something; until then nothing, or not everything, is delivered.
    Held {
        /// What the service says.
        trouble: Trouble,
        /// How long it has not delivered.
        lasts: Duration,
    },
    /// An outage: it passes by itself, everything waits.
    Away {
        /// What the service or the network says.
        trouble: Trouble,
        /// How long it has not delivered.
        lasts: Duration,
    },
    /// It delivers again.
    Back {
        /// How long it did not.
        after: Duration,
    },
}

/// Remembers what was said of one sink.
#[derive(Debug, Default)]
pub struct Notices {
    since: Option<Duration>,
    held: Said,
    away: Said,
}

#[derive(Clone, Copy, Debug, Default)]
struct Said {
    last: Option<Duration>,
    /// Since it does not deliver.
    is_known: bool,
}

impl Said {
    /// Whether to say it at `now`; then it is said.
    fn is_due(&mut self, now: Duration) -> bool {
        let gap = if self.is_known { REPEAT_EVERY } else { MIN_GAP };
        if self.last.is_some_and(|last| now < last.saturating_add(gap)) {
            return false;
        }
        *self = Self { last: Some(now), is_known: true };
        true
    }
}

impl Notices {
    /// Looks at a sink; what there is to say of it, if anything.
    pub fn look(&mut self, status: &Status, now: Duration) -> Option<Notice> {
        let away = || {
            let (_, trouble) = status.last_trouble.as_ref().filter(|_| status.state == SinkState::Open)?;
            Some(trouble.clone())
        };
        let (held, away) = match status.held.clone() {
            Some(trouble) => (Some(trouble), None),
            None => (None, away()),
        };
        if held.is_none() && away.is_none() {
            return self.back(now);
        }
        let since = *self.since.get_or_insert(now);
        let lasts = now.saturating_sub(since);
        match (held, away) {
            (Some(trouble), _) if self.held.is_due(now) => Some(Notice::Held { trouble, lasts }),
            (_, Some(trouble)) if self.away.is_due(now) => Some(Notice::Away { trouble, lasts }),
            _ => None,
        }
    }

    fn back(&mut self, now: Duration) -> Option<Notice> {
        let since = self.since.take()?;
        let was_said = self.held.is_known || self.away.is_known;
        (self.held.is_known, self.away.is_known) = (false, false);
        was_said.then(|| Notice::Back { after: now.saturating_sub(since) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{outcome::TroubleKind, progress::Totals};

    fn trouble(kind: TroubleKind) -> Trouble {
        Trouble { kind, code: format!("{kind:?}"), text: "because".to_owned(), retry_after: None }
    }

    fn status(state: SinkState, held: bool) -> Status {
        let last = trouble(if held { TroubleKind::Hold } else { TroubleKind::Transient });
        Status {
            state,
            cursor: 0,
            scanned_to: 0,
            pending: 0,
            in_flight: 0,
            totals: Totals::default(),
            letters: 0,
            letters_are_full: false,
            detached: Vec::new(),
            held: held.then(|| last.clone()),
            last_trouble: Some((1, last)),
        }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn held(lasts: Duration) -> Option<Notice> {
        Some(Notice::Held { trouble: trouble(TroubleKind::Hold), lasts })
    }

    fn away(lasts: Duration) -> Option<Notice> {
        Some(Notice::Away { trouble: trouble(TroubleKind::Transient), lasts })
    }

    #[test]
    fn an_outage_is_said_once_and_again_while_it_lasts_and_its_end_once() {
        let (open, healthy) = (status(SinkState::Open, false), status(SinkState::Healthy, false));
        let mut notices = Notices::default();
        assert_eq!(notices.look(&healthy, secs(1)), None);
        assert_eq!(notices.look(&status(SinkState::Retrying, false), secs(2)), None, "no outage yet");
        assert_eq!(notices.look(&open, secs(10)), away(secs(0)));
        for second in 11..610 {
            assert_eq!(notices.look(&open, secs(second)), None, "{second}");
        }
        assert_eq!(notices.look(&open, secs(610)), away(secs(600)));
        assert_eq!(notices.look(&healthy, secs(700)), Some(Notice::Back { after: secs(690) }));
        assert_eq!(notices.look(&healthy, secs(701)), None);
    }

    #[test]
    fn a_held_sink_is_said_at_once_also_in_an_outage_and_before_its_breaker_opens() {
        let mut notices = Notices::default();
        assert_eq!(notices.look(&status(SinkState::Retrying, true), secs(1)), held(secs(0)));
        assert_eq!(notices.look(&status(SinkState::Open, true), secs(2)), None, "one line, not two");
        let mut notices = Notices::default();
        assert_eq!(notices.look(&status(SinkState::Open, false), secs(1)), away(secs(0)));
        assert_eq!(notices.look(&status(SinkState::Open, true), secs(5)), held(secs(4)));
        // to and fro says nothing new
        for second in 6..600 {
            assert_eq!(
                notices.look(&status(SinkState::Open, second % 2 == 0), secs(second)),
                None,
                "{second}"
            );
        }
    }

    #[test]
    fn one_that_comes_and_goes_is_said_once_a_minute_at_most() {
        let mut notices = Notices::default();
        let said: Vec<u64> = (1..=300)
            .filter(|second| {
                let state = if second % 2 == 0 { SinkState::Healthy } else { SinkState::Open };
                matches!(notices.look(&status(state, false), secs(*second)), Some(Notice::Away { .. }))
            })
            .collect();
        assert_eq!(said, [1, 61, 121, 181, 241]);
    }

    #[test]
    fn an_end_is_said_only_of_what_was_said() {
        let mut notices = Notices::default();
        notices.look(&status(SinkState::Open, false), secs(1));
        notices.look(&status(SinkState::Healthy, false), secs(2));
        assert_eq!(notices.look(&status(SinkState::Open, false), secs(3)), None);
        assert_eq!(notices.look(&status(SinkState::Healthy, false), secs(4)), None);
    }
}
