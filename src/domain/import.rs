//! What a row of an import asks of a card, and what becomes of it.
//!
//! An import says of a card what `PUT` could say. It never changes a status: a row that takes a card to be in another
//! status than it is, is a bad row. So no file can undo a revoke, however old it is.

use serde::Serialize;

use super::{
    card::{Card, CardDetails, GateRight, Status},
    directory::{CardCommand, CardRefusal, Directory},
    event::{Body, CardChange, CardChanged},
    ids::{BuildingId, CardId, EmployeeId, GroupId},
    time::Timestamp,
};

/// The most bad cells that a report lists; of more there is the count.
pub const MAX_LISTED_ROW_ERRORS: usize = 1_000;

/// What a row says of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cell<T> {
    /// The file has no such column: a card keeps what it has.
    #[default]
    Unsaid,
    /// The cell is empty: a card has nothing there, as a new one.
    Empty,
    /// This.
    Value(T),
}

/// What a row says of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardPatch {
    /// `None`: unsaid, or empty. It cannot be taken away.
    pub employee_id: Option<EmployeeId>,
    /// The holder's name.
    pub holder_name: Cell<String>,
    /// As in [`CardDetails`].
    pub buildings: Cell<Box<[BuildingId]>>,
    /// As in [`CardDetails`].
    pub gates: Cell<Box<[GateRight]>>,
    /// As in [`CardDetails`].
    pub groups: Cell<Box<[GroupId]>>,
    /// As in [`CardDetails`].
    pub valid_from: Cell<Timestamp>,
    /// As in [`CardDetails`].
    pub valid_until: Cell<Timestamp>,
    /// As in [`CardDetails`].
    pub anti_passback_exempt: Cell<bool>,
    /// As in [`CardDetails`].
    pub responder: Cell<bool>,
}

/// A row that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRow {
    /// Its line in the file, from 1.
    pub line: u64,
    /// Which card.
    pub card_id: CardId,
    /// What is said of it.
    pub patch: CardPatch,
    /// What the row takes its status to be.
    pub status: Option<Status>,
    /// What the row takes its version to be. Counts only if the row changes the card.
    pub version: Option<u64>,
    /// What it names that this server does not have. Counts only if the row changes the card: one that names it already
    /// may keep it.
    pub unknown: Vec<RowError>,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowError {
    /// The line on which the row begins, from 1.
    pub line: u64,
    /// The column, or `row` for the whole.
    pub field: String,
    /// What is wrong.
    pub detail: String,
}

/// What an import comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows that were looked at, without the header.
    pub rows: u64,
    /// New cards.
    pub registered: u64,
    /// Cards that change.
    pub updated: u64,
    /// Cards that are as the row says.
    pub unchanged: u64,
    /// Bad rows.
    pub rejected: u64,
    /// How many of the registered and updated cards no building, gate or group limits: they open everywhere.
    pub unlimited: u64,
    /// What is wrong, in the order of lines.
    pub errors: Vec<RowError>,
    /// How many more there are.
    pub errors_left_off: u64,
}

impl<T: Clone> Cell<T> {
    /// The field afterwards, when it was `before`.
    fn over(&self, before: Option<T>) -> Option<T> {
        match self {
            Self::Unsaid => before,
            Self::Empty => None,
            Self::Value(value) => Some(value.clone()),
        }
    }
}

impl CardPatch {
    /// The card's details afterwards; `None` if nobody says whose it is.
    fn over(&self, before: Option<&CardDetails>) -> Option<CardDetails> {
        let employee_id = match &self.employee_id {
            Some(said) => said.clone(),
            None => before?.employee_id.clone(),
        };
        let flag = |cell: &Cell<bool>, before: Option<bool>| cell.over(before).unwrap_or_default();
        let name_before = before.and_then(|card| card.holder_name.as_ref());
        let holder_name = match &self.holder_name {
            Cell::Unsaid => name_before.cloned(),
            // in a file the empty name looks like none
            Cell::Empty => name_before.filter(|name| name.is_empty()).cloned(),
            Cell::Value(name) => Some(name.as_str().into()),
        };
        Some(CardDetails {
            employee_id,
            holder_name,
            buildings: self.buildings.over(before.and_then(|card| card.buildings.clone())),
            gates: self.gates.over(before.and_then(|card| card.gates.clone())),
            groups: self.groups.over(before.and_then(|card| card.groups.clone())),
            valid_from: self.valid_from.over(before.and_then(|card| card.valid_from)),
            valid_until: self.valid_until.over(before.and_then(|card| card.valid_until)),
            anti_passback_exempt: flag(
                &self.anti_passback_exempt,
                before.map(|card| card.anti_passback_exempt),
            ),
            responder: flag(&self.responder, before.map(|card| card.responder)),
        })
    }
}

impl ImportRow {
    /// What the row changes: the event to record, or `None` if the card is as it says.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn decide(&self, directory: &Directory) -> Result<Option<Body>, Vec<RowError>> {
        let found = directory.find(&self.card_id);
        self.check_status(found)?;
        let Some(details) = self.patch.over(found.map(|card| &card.details)) else {
            return Err(self.error("employee_id", "is required for a card that is not registered yet"));
        };
        if found.is_some_and(|card| card.details == details) {
            return Ok(None);
        }
        if !self.unknown.is_empty() {
            return Err(self.unknown.clone());
        }
        self.check_version(found)?;
        if details.valid_from.zip(details.valid_until).is_some_and(|(from, until)| from >= until) {
            return Err(self.error("valid_until", "must be after valid_from"));
        }
        let command = CardCommand::Put { details, expected: None };
        directory.decide(&self.card_id, command, None).map_err(|refusal| {
            let field = match refusal {
                CardRefusal::OtherEmployee { .. } => "employee_id",
                CardRefusal::Conflict { .. } => "status",
                CardRefusal::Unknown(_) | CardRefusal::Changed { .. } | CardRefusal::LastVersion { .. } => {
                    "card_id"
                }
            };
            self.error(field, refusal.to_string())
        })
    }

    fn check_status(&self, found: Option<&Card>) -> Result<(), Vec<RowError>> {
        let Some(said) = self.status else { return Ok(()) };
        let is = found.map(|card| card.status).unwrap_or_default();
        if said == is {
            return Ok(());
        }
        let detail = match found {
            Some(_) => format!(
                "the card is {}, the row says {}: an import changes no status, leave the cell empty",
                is.as_str(),
                said.as_str()
            ),
            None => format!("a new card is active, the row says {}: leave it out", said.as_str()),
        };
        Err(self.error("status", detail))
    }

    fn check_version(&self, found: Option<&Card>) -> Result<(), Vec<RowError>> {
        let Some(said) = self.version else { return Ok(()) };
        match found {
            Some(card) if card.version == said => Ok(()),
            Some(card) => {
                let detail = format!(
                    "the card was changed meanwhile, it has version {}: export it again, or leave the cell empty",
                    card.version
                );
                Err(self.error("version", detail))
            }
            None => {
                Err(self.error("version", "no such card is registered: leave the cell empty to register it"))
            }
        }
    }

    fn error(&self, field: &str, detail: impl Into<String>) -> Vec<RowError> {
        vec![RowError { line: self.line, field: field.to_owned(), detail: detail.into() }]
    }
}

impl Report {
    /// Counts a row that was read.
    pub fn take(&mut self, decided: &Result<Option<Body>, Vec<RowError>>) {
        match decided {
            Ok(None) => {
                self.rows += 1;
                self.unchanged += 1;
            }
            Ok(Some(Body::Card(changed))) => {
                self.rows += 1;
                self.take_change(changed);
            }
            // an import does nothing but change cards
            Ok(Some(_)) => {}
            Err(errors) => self.reject(errors),
        }
    }

    fn take_change(&mut self, CardChanged { change, card, .. }: &CardChanged) {
        match change {
            CardChange::Registered => self.registered += 1,
            _ => self.updated += 1,
        }
        let CardDetails { buildings, gates, groups, .. } = &card.details;
        self.unlimited += u64::from(buildings.is_none() && gates.is_none() && groups.is_none());
    }

    /// Counts a bad row.
    pub fn reject(&mut self, errors: &[RowError]) {
        self.rows += 1;
        self.rejected += 1;
        let room = MAX_LISTED_ROW_ERRORS.saturating_sub(self.errors.len());
        let (listed, left_off) = errors.split_at(room.min(errors.len()));
        self.errors.extend_from_slice(listed);
        self.errors_left_off += left_off.len() as u64;
    }

    /// Adds what other rows come to.
    pub fn add(&mut self, other: &Self) {
        let Self { rows, registered, updated, unchanged, rejected, unlimited, errors, errors_left_off } =
            other;
        self.rows += rows;
        self.registered += registered;
        self.updated += updated;
        self.unchanged += unchanged;
        self.unlimited += unlimited;
        self.rejected += rejected;
        let room = MAX_LISTED_ROW_ERRORS.saturating_sub(self.errors.len());
        let (listed, left_off) = errors.split_at(room.min(errors.len()));
        self.errors.extend_from_slice(listed);
        self.errors_left_off += left_off.len() as u64 + errors_left_off;
    }
}
