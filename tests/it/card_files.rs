//! Cards as files: import, export, and finding one among many.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    daemon::{FILE_SINK, Site, TWO_BUILDINGS, sequence},
    http::{Answer, Caller},
    wait::eventually,
};

const IMPORT: &str = "/v1/cards/import";

async fn import(hr: &Caller, query: &str, file: &str) -> Answer {
    hr.send(Method::POST, &format!("{IMPORT}{query}"), &[("Content-Type", "text/csv")], file).await
}

async fn export(hr: &Caller) -> String {
    let answer = hr.get("/v1/cards/export").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/csv; charset=utf-8"));
    answer.body
}

fn counts(report: &Value) -> [u64; 5] {
    ["rows", "registered", "updated", "unchanged", "rejected"].map(|count| report[count].as_u64().unwrap())
}

/// So many people with a card each, numbered from 0.
fn many(cards: usize) -> String {
    let rows = (0..cards).map(|number| format!("C{number:05},E{number:05},Holder {number}\r\n"));
    format!("card_id,employee_id,holder_name\r\n{}", rows.collect::<String>())
}

fn of_cards(log: &[Value]) -> Vec<&Value> {
    log.iter().filter(|event| event["type"].as_str().unwrap().starts_with("card.")).collect()
}

#[tokio::test]
async fn a_file_is_imported_whole_or_not_at_all() {
    let groups = "\n[[groups]]\nid = \"staff\"\nallow = [{ building = \"hq\", gates = [\"north-1\"] }]\n";
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{groups}"));
    let daemon = site.start();
    let hr = daemon.person(&site.token("hr"));
    let file = "card_id,employee_id,holder_name,groups,valid_until\n\
                C1,E1,Ada,staff,2999-12-31\nC2,E2,Bob,;,\nC3,E3,=Eve,,\n";
    let report = import(&hr, "?dry_run=true", file).await.expect(200);
    assert_eq!((counts(&report), &report["dry_run"]), ([3, 3, 0, 0, 0], &json!(true)));
    assert_eq!((&report["unlimited"], &report["errors"]), (&json!(1), &json!([])));
    assert_eq!(hr.get("/v1/cards").await.expect(200)["items"], json!([]), "nothing was done");

    let with_bad = format!("{file}C4,E4,Mallory,stuff,\nC1,E1,,,\nC5,,,,\n");
    let refused = import(&hr, "", &with_bad).await;
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let refused = refused.expect(422);
    assert_eq!(
        refused["errors"],
        json!([
            { "line": 5, "field": "groups", "detail": "this server has no group stuff" },
            { "line": 6, "field": "card_id", "detail": "is on line 2 already" },
            { "line": 7, "field": "employee_id", "detail": "is required for a card that is not registered yet" },
        ])
    );
    assert_eq!((&refused["rows"], &refused["rejected"]), (&json!(6), &json!(3)));
    let report = import(&hr, "?dry_run=true", &with_bad).await.expect(200);
    assert_eq!((counts(&report), &report["errors"]), ([6, 3, 0, 0, 3], &refused["errors"]));
    assert_eq!(hr.get("/v1/cards").await.expect(200)["items"], json!([]), "nothing was done");

    let report = import(&hr, "?partial=true", &with_bad).await.expect(200);
    assert_eq!(counts(&report), [6, 3, 0, 0, 3]);
    let card = hr.get("/v1/cards/C1").await.expect(200);
    assert_eq!(
        json!([card["employee_id"], card["groups"], card["valid_until"], card["version"]]),
        json!(["E1", ["staff"], "3000-01-01T00:00:00.000Z", 1])
    );
    assert_eq!(hr.get("/v1/cards/C2").await.expect(200)["groups"], json!([]));
    assert_eq!(counts(&import(&hr, "", file).await.expect(200)), [3, 0, 0, 3, 0], "again changes nothing");
    let report = import(&hr, "?tz=Asia/Kolkata", "valid_until,card_id\n2999-12-31,C2\n,C1\n").await;
    assert_eq!(counts(&report.expect(200)), [2, 0, 2, 0, 0]);
    let card = hr.get("/v1/cards/C2").await.expect(200);
    assert_eq!(
        (&card["valid_until"], &card["holder_name"]),
        (&json!("2999-12-31T18:30:00.000Z"), &json!("Bob"))
    );
    assert_eq!(hr.get("/v1/cards/C1").await.expect(200).get("valid_until"), None);

    for query in ["?dry_run=1", "?tz=Mars", "?colour=red"] {
        assert_eq!(import(&hr, query, file).await.status, 422, "{query}");
    }
    assert_eq!(import(&hr, "", "card_id;employee_id\n").await.status, 422);
    assert_eq!(import(&hr, "", "").await.status, 422);
    let header = import(&hr, "", "card_id,color\n").await.expect(422);
    assert_eq!(header["errors"][0]["line"], 1);
    assert_eq!(import(&hr, "", &"x".repeat((16 << 20) + 1)).await.status, 413);
    for roles in ["auditor", "security", "admin", "hr@hq"] {
        let other = daemon.person(&site.token(roles));
        assert_eq!(import(&other, "", file).await.status, 403, "{roles}");
        assert_eq!(other.get("/v1/cards/export").await.status, 403, "{roles}");
    }
    assert_eq!(import(&daemon.anyone(), "", file).await.status, 401);
    daemon.stop();
    let log = site.dump();
    let changes: Vec<_> = of_cards(&log).iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(changes, [["card.registered"; 3].as_slice(), &["card.updated"; 2]].concat());
    assert!(of_cards(&log).iter().all(|event| event["data"]["by"] == "person/ada"));
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    const CARDS: usize = 1_203; // three pieces
    let site = Site::with_files();
    let daemon = site.start();
    let hr = daemon.person(&site.token("hr"));
    assert_eq!(counts(&import(&hr, "", &many(CARDS)).await.expect(200)), [1_203, 1_203, 0, 0, 0]);
    let odd = json!({ "employee_id": "@x", "holder_name": "=\"1\",2\n'", "buildings": [], "gates": ["hq/north-1", "main"],
                      "valid_from": "2026-01-01T00:00:00.125Z", "responder": true });
    hr.put("/v1/cards/-1", &odd).await.expect(201);
    hr.post("/v1/cards/C00007/report-lost", &json!({})).await.expect(200);
    let file = export(&hr).await;
    assert!(
        file.starts_with("card_id,employee_id,holder_name,buildings,gates,groups,valid_from,"),
        "{file:.200}"
    );
    assert!(file.contains("\r\n'-1,'@x,\"'=\"\"1\"\",2\n'\",;,hq/north-1;main,,2026-01-01T00:00:00.125Z,,false,true,active,1\r\n"));
    assert!(file.contains("\r\nC00007,E00007,Holder 7,,,,,,false,false,lost,2\r\n"));
    assert_eq!(file.matches("\r\n").count(), CARDS + 2);
    let report = import(&hr, "", &file).await.expect(200);
    assert_eq!(counts(&report), [1_204, 0, 0, 1_204, 0]);

    // who works on an old file is told which cards have changed meanwhile
    hr.put("/v1/cards/C00001", &json!({ "employee_id": "E00001", "holder_name": "New Name" }))
        .await
        .expect(200);
    hr.post("/v1/cards/C00002/revoke", &json!({})).await.expect(200);
    let refused = import(&hr, "", &file).await.expect(422);
    let fields: Vec<_> =
        refused["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str()).collect();
    assert_eq!(fields, [Some("version"), Some("status")]);
    let report = import(&hr, "?partial=true", &file.replace("Holder 5,", "Holder V,")).await.expect(200);
    assert_eq!(counts(&report), [1_204, 0, 1, 1_201, 2]);
    assert_eq!(hr.get("/v1/cards/C00002").await.expect(200)["status"], "revoked");
    daemon.stop();
    let log = site.dump();
    let reads: Vec<_> = log.iter().filter(|event| event["type"] == "audit.read").collect();
    assert_eq!(reads.len(), 1);
    assert_eq!(
        (&reads[0]["data"]["what"], &reads[0]["data"]["by"]),
        (&json!("cards.export"), &json!("person/ada"))
    );
}

#[tokio::test]
async fn no_file_undoes_a_revoke_and_gates_go_on() {
    const CARDS: usize = 3_000;
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("hr"));
    let daemon = site.start();
    let (hr, gate) = (daemon.person(&token), daemon.device(&key));
    let victim = json!({ "employee_id": "EX", "anti_passback_exempt": true });
    hr.put("/v1/cards/X", &victim).await.expect(201);
    let (is_revoked, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let swiping = tokio::spawn({
        let (is_revoked, stop) = (Arc::clone(&is_revoked), Arc::clone(&stop));
        async move {
            let mut entries = 0;
            while !stop.load(SeqCst) {
                let was_revoked = is_revoked.load(SeqCst);
                let swipe = json!({ "card_id": "X", "gate_id": "north-1" });
                let answer = gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
                assert!(!was_revoked || answer["reason"] == "revoked", "{answer}");
                entries += 1;
            }
            entries
        }
    });
    let file = format!("{}X,EX,Xavier\r\n", many(CARDS));
    let importing = tokio::spawn({
        let (hr, file) = (hr.clone(), file.clone());
        async move { import(&hr, "", &file).await.expect(200) }
    });
    let first = |hr: Caller| async move { (hr.get("/v1/cards/C00000").await.status == 200).then_some(()) };
    eventually("the import has begun", async || first(hr.clone()).await).await;
    hr.post("/v1/cards/X/revoke", &json!({})).await.expect(200);
    is_revoked.store(true, SeqCst);
    let report = importing.await.unwrap();
    let as_before = import(&hr, "?dry_run=true", &file).await.expect(200);
    stop.store(true, SeqCst);
    assert!(swiping.await.unwrap() > 0);
    assert_eq!(hr.get("/v1/cards/X").await.expect(200)["status"], "revoked");
    // the row came before the revoke or after it, and is reported then
    let rejected = report["rejected"].as_u64().unwrap();
    assert_eq!(as_before["rejected"], rejected);
    assert_eq!(counts(&as_before)[3] + rejected, CARDS as u64 + 1);
    daemon.stop();
    let log = site.dump();
    let places: Vec<u64> = of_cards(&log)[1..].iter().map(|event| sequence(event)).collect();
    let entries = log.iter().filter(|event| event["type"].as_str().unwrap().starts_with("access.entry"));
    let between = entries.filter(|entry| (places[0]..places[CARDS / 2]).contains(&sequence(entry))).count();
    assert!(between > 0, "gates were answered between the pieces of the import");
}

#[tokio::test]
async fn an_import_that_was_killed_is_imported_again() {
    const CARDS: usize = 4_000;
    let site = Site::with_files();
    let token = site.token("hr");
    let mut daemon = site.start();
    let hr = daemon.person(&token);
    let file = many(CARDS);
    let sending = tokio::spawn({
        let (hr, file) = (hr.clone(), file.clone());
        async move { hr.try_send(Method::POST, IMPORT, &[("Content-Type", "text/csv")], &file).await.is_ok() }
    });
    eventually("some cards are there", async || {
        let page = hr.get("/v1/cards?q=C003").await;
        page.body.contains("C00300").then_some(())
    })
    .await;
    daemon.kill();
    sending.await.unwrap();
    let daemon = site.start();
    let hr = daemon.person(&token);
    let report = import(&hr, "", &file).await.expect(200);
    let [rows, registered, updated, unchanged, rejected] = counts(&report);
    assert_eq!((rows, updated, rejected), (CARDS as u64, 0, 0));
    assert!(unchanged > 300, "{report}");
    assert_eq!(registered + unchanged, CARDS as u64);
    daemon.stop();
    let mut times = BTreeMap::new();
    for event in of_cards(&site.dump()) {
        assert_eq!((&event["type"], &event["data"]["version"]), (&json!("card.registered"), &json!(1)));
        *times.entry(event["data"]["card_id"].to_string()).or_insert(0) += 1;
    }
    assert_eq!(times.len(), CARDS);
    assert!(times.values().all(|times| *times == 1), "each card was registered once");
}

#[tokio::test]
async fn cards_are_found_by_a_few_letters() {
    let site = Site::with_files();
    let daemon = site.start();
    let hr = daemon.person(&site.token("hr"));
    let auditor = daemon.person(&site.token("auditor"));
    let file =
        "card_id,employee_id,holder_name\n04A2,E1001,Ada Lovelace\n04B7,E1002,Grace Hopper\n99,a04,Jörg Ω\n";
    import(&hr, "", file).await.expect(200);
    let found = async |query: &str| {
        let page = auditor.get(&format!("/v1/cards?{query}")).await.expect(200);
        let items = page["items"].as_array().unwrap().iter();
        items.map(|card| card["card_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found("q=04").await, ["04A2", "04B7"]);
    assert_eq!(found("q=e1002").await, ["04B7"]);
    assert_eq!(found("q=LOVE").await, ["04A2"]);
    assert_eq!(found("q=j%C3%96rg+%CF%89").await, ["99"]);
    assert_eq!(found("q=opper&status=active&employee_id=E1002").await, ["04B7"]);
    assert_eq!(found("q=opper&status=lost").await, [""; 0]);
    for query in ["q=", "q=+"] {
        assert_eq!(auditor.get(&format!("/v1/cards?{query}")).await.status, 422, "{query}");
    }
}
