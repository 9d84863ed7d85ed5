//! What is measured in one case of one round.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::load::Request;

/// The part of a run before the window, which is not counted: connections, caches and branches warm up.
const WARM_UP_SHARE: f64 = 0.15;

/// When a case counts.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    /// Begins after the warm-up, lasts for `seconds`.
    pub(crate) fn from_now(seconds: f64) -> Self {
        let begin = Instant::now() + Duration::from_secs_f64(seconds * WARM_UP_SHARE);
        Self { begin, end: begin + Duration::from_secs_f64(seconds) }
    }

    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.end
    }
}

/// What one case of one round came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
    /// Events that the `file` sink had not taken when the window closed.
    pub(crate) behind: Option<f64>,
}

/// The answers of a window.
pub(crate) struct Tally {
    swipes: u64,
    nanos: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { swipes: 0, nanos: Histogram::new(3).unwrap() }
    }
}

impl Tally {
    /// Counts an answer that came just now; whether there is time for another.
    pub(crate) fn count(&mut self, request: &Request, sent: Instant, window: Window) -> bool {
        self.count_of(request.swipes, request.is_timed, sent, window)
    }

    /// The same for what is no request.
    pub(crate) fn count_of(&mut self, swipes: u64, is_timed: bool, sent: Instant, window: Window) -> bool {
        self.count_within(swipes, sent, window, |nanos, took| {
            if is_timed {
                nanos.record(took).unwrap();
            }
        })
    }

    /// The same for a client that sends at a pace: a slow answer counts for those, too, that it kept from being sent.
    pub(crate) fn count_at_pace(&mut self, every: Duration, sent: Instant, window: Window) -> bool {
        let every = u64::try_from(every.as_nanos()).unwrap();
        self.count_within(1, sent, window, |nanos, took| nanos.record_correct(took, every).unwrap())
    }

    fn count_within(
        &mut self,
        swipes: u64,
        sent: Instant,
        window: Window,
        record: impl FnOnce(&mut Histogram<u64>, u64),
    ) -> bool {
        let now = Instant::now();
        if now >= window.end {
            return false;
        }
        if now >= window.begin {
            self.swipes += swipes;
            record(&mut self.nanos, u64::try_from((now - sent).as_nanos()).unwrap());
        }
        true
    }

    /// Counts the answers of another connection, too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.swipes += other.swipes;
        self.nanos.add(&other.nanos).unwrap();
    }

    pub(crate) fn measured(self, window: Window) -> Measured {
        let micros = |quantile| self.nanos.value_at_quantile(quantile) as f64 / 1_000.0;
        Measured {
            per_second: self.swipes as f64 / (window.end - window.begin).as_secs_f64(),
            p50_micros: micros(0.5),
            p99_micros: micros(0.99),
            behind: None,
        }
    }
}
