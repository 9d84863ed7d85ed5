//! A turnstile: serves one person at a time over HTTP, and in the evening stands open and reports exits in
//! batches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use uuid::Uuid;

use super::{
    http::{Timed, ask},
    model::Answer,
    setting::{GateKey, Place},
};
use crate::domain::reason::Reason;

/// The most exits that an open gate puts into one batch.
const MAX_BATCH_EXITS: usize = 500;
/// How long an open gate gathers exits before it reports them.
const GATHERING: Duration = Duration::from_millis(150);
/// How many people an open gate keeps waiting for its report. More stand in the queue before it.
const MAX_WAITING_EXITS: usize = 1_024;

/// One gate's device.
#[derive(Debug)]
pub(super) struct Turnstile {
    client: Client,
    /// Of the building.
    url: String,
    gate: GateKey,
    /// Fair: people queue up.
    passage: Mutex<()>,
}

/// The one who stands in the turnstile.
#[derive(Debug)]
pub(super) struct Passage<'t> {
    turnstile: &'t Turnstile,
    _alone: MutexGuard<'t, ()>,
}

/// An answer to an entry.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct EntryAnswer {
    decision: String,
    reason: Option<Reason>,
    violation: Option<Reason>,
    event_id: Uuid,
    sequence: String,
    decided_at: String,
}

/// An answer to an exit. A batch has a problem's fields instead where one exit could not be recorded.
#[derive(Debug, Deserialize)]
pub(super) struct ExitAnswer {
    sequence: String,
}

#[derive(Debug, Deserialize)]
struct BatchAnswer {
    results: Vec<Value>,
}

/// Someone who left through an open gate, and who waits for the sequence of that.
#[derive(Debug)]
pub(super) struct FloodExit {
    pub(super) card: String,
    pub(super) reply: oneshot::Sender<Result<u64, String>>,
}

impl EntryAnswer {
    pub(super) fn sequence(&self) -> Result<u64, String> {
        read_sequence(&self.sequence)
    }

    pub(super) fn answer(&self) -> Result<Answer, String> {
        match (self.decision.as_str(), self.reason) {
            ("granted", None) => Ok(Answer::Granted { violation: self.violation.is_some() }),
            ("denied", Some(reason)) => Ok(Answer::Denied(reason)),
            _ => Err(format!("an answer that is neither granted nor denied for a reason: {self:?}")),
        }
    }
}

impl ExitAnswer {
    pub(super) fn sequence(&self) -> Result<u64, String> {
        read_sequence(&self.sequence)
    }
}

fn read_sequence(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("a sequence that is no number: {text:?}: {error}"))
}

impl Turnstile {
    pub(super) fn new(client: Client, base: &str, place: &Place, gate: &GateKey) -> Self {
        let url = format!("{base}/v1/buildings/{}", place.id);
        Self { client, url, gate: gate.clone(), passage: Mutex::new(()) }
    }

    /// Queues up.
    pub(super) async fn wait(&self) -> Passage<'_> {
        Passage { turnstile: self, _alone: self.passage.lock().await }
    }

    fn post(&self, what: &str, body: &Value) -> RequestBuilder {
        let request = self.client.post(format!("{}/{what}", self.url));
        request.header("x-api-key", &self.gate.key).body(body.to_string())
    }

    /// Reports exits in batches until nobody can come any more, and counts the batches.
    pub(super) async fn stand_open(
        self: Arc<Self>,
        mut leaving: mpsc::Receiver<FloodExit>,
        batches: Arc<AtomicU64>,
    ) {
        while let Some(first) = leaving.recv().await {
            tokio::time::sleep(GATHERING).await;
            let mut exits = vec![first];
            while exits.len() < MAX_BATCH_EXITS
                && let Ok(next) = leaving.try_recv()
            {
                exits.push(next);
            }
            batches.fetch_add(1, Ordering::Relaxed);
            self.report(exits).await;
        }
    }

    async fn report(&self, exits: Vec<FloodExit>) {
        let body: Vec<Value> = exits.iter().map(|exit| self.swipe(&exit.card, Uuid::now_v7())).collect();
        let answer = ask::<BatchAnswer>(self.post("exits/batch", &json!({ "exits": body }))).await;
        let sequences: Vec<Result<u64, String>> = match answer {
            Ok(Timed { answer, .. }) if answer.results.len() == exits.len() => {
                answer.results.into_iter().map(read_result).collect()
            }
            Ok(Timed { answer, .. }) => {
                let error = format!("{} results for a batch of {}", answer.results.len(), exits.len());
                vec![Err(error); exits.len()]
            }
            Err(error) => vec![Err(error); exits.len()],
        };
        for (exit, sequence) in exits.into_iter().zip(sequences) {
            // whoever waited may have given up when the demo ended
            drop(exit.reply.send(sequence));
        }
    }

    fn swipe(&self, card: &str, swipe_id: Uuid) -> Value {
        json!({ "card_id": card, "gate_id": self.gate.id, "swipe_id": swipe_id })
    }
}

fn read_result(result: Value) -> Result<u64, String> {
    match serde_json::from_value::<ExitAnswer>(result.clone()) {
        Ok(answer) => answer.sequence(),
        Err(_) => Err(format!("an exit of a batch was not recorded: {result}")),
    }
}

impl Passage<'_> {
    /// Asks for someone. `swipe_id` names the swipe, so that asking again changes nothing.
    pub(super) async fn enter(&self, card: &str, swipe_id: Uuid) -> Result<Timed<EntryAnswer>, String> {
        ask(self.turnstile.post("entries", &self.turnstile.swipe(card, swipe_id))).await
    }

    /// Lets someone out.
    pub(super) async fn leave(&self, card: &str) -> Result<Timed<ExitAnswer>, String> {
        ask(self.turnstile.post("exits", &self.turnstile.swipe(card, Uuid::now_v7()))).await
    }
}

/// A place in an open gate for everyone who leaves through it.
pub(super) fn open_gate() -> (mpsc::Sender<FloodExit>, mpsc::Receiver<FloodExit>) {
    mpsc::channel(MAX_WAITING_EXITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(decision: &str, rest: Value) -> EntryAnswer {
        let mut whole = json!({ "decision": decision, "event_id": Uuid::nil(), "sequence": "0042",
                                "decided_at": "2026-11-20T08:01:02.345Z" });
        whole.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn answers_are_read() {
        let granted = answer("granted", json!({ "reason": null }));
        assert_eq!(
            (granted.answer(), granted.sequence()),
            (Ok(Answer::Granted { violation: false }), Ok(42))
        );
        let flagged = answer("granted", json!({ "reason": null, "violation": "anti_passback" }));
        assert_eq!(flagged.answer(), Ok(Answer::Granted { violation: true }));
        let denied = answer("denied", json!({ "reason": "lost", "bacnet_code": 143 }));
        assert_eq!(denied.answer(), Ok(Answer::Denied(Reason::Lost)));
        assert!(answer("denied", json!({})).answer().is_err());
    }

    #[test]
    fn an_exit_of_a_batch_that_was_not_recorded_is_a_failure() {
        assert_eq!(read_result(json!({ "event_id": "e", "sequence": "7" })), Ok(7));
        assert!(read_result(json!({ "status": 503, "detail": "full" })).unwrap_err().contains("full"));
    }
}
