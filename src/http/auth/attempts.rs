//! Attempts with missing or bad credentials: slowed by address ([`super::failures`]) and logged, at a bounded rate.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::failures::Failures;
use crate::rate::RateCap;

/// Lines of the log a second, however many attempts fail.
const LOGGED_PER_SECOND: Option<NonZeroU32> = NonZeroU32::new(1);
/// How long unused lines are saved up: so many seconds' worth may be written at once.
const LOG_BURST: Duration = Duration::from_secs(20);

/// Counts failed attempts of a running daemon.
#[derive(Debug)]
pub struct Attempts {
    begun: Instant,
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    failures: Failures,
    lines: RateCap,
    /// Since the last line.
    not_logged: u64,
}

impl Default for Attempts {
    fn default() -> Self {
        let lines = RateCap::new(LOGGED_PER_SECOND, LOG_BURST);
        let counted = Counted { failures: Failures::default(), lines, not_logged: 0 };
        Self { begun: Instant::now(), counted: Mutex::new(counted) }
    }
}

impl Attempts {
    /// Notes that someone at `address` failed as a `kind` of caller. How long they are to wait, if they fail too often.
    #[must_use]
    pub fn failed(&self, address: IpAddr, kind: &str, route: &str) -> Option<Duration> {
        let now = self.begun.elapsed();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = counted.failures.count(address, now);
        if counted.lines.admits_from() > now {
            counted.not_logged = counted.not_logged.saturating_add(1);
            return wait;
        }
        counted.lines.take(now, 1);
        let not_logged = std::mem::take(&mut counted.not_logged);
        drop(counted);
        let is_slowed = wait.is_some();
        tracing::warn!(%address, kind, route, is_slowed, not_logged, "refused: missing or bad credentials");
        wait
    }
}
