//! Whether to come at all: a circuit breaker per sink, and a pause when the service asks for less.
//!
//! Only outages open the breaker. A wholly throttled batch never does: the service is there. It pauses the
//! sink for one backoff instead, longer each time in a row, so that a service that asks for less gets less
//! and not the whole window batch by batch. A service that calls records invalid has answered, which counts
//! as success here: poison never opens the breaker.

use std::time::Duration;

use super::{
    machine::BatchId,
    outcome::{Outcome, TroubleKind},
    retry::Backoff,
};

/// The shortest time a breaker stays open: full jitter alone could draw next to nothing.
const MIN_OPEN_MS: u64 = 500;

/// When a breaker opens and how it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// It opens after this many batches in a row in which nothing succeeded.
    pub max_failed_batches: u32,
    /// The wait before a probe; grows with every probe that fails.
    pub probe: Backoff,
    /// The pause after a wholly throttled batch; grows with every one in a row.
    pub pause: Backoff,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self { max_failed_batches: 5, probe: Backoff::BREAKER, pause: Backoff::RECORD }
    }
}

/// What one finished batch says of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It took a record, or called one invalid.
    Served,
    /// It asked for less, for every record.
    Throttled { retry_after: Option<Duration> },
    /// It was not asked: the sink itself held every record back.
    NotAsked,
    /// Nothing got through.
    Failed { retry_after: Option<Duration> },
}

impl Answer {
    /// A batch without outcomes counts as failed.
    pub(super) fn of(outcomes: &[Outcome]) -> Self {
        let mut retry_after = None;
        let (mut throttled, mut asked) = (!outcomes.is_empty(), outcomes.is_empty());
        for outcome in outcomes {
            match outcome {
                Outcome::Later(_) => {}
                Outcome::Retry(trouble) => {
                    asked = true;
                    throttled &= trouble.kind == TroubleKind::Throttled;
                    retry_after = retry_after.max(trouble.retry_after);
                }
                Outcome::Delivered | Outcome::BatchRefused(_) | Outcome::Rejected(_) => return Self::Served,
            }
        }
        if !asked {
            return Self::NotAsked;
        }
        if throttled { Self::Throttled { retry_after } } else { Self::Failed { retry_after } }
    }
}

#[derive(Debug)]
enum State {
    Closed { failed_batches: u32 },
    Open { until: Duration, openings: u32 },
    HalfOpen { probe: BatchId, openings: u32 },
}

/// The breaker of one sink.
#[derive(Debug)]
pub(super) struct Breaker {
    limits: BreakerLimits,
    state: State,
    throttled_in_a_row: u32,
    paused_until: Duration,
}

impl Breaker {
    pub(super) fn new(limits: BreakerLimits) -> Self {
        let state = State::Closed { failed_batches: 0 };
        Self { limits, state, throttled_in_a_row: 0, paused_until: Duration::ZERO }
    }

    /// From when on a batch may be sent; `None` while everything waits for a probe's answer.
    pub(super) fn admits_from(&self) -> Option<Duration> {
        match self.state {
            State::Closed { .. } => Some(self.paused_until),
            State::Open { until, .. } => Some(until.max(self.paused_until)),
            State::HalfOpen { .. } => None,
        }
    }

    /// True from the opening until something succeeds, probes included.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// A batch goes out; through an open breaker it goes as the probe.
    pub(super) fn sent(&mut self, batch: BatchId) {
        if let State::Open { openings, .. } = self.state {
            self.state = State::HalfOpen { probe: batch, openings };
        }
    }

    /// A batch came back. `random` is drawn from `0.0..1.0`.
    pub(super) fn finished(&mut self, batch: BatchId, answer: Answer, now: Duration, random: f64) {
        match answer {
            Answer::Served => {
                self.state = State::Closed { failed_batches: 0 };
                self.throttled_in_a_row = 0;
                self.paused_until = Duration::ZERO;
            }
            Answer::NotAsked => self.probe_again(batch, now),
            Answer::Throttled { retry_after } => {
                self.pause(retry_after, now, random);
                self.probe_failed(batch, retry_after, now, random);
            }
            Answer::Failed { retry_after } => {
                self.probe_failed(batch, retry_after, now, random);
                self.count_failure(retry_after, now, random);
            }
        }
    }

    /// Batches that were under way together are throttled together: those that come back during a pause do
    /// not lengthen the next one.
    fn pause(&mut self, retry_after: Option<Duration>, now: Duration, random: f64) {
        if now >= self.paused_until {
            self.throttled_in_a_row = self.throttled_in_a_row.saturating_add(1);
        }
        let delay = self.limits.pause.delay_after(self.throttled_in_a_row, random, retry_after);
        self.paused_until = self.paused_until.max(now.saturating_add(delay));
    }

    /// Only the probe's own failure counts: older batches may still come back while it is under way.
    fn probe_failed(&mut self, batch: BatchId, retry_after: Option<Duration>, now: Duration, random: f64) {
        if let State::HalfOpen { probe, openings } = self.state
            && probe == batch
        {
            self.open(openings.saturating_add(1), retry_after, now, random);
        }
    }

    /// A probe that the sink held back says nothing: the next batch is one, too.
    fn probe_again(&mut self, batch: BatchId, now: Duration) {
        if let State::HalfOpen { probe, openings } = self.state
            && probe == batch
        {
            self.state = State::Open { until: now, openings };
        }
    }

    fn count_failure(&mut self, retry_after: Option<Duration>, now: Duration, random: f64) {
        if let State::Closed { failed_batches } = &mut self.state {
            *failed_batches = failed_batches.saturating_add(1);
            if *failed_batches >= self.limits.max_failed_batches {
                self.open(1, retry_after, now, random);
            }
        }
    }

    fn open(&mut self, openings: u32, retry_after: Option<Duration>, now: Duration, random: f64) {
        let wait = self.limits.probe.delay_after(openings, random, retry_after);
        let until = now.saturating_add(wait.max(Duration::from_millis(MIN_OPEN_MS)));
        self.state = State::Open { until, openings };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::outcome::Trouble;

    const FAILED: Answer = Answer::Failed { retry_after: None };
    const THROTTLED: Answer = Answer::Throttled { retry_after: None };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(BreakerLimits::default());
        for batch in 0..5 {
            assert!(!breaker.is_open());
            breaker.finished(BatchId(batch), FAILED, secs(10), 1.0);
        }
        breaker
    }

    fn retry(kind: TroubleKind, retry_after: Option<Duration>) -> Outcome {
        Outcome::Retry(Trouble { kind, code: String::new(), text: String::new(), retry_after })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let mut breaker = opened();
        assert!(breaker.is_open());
        assert_eq!(breaker.admits_from(), Some(secs(11)));
        breaker.sent(BatchId(9));
        assert_eq!(breaker.admits_from(), None);
        breaker.finished(BatchId(9), Answer::Served, secs(12), 1.0);
        assert!(!breaker.is_open());
        assert_eq!(breaker.admits_from(), Some(Duration::ZERO));
    }

    #[test]
    fn a_success_starts_the_count_anew() {
        let mut breaker = Breaker::new(BreakerLimits::default());
        for batch in 0..20 {
            let answer = if batch % 5 == 4 { Answer::Served } else { FAILED };
            breaker.finished(BatchId(batch), answer, secs(1), 1.0);
            assert!(!breaker.is_open());
        }
    }

    #[test]
    fn failed_probes_wait_longer_up_to_the_cap() {
        let mut breaker = opened();
        let mut waits = Vec::new();
        for batch in 10..17 {
            breaker.sent(BatchId(batch));
            breaker.finished(BatchId(batch), FAILED, secs(100), 1.0);
            waits.push((breaker.admits_from().unwrap() - secs(100)).as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_draw_of_nothing_still_waits() {
        let mut breaker = opened();
        breaker.sent(BatchId(9));
        breaker.finished(BatchId(9), FAILED, secs(100), 0.0);
        assert_eq!(breaker.admits_from(), Some(secs(100) + Duration::from_millis(MIN_OPEN_MS)));
    }

    #[test]
    fn an_older_batch_may_close_it_but_its_failure_says_nothing() {
        let mut breaker = opened();
        breaker.sent(BatchId(9));
        breaker.finished(BatchId(3), FAILED, secs(20), 1.0);
        assert_eq!(breaker.admits_from(), None, "the probe is still under way");
        breaker.finished(BatchId(4), Answer::Served, secs(20), 1.0);
        assert!(!breaker.is_open());
    }

    #[test]
    fn throttling_pauses_and_never_opens() {
        let mut breaker = Breaker::new(BreakerLimits::default());
        let mut now = secs(10);
        for batch in 0..50 {
            breaker.finished(BatchId(batch), THROTTLED, now, 1.0);
            breaker.finished(BatchId(batch), THROTTLED, now, 1.0);
            assert!(!breaker.is_open());
            let until = breaker.admits_from().unwrap();
            assert!(until > now && until <= now + secs(30));
            now = until;
        }
        assert_eq!(breaker.throttled_in_a_row, 50, "the second of a pair does not count");
        breaker.finished(BatchId(99), Answer::Served, now, 1.0);
        assert_eq!(breaker.admits_from(), Some(Duration::ZERO));
        breaker.finished(BatchId(100), THROTTLED, now, 1.0);
        assert_eq!(breaker.admits_from(), Some(now + BreakerLimits::default().pause.base));
    }

    #[test]
    fn a_throttled_probe_leaves_it_open() {
        let mut breaker = opened();
        breaker.sent(BatchId(9));
        breaker.finished(BatchId(9), THROTTLED, secs(20), 1.0);
        assert!(breaker.is_open());
        assert_eq!(breaker.admits_from(), Some(secs(22)));
    }

    #[test]
    fn the_answer_is_read_from_the_outcomes() {
        let wish = Some(secs(7));
        let throttled = retry(TroubleKind::Throttled, wish);
        let hold = retry(TroubleKind::Hold, None);
        assert_eq!(Answer::of(&[throttled.clone(), Outcome::Delivered]), Answer::Served);
        assert_eq!(
            Answer::of(&[throttled.clone(), throttled.clone()]),
            Answer::Throttled { retry_after: wish }
        );
        assert_eq!(Answer::of(&[throttled, hold]), Answer::Failed { retry_after: wish });
        assert_eq!(Answer::of(&[]), FAILED);
    }

    #[test]
    fn retry_after_holds_the_probe_back() {
        let mut breaker = Breaker::new(BreakerLimits { max_failed_batches: 1, ..BreakerLimits::default() });
        breaker.finished(BatchId(1), Answer::Failed { retry_after: Some(secs(20)) }, secs(10), 1.0);
        assert_eq!(breaker.admits_from(), Some(secs(30)));
    }

    #[test]
    fn no_wish_stalls_a_sink_for_longer_than_the_cap() {
        let wish = Some(secs(99_999));
        for answer in [Answer::Failed { retry_after: wish }, Answer::Throttled { retry_after: wish }] {
            let mut breaker =
                Breaker::new(BreakerLimits { max_failed_batches: 1, ..BreakerLimits::default() });
            for batch in 0..3 {
                breaker.sent(BatchId(batch));
                breaker.finished(BatchId(batch), answer, secs(10), 1.0);
                assert_eq!(breaker.admits_from(), Some(secs(40)), "{answer:?}");
            }
        }
    }
}
