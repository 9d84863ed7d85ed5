//! The auditor's view: histories of cards and people, with and without an index, and who has read them.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS, sequence},
    feed::metric,
    http::Caller,
    moto::Moto,
    s3::{ARCHIVE_SINK, bucket},
    trimmed::{SHORT_LOG, lose_the_beginning},
    wait::eventually,
};

/// A segment holds some thousands of events, and few events make several.
const SMALL_LOG: &str = "[wal]\nstore = \"segments\"\nmax_bytes = \"16MiB\"\n";
const CARDS: usize = 5;
/// Batches of exits, of all cards in turn.
const BATCHES: usize = 12;
const BATCH: usize = 1_000;

/// All pages of a history, and how many there were.
async fn history(auditor: &Caller, path: &str, query: &str, limit: usize) -> (Vec<Value>, usize) {
    let (mut all, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = auditor.get(&format!("{path}?limit={limit}{query}{cursor}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        all.extend(items.iter().cloned());
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (all, pages),
        }
    }
}

async fn fill(daemon: &Daemon, key: &str) {
    let gate = daemon.device(key);
    for _ in 0..BATCHES {
        let exit = |n: usize| json!({ "card_id": format!("C{}", n % CARDS), "gate_id": "north-1" });
        let exits: Vec<_> = (0..BATCH).map(exit).collect();
        gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
    }
}

async fn settled(daemon: &Daemon) -> u64 {
    eventually("everything is indexed", async || {
        let behind = metric(daemon, "turnstiled_index_behind_records").await;
        let segments = metric(daemon, "turnstiled_index_segments").await;
        (behind == 0 && segments > 0).then_some(segments)
    })
    .await
}

fn sequences(events: &[Value]) -> Vec<u64> {
    events.iter().map(sequence).collect()
}

#[tokio::test]
async fn a_history_is_all_that_the_log_has_of_a_card_or_a_person() {
    let site = Site::new(&format!("{SMALL_LOG}{TWO_BUILDINGS}{FILE_SINK}"));
    let (key, annex_key, hr) = (site.key("hq"), site.key("annex"), site.token("hr"));
    let auditor_token = site.token("auditor");
    let daemon = site.start();
    let (office, auditor) = (daemon.person(&hr), daemon.person(&auditor_token));
    let card = json!({ "employee_id": "E1", "holder_name": "Ada" });
    office.put("/v1/cards/C1", &card).await.expect(201);
    let swipe = json!({ "card_id": "C1", "gate_id": "main" });
    daemon.device(&annex_key).post("/v1/buildings/annex/entries", &swipe).await.expect(200);
    fill(&daemon, &key).await;
    office.post("/v1/cards/C1/report-lost", &json!({})).await.expect(200);

    let at_once = history(&auditor, "/v1/cards/C1/events", "", 200).await.0;
    assert!(settled(&daemon).await > 1);
    let (events, pages) = history(&auditor, "/v1/cards/C1/events", "", 200).await;
    assert_eq!(sequences(&at_once), sequences(&events), "with and without an index");
    assert_eq!(
        (events.len(), pages),
        (BATCHES * BATCH / CARDS + 3, (BATCHES * BATCH / CARDS + 3).div_ceil(200))
    );
    assert!(sequences(&events).is_sorted_by(|one, next| one > next), "newest first");
    assert_eq!((&events[0]["type"], &events[0]["data"]["holder_name"]), (&json!("card.lost"), &json!("Ada")));
    let of_person = history(&auditor, "/v1/employees/E1/events", "", 200).await.0;
    assert_eq!(sequences(&of_person), sequences(&events), "the person has this card only");
    let changes = history(&auditor, "/v1/cards/C1/events", "&type=card.*", 1).await.0;
    assert_eq!(
        sequences(&changes),
        [*sequences(&events).first().unwrap(), *sequences(&events).last().unwrap()]
    );
    // a card that nobody has registered has been before readers, too
    let (unknown, _) = history(&auditor, "/v1/cards/C2/events", "", 200).await;
    assert_eq!(
        (unknown.len(), &unknown[0]["data"]["anomaly"]),
        (BATCHES * BATCH / CARDS, &json!("unknown_card"))
    );
    assert!(history(&auditor, "/v1/cards/nobody/events", "", 200).await.0.is_empty());
    // a time range is in part of it
    let middle = events[events.len() / 2]["time"].as_str().unwrap();
    let older = history(&auditor, "/v1/cards/C1/events", &format!("&to={middle}"), 200).await.0;
    let newer = history(&auditor, "/v1/cards/C1/events", &format!("&from={middle}"), 200).await.0;
    assert!(!older.is_empty() && !newer.is_empty());
    assert_eq!([sequences(&newer), sequences(&older)].concat(), sequences(&events));

    // a file that is damaged or lost is made anew, and no answer is wrong meanwhile
    let dir = site.path("data/index");
    let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
    for (number, file) in files.iter().enumerate() {
        let mut bytes = fs::read(file).unwrap();
        match number % 3 {
            0 => fs::remove_file(file).unwrap(),
            1 => fs::write(file, &bytes[..bytes.len() / 2]).unwrap(),
            _ => {
                bytes.iter_mut().skip(80).for_each(|byte| *byte ^= 1);
                fs::write(file, bytes).unwrap();
            }
        }
    }
    assert_eq!(sequences(&history(&auditor, "/v1/cards/C1/events", "", 200).await.0), sequences(&events));
    drop(daemon);
    let daemon = site.start();
    let segments = settled(&daemon).await;
    assert_eq!(segments as usize, fs::read_dir(&dir).unwrap().count());
    let auditor = daemon.person(&auditor_token);
    assert_eq!(sequences(&history(&auditor, "/v1/cards/C1/events", "", 200).await.0), sequences(&events));
    daemon.stop();
    let log = site.dump();
    let logged: Vec<u64> =
        (log.iter().rev()).filter(|event| event["data"]["card_id"] == "C1").map(sequence).collect();
    assert_eq!(logged, sequences(&events));
}

#[tokio::test]
async fn each_query_is_recorded_once_and_its_cursor_is_its_own() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("auditor,security"));
    let daemon = site.start();
    let auditor = daemon.person(&token);
    let here = daemon.person(&site.token("auditor@hq"));
    let both = daemon.person(&site.token("auditor@hq,auditor@annex"));
    daemon.person(&site.token("hr")).put("/v1/cards/C1", &json!({ "employee_id": "E1" })).await.expect(201);
    let swipe = json!({ "card_id": "C1", "gate_id": "north-1" });
    for _ in 0..5 {
        daemon.device(&key).post("/v1/buildings/hq/exits", &swipe).await.expect(202);
    }
    let path = "/v1/cards/C1/events";
    let from = "from=2026-01-01T00:00:00Z";
    let first = auditor.get(&format!("{path}?{from}&limit=4")).await.expect(200);
    assert_eq!((first["items"].as_array().unwrap().len(), &first["beyond"]), (4, &Value::Null));
    assert!(first["reaches_back_to"].is_string());
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = auditor.get(&format!("{path}?{from}&limit=9&cursor={cursor}")).await.expect(200);
    assert_eq!((second["items"].as_array().unwrap().len(), &second["next_cursor"]), (2, &Value::Null));
    // a cursor belongs to its query and its reader
    for other in [format!("{path}?cursor={cursor}"), format!("/v1/cards/C2/events?{from}&cursor={cursor}")] {
        assert_eq!(auditor.get(&other).await.status, 422, "{other}");
    }
    assert_eq!(here.get(&format!("{path}?{from}&cursor={cursor}")).await.status, 422);
    assert_eq!(auditor.get(&format!("{path}?{from}&cursor=AAAA")).await.status, 422);

    // a role for a building sees that building's events; a card's own are the whole server's
    let seen = here.get("/v1/employees/E1/events?type=**").await.expect(200);
    let types: Vec<_> = seen["items"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["access.exit.recorded"; 5]);
    both.get("/v1/employees/E1/events").await.expect(200);

    let refused = async |caller: &Caller, path: &str| caller.send(Method::GET, path, &[], "").await.status;
    assert_eq!(refused(&daemon.person(&site.token("hr,security,admin")), path).await, 403);
    assert_eq!(refused(&daemon.anyone(), path).await, 401);
    for bad in
        ["limit=201", "type=a..b", "to=now", "order=up", "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z"]
    {
        assert_eq!(refused(&auditor, &format!("{path}?{bad}")).await, 422, "{bad}");
    }
    assert_eq!(refused(&auditor, "/v1/cards/a%20b/events").await, 422);
    daemon.stop();
    let reads = site.dump().into_iter().filter(|event| event["type"] == "audit.read");
    let mut reads = reads.map(|event| event["data"].clone());
    let ada = "person/ada";
    let from = "2026-01-01T00:00:00.000Z";
    assert_eq!(
        reads.next().unwrap(),
        json!({ "what": "card.events", "subject": "card/C1", "from": from, "by": ada })
    );
    assert_eq!(
        reads.next().unwrap(),
        json!({ "building": "hq", "what": "employee.events", "subject": "employee/E1", "type": "**", "by": ada })
    );
    assert_eq!(
        reads.next().unwrap(),
        json!({ "what": "employee.events", "subject": "employee/E1", "by": ada })
    );
    assert_eq!(reads.next(), None, "a page is no query, and what is refused is none");
}

#[tokio::test]
async fn what_the_log_no_longer_has_is_in_the_archive_that_the_answer_names() {
    let Some(moto) = Moto::start() else { return };
    bucket(&moto.sdk_config()).await;
    let site = Site::new(&format!("{SHORT_LOG}{TWO_BUILDINGS}{ARCHIVE_SINK}")).with_aws(&moto);
    let archive = json!([{ "sink": "archive", "location": "s3://archive/events" }]);
    a_cut_history_names(&site, archive).await;
}

#[tokio::test]
async fn a_cut_history_without_an_archive_names_none() {
    let site = Site::new(&format!("{SHORT_LOG}{TWO_BUILDINGS}{FILE_SINK}"));
    a_cut_history_names(&site, json!([])).await;
}

/// Nothing beyond while the log is whole; of a trimmed one these archives, where a query goes so far back.
async fn a_cut_history_names(site: &Site, archives: Value) {
    let (key, token) = (site.key("hq"), site.token("auditor"));
    let daemon = site.start();
    let (gate, auditor) = (daemon.device(&key), daemon.person(&token));
    let ask = async |query: &str| auditor.get(&format!("/v1/employees/E1/events?{query}")).await.expect(200);
    let exit = json!({ "card_id": "C1", "gate_id": "north-1" });
    gate.post("/v1/buildings/hq/exits", &exit).await.expect(202);
    let whole = ask("").await;
    assert_eq!(whole["beyond"], Value::Null, "{whole}");
    lose_the_beginning(&daemon, &gate).await;

    let cut = ask("from=2026-01-02T00:00:00Z").await;
    let oldest = cut["reaches_back_to"].as_str().unwrap();
    assert!(oldest > whole["reaches_back_to"].as_str().unwrap(), "{cut}");
    let (day, time) = (&oldest[..10], oldest.replace('T', " ").replace('Z', ""));
    let query = format!(
        "SELECT event FROM turnstiled_events WHERE employee_id = 'E1' AND dt >= '2026-01-02' \
         AND time >= TIMESTAMP '2026-01-02 00:00:00.000' AND dt <= '{day}' AND time <= TIMESTAMP '{time}' \
         ORDER BY time DESC, sequence DESC"
    );
    let table = "deploy/athena.sql";
    let beyond = json!({ "before": oldest, "table": table, "query": query, "archives": archives });
    assert_eq!(cut["beyond"], beyond);
    let end = gate.post("/v1/buildings/hq/exits", &exit).await.expect(202);
    let last = auditor.get("/v1/cards/C1/events?limit=1").await.expect(200)["items"][0].take();
    assert_eq!(last["id"], end["event_id"]);
    let recent = ask(&format!("from={}", last["time"].as_str().unwrap())).await;
    assert_eq!(recent["beyond"], Value::Null, "the log has all of it: {recent}");
    daemon.stop();
    assert!(sequence(&site.dump()[0]) > 1);
}
