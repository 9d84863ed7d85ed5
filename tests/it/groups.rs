//! Access groups: gates and times by the configuration, and what becomes of them when it changes.

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS},
    http::Caller,
    reload::reload,
};

/// Whole days around now, in every time zone: none of the windows that begin on them holds.
fn closed_now() -> String {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let days = (-2..=2_i64).map(|days| today.saturating_add(jiff::Span::new().days(days)));
    days.map(|day| format!("\"{day}\"")).collect::<Vec<_>>().join(", ")
}

/// `staff` may go through north-1 at any time and nowhere at another that is not now; `vault` only denies.
fn config(groups: &str) -> String {
    let week = "[\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"]";
    let schedules = format!(
        "\n[[schedules]]\nid = \"always\"\nweekly = [{{ days = {week}, from = \"00:00\", to = \"24:00\" }}]\n\
         \n[[schedules]]\nid = \"another-day\"\nweekly = [{{ days = {week}, from = \"00:00\", to = \"24:00\" }}]\n\
         holidays = [{}]\n",
        closed_now()
    );
    format!("{TWO_BUILDINGS}{FILE_SINK}{schedules}{groups}")
}

const GROUPS: &str = r#"
[[groups]]
id = "staff"
allow = [
  { building = "hq", gates = ["north-1"], schedule = "always" },
  { building = "hq", gates = ["*"], schedule = "another-day" },
]

[[groups]]
id = "no-north"
allow = [{ building = "annex", gates = ["*"] }]
deny = [{ building = "hq", gates = ["north-1"] }, { building = "annex", gates = ["*"], schedule = "another-day" }]
"#;

async fn register(hr: &Caller, card_id: &str, mut card: Value) -> u16 {
    card["employee_id"] = json!(format!("E-{card_id}"));
    card["anti_passback_exempt"] = json!(true);
    hr.put(&format!("/v1/cards/{card_id}"), &card).await.status
}

struct Gates {
    hq: Caller,
    annex: Caller,
}

impl Gates {
    fn of(site: &Site, daemon: &Daemon) -> Self {
        Self { hq: daemon.device(&site.key("hq")), annex: daemon.device(&site.key("annex")) }
    }

    /// What each gate says: at north-1, north-2 and the annex.
    async fn say(&self, card_id: &str) -> [String; 3] {
        let mut said = Vec::new();
        for (gate, building, gate_id) in
            [(&self.hq, "hq", "north-1"), (&self.hq, "hq", "north-2"), (&self.annex, "annex", "main")]
        {
            let body = json!({ "card_id": card_id, "gate_id": gate_id });
            let answer = gate.post(&format!("/v1/buildings/{building}/entries"), &body).await.expect(200);
            let reason = answer["reason"].as_str().unwrap_or("granted").to_owned();
            let code = json!({ "gate_not_allowed": 134, "out_of_schedule": 136 })[&reason].clone();
            assert_eq!(answer["bacnet_code"], code);
            said.push(reason);
        }
        said.try_into().unwrap()
    }
}

async fn metric(daemon: &Daemon) -> String {
    let text = daemon.anyone().get("/metrics").await.body;
    let found = text.lines().find_map(|line| line.strip_prefix("turnstiled_cards_of_unknown_groups "));
    found.unwrap().to_owned()
}

const GRANTED: &str = "granted";
const NOT_HERE: &str = "gate_not_allowed";
const NOT_NOW: &str = "out_of_schedule";

#[tokio::test]
async fn groups_decide_by_gate_and_time() {
    let site = Site::new(&config(GROUPS));
    let daemon = site.start();
    let (hr, gates) = (daemon.person(&site.token("hr")), Gates::of(&site, &daemon));
    let cases = [
        ("FREE", json!({}), [GRANTED; 3]),
        ("NONE", json!({ "groups": [] }), [NOT_HERE; 3]),
        ("STAFF", json!({ "groups": ["staff"] }), [GRANTED, NOT_NOW, NOT_HERE]),
        ("BOTH", json!({ "groups": ["staff", "no-north"] }), [NOT_HERE, NOT_NOW, GRANTED]),
        ("NARROW", json!({ "groups": ["staff"], "gates": ["north-2"] }), [NOT_HERE, NOT_NOW, NOT_HERE]),
        ("ANNEX", json!({ "groups": ["staff"], "buildings": ["annex"] }), [NOT_HERE; 3]),
    ];
    for (card_id, card, expected) in &cases {
        assert_eq!(register(&hr, card_id, card.clone()).await, 201);
        assert_eq!(gates.say(card_id).await, *expected, "{card_id}");
    }
    assert_eq!(hr.get("/v1/cards/BOTH").await.expect(200)["groups"], json!(["staff", "no-north"]));
    let refused = json!({ "employee_id": "E1", "groups": ["staff", "stuff", "x y"] });
    let refused = hr.put("/v1/cards/NEW", &refused).await.expect(422);
    assert_eq!(refused["errors"][0]["field"], "groups");
    let refused = json!({ "employee_id": "E1", "groups": ["staff", "stuff"] });
    let refused = hr.put("/v1/cards/NEW", &refused).await.expect(422);
    assert_eq!(refused["errors"], json!([{ "field": "groups", "detail": "this server has no group stuff" }]));
    // a restart decides the same
    daemon.stop();
    let denied: Vec<Value> =
        site.dump().into_iter().filter(|event| event["data"]["reason"] == NOT_NOW).collect();
    assert_eq!((denied.len(), &denied[0]["data"]["bacnet_code"]), (3, &json!(136)));
    let daemon = site.start();
    let gates = Gates::of(&site, &daemon);
    for (card_id, _, expected) in &cases {
        assert_eq!(gates.say(card_id).await, *expected, "{card_id}");
    }
    assert_eq!(metric(&daemon).await, "0");
}

#[tokio::test]
async fn a_group_that_leaves_the_configuration_opens_nothing() {
    const WARNING: &str = "cards name groups that the configuration does not have";
    let site = Site::new(&config(GROUPS));
    let daemon = site.start();
    let (hr, gates) = (daemon.person(&site.token("hr")), Gates::of(&site, &daemon));
    for card_id in ["S1", "S2"] {
        assert_eq!(register(&hr, card_id, json!({ "groups": ["staff"] })).await, 201);
    }
    assert_eq!(register(&hr, "N1", json!({ "groups": ["no-north"] })).await, 201);
    assert_eq!(gates.say("S1").await, [GRANTED, NOT_NOW, NOT_HERE]);
    assert!(!daemon.stderr().contains(WARNING));

    let second = GROUPS.find("[[groups]]\nid = \"no-north\"").unwrap();
    reload(&site, &daemon, &config(&GROUPS[second..])).await;
    assert_eq!(gates.say("S1").await, [NOT_HERE; 3]);
    assert_eq!(gates.say("N1").await, [NOT_HERE, NOT_HERE, GRANTED]);
    assert_eq!(metric(&daemon).await, "2");
    let said = daemon.stderr();
    let line = said.lines().find(|line| line.contains(WARNING)).unwrap();
    assert!(line.contains("\"cards\":2") && line.contains("staff") && line.contains("WARN"), "{line}");
    assert_eq!(register(&hr, "S1", json!({ "groups": ["staff"] })).await, 422);
    assert_eq!(hr.post("/v1/cards/S2/suspend", &json!({})).await.status, 200, "what takes away still works");

    // so it does with the next start
    daemon.stop();
    let daemon = site.start();
    let (hr, gates) = (daemon.person(&site.token("hr")), Gates::of(&site, &daemon));
    assert_eq!(
        (gates.say("S1").await, metric(&daemon).await),
        ([NOT_HERE.to_owned(), NOT_HERE.to_owned(), NOT_HERE.to_owned()], "2".to_owned())
    );
    assert!(daemon.stderr().contains(WARNING));

    // and is whole again when it comes back, with other rules
    let wider = GROUPS.replacen("\"north-1\"", "\"north-1\", \"north-2\"", 1);
    reload(&site, &daemon, &config(&wider)).await;
    assert_eq!(gates.say("S1").await, [GRANTED, GRANTED, NOT_HERE]);
    assert_eq!(metric(&daemon).await, "0");
    assert_eq!(register(&hr, "S3", json!({ "groups": ["staff"] })).await, 201);
    // other times only
    reload(&site, &daemon, &config(&wider.replace("\"always\"", "\"another-day\""))).await;
    assert_eq!(gates.say("S3").await, [NOT_NOW, NOT_NOW, NOT_HERE]);
    assert!(daemon.stop().0.success());
}
