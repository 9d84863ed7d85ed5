//! Register, enter, be refused a second time, leave, enter again, over real HTTP; then every one of those
//! events is in the queue behind SNS, in Kinesis, in S3, in files, and as state in DynamoDB.

use std::collections::{BTreeMap, HashSet};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::{
    aws::Estate,
    chain::assert_chained,
    daemon::{Daemon, Site, TWO_BUILDINGS, assert_gapless, events, sequence},
    moto::Moto,
    sinks::{conserves, settled, sinks_by_name},
};

const EMPLOYEES: usize = 3;
const HOLDER: &str = "Ada Lovelace";

/// What the server answered: event ids by what they were for.
struct Answers {
    ids: Vec<String>,
    last_entry: Vec<Value>,
}

#[tokio::test]
async fn every_event_of_a_day_reaches_every_service() {
    let Some(moto) = Moto::start() else { return };
    let estate = Estate::make(&moto).await;
    let site = Site::new(&format!("{TWO_BUILDINGS}{}", estate.sinks())).with_aws(&moto);
    let daemon = site.start();
    let answers = work_a_day(&site, &daemon).await;

    let expected = [("internal", 4), ("exits", 1), ("card-state", 5), ("archive", 5), ("files", 5)].map(
        |(name, each)| {
            // the one look at who is inside goes to the archives only
            let audits = usize::from(name == "archive" || name == "files");
            (name, (each * EMPLOYEES + audits) as u64)
        },
    );
    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &expected).await;
    for (name, sink) in sinks_by_name(&admin).await {
        conserves(&sink);
        assert_eq!(sink["delivered"], sink["accepted"], "{name}");
        assert_eq!(sink["dead"], 0, "{name}");
    }
    assert_eq!(admin.get("/v1/dead-letters").await.expect(200)["items"], json!([]));

    let archive = estate.read_archive().await;
    let everything = events(archive.iter().map(String::as_str));
    assert_eq!(everything.len(), 5 * EMPLOYEES + 1);
    assert_gapless(&everything);
    assert_chained(&archive);
    let ids: HashSet<&str> = everything.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), everything.len(), "ids are unique");
    for id in &answers.ids {
        assert!(ids.contains(id.as_str()), "{id} was answered and is not in the archive");
    }

    let is_exit = |event: &Value| event["type"] == "access.exit.recorded";
    let is_audit = |event: &Value| event["type"] == "audit.read";
    let archived = Forms::of(&archive);
    let (queue, stream) = (estate.drain_queue().await, estate.read_stream().await);
    archived.assert_same(&queue, |event| !is_exit(event) && !is_audit(event));
    archived.assert_same(&stream, is_exit);
    archived.assert_same(&site.file_lines("sinks/files"), |_| true);
    let holders = archive.iter().filter(|line| line.contains(HOLDER)).count();
    assert_eq!(holders, EMPLOYEES, "the one route with personal = true has the names");

    let log = everything[0]["log"].as_str().unwrap();
    assert!(log.starts_with("hq-1.") && everything.iter().all(|event| event["log"] == log), "{log}");
    for (employee, last_entry) in answers.last_entry.iter().enumerate() {
        check_state(&estate, log, employee, last_entry).await;
    }
    println!(
        "{} events: archive {}, queue {}, stream {}, files {}",
        everything.len(),
        archive.len(),
        queue.len(),
        stream.len(),
        site.file_lines("sinks/files").len()
    );
}

async fn work_a_day(site: &Site, daemon: &Daemon) -> Answers {
    let (hr, gate) = (daemon.person(&site.token("hr")), daemon.device(&site.key("hq")));
    let mut answers = Answers { ids: Vec::new(), last_entry: Vec::new() };
    for employee in 0..EMPLOYEES {
        let card = json!({ "employee_id": format!("E{employee}"), "holder_name": HOLDER });
        let card = hr.put(&format!("/v1/cards/04A{employee}"), &card).await.expect(201);
        assert_eq!((&card["status"], &card["version"]), (&json!("active"), &json!(1)));

        let swipe = json!({ "card_id": format!("04A{employee}"), "gate_id": "north-1" });
        let enter = async || gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
        let first = enter().await;
        assert_eq!((&first["decision"], &first["reason"]), (&json!("granted"), &Value::Null));
        let second = enter().await;
        assert_eq!(
            (&second["decision"], &second["reason"], &second["bacnet_code"]),
            (&json!("denied"), &json!("anti_passback"), &json!(138))
        );
        let left = gate.post("/v1/buildings/hq/exits", &swipe).await.expect(202);
        let again = enter().await;
        assert_eq!(again["decision"], "granted");
        let answered = [&first, &second, &left, &again];
        answers.ids.extend(answered.map(|answer| answer["event_id"].as_str().unwrap().to_owned()));
        answers.last_entry.push(again);
    }
    let security = daemon.person(&site.token("security"));
    let people = &security.get("/v1/buildings/hq/presence").await.expect(200)["people"];
    assert_eq!(people.as_array().unwrap().len(), EMPLOYEES);
    assert_eq!(people[0]["holder_name"], HOLDER);
    answers
}

async fn check_state(estate: &Estate, log: &str, employee: usize, last_entry: &Value) {
    let card = estate.item(&format!("CARD#04A{employee}"), "STATE").await.unwrap();
    assert_eq!(card["status"], AttributeValue::S("active".to_owned()));
    assert_eq!(card["version"], AttributeValue::N("1".to_owned()));
    assert_eq!(card["employee_id"], AttributeValue::S(format!("E{employee}")));
    assert!(!card.contains_key("holder_name"), "the route is not personal");

    let presence = estate.item(&format!("EMPLOYEE#E{employee}"), "PRESENCE#hq").await.unwrap();
    let expected = [
        ("inside", AttributeValue::Bool(true)),
        ("log", AttributeValue::S(log.to_owned())),
        ("sequence", AttributeValue::N(sequence(last_entry).to_string())),
        ("since", AttributeValue::S(last_entry["decided_at"].as_str().unwrap().to_owned())),
        ("gate", AttributeValue::S("north-1".to_owned())),
        ("card_id", AttributeValue::S(format!("04A{employee}"))),
    ];
    for (field, value) in expected {
        assert_eq!(presence[field], value, "{field}");
    }
}

/// Each event as the archive has it, by its id.
struct Forms<'a>(BTreeMap<String, &'a str>);

impl<'a> Forms<'a> {
    fn of(lines: &'a [String]) -> Self {
        Self(lines.iter().map(|line| (id_of(line), line.as_str())).collect())
    }

    /// That `lines` are exactly the wanted events, once each, byte for byte but for the names of holders,
    /// which only the archive has.
    fn assert_same(&self, lines: &[String], wanted: impl Fn(&Value) -> bool) {
        let is_wanted = |line: &&str| wanted(&serde_json::from_str(line).unwrap());
        assert_eq!(lines.len(), self.0.values().filter(|line| is_wanted(line)).count());
        let found: BTreeMap<String, &str> = lines.iter().map(|line| (id_of(line), line.as_str())).collect();
        assert_eq!(found.len(), lines.len(), "an event came twice");
        for (id, line) in found {
            let archived = self.0[&id];
            assert!(is_wanted(&line), "{line} is not for this sink");
            assert_eq!(line, archived.replace(&format!("\"holder_name\":\"{HOLDER}\","), ""));
            assert!(!line.contains("holder_name"), "{line}");
        }
    }
}

fn id_of(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap();
    event["id"].as_str().unwrap().to_owned()
}
