//! The people's side of the API: cards, presence, sinks, metrics.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, stream};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;

use super::{
    http::{ask, send},
    people::Employee,
};
use crate::domain::time::Timestamp;

/// Cards that are registered at once.
const CARDS_AT_ONCE: usize = 64;
/// How often the sinks are looked at until they have everything.
const SETTLE_POLL: Duration = Duration::from_millis(50);
/// How long the sinks may take to get everything.
const MAX_SETTLE: Duration = Duration::from_secs(30);

/// Someone with a token.
#[derive(Clone)]
pub(super) struct Office {
    client: Client,
    base: String,
    token: String,
}

/// A sink as `/v1/sinks` shows it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SinkState {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) pending: u64,
    pub(super) dead: u64,
    pub(super) discarded: u64,
}

#[derive(Debug, Deserialize)]
struct Sinks {
    items: Vec<SinkState>,
}

#[derive(Debug, Deserialize)]
struct Presence {
    people: Vec<PersonInside>,
}

#[derive(Debug, Deserialize)]
struct PersonInside {
    employee_id: String,
}

impl Office {
    pub(super) fn new(client: Client, base: String, token: String) -> Self {
        Self { client, base, token }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Registers all cards and does with them what has been done; `each` is called after each card.
    pub(super) async fn register(
        &self,
        people: &[Employee],
        now: Timestamp,
        each: impl Fn(),
    ) -> Result<(), String> {
        let known = people.iter().filter(|person| person.is_registered());
        let cards = known.flat_map(|person| person.cards.iter().map(move |card| (person, card)));
        let mut registered = stream::iter(cards)
            .map(|(person, card)| self.register_card(person, card, now))
            .buffer_unordered(CARDS_AT_ONCE);
        while let Some(registered) = registered.next().await {
            registered?;
            each();
        }
        Ok(())
    }

    async fn register_card(&self, person: &Employee, card: &str, now: Timestamp) -> Result<(), String> {
        let request = self.client.put(format!("{}/v1/cards/{card}", self.base)).bearer_auth(&self.token);
        send(request.body(person.card_details(now).to_string())).await?;
        match person.sanction() {
            Some(sanction) => self.act(card, sanction).await,
            None => Ok(()),
        }
    }

    /// `suspend`, `revoke` or `report-lost`.
    pub(super) async fn act(&self, card: &str, action: &str) -> Result<(), String> {
        let request = self.client.post(format!("{}/v1/cards/{card}/{action}", self.base));
        send(request.bearer_auth(&self.token)).await.map(drop)
    }

    /// The employee ids of everyone inside.
    pub(super) async fn presence(&self, building: &str) -> Result<BTreeSet<String>, String> {
        let request = self.get(&format!("/v1/buildings/{building}/presence"));
        let presence: Presence = ask(request).await?.answer;
        Ok(presence.people.into_iter().map(|person| person.employee_id).collect())
    }

    /// `/metrics`, as text.
    pub(super) async fn metrics(&self) -> Result<String, String> {
        let text = send(self.get("/metrics")).await?.answer;
        String::from_utf8(text).map_err(|error| format!("/metrics is no text: {error}"))
    }

    /// Waits, but not for ever, until every sink has all it accepted and `everything_sink` has accepted
    /// `events`; then, as ever, says how the sinks are.
    pub(super) async fn settled_sinks(
        &self,
        everything_sink: &str,
        events: u64,
    ) -> Result<Vec<SinkState>, String> {
        let deadline = tokio::time::Instant::now() + MAX_SETTLE;
        loop {
            let sinks: Sinks = ask(self.get("/v1/sinks")).await?.answer;
            let is_settled = sinks
                .items
                .iter()
                .all(|sink| sink.pending == 0 && (sink.name != everything_sink || sink.accepted >= events));
            if is_settled || tokio::time::Instant::now() >= deadline {
                return Ok(sinks.items);
            }
            tokio::time::sleep(SETTLE_POLL).await;
        }
    }
}

/// The value of one line of Prometheus text; labels in the order of their names.
pub(super) fn metric(text: &str, series: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    let (whole, _) = value.split_once('.').unwrap_or((value, ""));
    whole.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let text = "# HELP x\nx_total{a=\"1\",b=\"\"} 7\nx_total{a=\"1\",b=\"c\"} 8\ny 12\n";
        assert_eq!(metric(text, "x_total{a=\"1\",b=\"c\"}"), Some(8));
        assert_eq!(metric(text, "x_total{a=\"1\",b=\"\"}"), Some(7));
        assert_eq!((metric(text, "y"), metric(text, "z")), (Some(12), None));
    }
}
