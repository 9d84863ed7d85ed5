use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::domain::{
    directory::{CardCommand, Directory},
    event::{Body, Event},
    event_json::{decode, encode},
    ids::{CardId, EmployeeId},
    time::Timestamp,
};

const OWN: &str = "hq-1";

fn card(version: u64, status: Status, by: Option<&str>, employee: &str) -> Card {
    let mut card: Card = serde_json::from_value(json!({
        "card_id": "C1", "employee_id": employee, "status": status.as_str(), "version": version
    }))
    .unwrap();
    card.version_by = by.map(Into::into);
    card
}

/// What two states come to, at a server that made neither.
fn join(one: Card, other: Card) -> Card {
    merge(Some(&one), other, "").unwrap_or(one)
}

fn any_card() -> impl Strategy<Value = Card> {
    let status = prop::sample::select(vec![Status::Active, Status::Suspended, Status::Lost, Status::Revoked]);
    (1..4_u64, status, prop::sample::select(vec!["a", "b", "c"]), 0..2_u8)
        .prop_map(|(version, status, by, who)| card(version, status, Some(by), &format!("E{who}")))
}

#[test]
fn version_then_status_then_server_and_revoked_is_final() {
    let wins = |heard: Card, known: Card| merge(Some(&known), heard, OWN).is_some();
    let (active, lost) = (Status::Active, Status::Lost);
    assert!(wins(card(2, active, Some("a"), "E"), card(1, lost, None, "E")));
    assert!(!wins(card(1, lost, Some("z"), "E"), card(2, active, None, "E")));
    assert!(wins(card(2, lost, Some("a"), "E"), card(2, active, None, "E")));
    assert!(wins(card(2, active, Some("hq-2"), "E"), card(2, active, None, "E")));
    assert!(
        !wins(card(2, active, Some("annex-1"), "E"), card(2, active, None, "E")),
        "hq-1 is the higher id"
    );
    assert!(wins(card(1, Status::Revoked, Some("a"), "E"), card(9, active, None, "E")));
    assert!(!wins(card(9, active, Some("a"), "E"), card(1, Status::Revoked, None, "E")));
    assert!(!wins(card(2, active, Some(OWN), "E"), card(2, active, None, "E")), "the same");
    assert!(merge(None, card(1, active, Some("a"), "E"), OWN).is_some());
}

#[test]
fn a_name_that_is_missing_erases_none() {
    let named = |mut card: Card, name: &str| {
        card.details.holder_name = Some(name.into());
        card
    };
    let known = named(card(1, Status::Active, None, "E1"), "Ada");
    let name = |heard: Card| merge(Some(&known), heard, OWN).unwrap().details.holder_name;
    assert_eq!(name(card(2, Status::Lost, Some("a"), "E1")).as_deref(), Some("Ada"));
    assert_eq!(name(named(card(2, Status::Lost, Some("a"), "E1"), "Eve")).as_deref(), Some("Eve"));
    assert_eq!(name(card(2, Status::Active, Some("a"), "E2")), None, "another person's card now");
}

#[test]
fn only_from_a_known_card_something_is_taken_away() {
    let takes_away = |status: Status, known: Option<Status>| {
        let Ok(Message::Change(foreign)) = with(|event| event["data"]["status"] = json!(status)) else {
            panic!("a change")
        };
        foreign.takes_away_from(known.map(|known| card(1, known, None, "E1")).as_ref())
    };
    assert!(
        takes_away(Status::Revoked, Some(Status::Active))
            && takes_away(Status::Lost, Some(Status::Suspended))
    );
    assert!(!takes_away(Status::Active, Some(Status::Lost)) && !takes_away(Status::Lost, Some(Status::Lost)));
    for status in [Status::Active, Status::Suspended, Status::Lost, Status::Revoked] {
        assert!(!takes_away(status, None), "{status:?}");
    }
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(a in any_card(), b in any_card(), c in any_card()) {
        prop_assert_eq!(join(a.clone(), b.clone()), join(b.clone(), a.clone()));
        prop_assert_eq!(join(join(a.clone(), b.clone()), c.clone()), join(a.clone(), join(b.clone(), c)));
        prop_assert_eq!(join(a.clone(), a.clone()), a.clone());
        let both = join(a.clone(), b.clone());
        prop_assert_eq!(merge(Some(&both), a, ""), None, "a repeat changes nothing");
    }

    #[test]
    fn noise_is_poison_and_never_a_panic(noise in ".{0,80}", json in "[{}\\[\\]:,\"a1]{0,40}") {
        for body in [noise, json] {
            prop_assert!(read(&body, &["a".to_owned()], OWN).is_err());
        }
    }
}

fn event() -> Value {
    json!({ "specversion": "1.0", "id": "019a", "source": "/servers/annex-1", "type": "card.lost", "subject": "card/C1",
        "log": "annex-1.7", "time": "2026-11-20T08:01:02.345Z", "sequence": "00000000000000000042",
        "data": { "card_id": "C1", "employee_id": "E1", "status": "lost", "version": 3, "by": "person/x", "new": 1,
            "version_by": "someone" } })
}

fn heard(event: &Value) -> Result<Message, Poison> {
    read(&event.to_string(), &["annex-1".to_owned(), "hr".to_owned()], OWN)
}

fn with(change: impl FnOnce(&mut Value)) -> Result<Message, Poison> {
    let mut event = event();
    change(&mut event);
    heard(&event)
}

#[test]
fn a_change_is_read_plain_or_in_the_envelope_of_sns() {
    let Ok(Message::Change(plain)) = heard(&event()) else { panic!("a change") };
    assert_eq!(plain.card, card(3, Status::Lost, Some("annex-1"), "E1"), "by the server whose log it is");
    let from = SyncedFrom {
        log: "annex-1.7".to_owned(),
        sequence: "00000000000000000042".to_owned(),
        id: "019a".to_owned(),
        event_type: "card.lost".to_owned(),
    };
    assert_eq!((&plain.from, plain.from_server()), (&from, "annex-1"));
    let wrapped =
        json!({ "Type": "Notification", "MessageId": "m", "TopicArn": "t", "Message": event().to_string() });
    assert_eq!(heard(&wrapped), Ok(Message::Change(plain)));
}

#[test]
fn what_is_not_for_this_server_is_ignored() {
    let ignored = |reason| Ok(Message::Ignored(reason));
    assert_eq!(with(|event| event["log"] = json!("hq-1.3")), ignored(Ignored::OwnServer));
    assert_eq!(with(|event| event["log"] = json!("elsewhere.3")), ignored(Ignored::NotAccepted));
    for other in ["access.entry.granted", "sync.card.applied", "card.painted"] {
        assert_eq!(with(|event| event["type"] = json!(other)), ignored(Ignored::OtherType), "{other}");
    }
}

#[test]
fn what_can_never_be_read_is_poison() {
    let kind = |message: Result<Message, Poison>| message.unwrap_err().kind();
    assert_eq!(kind(read("{", &[], OWN)), "not_json");
    assert_eq!(kind(read("[]", &[], OWN)), "not_an_event");
    assert_eq!(
        kind(read(&json!({ "Type": "Notification", "Message": "hello" }).to_string(), &[], OWN)),
        "not_json"
    );
    assert_eq!(kind(with(|event| event["specversion"] = json!("0.3"))), "not_an_event");
    assert_eq!(kind(with(|event| event["log"] = json!("annex-1"))), "not_an_event");
    assert_eq!(kind(with(|event| event["id"] = json!("x".repeat(300)))), "not_an_event");
    for (member, value) in [
        ("card_id", json!("a b")),
        ("status", json!("broken")),
        ("version", json!(0)),
        ("version", json!(MAX_VERSION + 1)),
        ("version", json!(u64::MAX)),
        ("employee_id", Value::Null),
        ("holder_name", json!("x".repeat(201))),
        ("buildings", json!(vec!["b"; 257])),
    ] {
        assert_eq!(
            kind(with(|event| event["data"][member] = value.clone())),
            "invalid_card",
            "{member} {value}"
        );
    }
    let never = |event: &mut Value| {
        event["data"]["valid_from"] = json!("2026-11-20T08:00:00Z");
        event["data"]["valid_until"] = json!("2026-11-20T08:00:00Z");
    };
    assert_eq!(kind(with(never)), "invalid_card");
    assert_eq!(kind(with(|event| event["data"]["note"] = json!("x".repeat(MAX_EVENT_BYTES)))), "too_large");
    assert_eq!(kind(read(&" ".repeat(MAX_MESSAGE_BYTES + 1), &[], OWN)), "too_large");
}

/// A server: what it knows, and every event of its log.
struct Server {
    log: LogName,
    directory: Directory,
    events: Vec<Event>,
}

impl Server {
    fn new(number: usize) -> Self {
        let log = LogName { server: format!("s{number}"), epoch: 1 };
        Self { log, directory: Directory::default(), events: Vec::new() }
    }

    fn record(&mut self, body: Body) -> String {
        let sequence = self.events.len() as u64 + 1;
        let event = Event {
            id: Uuid::from_u64_pair(1, sequence),
            sequence,
            time: Timestamp::from_millis(0),
            by: String::new(),
            traceparent: None,
            body,
        };
        let record = encode(&event, &self.log).unwrap();
        assert_eq!(decode(&record).unwrap(), event);
        self.directory.apply(&event);
        self.events.push(event);
        String::from_utf8(record.json().to_vec()).unwrap()
    }

    fn command(&mut self, card_id: &CardId, command: CardCommand) -> Option<String> {
        let body = self.directory.decide(card_id, command, None).ok()??;
        Some(self.record(body))
    }

    /// Whether it changed anything.
    fn hear(&mut self, message: &str) -> bool {
        let accept_from = ["s0", "s1", "s2", "s3"].map(str::to_owned);
        let Message::Change(foreign) = read(message, &accept_from, &self.log.server).unwrap() else {
            return false;
        };
        let heard = self.directory.hear(*foreign, &self.log.server);
        heard.map(|body| self.record(body)).is_some()
    }

    /// Every card with the server that made its version.
    fn cards(&self) -> BTreeMap<CardId, Card> {
        let by = |card: &Card| card.version_by.clone().unwrap_or_else(|| self.log.server.as_str().into());
        let named = |card: &Card| Card { version_by: Some(by(card)), ..card.clone() };
        self.directory.cards_after(None).map(|card| (card.card_id.clone(), named(card))).collect()
    }
}

fn command(kind: u8, who: u8) -> CardCommand {
    match kind {
        0 => CardCommand::Suspend,
        1 => CardCommand::Reinstate,
        2 => CardCommand::ReportLost,
        3 => CardCommand::Revoke,
        kind => {
            let buildings = &["hq", "annex"][..usize::from(kind % 3)];
            let details = json!({ "employee_id": format!("E{who}"), "responder": kind % 2 == 0, "buildings": buildings });
            CardCommand::Put { details: serde_json::from_value(details).unwrap(), expected: None }
        }
    }
}

/// Whatever a server says is read by the others, and counts there: also of a card whose version is the last one.
#[test]
fn no_server_makes_a_version_that_others_cannot_read() {
    assert!(with(|event| event["data"]["version"] = json!(MAX_VERSION)).is_ok());
    for (kind, version) in (0..6).flat_map(|kind| [(kind, MAX_VERSION - 1), (kind, MAX_VERSION)]) {
        for status in [Status::Active, Status::Suspended, Status::Lost] {
            let [mut low, mut high] = [0, 9].map(Server::new);
            let known = card(version, status, Some("s3"), "E0");
            low.directory.insert(known.clone());
            high.directory.insert(known.clone());
            let said = low.command(&known.card_id, command(kind, 0));
            if version == MAX_VERSION && said.is_some() {
                assert!(low.directory.find(&known.card_id).unwrap().status > status, "{kind} {status:?}");
            }
            assert!(said.iter().all(|said| high.hear(said)), "{kind} {version} {status:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    /// Commands at several servers, with messages that come late, out of order and again and again meanwhile.
    #[test]
    fn servers_that_hear_everything_know_the_same(
        count in 2..=4_usize,
        steps in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, 0..12_u8, 0..2_u8, any::<prop::sample::Index>()), 1..60),
        seed in any::<u64>(),
    ) {
        let mut servers: Vec<Server> = (0..count).map(Server::new).collect();
        let mut messages: Vec<String> = Vec::new();
        for (at, card, kind, who, message) in steps {
            let server = at.get_mut(&mut servers);
            if kind < 8 {
                messages.extend(server.command(&CardId::parse(&format!("C{card}")).unwrap(), command(kind, who)));
            } else if !messages.is_empty() {
                let message: &String = message.get(&messages);
                server.hear(message);
            }
        }
        // everything comes once more, to each in an order of its own
        let published = messages.len();
        for (number, server) in servers.iter_mut().enumerate() {
            let mut order: Vec<usize> = (0..messages.len()).collect();
            order.sort_by_key(|place| (*place as u64 + 1).wrapping_mul(seed.rotate_left(number as u32) | 1));
            order.iter().for_each(|place| {
                server.hear(&messages[*place]);
            });
            prop_assert!(server.events.len() <= published, "a change is at most one event of each server");
            prop_assert!(!messages.iter().any(|message| server.hear(message)), "nothing is left to say");
        }
        let cards = servers[0].cards();
        for server in &servers {
            prop_assert_eq!(&server.cards(), &cards);
            // and it is the fold of its own log
            let mut folded = Directory::default();
            server.events.iter().for_each(|event| folded.apply(event));
            prop_assert_eq!(&folded, &server.directory);
            for employee in ["E0", "E1"].map(|id| EmployeeId::parse(id).unwrap()) {
                let listed = server.directory.cards_of(&employee).count();
                prop_assert_eq!(listed, cards.values().filter(|card| card.details.employee_id == employee).count());
            }
        }
        // revoked somewhere is revoked everywhere
        for event in servers.iter().flat_map(|server| &server.events) {
            if let Body::Card(changed) = &event.body && changed.card.status == Status::Revoked {
                prop_assert_eq!(cards[&changed.card.card_id].status, Status::Revoked);
            }
        }
    }
}
