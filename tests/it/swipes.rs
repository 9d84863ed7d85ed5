//! One swipe is one event, however often and from wherever it is sent.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::daemon::{Site, assert_gapless};

const SWIPES: usize = 20;
const COPIES: usize = 8;

#[tokio::test]
async fn copies_of_one_swipe_at_once_get_one_answer() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("hr"));
    let daemon = site.start();
    let gate = daemon.device(&key);
    daemon.person(&token).put("/v1/cards/C1", &json!({ "employee_id": "E1" })).await.expect(201);
    let mut answers: Vec<Value> = Vec::new();
    for number in 0..SWIPES {
        let (path, status) = if number % 2 == 0 { ("entries", 200) } else { ("exits", 202) };
        let swipe_id = format!("0199a0f4-2c2e-7d6a-9a53-{number:012}");
        let body = json!({ "card_id": "C1", "gate_id": "north-1", "swipe_id": swipe_id });
        let copies: Vec<_> = (0..COPIES)
            .map(|_| {
                let (gate, body) = (gate.clone(), body.clone());
                let path = format!("/v1/buildings/hq/{path}");
                tokio::spawn(async move { gate.post(&path, &body).await.expect(status) })
            })
            .collect();
        let mut same = HashSet::new();
        for copy in copies {
            let answer = copy.await.unwrap();
            same.insert(answer.to_string());
            answers.push(answer);
        }
        assert_eq!(same.len(), 1, "{same:?}");
        assert!(number % 2 == 1 || answers.last().unwrap()["decision"] == "granted", "{answers:?}");
    }
    daemon.stop();
    let log = site.dump();
    assert_gapless(&log);
    assert_eq!(log.len(), SWIPES + 1, "one event each, and the card's");
}

#[tokio::test]
async fn one_person_at_many_gates_enters_once() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("hr"));
    let daemon = site.start();
    let gate = daemon.device(&key);
    for card_id in ["C1", "C2"] {
        daemon
            .person(&token)
            .put(&format!("/v1/cards/{card_id}"), &json!({ "employee_id": "E1" }))
            .await
            .expect(201);
    }
    let tries: Vec<_> = (0..SWIPES)
        .map(|number| {
            let card_id = if number % 3 == 0 { "C1" } else { "C2" };
            let gate_id = if number % 2 == 0 { "north-1" } else { "north-2" };
            let (gate, body) = (gate.clone(), json!({ "card_id": card_id, "gate_id": gate_id }));
            tokio::spawn(async move { gate.post("/v1/buildings/hq/entries", &body).await.expect(200) })
        })
        .collect();
    let mut granted = 0;
    for one in tries {
        let answer = one.await.unwrap();
        match answer["decision"].as_str().unwrap() {
            "granted" => granted += 1,
            _ => assert_eq!(answer["reason"], "anti_passback"),
        }
    }
    assert_eq!(granted, 1);
}
