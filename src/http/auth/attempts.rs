//! Attempts with missing or bad credentials: slowed by address ([`super::failures`]) and logged, at a bounded rate.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::failures::Failures;
use crate::http::log_lines::LogLines;

/// Counts failed attempts of a running daemon.
#[derive(Debug)]
pub struct Attempts {
    begun: Instant,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    failures: Failures,
    lines: LogLines,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { begun: Instant::now(), counted: Mutex::default() }
    }
}

impl Attempts {
    /// Notes that someone at `address` failed as a `kind` of caller. How long they are to wait, if they fail too often.
    #[must_use]
    pub fn failed(&self, address: IpAddr, kind: &str, route: &str) -> Option<Duration> {
        let now = self.begun.elapsed();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = counted.failures.count(address, now);
        let line = counted.lines.take(now);
        drop(counted);
        let Some(not_logged) = line else { return wait };
        let is_slowed = wait.is_some();
        tracing::warn!(%address, kind, route, is_slowed, not_logged, "refused: missing or bad credentials");
        wait
    }
}
