//! The `http` sink: signed requests, each event alone, in order per holder.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use turnstiled::{
    delivery::outcome::{Outcome, TroubleKind},
    sinks::{SinkSettings, http::HttpSettings, open},
};

use crate::{
    daemon::{FILE_SINK, Site, TWO_BUILDINGS},
    fake_service::{Reply, Request, serve_requests},
    sinks::{assert_ordered_by_key, settled, sinks_by_name},
    sinks_moto::{entry, retry_kinds},
};

/// 32 bytes of the test's own.
const KEY: [u8; 32] = [7; 32];
/// Events of this card are what the receiver cannot use.
const POISON: &str = "POISON";
const EXITS: usize = 40;
const POISONED_AT: usize = 11;

pub(crate) fn secret() -> String {
    format!("whsec_{}", STANDARD.encode(KEY))
}

fn reply(status: u16, headers: &[&str]) -> Reply {
    let headers = headers.iter().map(|header| (*header).to_owned()).collect();
    Reply { status, headers, body: "because".to_owned() }
}

async fn sent(url: &str) -> Outcome {
    let settings = HttpSettings { url: url.to_owned(), secret: secret().parse().unwrap() };
    let sink = open("hook", &SinkSettings::Http(settings)).await.unwrap();
    let mut outcomes = sink.send(vec![entry("E1", 1)]).await;
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

/// What a receiver does first: the signature, and that the request is fresh.
#[track_caller]
pub(crate) fn verify(request: &Request) {
    let (id, timestamp) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
    mac.update(format!("{id}.{timestamp}.{}", request.body).as_bytes());
    let signature = request.header("webhook-signature").strip_prefix("v1,").unwrap();
    mac.verify_slice(&STANDARD.decode(signature).unwrap()).unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(timestamp.parse().unwrap());
    assert!(SystemTime::now().duration_since(at).unwrap() < Duration::from_secs(300));
    let event: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(event["id"], id);
}

#[tokio::test]
async fn a_receivers_answers_are_told_apart() {
    let answered = async |status: u16, headers: &'static [&'static str]| {
        sent(&serve_requests(move |_| reply(status, headers))).await
    };
    assert_eq!(answered(204, &[]).await, Outcome::Delivered);
    for (status, kind) in [
        (429, TroubleKind::Throttled),
        (503, TroubleKind::Transient),
        (401, TroubleKind::Hold),
        (404, TroubleKind::Hold),
        (410, TroubleKind::Hold),
    ] {
        assert_eq!(retry_kinds(&[answered(status, &[]).await]), [kind], "{status}");
    }
    // another place is for an operator to write down, not for a receiver
    let moved = answered(307, &["location: http://127.0.0.1:9/elsewhere"]).await;
    assert_eq!(retry_kinds(&[moved]), [TroubleKind::Hold]);
    let Outcome::Rejected(trouble) = answered(422, &[]).await else { panic!("not rejected") };
    assert_eq!((trouble.code.as_str(), trouble.text.as_str()), ("Http422", "because"));
    let Outcome::Retry(trouble) = answered(503, &["retry-after: 7"]).await else { panic!("not retried") };
    assert_eq!(trouble.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_receiver_that_is_away_is_an_outage() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(retry_kinds(&[sent(&format!("http://127.0.0.1:{port}/")).await]), [TroubleKind::Transient]);
}

#[tokio::test]
async fn each_event_arrives_once_signed_and_in_order() {
    let attempts: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let (tried, took) = (Arc::clone(&attempts), Arc::clone(&taken));
    let url = serve_requests(move |request| {
        assert_eq!(request.line, "POST /turnstiles?key=1");
        assert_eq!(request.header("content-type"), "application/cloudevents+json; charset=utf-8");
        verify(request);
        let mut tried = tried.lock().unwrap();
        let attempts = tried.entry(request.header("webhook-id").to_owned()).or_default();
        *attempts += 1;
        match *attempts {
            _ if request.body.contains(POISON) => reply(400, &[]),
            1 => reply(503, &["retry-after: 0"]),
            _ => {
                took.lock().unwrap().push(request.body.clone());
                reply(202, &[])
            }
        }
    });
    let sinks = format!(
        r#"
        [sinks.hook]
        type = "http"
        url = "{url}/turnstiles?key=1"
        secret = "${{HOOK_SECRET:-{}}}"
        [[routes]]
        name = "hook"
        types = ["access.**"]
        to = ["hook"]
        "#,
        secret()
    );
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{sinks}"));
    let daemon = site.start();
    let card_id = |place| if place == POISONED_AT { POISON.to_owned() } else { format!("C{}", place % 8) };
    let exits: Vec<Value> =
        (0..EXITS).map(|place| json!({ "card_id": card_id(place), "gate_id": "north-1" })).collect();
    let gate = daemon.device(&site.key("hq"));
    gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);

    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &[("hook", EXITS as u64)]).await;
    let taken = taken.lock().unwrap().clone();
    assert_eq!(taken.len(), EXITS - 1);
    assert_ordered_by_key(&taken);
    let attempts = attempts.lock().unwrap().clone();
    assert_eq!(attempts.len(), EXITS);
    assert_eq!(attempts.values().sum::<usize>(), 2 * (EXITS - 1) + 1, "{attempts:?}");
    let hook = &sinks_by_name(&admin).await["hook"];
    assert_eq!((&hook["dead"], &hook["delivered"]), (&json!(1), &json!(EXITS - 1)));
    assert!(!hook.to_string().contains("whsec_"));
}
