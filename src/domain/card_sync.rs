//! Cards that are changed by several servers: whose word counts, and what a message of another one says.
//!
//! Of two states of a card the one of higher [rank](Rank) counts: revoked before everything else, because it is final; then the
//! higher version; the more restrictive status; the higher server id; and, so that no two states are alike, what is said
//! of the card. A rank is a total order, so what several servers come to is the highest they have heard of, in whatever order
//! and however often they hear it: merging is commutative, associative and idempotent. No event has to be remembered
//! by its id, and clocks play no part.
//!
//! The holder's name takes no part: most routes drop it. A state without a name leaves the name that is known, so a name
//! can be changed from another server and not be removed.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{
    card::{Card, CardDetails, MAX_GROUPS, MAX_NAME_CHARS, MAX_RIGHTS, Status},
    event::CardChange,
    ids::LogName,
};

/// The largest message that is read, in bytes; a card that is larger could not be registered here either.
pub const MAX_MESSAGE_BYTES: usize = 128 << 10;
/// The largest event in a message, in bytes.
pub const MAX_EVENT_BYTES: usize = 64 << 10;
/// The highest version that a message may have, and that a change here makes: below the largest whole number that every
/// reader of JSON knows. A card that has it can only be taken away here, with the same version, which counts everywhere by
/// its status: so no server ever makes what the others call [`Poison`].
pub const MAX_VERSION: u64 = (1 << 53) - 2;
/// The longest id and type of an event, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// `sync.card.applied`: a change that another server made counts here, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardSynced {
    /// The whole card afterwards.
    pub card: Card,
    /// The event that it was taken from.
    pub from: SyncedFrom,
}

/// An event of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncedFrom {
    /// The name of its log.
    pub log: String,
    /// Its place there, as the other server wrote it.
    pub sequence: String,
    /// Its id.
    pub id: String,
    /// Its type, such as `card.revoked`.
    #[serde(rename = "type")]
    pub event_type: String,
}

/// What another server says of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignCard {
    /// The whole card, its `version_by` being that server.
    pub card: Card,
    /// Where it says so.
    pub from: SyncedFrom,
}

impl ForeignCard {
    /// The id of the server that says so.
    #[must_use]
    pub fn from_server(&self) -> &str {
        self.card.version_by.as_deref().unwrap_or_default()
    }

    /// Whether it takes away from a card that is known here, for which a full disk keeps some space. One that is not known
    /// opens nothing as it is.
    #[must_use]
    pub fn takes_away_from(&self, known: Option<&Card>) -> bool {
        known.is_some_and(|known| self.card.status > known.status)
    }
}

/// What a message comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A change of a card.
    Change(Box<ForeignCard>),
    /// Nothing: it is deleted.
    Ignored(Ignored),
}

/// Why a message comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Made by this server: it knows.
    OwnServer,
    /// Made by a server that is not in `accept_from`.
    NotAccepted,
    /// An event of no card.
    OtherType,
    /// What is known here counts more, or is the same.
    Outdated,
}

/// Why a message cannot be read, ever. It stays in its queue, whose redrive policy moves it on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Poison {
    /// Larger than any change of a card.
    #[error("has {0} bytes, more than a change of a card has")]
    TooLarge(usize),
    /// Not JSON at all.
    #[error("is not JSON: {0}")]
    NotJson(String),
    /// Neither a CloudEvent nor one in SNS' envelope.
    #[error("is no event: {0}")]
    NotAnEvent(String),
    /// A card that this server cannot have.
    #[error("its card is not valid: {0}")]
    InvalidCard(String),
}

impl Poison {
    /// What is wrong, in a word: the whole sentence may repeat what is personal.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too_large",
            Self::NotJson(_) => "not_json",
            Self::NotAnEvent(_) => "not_an_event",
            Self::InvalidCard(_) => "invalid_card",
        }
    }
}

impl Ignored {
    /// As a label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnServer => "own_server",
            Self::NotAccepted => "not_accepted",
            Self::OtherType => "other_type",
            Self::Outdated => "outdated",
        }
    }
}

/// How much a state of a card counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank<'a> {
    is_revoked: bool,
    version: u64,
    status: Status,
    server: &'a str,
    /// Only a server that was restored from a backup says two things by one version.
    said: String,
}

impl<'a> Rank<'a> {
    /// Of a card as the log of `own` has it.
    #[must_use]
    pub fn of(card: &'a Card, own: &'a str) -> Self {
        let said = CardDetails { holder_name: None, ..card.details.clone() };
        Self {
            is_revoked: card.status == Status::Revoked,
            version: card.version,
            status: card.status,
            server: card.version_by.as_deref().unwrap_or(own),
            // never fails: a struct of strings, lists and numbers
            said: serde_json::to_string(&said).unwrap_or_default(),
        }
    }
}

/// What becomes of the card that the server `own` knows when it hears of another state: the whole card, or `None` if
/// that changes nothing.
#[must_use]
pub fn merge(known: Option<&Card>, heard: Card, own: &str) -> Option<Card> {
    let Some(known) = known else { return Some(heard) };
    if Rank::of(&heard, own).cmp(&Rank::of(known, own)) != Ordering::Greater {
        return None;
    }
    let mut card = heard;
    if card.details.holder_name.is_none() && card.details.employee_id == known.details.employee_id {
        card.details.holder_name.clone_from(&known.details.holder_name);
    }
    Some(card)
}

#[derive(Deserialize)]
struct Envelope<'a> {
    specversion: String,
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    log: String,
    sequence: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// SNS' own envelope around an event, unless the subscription has raw delivery.
#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Message")]
    message: String,
}

/// Reads a message for the server `own`, which takes changes from the servers in `accept_from`.
///
/// # Errors
/// [`Poison`].
pub fn read(body: &str, accept_from: &[String], own: &str) -> Result<Message, Poison> {
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(Poison::TooLarge(body.len()));
    }
    match serde_json::from_str::<Notification>(body) {
        Ok(notification) if notification.kind == "Notification" => {
            read_event(&notification.message, accept_from, own)
        }
        _ => read_event(body, accept_from, own),
    }
}

fn read_event(json: &str, accept_from: &[String], own: &str) -> Result<Message, Poison> {
    if json.len() > MAX_EVENT_BYTES {
        return Err(Poison::TooLarge(json.len()));
    }
    let event: Envelope<'_> = serde_json::from_str(json).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Poison::NotAnEvent(error.to_string()),
        _ => Poison::NotJson(error.to_string()),
    })?;
    let log: LogName = event.log.parse().map_err(|_| {
        // the text may be anything
        Poison::NotAnEvent("`log` is not <server id>.<epoch>".to_owned())
    })?;
    let texts = [&event.id, &event.event_type, &event.sequence, &event.log];
    if event.specversion != "1.0"
        || event.id.is_empty()
        || texts.iter().any(|text| text.len() > MAX_TEXT_BYTES)
    {
        return Err(Poison::NotAnEvent("`specversion`, `id`, `type` or `sequence` is not one".to_owned()));
    }
    if log.server == own {
        return Ok(Message::Ignored(Ignored::OwnServer));
    }
    if !accept_from.contains(&log.server) {
        return Ok(Message::Ignored(Ignored::NotAccepted));
    }
    if CardChange::of_type(&event.event_type).is_none() {
        return Ok(Message::Ignored(Ignored::OtherType));
    }
    let mut card: Card =
        serde_json::from_str(event.data.get()).map_err(|error| Poison::InvalidCard(error.to_string()))?;
    card.version_by = Some(log.server.into());
    check(&card).map_err(|problem| Poison::InvalidCard(problem.to_owned()))?;
    let Envelope { id, event_type, log, sequence, .. } = event;
    let from = SyncedFrom { log, sequence, id, event_type };
    Ok(Message::Change(Box::new(ForeignCard { card, from })))
}

/// What this server asks of a card that is registered here. Buildings, gates and groups may be another server's.
fn check(card: &Card) -> Result<(), &'static str> {
    let details = &card.details;
    let name_chars = details.holder_name.as_ref().map_or(0, |name| name.chars().count());
    let rights = details.buildings.as_ref().map_or(0, |list| list.len());
    let rights = rights.max(details.gates.as_ref().map_or(0, |list| list.len()));
    let groups = details.groups.as_ref().map_or(0, |list| list.len());
    let is_never_valid =
        details.valid_from.zip(details.valid_until).is_some_and(|(from, until)| from >= until);
    match card {
        card if !(1..=MAX_VERSION).contains(&card.version) => Err("`version` is not from 1 to 2^53 - 2"),
        _ if name_chars > MAX_NAME_CHARS => Err("`holder_name` is too long"),
        _ if rights > MAX_RIGHTS => Err("`buildings` or `gates` are too many"),
        _ if groups > MAX_GROUPS => Err("`groups` are too many"),
        _ if is_never_valid => Err("`valid_until` is not after `valid_from`"),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "card_sync_tests.rs"]
mod tests;
