//! Someone who changes cards all the time, and keeps what the server answered.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site},
    http::Caller,
    random::Random,
};

const CARDS: u64 = 4;
const SERVICE_UNAVAILABLE: u16 = 503;
/// How long to wait before a change is tried again that found no room.
const RETRY_AFTER: Duration = Duration::from_millis(25);

/// The card desk.
pub(super) struct Desk {
    token: String,
    random: Random,
    answered: Vec<Answered>,
    /// Of every card.
    gates: Vec<String>,
}

struct Answered {
    card_id: String,
    version: u64,
    status: String,
}

impl Desk {
    /// With cards for these gates.
    pub(super) fn new(site: &Site, random: &mut Random, gates: Vec<String>) -> Self {
        let random = Random::seeded(random.next());
        Self { token: site.token("hr,security"), random, answered: Vec::new(), gates }
    }

    pub(super) async fn register(&mut self, daemon: &Daemon) {
        for number in 0..CARDS {
            let card = json!({ "employee_id": format!("D{number}"), "gates": self.gates });
            let card =
                daemon.person(&self.token).put(&format!("/v1/cards/D{number}"), &card).await.expect(201);
            self.answered.push(Answered::of(&card));
        }
    }

    pub(super) fn person(&self, daemon: &Daemon) -> Caller {
        daemon.person(&self.token)
    }

    /// Suspends and reinstates cards until the server goes away; what finds no room is tried again.
    pub(super) async fn change_until_refused(&mut self, person: Caller) {
        loop {
            let card_id = format!("D{}", self.random.below(CARDS));
            let action = if self.random.one_in(2) { "suspend" } else { "reinstate" };
            let changed = person.try_post(&format!("/v1/cards/{card_id}/{action}"), &json!({})).await;
            match changed {
                Ok(answer) if answer.status == 200 => self.answered.push(Answered::of(&answer.expect(200))),
                Ok(answer) if answer.status == SERVICE_UNAVAILABLE => tokio::time::sleep(RETRY_AFTER).await,
                _ => return,
            }
        }
    }

    pub(super) fn answers(&self) -> usize {
        self.answered.len()
    }

    /// Each answered change is in the log, and each card's versions have no gap.
    pub(super) fn check(&self, log: &[Value]) {
        let changes: Vec<Answered> = (log.iter())
            .filter(|event| event["type"].as_str().unwrap().starts_with("card."))
            .map(|event| Answered::of(&event["data"]))
            .collect();
        for answered in &self.answered {
            let is_logged = changes.iter().any(|change| change.is_the_same(answered));
            assert!(is_logged, "{} in version {}", answered.card_id, answered.version);
        }
        for number in 0..CARDS {
            let of_card = changes.iter().filter(|change| change.card_id == format!("D{number}"));
            let versions: Vec<u64> = of_card.map(|change| change.version).collect();
            assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
        }
    }

    /// The server has each card as the log has it.
    pub(super) async fn check_cards(&self, daemon: &Daemon, log: &[Value]) {
        for number in 0..CARDS {
            let card = self.person(daemon).get(&format!("/v1/cards/D{number}")).await.expect(200);
            let is_of_card = |event: &&Value| {
                event["type"].as_str().unwrap().starts_with("card.")
                    && event["data"]["card_id"] == card["card_id"]
            };
            let last = log.iter().rfind(is_of_card).unwrap();
            assert!(Answered::of(&card).is_the_same(&Answered::of(&last["data"])), "{card} is not {last}");
        }
    }
}

impl Answered {
    fn of(card: &Value) -> Self {
        Self {
            card_id: card["card_id"].as_str().unwrap().to_owned(),
            version: card["version"].as_u64().unwrap(),
            status: card["status"].as_str().unwrap().to_owned(),
        }
    }

    fn is_the_same(&self, other: &Self) -> bool {
        self.card_id == other.card_id && self.version == other.version && self.status == other.status
    }
}
