//! Schedules against a slow model that lists every minute of every window and does its own calendar and clock changes.

use jiff::{
    civil::{Date, DateTime, Weekday, date},
    tz::TimeZone,
};
use proptest::prelude::*;

use super::*;
use crate::domain::time::Timestamp;

const DAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

fn days(named: &[Weekday]) -> Days {
    named.iter().copied().fold(Days::default(), Days::with)
}

fn window(named: &[Weekday], from: &str, to: &str) -> Window {
    Window::new(days(named), TimeOfDay::parse(from).unwrap(), TimeOfDay::parse(to).unwrap()).unwrap()
}

fn at(text: &str) -> DateTime {
    text.parse().unwrap()
}

#[test]
fn a_window_begins_on_its_minute_and_ends_before_its_last() {
    let office = Schedule::new(vec![window(&DAYS[..5], "06:00", "22:00")], vec![date(2026, 12, 25)]);
    // 2026-11-20 is a Friday
    for (local, holds) in [
        ("2026-11-20T05:59:59.999", false),
        ("2026-11-20T06:00:00", true),
        ("2026-11-20T21:59:59.999", true),
        ("2026-11-20T22:00:00", false),
        ("2026-11-21T12:00:00", false),
        ("2026-12-24T12:00:00", true),
        ("2026-12-25T12:00:00", false),
    ] {
        assert_eq!(office.holds_at(at(local)), holds, "{local}");
    }
}

#[test]
fn a_night_belongs_to_the_day_it_began_on() {
    // from Friday to Saturday and from Thursday to Friday; the Thursday of 2026-12-24 is a holiday, the 25th is none here
    let nights = [window(&[Weekday::Friday, Weekday::Thursday], "22:00", "06:00")];
    let night = Schedule::new(nights.to_vec(), vec![date(2026, 12, 24)]);
    for (local, holds) in [
        ("2026-11-20T21:59", false),
        ("2026-11-20T22:00", true),
        ("2026-11-21T05:59", true),
        ("2026-11-21T06:00", false),
        ("2026-11-21T22:00", false),
        ("2026-12-24T23:00", false),
        ("2026-12-25T05:00", false), // of the holiday's night
        ("2026-12-25T23:00", true),
        ("2026-12-26T05:00", true),
    ] {
        assert_eq!(night.holds_at(at(local)), holds, "{local}");
    }
    // 24:00 and 00:00 of the next day are one moment
    for to in ["24:00", "00:00"] {
        let late = Schedule::new(vec![window(&[Weekday::Friday], "12:00", to)], vec![]);
        assert!(late.holds_at(at("2026-11-20T23:59:59")) && !late.holds_at(at("2026-11-21T00:00")), "{to}");
    }
}

#[test]
fn what_is_no_window_is_refused() {
    for text in ["", "6:00", "06:0", "0600", "24:01", "25:00", "12:60", "+6:00", "06:00:00", "06:00 "] {
        assert_eq!(TimeOfDay::parse(text), Err(InvalidTimeOfDay), "{text}");
    }
    let time = |text| TimeOfDay::parse(text).unwrap();
    let new = |named: &[Weekday], from, to| Window::new(days(named), time(from), time(to)).unwrap_err();
    assert_eq!(new(&[], "06:00", "22:00"), InvalidWindow::NoDays);
    assert_eq!(new(&DAYS, "24:00", "01:00"), InvalidWindow::BeginsAtMidnight);
    assert_eq!(new(&DAYS, "00:00", "00:00"), InvalidWindow::Empty);
}

/// A window as it is written: days (Monday is 0), from and to in minutes.
type Plain = (Vec<usize>, u16, u16);

/// Time zones, each with its own arithmetic beside jiff's.
#[derive(Clone, Copy, Debug)]
enum Zone {
    Utc,
    Berlin,
    NewYork,
    Kolkata,
}

impl Zone {
    fn of_jiff(self) -> TimeZone {
        let name = match self {
            Self::Utc => return TimeZone::UTC,
            Self::Berlin => "Europe/Berlin",
            Self::NewYork => "America/New_York",
            Self::Kolkata => "Asia/Kolkata",
        };
        TimeZone::get(name).unwrap()
    }

    /// By the rules of law since 2007, in minutes east of Greenwich.
    fn offset_minutes(self, utc_minute: i64) -> i64 {
        let year = civil_of(utc_minute.div_euclid(1_440)).0;
        let between = |begins: i64, ends: i64| (begins..ends).contains(&utc_minute);
        match self {
            Self::Utc => 0,
            Self::Kolkata => 330,
            Self::Berlin => {
                let last = |month, days| sunday_on_or_before(days_of(year, month, days));
                60 + 60 * i64::from(between(last(3, 31) * 1_440 + 60, last(10, 31) * 1_440 + 60))
            }
            Self::NewYork => {
                let begins = sunday_on_or_before(days_of(year, 3, 14)) * 1_440 + 7 * 60;
                let ends = sunday_on_or_before(days_of(year, 11, 7)) * 1_440 + 6 * 60;
                -300 + 60 * i64::from(between(begins, ends))
            }
        }
    }
}

/// Days since 1970-01-01, counted year by year and month by month.
fn days_of(year: i64, month: usize, day: i64) -> i64 {
    let before: i64 = (1970..year).map(|year| 365 + i64::from(is_leap(year))).sum();
    before + (1..month).map(|month| days_in(year, month)).sum::<i64>() + day - 1
}

fn civil_of(mut days: i64) -> (i64, usize, i64) {
    let mut year = 1970;
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    while days >= days_in(year, month) {
        days -= days_in(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: usize) -> i64 {
    [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
}

/// 1970-01-01 was a Thursday; Monday is 0.
fn weekday_of(day: i64) -> usize {
    usize::try_from((day + 3).rem_euclid(7)).unwrap()
}

fn sunday_on_or_before(day: i64) -> i64 {
    day - (day + 4).rem_euclid(7)
}

/// Every minute of every window of two days, one after the other.
fn model_holds(weekly: &[Plain], holidays: &[i64], local_minute: i64) -> bool {
    let today = local_minute.div_euclid(1_440);
    [today - 1, today].into_iter().any(|day| {
        weekly.iter().any(|(days, from, to)| {
            if !days.contains(&weekday_of(day)) || holidays.contains(&day) {
                return false;
            }
            let mut minutes = vec![];
            let mut minute = i64::from(*from);
            loop {
                minutes.push(day * 1_440 + minute);
                minute += 1;
                if minute == i64::from(*to) || minute == i64::from(*to) + 1_440 {
                    break;
                }
            }
            minutes.contains(&local_minute)
        })
    })
}

fn zones() -> impl Strategy<Value = Zone> {
    prop::sample::select(vec![Zone::Utc, Zone::Berlin, Zone::NewYork, Zone::Kolkata])
}

fn weeklies() -> impl Strategy<Value = Vec<Plain>> {
    // often near the hours that a clock change leaves out or repeats
    let minute = prop_oneof![0..1_440_u16, 50..200_u16];
    let window = (prop::sample::subsequence((0..7).collect::<Vec<_>>(), 1..7), minute.clone(), minute);
    let window = window.prop_filter("not empty", |(_, from, to)| from != to);
    prop::collection::vec(window, 1..4)
}

/// Minutes since 1970 in UTC, in 2007 to 2037, half of them within hours of a clock change.
fn moments() -> impl Strategy<Value = i64> {
    let change =
        (2007..2037_i64, prop::sample::select(vec![(3, 31), (10, 31), (3, 14), (11, 7)]), -600..900_i64)
            .prop_map(|(year, (month, day), minutes)| {
                sunday_on_or_before(days_of(year, month, day)) * 1_440 + minutes
            });
    prop_oneof![19_500_000..35_000_000_i64, change]
}

fn schedule_of(weekly: &[Plain], holidays: &[i64]) -> Schedule {
    let windows = weekly.iter().map(|(named, from, to)| {
        let named: Vec<_> = named.iter().map(|day| DAYS[*day]).collect();
        Window::new(days(&named), TimeOfDay(*from), TimeOfDay(*to)).unwrap()
    });
    let holidays = holidays.iter().map(|day| {
        let (year, month, day) = civil_of(*day);
        let (year, month) = (year.try_into().unwrap(), month.try_into().unwrap());
        Date::new(year, month, day.try_into().unwrap()).unwrap()
    });
    Schedule::new(windows.collect(), holidays.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn agrees_with_the_model(
        zone in zones(),
        weekly in weeklies(),
        moment in moments(),
        second in 0..60_i64,
        holidays in prop::collection::vec(-2..3_i64, 0..2),
    ) {
        let local_minute = moment + zone.offset_minutes(moment);
        let holidays: Vec<i64> = holidays.iter().map(|day| local_minute.div_euclid(1_440) + day).collect();
        let now = Timestamp::from_millis((moment * 60 + second) * 1_000);
        let local = zone.of_jiff().to_datetime(now.into());
        let schedule = schedule_of(&weekly, &holidays);
        prop_assert_eq!(schedule.holds_at(local), model_holds(&weekly, &holidays, local_minute), "{} {}", zone.of_jiff().iana_name().unwrap_or("UTC"), local);
    }

    #[test]
    fn any_text_is_a_time_or_none(text in ".{0,8}") {
        let _ = TimeOfDay::parse(&text);
    }
}

/// Berlin, 2026: 29 March 02:00 to 03:00 is left out, 25 October 02:00 to 03:00 comes twice.
#[test]
fn the_wall_clock_decides_when_it_changes() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let holds = |schedule: &Schedule, utc: &str| {
        schedule.holds_at(zone.to_datetime(utc.parse::<Timestamp>().unwrap().into()))
    };
    let inside_the_gap = Schedule::new(vec![window(&DAYS, "02:00", "03:00")], vec![]);
    assert!(
        !holds(&inside_the_gap, "2026-03-29T00:59:59Z") && !holds(&inside_the_gap, "2026-03-29T01:00:00Z")
    );
    for first_and_second in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"] {
        assert!(holds(&inside_the_gap, first_and_second));
    }
    assert!(!holds(&inside_the_gap, "2026-10-25T02:00:00Z"));
    // a night that is an hour shorter still ends at six
    let night = Schedule::new(vec![window(&[Weekday::Saturday], "22:00", "06:00")], vec![]);
    assert!(holds(&night, "2026-03-28T21:00:00Z") && holds(&night, "2026-03-29T03:59:59Z"));
    assert!(!holds(&night, "2026-03-29T04:00:00Z"));
}
