//! Who is inside, and what the security desk can say of it; all of it through kill -9.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS, sequence},
    http::{Answer, Caller},
    wait::eventually,
};

/// A house with its callers.
struct House {
    site: Site,
    gate_key: String,
    token: String,
}

impl House {
    fn new(site: Site) -> Self {
        let (gate_key, token) = (site.key("hq"), site.token("hr,security"));
        Self { site, gate_key, token }
    }

    fn open(&self) -> Open {
        let daemon = self.site.start();
        let (gate, desk) = (daemon.device(&self.gate_key), daemon.person(&self.token));
        Open { daemon, gate, desk }
    }
}

struct Open {
    daemon: Daemon,
    gate: Caller,
    desk: Caller,
}

impl Open {
    async fn register(&self, card: &str, employee: &str) {
        self.desk.put(&format!("/v1/cards/{card}"), &json!({ "employee_id": employee })).await.expect(201);
    }

    async fn enter_at(&self, card: &str, gate: &str) -> Value {
        let body = json!({ "card_id": card, "gate_id": gate });
        self.gate.post("/v1/buildings/hq/entries", &body).await.expect(200)
    }

    async fn enter(&self, card: &str) -> Value {
        self.enter_at(card, "north-1").await
    }

    async fn forgive(&self, employee: &str) -> Answer {
        let path = format!("/v1/buildings/hq/presence/{employee}/forgive");
        self.desk.post(&path, &json!({ "reason": "left by the garage" })).await
    }

    async fn people(&self) -> Vec<Value> {
        let presence = self.desk.get("/v1/buildings/hq/presence").await.expect(200);
        presence["people"].as_array().unwrap().clone()
    }

    async fn inside(&self) -> Vec<String> {
        let people = self.people().await;
        people.iter().map(|person| person["employee_id"].as_str().unwrap().to_owned()).collect()
    }

    async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.daemon.anyone().get("/metrics").await.body;
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

#[tokio::test]
async fn the_desk_forgives_one_and_resets_all() {
    let house = House::new(Site::with_files());
    let mut open = house.open();
    for number in 1..=3 {
        open.register(&format!("C{number}"), &format!("E{number}")).await;
        assert_eq!(open.enter(&format!("C{number}")).await["decision"], "granted");
    }
    let absent = open.forgive("E9").await.expect(404);
    assert!(absent["detail"].as_str().unwrap().contains("not inside hq"), "{absent}");
    let since = open.people().await[0]["since"].clone();
    let forgiven = open.forgive("E1").await.expect(200);
    assert_eq!(
        json!([forgiven["employee_id"], forgiven["card_id"], forgiven["gate"], forgiven["since"]]),
        json!(["E1", "C1", "north-1", since])
    );
    open.forgive("E1").await.expect(404);
    assert_eq!(open.metric("turnstiled_inside{building=\"hq\"}").await, Some(2.0));

    open.daemon.kill();
    let mut open = house.open();
    assert_eq!(open.inside().await, ["E2", "E3"]);
    assert_eq!(open.enter("C1").await["decision"], "granted", "forgiven is forgiven");
    for (body, field) in [
        (json!({}), "reason"),
        (json!({ "reason": "" }), "reason"),
        (json!({ "reason": " \n" }), "reason"),
        (json!({ "reason": "x".repeat(501) }), "reason"),
        (json!({ "reason": "a drill", "people": 3 }), "people"),
    ] {
        let refused = open.desk.post("/v1/buildings/hq/presence/reset", &body).await.expect(422);
        assert_eq!(refused["errors"][0]["field"], field, "{refused}");
    }
    let drill = json!({ "reason": "x".repeat(500) });
    let reset = open.desk.post("/v1/buildings/hq/presence/reset", &drill).await.expect(200);
    assert_eq!(reset["people"], 3);
    assert_eq!(open.metric("turnstiled_inside{building=\"hq\"}").await, Some(0.0));
    assert_eq!(open.enter("C2").await["decision"], "granted");

    open.daemon.kill();
    let open = house.open();
    assert_eq!(open.inside().await, ["E2"]);
    let auditor = open.daemon.person(&house.site.token("auditor"));
    assert_eq!(auditor.post("/v1/buildings/hq/presence/reset", &drill).await.status, 403);
    let elsewhere = open.daemon.person(&house.site.token("security@annex"));
    assert_eq!(elsewhere.post("/v1/buildings/hq/presence/reset", &drill).await.status, 403);
    assert_eq!(elsewhere.post("/v1/buildings/annex/presence/reset", &drill).await.expect(200)["people"], 0);
    open.daemon.stop();
    let log = house.site.dump();
    let of = |event_type: &str| log.iter().find(|event| event["type"] == event_type).unwrap();
    let forgiven = of("presence.forgiven");
    assert_eq!(
        (&forgiven["subject"], &forgiven["partitionkey"], &forgiven["data"]["by"]),
        (&json!("employee/E1"), &json!("E1"), &json!("person/ada"))
    );
    assert_eq!(forgiven["data"]["reason"], "left by the garage");
    let cleared = of("presence.reset");
    assert_eq!(json!([cleared["id"], cleared["sequence"]]), json!([reset["event_id"], reset["sequence"]]));
    assert_eq!(
        cleared["data"],
        json!({ "building": "hq", "people": 3, "reason": "x".repeat(500), "by": "person/ada" })
    );
}

/// hq with a gate that says what came of a grant, and one that sees its cards twice.
fn house_with(rules: &str) -> House {
    let gates = "gates = [{ id = \"north-1\" }, { id = \"north-2\" }]";
    assert!(TWO_BUILDINGS.contains(gates));
    let gates_now = format!(
        "{rules}\ngates = [{{ id = \"north-1\" }}, {{ id = \"north-2\", passage = \"confirm\", passage_timeout = \"1h\" }},\n\
         {{ id = \"quick\", passage = \"confirm\", passage_timeout = \"1s\" }}]"
    );
    House::new(Site::new(&format!("{}{FILE_SINK}", TWO_BUILDINGS.replacen(gates, &gates_now, 1))))
}

impl Open {
    async fn say(&self, granted: &Value, outcome: &str) -> Answer {
        let body = json!({ "event_id": granted["event_id"], "outcome": outcome });
        self.gate.post("/v1/buildings/hq/passages", &body).await
    }

    /// Who is inside how surely.
    async fn certainties(&self) -> Value {
        let people = self.people().await;
        people.iter().map(|person| json!([person["employee_id"], person["certainty"]])).collect()
    }

    async fn recorded(&self, entries: Value) -> Value {
        let body = json!({ "entries": entries });
        self.gate.post("/v1/buildings/hq/entries/recorded", &body).await.expect(202)["results"].clone()
    }
}

#[tokio::test]
async fn gates_say_what_came_of_their_grants() {
    let house = house_with("");
    let mut open = house.open();
    for number in 1..=4 {
        open.register(&format!("C{number}"), &format!("E{number}")).await;
    }
    let (entered, not) = (open.enter_at("C1", "north-2").await, open.enter_at("C2", "north-2").await);
    let (still, assumed) = (open.enter_at("C3", "north-2").await, open.enter_at("C4", "north-1").await);
    assert_eq!(
        open.certainties().await,
        json!([["E1", "pending"], ["E2", "pending"], ["E3", "pending"], ["E4", "assumed"]])
    );
    let confirmed = open.say(&entered, "entered").await.expect(202);
    let abandoned = open.say(&not, "no_entry").await.expect(202);
    open.say(&assumed, "entered").await.expect(404);
    for (body, status) in [
        (json!({ "event_id": "x", "outcome": "entered" }), 422),
        (json!({ "event_id": entered["event_id"], "outcome": "maybe" }), 422),
        (json!({ "event_id": entered["event_id"] }), 422),
    ] {
        open.gate.post("/v1/buildings/hq/passages", &body).await.expect(status);
    }
    let north_1 = house.site.run_well(&["keys", "add", "--building", "hq", "--gate", "north-1"]);
    let other = open.daemon.device(north_1.trim());
    let body = json!({ "event_id": still["event_id"], "outcome": "entered" });
    other.post("/v1/buildings/hq/passages", &body).await.expect(403);

    // what was said, and what is still to be said, outlives a kill
    open.daemon.kill();
    let open = house.open();
    let inside = json!([["E1", "confirmed"], ["E3", "pending"], ["E4", "assumed"]]);
    assert_eq!(open.certainties().await, inside);
    assert_eq!(open.say(&entered, "entered").await.expect(202), confirmed, "the first answer");
    assert_eq!(open.say(&not, "no_entry").await.expect(202), abandoned);
    open.say(&entered, "no_entry").await.expect(409);
    open.say(&not, "entered").await.expect(409);
    open.say(&still, "no_entry").await.expect(202);
    assert_eq!(open.certainties().await, json!([["E1", "confirmed"], ["E4", "assumed"]]));
    let quick = open.enter_at("C2", "quick").await;
    eventually("the limit is over", async || {
        let people = open.certainties().await;
        (people[1] == json!(["E2", "assumed"])).then_some(())
    })
    .await;
    open.say(&quick, "no_entry").await.expect(409);
    open.say(&quick, "entered").await.expect(202);
    let csv = open.desk.send(Method::GET, "/v1/buildings/hq/presence", &[("Accept", "text/csv")], "").await;
    let line = csv.body.lines().find(|line| line.starts_with("E2,")).unwrap();
    assert!(line.ends_with(",quick,confirmed"), "{line}");
    assert_eq!(
        open.metric("turnstiled_passages_total{building=\"hq\",outcome=\"confirmed\"}").await,
        Some(1.0)
    );
    open.daemon.stop();
    let log = house.site.dump();
    let types: Vec<&str> = log.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types.iter().filter(|kind| **kind == "access.passage.confirmed").count(), 2);
    assert_eq!(types.iter().filter(|kind| **kind == "access.passage.abandoned").count(), 2);
    let said = log.iter().find(|event| event["id"] == abandoned["event_id"]).unwrap();
    assert_eq!(
        json!([
            said["source"],
            said["data"]["granted_event_id"],
            said["data"]["granted_sequence"],
            said["data"]["presence"]
        ]),
        json!(["/buildings/hq/gates/north-2", not["event_id"], not["sequence"], { "inside": false }])
    );
}

#[tokio::test]
async fn what_gates_decided_alone_is_recorded_and_believed() {
    let house = house_with("");
    let mut open = house.open();
    for number in 1..=3 {
        open.register(&format!("C{number}"), &format!("E{number}")).await;
    }
    open.desk.post("/v1/cards/C3/report-lost", &json!({})).await.expect(200);
    let now = clock_of(&open).await;
    let entry = |card: &str, minutes: i64, decision: &str| {
        json!({ "card_id": card, "gate_id": "north-1", "occurred_at": minutes_before(&now, minutes),
            "decision": decision, "swipe_id": Uuid::now_v7() })
    };
    let entries = json!([
        entry("C1", 30, "granted"),
        entry("C2", 20, "denied"),
        entry("C3", 10, "granted"),
        entry("C9", 5, "granted"),
        { "card_id": "C2", "gate_id": "north-1", "occurred_at": minutes_before(&now, 1) },
    ]);
    let results = open.recorded(entries.clone()).await;
    let inside = json!([["E1", "recorded"], ["E2", "recorded"], ["E3", "recorded"]]);
    assert_eq!(open.certainties().await, inside);
    assert_eq!(open.people().await[0]["since"], minutes_before(&now, 30));

    open.daemon.kill();
    let open = house.open();
    assert_eq!(open.certainties().await, inside);
    // again: the first answers; without a name it is another one, which a later exit has made history
    open.gate
        .post("/v1/buildings/hq/exits", &json!({ "card_id": "C2", "gate_id": "north-1" }))
        .await
        .expect(202);
    let again = open.recorded(entries).await;
    assert_eq!((&again[0], &again[3]), (&results[0], &results[3]));
    assert_ne!(again[4], results[4]);
    assert_eq!(open.inside().await, ["E1", "E3"]);
    let recorded = "turnstiled_entries_recorded_total{anomaly=\"\",building=\"hq\",decision=\"granted\"}";
    assert_eq!(open.metric(recorded).await, Some(1.0));
    for (body, field) in [
        (json!({ "entries": [] }), "entries"),
        (json!({ "entries": [{ "card_id": "C1", "gate_id": "north-1" }] }), "entries[0].occurred_at"),
        (json!({ "exits": [] }), "entries"),
    ] {
        let refused = open.gate.post("/v1/buildings/hq/entries/recorded", &body).await.expect(422);
        assert_eq!(refused["errors"][0]["field"], field);
    }
    // a thousand of one card: piece by piece, each by itself
    let many: Vec<Value> = (0..1_000).map(|second| {
        json!({ "card_id": "C1", "gate_id": "north-1", "occurred_at": minutes_before(&now, 1_000 - second) })
    }).collect();
    let results = open.recorded(Value::from(many)).await;
    let sequences: Vec<u64> = results.as_array().unwrap().iter().map(sequence).collect();
    assert!(sequences.len() == 1_000 && sequences.is_sorted());
    open.daemon.stop();
    let log = house.site.dump();
    let data = |result: &Value| {
        let event = log.iter().find(|event| event["id"] == result["event_id"]).unwrap();
        assert_eq!(event["type"], "access.entry.recorded");
        json!([
            event["data"]["decision"],
            event["data"]["anomaly"],
            event["data"]["stale"],
            event["data"]["employee_id"]
        ])
    };
    assert_eq!(data(&again[0]), json!(["granted", null, null, "E1"]));
    assert_eq!(data(&again[1]), json!(["denied", null, null, "E2"]));
    assert_eq!(data(&again[2]), json!(["granted", "lost", null, "E3"]));
    assert_eq!(data(&again[3]), json!(["granted", "unknown_card", null, null]));
    assert_eq!(data(&again[4]), json!(["granted", null, true, "E2"]));
}

#[tokio::test]
async fn a_card_shown_twice_at_once_enters_once() {
    let house = house_with("regrant_window = \"5m\"");
    let open = house.open();
    open.register("C1", "E1").await;
    open.register("C2", "E1").await;
    let first = open.enter("C1").await;
    let again = open.enter("C1").await;
    assert_eq!((&again["decision"], again.get("violation")), (&json!("granted"), None));
    assert_ne!(first["event_id"], again["event_id"]);
    assert_eq!(open.people().await[0]["since"], first["decided_at"]);
    assert_eq!(open.enter("C2").await["reason"], "anti_passback");
    assert_eq!(open.enter_at("C1", "north-2").await["reason"], "anti_passback");
}

/// A reset that came while the server was down is one that it knows of at once.
#[tokio::test]
async fn a_day_that_began_while_the_server_was_down_began() {
    let house = house_with("presence_timeout = \"0s\"");
    let mut open = house.open();
    open.register("C1", "E1").await;
    let now = clock_of(&open).await;
    // let in 25 hours ago: at every time of day there was a reset since
    open.recorded(
        json!([{ "card_id": "C1", "gate_id": "north-1", "occurred_at": minutes_before(&now, 25 * 60) }]),
    )
    .await;
    assert_eq!(open.inside().await, ["E1"]);
    open.daemon.kill();
    let config = std::fs::read_to_string(house.site.path("routes.toml")).unwrap();
    let with_reset = config.replacen("presence_timeout", "daily_reset = \"04:00\"\npresence_timeout", 1);
    house.site.configure(&with_reset);
    let open = house.open();
    assert_eq!(open.enter("C1").await["decision"], "granted");
    open.daemon.stop();
    let log = house.site.dump();
    let expired = log.iter().find(|event| event["type"] == "presence.expired").unwrap();
    assert_eq!(
        (&expired["data"]["cause"], &expired["data"]["employee_id"]),
        (&json!("daily_reset"), &json!("E1"))
    );
}

/// The server's clock.
async fn clock_of(open: &Open) -> String {
    let presence = open.desk.get("/v1/buildings/hq/presence").await.expect(200);
    presence["as_of"].as_str().unwrap().to_owned()
}

fn minutes_before(moment: &str, minutes: i64) -> String {
    let moment: jiff::Timestamp = moment.parse().unwrap();
    let before = moment - jiff::SignedDuration::from_mins(minutes);
    format!("{before:.3}")
}
