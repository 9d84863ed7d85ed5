//! `[[schedules]]`: times of the week that the rules of groups name.

use std::{collections::BTreeMap, sync::Arc};

use jiff::civil::{Date, Weekday};

use super::{
    limits::{MAX_HOLIDAYS, MAX_SCHEDULES, MAX_WINDOWS_PER_SCHEDULE},
    reader::TableReader,
    unique::Unique,
    value::Value,
};
use crate::domain::schedule::{Days, Schedule, TimeOfDay, Window};

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// By id; `None` for one with errors, which is there all the same.
pub(super) type Schedules = BTreeMap<String, Option<Arc<Schedule>>>;

pub(super) fn read(schedules: &Value<'_>) -> Schedules {
    let list = schedules.list(MAX_SCHEDULES).unwrap_or_default();
    let mut ids = Unique::new("schedule");
    list.iter().filter_map(|entry| read_schedule(entry.table()?, &mut ids)).collect()
}

fn read_schedule(mut table: TableReader<'_>, ids: &mut Unique) -> Option<(String, Option<Arc<Schedule>>)> {
    let id = table.required("id").and_then(|value| ids.take(&value, value.id()?));
    let weekly = table.required("weekly").and_then(|value| read_weekly(&value));
    let holidays = match table.optional("holidays") {
        Some(value) => read_holidays(&value),
        None => Some(Vec::new()),
    };
    table.finish();
    let schedule = weekly.zip(holidays);
    Some((id?, schedule.map(|(weekly, holidays)| Arc::new(Schedule::new(weekly, holidays)))))
}

fn read_weekly(weekly: &Value<'_>) -> Option<Vec<Window>> {
    let list = weekly.list(MAX_WINDOWS_PER_SCHEDULE)?;
    if list.is_empty() {
        let hint = "a rule that shall never apply is better left out";
        weekly.error("is empty, so the schedule never holds", Some(hint.to_owned()));
        return None;
    }
    all_or_none(&list, |entry| read_window(entry, entry.table()?))
}

fn read_window(entry: &Value<'_>, mut table: TableReader<'_>) -> Option<Window> {
    let days = table.required("days").and_then(|value| read_days(&value));
    let mut time = |key| table.required(key).and_then(|value| value.parsed(TimeOfDay::parse, ""));
    let (from, to) = (time("from"), time("to"));
    table.finish();
    Window::new(days?, from?, to?).map_err(|error| entry.error(error.to_string(), None)).ok()
}

fn read_days(days: &Value<'_>) -> Option<Days> {
    let list = days.list(DAYS.len())?;
    if list.is_empty() {
        days.error("names no day", Some("leave this window out, or name its days: \"mon\"".to_owned()));
        return None;
    }
    let read = all_or_none(&list, |day| day.choice(&DAYS))?;
    Some(read.into_iter().fold(Days::default(), Days::with))
}

fn read_holidays(holidays: &Value<'_>) -> Option<Vec<Date>> {
    let list = holidays.list(MAX_HOLIDAYS)?;
    all_or_none(&list, |day| day.parsed(parse_date, "write it as \"2026-12-25\""))
}

/// Reads each, so that every error is reported.
fn all_or_none<T>(list: &[Value<'_>], read: impl Fn(&Value<'_>) -> Option<T>) -> Option<Vec<T>> {
    let right: Vec<T> = list.iter().filter_map(read).collect();
    (right.len() == list.len()).then_some(right)
}

/// Only as `YYYY-MM-DD`.
fn parse_date(text: &str) -> Result<Date, &'static str> {
    let date: Option<Date> = text.parse().ok();
    date.filter(|date| date.to_string() == text).ok_or("is no date")
}
