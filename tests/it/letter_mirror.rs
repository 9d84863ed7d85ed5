//! `[dead_letters] queue_url`: a copy of each dead letter, which nothing waits for.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    aws::{ACCOUNT, create_queue, drain},
    daemon::Daemon,
    dead_letters::{REDRIVE, discard},
    moody_queue::{Mood, Service, Taken, moody_queue, queue_site_with},
    moto::Moto,
    sinks::{metrics_conserve, settled, sinks_by_name},
    wait::eventually,
};

const LETTERS: usize = 23;

async fn metric(daemon: &Daemon, name: &str) -> u64 {
    metrics_conserve(daemon, &["queue"]).await[name]
}

fn mirrored(taken: &Taken) -> Vec<Value> {
    taken.lock().unwrap().iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[tokio::test]
async fn a_mirror_that_is_away_delays_nothing_and_gets_everything_later() {
    let (mood, mirror, copies) = (Mood::default(), Mood::default(), Taken::default());
    *mirror.lock().unwrap() = Service::Away;
    let asked = Taken::default();
    let mirror_url = moody_queue(Arc::clone(&copies), Arc::clone(&asked), Arc::clone(&mirror));
    let queue_url = moody_queue(Taken::default(), Taken::default(), Arc::clone(&mood));
    let config = format!(
        "[dead_letters]\nqueue_url = \"{mirror_url}/{ACCOUNT}/dlq\"\nendpoint_url = \"{mirror_url}\"\n"
    );
    let site = queue_site_with(&queue_url, &config);
    let mut daemon = site.start();
    let (token, key) = (site.token("admin"), site.key("hq"));
    for exit in 0..LETTERS {
        let body = json!({ "card_id": format!("CARD{exit}"), "gate_id": "north-1" });
        daemon.device(&key).post("/v1/buildings/hq/exits", &body).await.expect(202);
    }
    // all are dead, and nothing waits, though the mirror has none
    settled(&daemon.person(&token), &[("queue", LETTERS as u64)]).await;
    let sink = sinks_by_name(&daemon.person(&token)).await["queue"].clone();
    assert_eq!((&sink["dead_letters"], &sink["state"]), (&json!(LETTERS), &json!("healthy")));
    eventually("the mirror is tried", async || (!asked.lock().unwrap().is_empty()).then_some(())).await;
    eventually("what it has not got is counted", async || {
        (metric(&daemon, "dead_letters_to_mirror").await == LETTERS as u64).then_some(())
    })
    .await;
    daemon.kill();

    // it comes back, and says that it never takes one of them
    let letters_of = |daemon: &Daemon| daemon.person(&token);
    *mirror.lock().unwrap() = Service::RefusesOnly("CARD5");
    let daemon = site.start();
    eventually("the mirror has the others", async || {
        let left = metric(&daemon, "dead_letters_to_mirror").await;
        (mirrored(&copies).len() == LETTERS - 1 && left == 0).then_some(())
    })
    .await;
    assert_eq!(metric(&daemon, "dead_letters_not_mirrored_total").await, 1);
    let letters = letters_of(&daemon).get("/v1/dead-letters").await.expect(200)["items"].clone();
    let letters = letters.as_array().unwrap();
    assert_eq!(letters.len(), LETTERS, "a mirror takes nothing away");
    for copy in mirrored(&copies) {
        assert!(letters.contains(&copy), "{copy}");
    }

    // one that is refused again is mirrored again, with its new story; one that is thrown away is not
    let id = letters[0]["id"].clone();
    letters_of(&daemon).post(REDRIVE, &json!({ "ids": [id] })).await.expect(202);
    let again =
        eventually("it is mirrored again", async || mirrored(&copies).get(LETTERS - 1).cloned()).await;
    assert_eq!((&again["id"], &again["attempts"]), (&id, &json!(2)));
    let other = letters[1]["id"].as_str().unwrap();
    let answer = discard(&letters_of(&daemon), other, &json!({ "reason": "known" })).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    eventually("nothing is left to mirror", async || {
        (metric(&daemon, "dead_letters_to_mirror").await == 0).then_some(())
    })
    .await;
    assert_eq!(mirrored(&copies).len(), LETTERS);
    assert!(daemon.stop().0.success());
}

/// A queue that is configured later gets what is there.
#[tokio::test]
async fn a_mirror_that_comes_later_gets_what_is_there() {
    let (mirror, copies) = (Mood::default(), Taken::default());
    *mirror.lock().unwrap() = Service::RefusesOnly("nothing");
    let mirror_url = moody_queue(Arc::clone(&copies), Taken::default(), mirror);
    let queue_url = moody_queue(Taken::default(), Taken::default(), Mood::default());
    let site = queue_site_with(&queue_url, "");
    let daemon = site.start();
    let (token, key) = (site.token("admin"), site.key("hq"));
    let body = json!({ "card_id": "EARLY", "gate_id": "north-1" });
    daemon.device(&key).post("/v1/buildings/hq/exits", &body).await.expect(202);
    settled(&daemon.person(&token), &[("queue", 1)]).await;
    assert!(daemon.stop().0.success());
    let config = std::fs::read_to_string(site.path("routes.toml")).unwrap();
    site.configure(&format!(
        "{config}\n[dead_letters]\nqueue_url = \"{mirror_url}/{ACCOUNT}/dlq\"\nendpoint_url = \"{mirror_url}\"\n"
    ));
    let daemon = site.start();
    let copy = eventually("it is mirrored", async || mirrored(&copies).first().cloned()).await;
    assert_eq!(copy["event"]["data"]["card_id"], "EARLY");
    assert!(daemon.stop().0.success());
}

/// The real API of the queue, not only what these tests make of it: more letters than one request takes.
#[tokio::test]
async fn an_sqs_queue_gets_each_letter_with_its_attributes() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let mirror_url = create_queue(&config, "dlq").await;
    let queue_url = moody_queue(Taken::default(), Taken::default(), Mood::default());
    let endpoint_url = moto.endpoint_url();
    let site = queue_site_with(
        &queue_url,
        &format!("[dead_letters]\nqueue_url = \"{mirror_url}\"\nendpoint_url = \"{endpoint_url}\"\n"),
    );
    let daemon = site.start();
    let (token, key) = (site.token("admin"), site.key("hq"));
    for exit in 0..LETTERS {
        let body = json!({ "card_id": format!("CARD{exit}"), "gate_id": "north-1" });
        daemon.device(&key).post("/v1/buildings/hq/exits", &body).await.expect(202);
    }
    let admin = daemon.person(&token);
    settled(&admin, &[("queue", LETTERS as u64)]).await;
    let mut messages = Vec::new();
    eventually("the queue has them all", async || {
        messages.extend(drain(&config, &mirror_url).await);
        (messages.len() >= LETTERS).then_some(())
    })
    .await;
    eventually("they are marked as mirrored", async || {
        (metric(&daemon, "dead_letters_to_mirror").await == 0).then_some(())
    })
    .await;
    assert_eq!(metric(&daemon, "dead_letters_not_mirrored_total").await, 0);
    messages.extend(drain(&config, &mirror_url).await);
    let letters = admin.get("/v1/dead-letters").await.expect(200)["items"].clone();
    let mut copies = Vec::new();
    for message in messages {
        let copy: Value = serde_json::from_str(&message.body.unwrap()).unwrap();
        let attributes = message.message_attributes.unwrap();
        for name in ["sink", "code"] {
            assert_eq!(attributes[name].string_value(), copy[name].as_str(), "{copy}");
        }
        assert_eq!(attributes.len(), 2);
        copies.push(copy);
    }
    // a queue that is not FIFO keeps no order
    copies.sort_by_key(|copy| copy["id"].as_str().unwrap().to_owned());
    assert!(Value::Array(copies) == letters, "each letter once, as it is shown");
    assert!(daemon.stop().0.success());
}
