//! Times of the week by the clock on the wall, without holidays.
//!
//! Whoever asks brings the local date and time: a change to or from daylight saving needs nothing here. A time that the
//! clock leaves out is never asked about, one that it shows twice is answered twice alike.

use jiff::civil::{Date, DateTime, Weekday};
use thiserror::Error;

/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;

/// When something holds: on the days and between the times of any window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    weekly: Vec<Window>,
    /// Sorted.
    holidays: Vec<Date>,
}

/// Some days of the week from one time to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    days: Days,
    /// The first minute of the day in it.
    from: u16,
    /// The first one after it, on the same day, or on the next one if that is not after `from`.
    to: u16,
}

/// A set of days of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Days(u8);

/// A time of day in minutes, 24:00 included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

/// Why a text is no [`TimeOfDay`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("is no time of day: write HH:MM, from \"00:00\" to \"24:00\"")]
pub struct InvalidTimeOfDay;

/// Why there is no such window.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidWindow {
    /// On no day.
    #[error("names no day")]
    NoDays,
    /// It would begin when its day is over.
    #[error("begins at 24:00; write 00:00 and the day after")]
    BeginsAtMidnight,
    /// It ends when it begins.
    #[error("ends when it begins; 00:00 to 24:00 is the whole day")]
    Empty,
}

impl TimeOfDay {
    /// From "HH:MM".
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidTimeOfDay> {
        let two_digits = |part: &str| {
            let is_number = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse::<u16>().ok()).flatten()
        };
        let (hours, minutes) = text.split_once(':').ok_or(InvalidTimeOfDay)?;
        let (hours, minutes) = two_digits(hours).zip(two_digits(minutes)).ok_or(InvalidTimeOfDay)?;
        let of_day = hours * 60 + minutes;
        if minutes < 60 && of_day <= DAY_MINUTES { Ok(Self(of_day)) } else { Err(InvalidTimeOfDay) }
    }
}

impl Days {
    /// With this day, too.
    #[must_use]
    pub fn with(self, day: Weekday) -> Self {
        Self(self.0 | bit(day))
    }

    fn has(self, day: Weekday) -> bool {
        self.0 & bit(day) != 0
    }
}

fn bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset().clamp(0, 6)
}

impl Window {
    /// A window that begins on each of these days at `from`, and ends at `to` of the same day, or of the next one if `to`
    /// is before `from`.
    ///
    /// # Errors
    /// [`InvalidWindow`] if it would be empty, or not begin on its day.
    pub fn new(days: Days, from: TimeOfDay, to: TimeOfDay) -> Result<Self, InvalidWindow> {
        if days == Days::default() {
            return Err(InvalidWindow::NoDays);
        }
        if from.0 == DAY_MINUTES {
            return Err(InvalidWindow::BeginsAtMidnight);
        }
        if from == to {
            return Err(InvalidWindow::Empty);
        }
        Ok(Self { days, from: from.0, to: to.0 })
    }

    fn runs_over_midnight(self) -> bool {
        self.to < self.from
    }
}

impl Schedule {
    /// Holds in any of these windows that did not begin on a holiday.
    #[must_use]
    pub fn new(weekly: Vec<Window>, mut holidays: Vec<Date>) -> Self {
        holidays.sort_unstable();
        holidays.dedup();
        Self { weekly, holidays }
    }

    /// Whether it holds when the wall's calendar and clock say `local`.
    #[must_use]
    pub fn holds_at(&self, local: DateTime) -> bool {
        let (today, minute) = (local.date(), minute_of_day(local));
        let begun_today =
            |window: &Window| minute >= window.from && (window.runs_over_midnight() || minute < window.to);
        if self.has_begun(today, begun_today) {
            return true;
        }
        let begun_yesterday = |window: &Window| window.runs_over_midnight() && minute < window.to;
        today.yesterday().is_ok_and(|yesterday| self.has_begun(yesterday, begun_yesterday))
    }

    /// Whether some window that began on this day is as asked.
    fn has_begun(&self, day: Date, is_so: impl Fn(&Window) -> bool) -> bool {
        let mut begun = self.weekly.iter().filter(|window| window.days.has(day.weekday()));
        begun.any(is_so) && self.holidays.binary_search(&day).is_err()
    }
}

fn minute_of_day(local: DateTime) -> u16 {
    let (hour, minute) = (local.hour().unsigned_abs(), local.minute().unsigned_abs());
    u16::from(hour) * 60 + u16::from(minute)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
