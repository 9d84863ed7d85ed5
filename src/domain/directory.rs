//! The cards of this server, and what the card office may do with them.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::Arc,
};

use thiserror::Error;

use super::{
    card::{Card, CardDetails, CardVersion, Status},
    card_sync::{CardSynced, ForeignCard, MAX_VERSION, merge},
    event::{Body, CardChange, CardChanged, Event},
    ids::{CardId, EmployeeId},
    sorted_cards::SortedCards,
};

/// What the card office asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum CardCommand {
    /// Register the card, or change what is said of it.
    Put {
        /// Everything that is to be said of it from now on.
        details: CardDetails,
        /// Only if the card is as the caller takes it to be.
        expected: Option<Expected>,
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

/// What the caller takes a card to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Registered, in whatever version.
    Registered,
    /// In this version.
    Version(CardVersion),
}

/// Why a card was not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CardRefusal {
    /// No such card.
    #[error("no card {0} is registered; PUT /v1/cards/{0} registers it")]
    Unknown(CardId),
    /// The caller's `If-Match` is of an older state.
    #[error(
        "card {card_id} has version {actual} (0: not registered), which is not what If-Match says; read it again and decide anew"
    )]
    Changed {
        /// The card.
        card_id: CardId,
        /// What it has; 0 if it is not registered.
        actual: CardVersion,
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
    /// [`MAX_VERSION`]: nobody would hear of the next one.
    #[error(
        "card {card_id} has the highest version there is: it can be suspended, reported lost and revoked, and not be changed; revoke it and register a new card instead"
    )]
    LastVersion {
        /// The card.
        card_id: CardId,
    },
}

/// All cards, by number and by holder. Made for a million: a card is held once, in one piece of memory, and found in
/// three ways that cost a pointer each.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    cards: HashSet<ById>,
    /// By card id.
    in_order: SortedCards,
    /// By employee, then card id.
    by_employee: SortedCards,
}

/// A card that is found by its id.
#[derive(Clone, Debug)]
struct ById(Arc<Card>);

impl Borrow<CardId> for ById {
    fn borrow(&self) -> &CardId {
        &self.0.card_id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.card_id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.card_id == other.0.card_id
    }
}

impl Eq for ById {}

impl PartialEq for Directory {
    fn eq(&self, other: &Self) -> bool {
        self.cards_after(None).eq(other.cards_after(None))
    }
}

impl Directory {
    /// A card as it stands.
    #[must_use]
    pub fn find(&self, card_id: &CardId) -> Option<&Card> {
        self.cards.get(card_id).map(|found| &*found.0)
    }

    /// How many cards there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cards.len()
    }

    /// Whether there is no card.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cards.is_empty()
    }

    /// The cards after one, in the order of their ids.
    pub fn cards_after<'a>(&'a self, after: Option<&CardId>) -> impl Iterator<Item = &'a Card> + use<'a> {
        self.in_order.from(&|card| after.is_some_and(|after| card.card_id <= *after))
    }

    /// The cards of one person, in the order of their ids.
    pub fn cards_of<'a>(&'a self, employee: &'a EmployeeId) -> impl Iterator<Item = &'a Card> {
        let from = self.by_employee.from(&|card| card.details.employee_id < *employee);
        from.take_while(move |card| card.details.employee_id == *employee)
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
        let found = self.find(card_id);
        let changed = match command {
            CardCommand::Put { details, expected } => put(card_id, found, details, expected)?,
            command => set_status(card_id, found, &command)?,
        };
        Ok(changed.map(|(change, card)| Body::Card(CardChanged { change, card, note })))
    }

    /// What the word of another server changes: the event to record, or `None` if what is known counts more.
    #[must_use]
    pub fn hear(&self, foreign: ForeignCard, own: &str) -> Option<Body> {
        let ForeignCard { card, from } = foreign;
        let card = merge(self.find(&card.card_id), card, own)?;
        Some(Body::CardSynced(Box::new(CardSynced { card, from })))
    }

    /// Takes an event into the state.
    pub fn apply(&mut self, event: &Event) {
        match &event.body {
            Body::Card(CardChanged { card, .. }) => self.insert(card.clone()),
            Body::CardSynced(synced) => self.insert(synced.card.clone()),
            _ => {}
        }
    }

    /// Takes a card as it stands, in place of what was known of it.
    pub fn insert(&mut self, card: Card) {
        let card = Arc::new(card);
        if let Some(ById(known)) = self.cards.get(&card.card_id)
            && known.details.employee_id != card.details.employee_id
        {
            // only by word of another server
            self.by_employee.remove(&known.card_id, &|other| holder_and_id(other) < holder_and_id(known));
        }
        self.in_order.put(Arc::clone(&card), &|other| other.card_id < card.card_id);
        self.by_employee.put(Arc::clone(&card), &|other| holder_and_id(other) < holder_and_id(&card));
        self.cards.replace(ById(card));
    }
}

fn holder_and_id(card: &Card) -> (&EmployeeId, &CardId) {
    (&card.details.employee_id, &card.card_id)
}

fn put(
    card_id: &CardId,
    found: Option<&Card>,
    details: CardDetails,
    expected: Option<Expected>,
) -> Result<Option<(CardChange, Card)>, CardRefusal> {
    let actual = found.map_or(CardVersion { number: 0, by: None }, Card::made_version);
    let is_as_expected = match expected {
        None => true,
        Some(Expected::Registered) => found.is_some(),
        Some(Expected::Version(version)) => version == actual,
    };
    if !is_as_expected {
        return Err(CardRefusal::Changed { card_id: card_id.clone(), actual });
    }
    let Some(card) = found else {
        let (card_id, status) = (card_id.clone(), Status::Active);
        let card = Card { card_id, details, status, version: 1, version_by: None };
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
    must_have_next_version(card)?;
    Ok(Some((CardChange::Updated, Card { details, ..next_version(card) })))
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
        now if now == status => return Ok(None),
        _ if final_state || loosens => return Err(conflict(card, wanted)),
        now if status < now => must_have_next_version(card)?,
        _ => {}
    }
    Ok(Some((change, Card { status, ..next_version(card) })))
}

/// The card with the version that this server is about to make.
fn next_version(card: &Card) -> Card {
    Card { version: card.version.saturating_add(1).min(MAX_VERSION), version_by: None, ..card.clone() }
}

/// With the same version again only what takes away counts at other servers.
fn must_have_next_version(card: &Card) -> Result<(), CardRefusal> {
    if card.version < MAX_VERSION {
        return Ok(());
    }
    Err(CardRefusal::LastVersion { card_id: card.card_id.clone() })
}

fn conflict(card: &Card, wanted: &'static str) -> CardRefusal {
    CardRefusal::Conflict { card_id: card.card_id.clone(), status: card.status, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn details(employee: &str) -> CardDetails {
        serde_json::from_value(serde_json::json!({ "employee_id": employee })).unwrap()
    }

    fn id(text: &str) -> CardId {
        CardId::parse(text).unwrap()
    }

    fn decide(
        directory: &mut Directory,
        card: &str,
        command: CardCommand,
    ) -> Result<Option<u64>, CardRefusal> {
        let Some(body) = directory.decide(&id(card), command, None)? else { return Ok(None) };
        let Body::Card(changed) = &body else { panic!("a card command changes a card") };
        let version = changed.card.version;
        let (id, time) = (uuid::Uuid::from_u64_pair(1, version), Timestamp::from_millis(0));
        directory.apply(&Event { id, sequence: version, time, by: String::new(), traceparent: None, body });
        Ok(Some(version))
    }

    fn put(employee: &str, if_version: Option<u64>) -> CardCommand {
        let expected = if_version.map(|number| Expected::Version(CardVersion { number, by: None }));
        CardCommand::Put { details: details(employee), expected }
    }

    #[test]
    fn a_change_counts_up_the_version_and_no_change_does_not() {
        let mut directory = Directory::default();
        assert_eq!(decide(&mut directory, "C1", put("E1", None)), Ok(Some(1)));
        assert_eq!(decide(&mut directory, "C1", put("E1", None)), Ok(None));
        assert_eq!(decide(&mut directory, "C1", CardCommand::Suspend), Ok(Some(2)));
        assert_eq!(decide(&mut directory, "C1", CardCommand::Suspend), Ok(None));
        assert!(matches!(
            decide(&mut directory, "C1", put("E1", Some(1))),
            Err(CardRefusal::Changed { actual: CardVersion { number: 2, by: None }, .. })
        ));
        assert!(matches!(
            decide(&mut directory, "C1", put("E2", None)),
            Err(CardRefusal::OtherEmployee { .. })
        ));
        assert!(matches!(
            decide(&mut directory, "C2", put("E1", Some(1))),
            Err(CardRefusal::Changed { actual: CardVersion { number: 0, .. }, .. })
        ));
        assert!(matches!(decide(&mut directory, "C2", CardCommand::Revoke), Err(CardRefusal::Unknown(_))));
        let if_there = CardCommand::Put { details: details("E1"), expected: Some(Expected::Registered) };
        assert!(matches!(
            decide(&mut directory, "C2", if_there.clone()),
            Err(CardRefusal::Changed { actual: CardVersion { number: 0, .. }, .. })
        ));
        assert_eq!(decide(&mut directory, "C1", if_there), Ok(None));
    }

    #[test]
    fn the_same_version_of_another_server_is_another_one() {
        let mut directory = Directory::default();
        decide(&mut directory, "C1", put("E1", None)).unwrap();
        let known = directory.find(&id("C1")).cloned().unwrap();
        directory.insert(Card { version_by: Some("hq-2".into()), ..known });
        let change = |if_match: &str| {
            let details = CardDetails { responder: true, ..details("E1") };
            CardCommand::Put { details, expected: Some(Expected::Version(if_match.parse().unwrap())) }
        };
        for other in ["1", "1-hq-3", "2-hq-2"] {
            let refused = decide(&mut directory, "C1", change(other)).unwrap_err().to_string();
            assert!(refused.contains("has version 1-hq-2 "), "{refused}");
        }
        assert_eq!(decide(&mut directory, "C1", change("1-hq-2")), Ok(Some(2)));
        assert!(decide(&mut directory, "C1", change("2-hq-2")).is_err(), "that one is this server's");
        assert_eq!(decide(&mut directory, "C1", change("2")), Ok(None));
    }

    #[test]
    fn only_reinstating_loosens_and_revoked_is_final() {
        let mut directory = Directory::default();
        decide(&mut directory, "C1", put("E1", None)).unwrap();
        decide(&mut directory, "C1", CardCommand::ReportLost).unwrap();
        assert!(matches!(
            decide(&mut directory, "C1", CardCommand::Suspend),
            Err(CardRefusal::Conflict { .. })
        ));
        assert_eq!(decide(&mut directory, "C1", CardCommand::Reinstate), Ok(Some(3)));
        assert_eq!(decide(&mut directory, "C1", CardCommand::Revoke), Ok(Some(4)));
        for command in [CardCommand::Reinstate, CardCommand::Suspend, CardCommand::ReportLost] {
            assert!(matches!(decide(&mut directory, "C1", command), Err(CardRefusal::Conflict { .. })));
        }
    }

    #[test]
    fn cards_are_listed_in_order_and_by_holder() {
        let mut directory = Directory::default();
        for (card, employee) in [("C3", "E1"), ("C1", "E2"), ("C2", "E1")] {
            decide(&mut directory, card, put(employee, None)).unwrap();
        }
        let ids = |cards: Vec<&Card>| cards.iter().map(|card| card.card_id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(directory.cards_after(None).collect()), ["C1", "C2", "C3"]);
        assert_eq!(ids(directory.cards_after(Some(&id("C1"))).collect()), ["C2", "C3"]);
        assert_eq!(ids(directory.cards_of(&EmployeeId::parse("E1").unwrap()).collect()), ["C2", "C3"]);
    }
}
