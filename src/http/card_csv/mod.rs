//! Cards as rows of CSV: one table of columns for the import and the export.

mod cells;
pub mod reader;

use super::csv_cells::write_row;
use crate::domain::{card::Card, time::Timestamp};

/// Between the elements of a list; alone it is the list of nothing.
const LIST_SEPARATOR: char = ';';

/// A column. Their order is that of the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    CardId,
    EmployeeId,
    HolderName,
    Buildings,
    Gates,
    Groups,
    ValidFrom,
    ValidUntil,
    AntiPassbackExempt,
    Responder,
    Status,
    Version,
}

const COLUMNS: [(Column, &str); 12] = [
    (Column::CardId, "card_id"),
    (Column::EmployeeId, "employee_id"),
    (Column::HolderName, "holder_name"),
    (Column::Buildings, "buildings"),
    (Column::Gates, "gates"),
    (Column::Groups, "groups"),
    (Column::ValidFrom, "valid_from"),
    (Column::ValidUntil, "valid_until"),
    (Column::AntiPassbackExempt, "anti_passback_exempt"),
    (Column::Responder, "responder"),
    (Column::Status, "status"),
    (Column::Version, "version"),
];

/// The first line of an export.
#[must_use]
pub fn header_line() -> String {
    format!("{}\r\n", names())
}

/// A card as a line of an export.
#[must_use]
pub fn card_line(card: &Card) -> String {
    write_row(COLUMNS.iter().map(|(column, _)| text_in(card, *column)))
}

fn text_in(card: &Card, column: Column) -> String {
    let details = &card.details;
    let time = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string()).unwrap_or_default();
    match column {
        Column::CardId => card.card_id.to_string(),
        Column::EmployeeId => details.employee_id.to_string(),
        Column::HolderName => details.holder_name.as_deref().unwrap_or_default().to_owned(),
        Column::Buildings => list_text(details.buildings.as_deref()),
        Column::Gates => list_text(details.gates.as_deref()),
        Column::Groups => list_text(details.groups.as_deref()),
        Column::ValidFrom => time(details.valid_from),
        Column::ValidUntil => time(details.valid_until),
        Column::AntiPassbackExempt => details.anti_passback_exempt.to_string(),
        Column::Responder => details.responder.to_string(),
        Column::Status => card.status.as_str().to_owned(),
        Column::Version => card.version.to_string(),
    }
}

fn list_text<T: Clone + Into<String>>(list: Option<&[T]>) -> String {
    match list {
        None => String::new(),
        Some([]) => LIST_SEPARATOR.to_string(),
        Some(list) => list.iter().cloned().map(Into::into).collect::<Vec<String>>().join(";"),
    }
}

fn name_of(column: Column) -> &'static str {
    COLUMNS.iter().find(|(other, _)| *other == column).map_or("row", |(_, name)| name)
}

fn names() -> String {
    COLUMNS.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
