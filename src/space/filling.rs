//! When a log will be full, by how what is left of its space has changed.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How far back to look: as far as the alert `TurnstiledDiskFullSoon`. A rush and a quiet time even out a little, and that nothing
/// is trimmed any more shows within hours.
pub const WINDOW: Duration = Duration::from_secs(6 * 60 * 60);

/// With less than this since the first look nothing is said.
pub const KNOWN_AFTER: Duration = Duration::from_secs(10 * 60);

/// How far apart the looks are that are remembered: 73 at most.
const REMEMBER_EVERY: Duration = Duration::from_secs(5 * 60);

/// What was left at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The moment.
    pub at: Instant,
    /// Bytes until the limit.
    pub left_bytes: u64,
}

/// Remembers looks of the last [`WINDOW`].
#[derive(Debug, Default)]
pub struct Filling(VecDeque<Look>);

impl Filling {
    /// Takes a look; in how many seconds nothing is left, as [`seconds_left`] says.
    pub fn look(&mut self, now: Look) -> f64 {
        let since = |earlier: &Look| now.at.saturating_duration_since(earlier.at);
        while self.0.front().is_some_and(|oldest| since(oldest) > WINDOW) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|newest| since(newest) >= REMEMBER_EVERY) {
            self.0.push_back(now);
        }
        seconds_left(self.0.front().copied().unwrap_or(now), now)
    }
}

/// In how many seconds nothing is left if it goes on as between two looks: 0 if nothing is left now, infinity if no less is
/// left than then, or if the looks are closer than [`KNOWN_AFTER`].
#[must_use]
pub fn seconds_left(then: Look, now: Look) -> f64 {
    let (took, lost) =
        (now.at.saturating_duration_since(then.at), then.left_bytes.saturating_sub(now.left_bytes));
    if now.left_bytes == 0 {
        return 0.0;
    }
    if lost == 0 || took < KNOWN_AFTER {
        return f64::INFINITY;
    }
    now.left_bytes as f64 * took.as_secs_f64() / lost as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn look(began: Instant, after: Duration, left_bytes: u64) -> Look {
        Look { at: began + after, left_bytes }
    }

    #[test]
    fn what_is_left_lasts_as_long_as_it_went_so_far() {
        let began = Instant::now();
        let then = look(began, Duration::ZERO, 1_000);
        assert_eq!(seconds_left(then, look(began, HOUR, 900)), 9.0 * 3_600.0);
        assert_eq!(seconds_left(then, look(began, HOUR, 0)), 0.0);
        assert_eq!(seconds_left(then, look(began, Duration::ZERO, 0)), 0.0, "that is known at once");
        assert_eq!(seconds_left(then, look(began, HOUR, 1_000)), f64::INFINITY);
        assert_eq!(seconds_left(then, look(began, HOUR, 1_001)), f64::INFINITY, "trimmed, or a larger disk");
        assert_eq!(seconds_left(then, look(began, KNOWN_AFTER - MINUTE, 900)), f64::INFINITY, "too soon");
        assert_eq!(seconds_left(then, look(began, KNOWN_AFTER, 900)), 5_400.0);
    }

    #[test]
    fn only_the_last_hours_count_and_little_is_remembered() {
        let (began, mut filling) = (Instant::now(), Filling::default());
        let mut left_bytes = 1_000_000_000;
        let mut seconds = 0.0;
        // a byte a second for 10 hours, then 100
        for minute in 0..16 * 60 {
            left_bytes -= if minute < 10 * 60 { 60 } else { 6_000 };
            seconds = filling.look(look(began, MINUTE * minute, left_bytes));
            assert!(filling.0.len() <= 73, "{}", filling.0.len());
        }
        assert!((seconds / (left_bytes as f64 / 100.0) - 1.0).abs() < 0.05, "{seconds}");
        // trimmed by more than was lost in the window
        assert_eq!(filling.look(look(began, 16 * HOUR, 1_000_000_000)), f64::INFINITY);
        // and growing again: from what there was six hours before, then from what was trimmed
        assert_eq!(filling.look(look(began, 17 * HOUR, 999_996_400)), f64::INFINITY);
        filling.look(look(began, 22 * HOUR, 999_978_400));
        let seconds = filling.look(look(began, 23 * HOUR, 999_974_800));
        assert!((seconds / 999_974_800.0 - 1.0).abs() < 0.01, "{seconds}");
    }
}
