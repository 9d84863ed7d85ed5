//! The cards of this server, and what the card office may do with them.

use std::collections::HashMap;

use thiserror::Error;

use super::{
    card::{Card, CardDetails, Status},
    event::{Body, CardChange, CardChanged, Event},
    ids::{CardId, EmployeeId},
};

/// What the card office asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum CardCommand {
    /// Register the card, or change what is said of it.
    Put {
        /// Everything that is to be said of it from now on.
        details: CardDetails,
        /// Only if the card has this version.
        if_version: Option<u64>,
    },
    /// Out of use for a while.
    Suspend,
    /// Back into use.
    Reinstate,
    /// Out of use for good.
    Revoke,
    /// Out of use until found.
    ReportLost,
}

/// Why a card was not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CardRefusal {
    /// No such card.
    #[error("no card {0} is registered; PUT /v1/cards/{0} registers it")]
    Unknown(CardId),
    /// The caller's `If-Match` is of an older state.
    #[error("card {card_id} has version {actual}, not {expected}; read it again and decide anew")]
    Changed {
        /// The card.
        card_id: CardId,
        /// `If-Match`.
        expected: u64,
        /// What it has; 0 if it is not registered.
        actual: u64,
    },
    /// A card is one person's for good.
    #[error("card {card_id} belongs to another employee; revoke it and register a new card instead")]
    OtherEmployee {
        /// The card.
        card_id: CardId,
    },
    /// The change would make the card less restricted than it is, other than by `reinstate`.
    #[error("card {card_id} is {} and cannot be {wanted}", status.as_str())]
    Conflict {
        /// The card.
        card_id: CardId,
        /// What it is.
        status: Status,
        /// What was asked for, as in the sentence above.
        wanted: &'static str,
    },
}

/// All cards, by number and by holder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    cards: HashMap<CardId, Card>,
    by_employee: HashMap<EmployeeId, Vec<CardId>>,
}

impl Directory {
    /// A card as it stands.
    #[must_use]
    pub fn find(&self, card_id: &CardId) -> Option<&Card> {
        self.cards.get(card_id)
    }

    /// Every card, in no order.
    pub fn cards(&self) -> impl ExactSizeIterator<Item = &Card> {
        self.cards.values()
    }

    /// The cards of one person, in the order of their registration.
    pub fn cards_of<'a>(&'a self, employee: &EmployeeId) -> impl Iterator<Item = &'a Card> {
        self.by_employee.get(employee).into_iter().flatten().filter_map(|card_id| self.cards.get(card_id))
    }

    /// What a command changes: the event to record, or `None` if the card is already as asked.
    ///
    /// # Errors
    /// [`CardRefusal`] if the card is unknown, was changed meanwhile, or may not be changed so.
    pub fn decide(
        &self,
        card_id: &CardId,
        command: CardCommand,
        note: Option<String>,
    ) -> Result<Option<Body>, CardRefusal> {
        let found = self.cards.get(card_id);
        let changed = match command {
            CardCommand::Put { details, if_version } => put(card_id, found, details, if_version)?,
            command => set_status(card_id, found, &command)?,
        };
        Ok(changed.map(|(change, card)| Body::Card(CardChanged { change, card, note })))
    }

    /// Takes an event into the state.
    pub fn apply(&mut self, event: &Event) {
        let Body::Card(CardChanged { card, .. }) = &event.body else { return };
        if self.cards.insert(card.card_id.clone(), card.clone()).is_none() {
            self.by_employee.entry(card.details.employee_id.clone()).or_default().push(card.card_id.clone());
        }
    }
}

fn put(
    card_id: &CardId,
    found: Option<&Card>,
    details: CardDetails,
    if_version: Option<u64>,
) -> Result<Option<(CardChange, Card)>, CardRefusal> {
    let version = found.map_or(0, |card| card.version);
    if let Some(expected) = if_version.filter(|&expected| expected != version) {
        return Err(CardRefusal::Changed { card_id: card_id.clone(), expected, actual: version });
    }
    let Some(card) = found else {
        let card = Card { card_id: card_id.clone(), details, status: Status::Active, version: 1 };
        return Ok(Some((CardChange::Registered, card)));
    };
    if card.details.employee_id != details.employee_id {
        return Err(CardRefusal::OtherEmployee { card_id: card_id.clone() });
    }
    if card.details == details {
        return Ok(None);
    }
    if card.status == Status::Revoked {
        return Err(conflict(card, "changed"));
    }
    Ok(Some((CardChange::Updated, Card { details, version: card.version + 1, ..card.clone() })))
}

fn set_status(
    card_id: &CardId,
    found: Option<&Card>,
    command: &CardCommand,
) -> Result<Option<(CardChange, Card)>, CardRefusal> {
    let card = found.ok_or_else(|| CardRefusal::Unknown(card_id.clone()))?;
    let (change, status, wanted) = match command {
        CardCommand::Suspend => (CardChange::Suspended, Status::Suspended, "suspended"),
        CardCommand::ReportLost => (CardChange::Lost, Status::Lost, "reported lost"),
        CardCommand::Revoke => (CardChange::Revoked, Status::Revoked, "revoked"),
        CardCommand::Reinstate | CardCommand::Put { .. } => {
            (CardChange::Reinstated, Status::Active, "reinstated")
        }
    };
    let final_state = card.status == Status::Revoked;
    let loosens = status < card.status && change != CardChange::Reinstated;
    match card.status {
        now if now == status => Ok(None),
        _ if final_state || loosens => Err(conflict(card, wanted)),
        _ => Ok(Some((change, Card { status, version: card.version + 1, ..card.clone() }))),
    }
}

fn conflict(card: &Card, wanted: &'static str) -> CardRefusal {
    CardRefusal::Conflict { card_id: card.card_id.clone(), status: card.status, wanted }
}
