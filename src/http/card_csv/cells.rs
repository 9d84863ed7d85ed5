//! The cells of one row: from text to what the model knows.

use std::fmt::Display;

use jiff::{civil::Date, tz::TimeZone};

use super::LIST_SEPARATOR;
use crate::{
    domain::{
        card::Status,
        ids::CardId,
        import::{Cell, RowError},
        time::Timestamp,
    },
    http::{cards::MAX_NAME_CHARS, csv_cells::text_of},
};

/// Longer texts are cut where an error repeats them.
const MAX_QUOTED_CHARS: usize = 40;
/// Names of the API's own below `/v1/cards/`, so no card can have them.
const RESERVED_IDS: [&str; 2] = ["export", "import"];

/// The cells of one row, and what is wrong with them.
pub(super) struct RowCells {
    pub(super) line: u64,
    pub(super) errors: Vec<RowError>,
}

impl RowCells {
    pub(super) fn error(&mut self, field: &str, detail: impl Into<String>) {
        self.errors.push(RowError { line: self.line, field: field.to_owned(), detail: detail.into() });
    }

    pub(super) fn text<'a>(&mut self, field: &str, cell: &'a [u8]) -> Option<&'a str> {
        match std::str::from_utf8(cell) {
            Ok(cell) => Some(text_of(cell)),
            Err(_) => {
                self.error(field, "is not UTF-8: save the file as CSV UTF-8");
                None
            }
        }
    }

    pub(super) fn cell<T>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Cell<T> {
        match text {
            "" => Cell::Empty,
            // `Unsaid` stands for the bad one: the row goes nowhere
            text => self.value(field, text, parse).map_or(Cell::Unsaid, Cell::Value),
        }
    }

    pub(super) fn required<T>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if text.is_empty() {
            self.error(field, "is required");
        }
        self.value(field, text, parse)
    }

    pub(super) fn value<T>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if text.is_empty() {
            return None;
        }
        parse(text).map_err(|detail| self.error(field, detail)).ok()
    }
}

pub(super) fn parse_id<T: TryFrom<String>>(text: &str) -> Result<T, String>
where
    T::Error: Display,
{
    T::try_from(text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn parse_card_id(text: &str) -> Result<CardId, String> {
    if RESERVED_IDS.contains(&text) {
        return Err("is a name of the API's own".to_owned());
    }
    parse_id(text)
}

pub(super) fn parse_name(text: &str) -> Result<String, String> {
    match text.chars().count() {
        count if count > MAX_NAME_CHARS => {
            Err(format!("must have at most {MAX_NAME_CHARS} characters, has {count}"))
        }
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn parse_list<T: TryFrom<String>>(text: &str, max: usize) -> Result<Box<[T]>, String>
where
    T::Error: Display,
{
    if text.chars().eq([LIST_SEPARATOR]) {
        return Ok(Box::default());
    }
    let count = text.split(LIST_SEPARATOR).count();
    if count > max {
        return Err(format!("must have at most {max} elements, has {count}"));
    }
    let elements = text.split(LIST_SEPARATOR).enumerate();
    let parsed = elements.map(|(index, element)| {
        parse_id(element.trim()).map_err(|error| format!("element {}: {error}", index + 1))
    });
    parsed.collect()
}

pub(super) fn parse_start(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    parse_time(text, zone, Ok)
}

/// Until just before; a date alone is still in it.
pub(super) fn parse_end(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    parse_time(text, zone, Date::tomorrow)
}

fn parse_time(
    text: &str,
    zone: &TimeZone,
    day: impl FnOnce(Date) -> Result<Date, jiff::Error>,
) -> Result<Timestamp, String> {
    let is_no_time =
        || format!("{} is no time as in RFC 3339, such as 2026-11-20T08:00:00Z, and no date", quoted(text));
    let date: Option<Date> = text.parse().ok();
    match date.filter(|date| date.to_string() == text) {
        Some(date) => {
            let midnight =
                day(date).and_then(|date| date.to_zoned(zone.clone())).map_err(|_| is_no_time())?;
            midnight.timestamp().to_string().parse().map_err(|_| is_no_time())
        }
        None => text.parse().map_err(|_| is_no_time()),
    }
}

pub(super) fn parse_flag(text: &str) -> Result<bool, String> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(format!("{} is not true or false", quoted(text)))
    }
}

pub(super) fn parse_status(text: &str) -> Result<Status, String> {
    let all = [Status::Active, Status::Suspended, Status::Lost, Status::Revoked];
    let found = all.into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| format!("{} is not active, suspended, lost or revoked", quoted(text)))
}

pub(super) fn parse_version(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{} is no version", quoted(text)))
}

pub(super) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    if cut.len() < text.len() { format!("{cut:?}...") } else { format!("{cut:?}") }
}
