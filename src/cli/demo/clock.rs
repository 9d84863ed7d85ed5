//! The simulated clock: which time of which working day it is after so much real time. Pure.

use std::{fmt, time::Duration};

/// When the working day begins, in seconds after midnight.
pub(super) const DAY_BEGINS_SECONDS: u32 = 7 * 3_600;
/// When it ends and the next one begins: nights are skipped.
pub(super) const DAY_ENDS_SECONDS: u32 = 19 * 3_600;

/// A time of day, in seconds after midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimeOfDay(pub(super) u32);

/// How fast days go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct DayClock {
    day: Duration,
}

impl TimeOfDay {
    /// Such as `at(8, 30)`.
    pub(super) fn at(hour: u32, minute: u32) -> Self {
        Self(hour * 3_600 + minute * 60)
    }

    /// What goes on at this time, for the progress bar.
    pub(super) fn happening(self) -> &'static str {
        let periods = [
            (Self::at(7, 20), "night shift leaves"),
            (Self::at(9, 15), "morning rush"),
            (Self::at(9, 45), "at work"),
            (Self::at(10, 30), "meeting in the annex"),
            (Self::at(11, 40), "at work"),
            (Self::at(13, 30), "lunch"),
            (Self::at(15, 0), "at work"),
            (Self::at(16, 20), "night shift comes"),
        ];
        periods.iter().find(|(until, _)| self < *until).map_or("everyone goes home", |(_, what)| what)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 3_600, self.0 / 60 % 60)
    }
}

impl DayClock {
    /// A clock on which `speed` working days go by in `length`.
    pub(super) fn new(length: Duration, speed: f64) -> Self {
        Self { day: length.div_f64(speed) }
    }

    /// How many days have passed.
    pub(super) fn days(&self, elapsed: Duration) -> f64 {
        elapsed.div_duration_f64(self.day)
    }

    /// The day, from 0, and the time.
    pub(super) fn time(&self, elapsed: Duration) -> (u32, TimeOfDay) {
        let days = self.days(elapsed);
        let length = f64::from(DAY_ENDS_SECONDS - DAY_BEGINS_SECONDS);
        let seconds = Duration::from_secs_f64(days.fract() * length).as_secs();
        let seconds = u32::try_from(seconds).unwrap_or_default();
        let day = u32::try_from(Duration::from_secs_f64(days).as_secs()).unwrap_or(u32::MAX);
        (day, TimeOfDay(DAY_BEGINS_SECONDS + seconds))
    }

    /// After how much real time a moment comes.
    pub(super) fn elapsed_at(&self, day: u32, time: TimeOfDay) -> Duration {
        let length = f64::from(DAY_ENDS_SECONDS - DAY_BEGINS_SECONDS);
        let part = f64::from(time.0.saturating_sub(DAY_BEGINS_SECONDS)) / length;
        self.day.mul_f64(f64::from(day) + part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_days_go_by_in_the_length() {
        let clock = DayClock::new(Duration::from_secs(20), 2.0);
        assert_eq!(clock.elapsed_at(0, TimeOfDay::at(7, 0)), Duration::ZERO);
        assert_eq!(clock.elapsed_at(1, TimeOfDay::at(7, 0)), Duration::from_secs(10));
        assert_eq!(clock.elapsed_at(1, TimeOfDay::at(13, 0)), Duration::from_secs(15));
        assert_eq!(clock.time(Duration::from_secs(15)), (1, TimeOfDay::at(13, 0)));
        assert_eq!(clock.time(Duration::from_secs(15)).1.to_string(), "13:00");
    }

    #[test]
    fn something_happens_all_day() {
        assert_eq!(TimeOfDay::at(8, 0).happening(), "morning rush");
        assert_eq!(TimeOfDay::at(12, 0).happening(), "lunch");
        assert_eq!(TimeOfDay::at(18, 59).happening(), "everyone goes home");
    }
}
