//! Cards: their life, the list, and that a card that is ended opens nothing from that moment on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    daemon::{Site, sequence},
    http::Caller,
    wait::eventually,
};

const CLIENTS: usize = 16;

/// What an entry at a building is answered: decision, reason and BACnet's code.
async fn enter(gate: &Caller, building: &str, gate_id: &str, card_id: &str) -> Value {
    let body = json!({ "card_id": card_id, "gate_id": gate_id });
    let answer = gate.post(&format!("/v1/buildings/{building}/entries"), &body).await.expect(200);
    json!([answer["decision"], answer["reason"], answer["bacnet_code"]])
}

#[tokio::test]
async fn a_card_lives_and_ends() {
    let site = Site::with_files();
    let (hq_key, annex_key, token) = (site.key("hq"), site.key("annex"), site.token("hr"));
    let daemon = site.start();
    let hr = daemon.person(&token);
    let gates = [("hq", "north-1", daemon.device(&hq_key)), ("annex", "main", daemon.device(&annex_key))];
    let everywhere = async |expected: Value| {
        for (building, gate_id, gate) in &gates {
            assert_eq!(enter(gate, building, gate_id, "C1").await, expected, "{building}");
            let exit = json!({ "card_id": "C1", "gate_id": gate_id });
            gate.post(&format!("/v1/buildings/{building}/exits"), &exit).await.expect(202);
        }
    };
    everywhere(json!(["denied", "unknown_card", 129])).await;
    let made = hr.put("/v1/cards/C1", &json!({ "employee_id": "E1", "holder_name": "Ada" })).await;
    assert_eq!(made.header("etag"), "\"1\"");
    let made = made.expect(201);
    assert_eq!(
        json!([made["card_id"], made["employee_id"], made["holder_name"], made["status"], made["version"]]),
        json!(["C1", "E1", "Ada", "active", 1])
    );
    everywhere(json!(["granted", null, null])).await;

    let mut version = 1;
    for (action, status, code) in
        [("suspend", "suspended", 153), ("report-lost", "lost", 143), ("revoke", "revoked", 158)]
    {
        let note = json!({ "note": "as agreed" });
        let card = hr.post(&format!("/v1/cards/C1/{action}"), &note).await.expect(200);
        version += 1;
        assert_eq!(json!([card["status"], card["version"]]), json!([status, version]));
        everywhere(json!(["denied", status, code])).await;
        // again changes nothing
        let card = hr.post(&format!("/v1/cards/C1/{action}"), &json!({})).await.expect(200);
        assert_eq!(card["version"], version);
        if action == "revoke" {
            break;
        }
        let card = hr.post("/v1/cards/C1/reinstate", &json!({})).await.expect(200);
        version += 1;
        assert_eq!(json!([card["status"], card["version"]]), json!(["active", version]));
        everywhere(json!(["granted", null, null])).await;
    }
    for action in ["reinstate", "suspend", "report-lost"] {
        assert_eq!(
            hr.post(&format!("/v1/cards/C1/{action}"), &json!({})).await.status,
            409,
            "revoked is final"
        );
    }
    daemon.stop();
    let log = site.dump();
    let types: Vec<&str> = (log.iter().map(|event| event["type"].as_str().unwrap()))
        .filter(|event_type| event_type.starts_with("card."))
        .collect();
    assert_eq!(
        types,
        [
            "card.registered",
            "card.suspended",
            "card.reinstated",
            "card.lost",
            "card.reinstated",
            "card.revoked"
        ]
    );
    let last = log.iter().rfind(|event| event["type"] == "card.revoked").unwrap();
    let expected = [
        ("status", json!("revoked")),
        ("version", json!(6)),
        ("employee_id", json!("E1")),
        ("holder_name", json!("Ada")),
        ("note", json!("as agreed")),
        ("by", json!("person/ada")),
    ];
    for (field, value) in expected {
        assert_eq!(last["data"][field], value, "each event carries the card's whole state: {field}");
    }
}

#[tokio::test]
async fn rights_and_dates_are_kept() {
    let site = Site::with_files();
    let (hq_key, annex_key, token) = (site.key("hq"), site.key("annex"), site.token("hr"));
    let daemon = site.start();
    let (hr, hq, annex) = (daemon.person(&token), daemon.device(&hq_key), daemon.device(&annex_key));
    let not_here = json!(["denied", "gate_not_allowed", 134]);
    let cards = [
        ("HQ-ONLY", json!({ "buildings": ["hq"] }), json!(["granted", null, null]), not_here.clone()),
        ("NOWHERE", json!({ "buildings": [] }), not_here.clone(), not_here.clone()),
        ("ONE-GATE", json!({ "gates": ["north-2"] }), not_here.clone(), not_here),
        (
            "OVER",
            json!({ "valid_until": "2020-01-01T00:00:00Z" }),
            json!(["denied", "expired", 152]),
            json!(["denied", "expired", 152]),
        ),
        (
            "NOT-YET",
            json!({ "valid_from": "2999-01-01T00:00:00Z" }),
            json!(["denied", "not_yet_valid", 151]),
            json!(["denied", "not_yet_valid", 151]),
        ),
    ];
    for (card_id, mut card, at_hq, at_annex) in cards {
        card["employee_id"] = json!(format!("E-{card_id}"));
        hr.put(&format!("/v1/cards/{card_id}"), &card).await.expect(201);
        assert_eq!(enter(&hq, "hq", "north-1", card_id).await, at_hq, "{card_id}");
        assert_eq!(enter(&annex, "annex", "main", card_id).await, at_annex, "{card_id}");
    }
    assert_eq!(enter(&hq, "hq", "north-2", "ONE-GATE").await, json!(["granted", null, null]));
    // a second card of the same person: anti-passback is the employee's
    hr.put("/v1/cards/SPARE", &json!({ "employee_id": "E-HQ-ONLY" })).await.expect(201);
    assert_eq!(enter(&hq, "hq", "north-1", "SPARE").await, json!(["denied", "anti_passback", 138]));
    // soft: granted and flagged
    assert_eq!(enter(&annex, "annex", "main", "SPARE").await[0], "granted");
    let again = json!({ "card_id": "SPARE", "gate_id": "main" });
    let again = annex.post("/v1/buildings/annex/entries", &again).await.expect(200);
    assert_eq!(json!([again["decision"], again["violation"]]), json!(["granted", "anti_passback"]));
    let card = hr.get("/v1/cards/SPARE").await.expect(200);
    let mut places: Vec<&str> = (card["presence"].as_array().unwrap().iter())
        .map(|place| place["building"].as_str().unwrap())
        .collect();
    places.sort_unstable();
    assert_eq!(places, ["annex", "hq"]);
}

#[tokio::test]
async fn changes_do_not_overwrite_each_other() {
    let site = Site::with_files();
    let token = site.token("hr");
    let daemon = site.start();
    let hr = daemon.person(&token);
    let put = async |card: Value, if_match: &str| {
        hr.send(Method::PUT, "/v1/cards/C1", &[("If-Match", if_match)], &card.to_string()).await
    };
    let card = |name: &str| json!({ "employee_id": "E1", "holder_name": name });
    assert_eq!(put(card("Ada"), "\"1\"").await.status, 412, "there is no version 1 yet");
    hr.put("/v1/cards/C1", &card("Ada")).await.expect(201);
    assert_eq!(put(card("Ada L."), "\"1\"").await.expect(200)["version"], 2);
    assert_eq!(put(card("Ida"), "\"1\"").await.status, 412);
    assert_eq!(put(card("Ida"), "2").await.expect(200)["version"], 3);
    assert_eq!(hr.put("/v1/cards/C1", &card("Ida")).await.expect(200)["version"], 3, "nothing changed");
    let refused = hr.put("/v1/cards/C1", &json!({ "employee_id": "E2" })).await.expect(422);
    assert_eq!(refused["errors"][0]["field"], "employee_id");
    // of many that start from one version, one wins
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        let (hr, card) = (hr.clone(), card(&format!("No. {number}")).to_string());
        tasks.push(tokio::spawn(async move {
            hr.send(Method::PUT, "/v1/cards/C1", &[("If-Match", "3")], &card).await.status
        }));
    }
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(task.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, &[412; CLIENTS - 1][..]));
}

#[tokio::test]
async fn the_list_has_pages_and_filters() {
    const CARDS: usize = 25;
    let site = Site::with_files();
    let (token, auditor) = (site.token("hr"), site.token("auditor"));
    let daemon = site.start();
    let (hr, auditor) = (daemon.person(&token), daemon.person(&auditor));
    for number in 0..CARDS {
        let card = json!({ "employee_id": format!("E{}", number % 10) });
        hr.put(&format!("/v1/cards/C{number:02}"), &card).await.expect(201);
    }
    hr.post("/v1/cards/C03/suspend", &json!({})).await.expect(200);
    let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = auditor.get(&format!("/v1/cards?limit=10{cursor}")).await.expect(200);
        pages += 1;
        seen.extend(page["items"].as_array().unwrap().iter().map(|card| card["card_id"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        // a card made while someone pages does not move what is still to come
        hr.put("/v1/cards/A00", &json!({ "employee_id": "E77" })).await;
    }
    let expected: Vec<Value> = (0..CARDS).map(|number| json!(format!("C{number:02}"))).collect();
    assert_eq!((seen, pages), (expected, 3));
    let ids = async |query: &str| {
        let page = auditor.get(&format!("/v1/cards?{query}")).await.expect(200);
        let items = page["items"].as_array().unwrap().iter();
        items.map(|card| card["card_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("employee_id=E3").await, ["C03", "C13", "C23"]);
    assert_eq!(ids("employee_id=E3&status=active").await, ["C13", "C23"]);
    assert_eq!(ids("status=suspended").await, ["C03"]);
    assert_eq!(ids("status=revoked").await, [""; 0]);
}

#[tokio::test]
async fn after_a_revoke_has_answered_no_entry_is_granted() {
    let site = Site::with_files();
    let (hq_key, annex_key, token) = (site.key("hq"), site.key("annex"), site.token("hr"));
    let daemon = site.start();
    let hr = daemon.person(&token);
    for (card_id, action) in [("A", "suspend"), ("B", "report-lost"), ("C", "revoke")] {
        let card = json!({ "employee_id": format!("E-{card_id}"), "anti_passback_exempt": true });
        hr.put(&format!("/v1/cards/{card_id}"), &card).await.expect(201);
        let (is_ended, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (granted, denied) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let (building, gate_id, key) =
                if number % 2 == 0 { ("hq", "north-1", &hq_key) } else { ("annex", "main", &annex_key) };
            let gate = daemon.device(key);
            let (is_ended, stop) = (Arc::clone(&is_ended), Arc::clone(&stop));
            let (granted, denied) = (Arc::clone(&granted), Arc::clone(&denied));
            clients.push(tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let ended_before = is_ended.load(SeqCst);
                    let answer = enter(&gate, building, gate_id, card_id).await;
                    if answer[0] == "granted" {
                        assert!(!ended_before, "{building} granted an entry after {action} was answered");
                        granted.fetch_add(1, SeqCst);
                    } else {
                        denied.fetch_add(1, SeqCst);
                    }
                }
            }));
        }
        eventually("entries are granted", async || (granted.load(SeqCst) >= 100).then_some(())).await;
        hr.post(&format!("/v1/cards/{card_id}/{action}"), &json!({})).await.expect(200);
        is_ended.store(true, SeqCst);
        let so_far = denied.load(SeqCst);
        eventually("entries are denied", async || (denied.load(SeqCst) >= so_far + 100).then_some(())).await;
        stop.store(true, SeqCst);
        for client in clients {
            client.await.unwrap();
        }
    }
    daemon.stop();
    // the log says the same: behind the change no entry of the card is granted
    let log = site.dump();
    for (card_id, change) in [("A", "card.suspended"), ("B", "card.lost"), ("C", "card.revoked")] {
        let of_card = |event: &&Value| event["data"]["card_id"] == card_id;
        let ended = log.iter().filter(of_card).find(|event| event["type"] == change).unwrap();
        let last_granted = log.iter().filter(of_card).rfind(|event| event["type"] == "access.entry.granted");
        assert!(sequence(last_granted.unwrap()) < sequence(ended), "{card_id}");
    }
}
