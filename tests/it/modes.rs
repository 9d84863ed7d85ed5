//! Lockdown, evacuation and the muster, through kill -9.

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site},
    http::{Answer, Caller},
};

/// Two buildings with their callers.
pub(crate) struct House {
    pub(crate) site: Site,
    gate_key: String,
    annex_key: String,
    panel_key: String,
    token: String,
}

impl House {
    fn new() -> Self {
        Self::at(Site::with_files())
    }

    pub(crate) fn at(site: Site) -> Self {
        let (gate_key, annex_key, token) = (site.key("hq"), site.key("annex"), site.token("hr,security"));
        let panel_key = panel(&site, "hq");
        Self { site, gate_key, annex_key, panel_key, token }
    }

    pub(crate) fn open(&self) -> Open {
        let daemon = self.site.start();
        let device = |key: &str| daemon.device(key);
        let (gate, annex, panel) = (device(&self.gate_key), device(&self.annex_key), device(&self.panel_key));
        let desk = daemon.person(&self.token);
        Open { daemon, gate, annex, panel, desk }
    }
}

fn panel(site: &Site, building: &str) -> String {
    site.run_well(&["keys", "add", "--building", building, "--kind", "panel"]).trim().to_owned()
}

pub(crate) struct Open {
    pub(crate) daemon: Daemon,
    pub(crate) gate: Caller,
    annex: Caller,
    pub(crate) panel: Caller,
    pub(crate) desk: Caller,
}

impl Open {
    pub(crate) async fn register(&self, card: &str, details: Value) {
        self.desk.put(&format!("/v1/cards/{card}"), &details).await.expect(201);
    }

    /// `granted`, or the reason why not with its number.
    pub(crate) async fn enter(&self, card: &str) -> Value {
        let body = json!({ "card_id": card, "gate_id": "north-1" });
        let answer = self.gate.post("/v1/buildings/hq/entries", &body).await.expect(200);
        match answer["decision"].as_str() {
            Some("granted") => json!("granted"),
            _ => json!([answer["reason"], answer["bacnet_code"]]),
        }
    }

    pub(crate) async fn leave(&self, card: &str, gate: &str) {
        let body = json!({ "card_id": card, "gate_id": gate });
        self.gate.post("/v1/buildings/hq/exits", &body).await.expect(202);
    }

    pub(crate) async fn mode(&self, mode: &str) -> Value {
        self.panel.post("/v1/buildings/hq/mode", &to(mode)).await.expect(200)
    }

    pub(crate) async fn muster(&self) -> Value {
        self.desk.get("/v1/buildings/hq/muster").await.expect(200)
    }

    pub(crate) async fn account(&self, employee: &str, body: Value) -> Answer {
        self.desk.post(&format!("/v1/buildings/hq/muster/{employee}/account"), &body).await
    }

    pub(crate) async fn inside(&self) -> Vec<String> {
        let presence = self.desk.get("/v1/buildings/hq/presence").await.expect(200);
        let people = presence["people"].as_array().unwrap();
        people.iter().map(|person| person["employee_id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.daemon.anyone().get("/metrics").await.body;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{series} is not in {text}"))
    }
}

pub(crate) fn to(mode: &str) -> Value {
    json!({ "mode": mode, "reason": "fire alarm" })
}

/// What does not change by looking again.
pub(crate) fn without_moment(mut muster: Value) -> Value {
    muster.as_object_mut().unwrap().remove("as_of").unwrap();
    muster
}

pub(crate) fn states(muster: &Value) -> Vec<(String, String)> {
    let of = |person: &Value, field: &str| person[field].as_str().unwrap().to_owned();
    let people = muster["people"].as_array().unwrap();
    people.iter().map(|person| (of(person, "employee_id"), of(person, "state"))).collect()
}

#[tokio::test]
async fn a_lockdown_lets_in_responders_only_and_survives_kill_9() {
    let house = House::new();
    let mut open = house.open();
    open.register("C1", json!({ "employee_id": "E1" })).await;
    open.register("C2", json!({ "employee_id": "E2", "responder": true })).await;
    let building = open.desk.get("/v1/buildings/hq").await.expect(200);
    assert_eq!(
        (&building["mode"], &building["since"], &building["inside"]),
        (&json!("normal"), &Value::Null, &json!(0))
    );
    let changed = open.mode("lockdown").await;
    assert_eq!((&changed["mode"], &changed["previous"]), (&json!("lockdown"), &json!("normal")));
    let again = open.mode("lockdown").await;
    assert_eq!((&again["event_id"], &again["since"]), (&Value::Null, &changed["since"]));
    assert_eq!(open.enter("C1").await, json!(["lockdown", 128]));
    open.daemon.kill();
    drop(open);

    let open = house.open();
    assert_eq!(open.enter("C1").await, json!(["lockdown", 128]));
    assert_eq!(open.enter("C9").await, json!(["unknown_card", 129]));
    assert_eq!(open.enter("C2").await, "granted");
    open.leave("C1", "north-1").await;
    assert_eq!(open.metric("turnstiled_building_mode{building=\"hq\",mode=\"lockdown\"}").await, 1.0);
    assert_eq!(open.metric("turnstiled_building_mode{building=\"hq\",mode=\"normal\"}").await, 0.0);
    let presence = open.desk.get("/v1/buildings/hq/presence").await.expect(200);
    assert_eq!(presence["mode"], "lockdown");
    let muster = open.muster().await;
    assert_eq!((&muster["taken_at"], &muster["people"]), (&Value::Null, &json!([])));
    open.account("E1", json!({})).await.expect(409);
    open.mode("normal").await;
    assert_eq!(open.enter("C1").await, "granted");
    assert_eq!(open.inside().await, ["E1", "E2"], "a lockdown takes nobody out");
    let (status, _) = open.daemon.stop();
    assert!(status.success());
    let changes: Vec<Value> = (house.site.dump().into_iter())
        .filter(|event| event["type"] == "building.mode.changed")
        .map(|event| json!([event["data"]["mode"], event["data"]["previous"], event["data"]["reason"]]))
        .collect();
    let expected = [["lockdown", "normal", "fire alarm"], ["normal", "lockdown", "fire alarm"]];
    assert_eq!(json!(changes), json!(expected));
}

#[tokio::test]
async fn an_evacuation_with_kill_9_in_the_middle_keeps_the_muster_list() {
    let house = House::new();
    let mut open = house.open();
    for (number, name) in [(1, "Ada"), (2, "=cmd()"), (3, "Grace"), (4, "Zuse")] {
        let details = json!({ "employee_id": format!("E{number}"), "holder_name": name });
        open.register(&format!("C{number}"), details).await;
        assert_eq!(open.enter(&format!("C{number}")).await, "granted");
    }
    open.register("C5", json!({ "employee_id": "E5" })).await;
    open.register("C6", json!({ "employee_id": "E6", "responder": true })).await;
    let annex =
        open.annex.post("/v1/buildings/annex/entries", &json!({ "card_id": "C3", "gate_id": "main" })).await;
    annex.expect(200);
    open.desk.post("/v1/cards/C4/revoke", &json!({})).await.expect(200);
    let taken = open.mode("evacuation").await;
    open.leave("C1", "north-2").await;
    assert_eq!(open.enter("C5").await, json!(["evacuation", 137]));
    assert_eq!(open.enter("C6").await, "granted");
    let line = open.account("E2", json!({ "note": "at the tree" })).await.expect(200);
    assert_eq!((&line["state"], &line["note"]), (&json!("accounted"), &json!("at the tree")));
    let again = open.account("E2", json!({})).await.expect(200);
    assert_eq!(again, line, "nothing changes by saying it again");
    open.account("E5", json!({})).await.expect(404);
    open.account("E6", json!({})).await.expect(404);
    assert_eq!(open.metric("turnstiled_muster_missing{building=\"hq\"}").await, 2.0);

    let before = open.muster().await;
    assert_eq!(before["taken_at"], taken["since"]);
    let of = |employee: &str, state: &str| (employee.to_owned(), state.to_owned());
    // missing first, then by name
    let expected = [of("E3", "missing"), of("E4", "missing"), of("E2", "accounted"), of("E1", "left")];
    assert_eq!(states(&before), expected);
    assert_eq!(before["counts"], json!({ "roster": 4, "left": 1, "accounted": 1, "missing": 2 }));
    let people = before["people"].as_array().unwrap();
    assert_eq!(people[0]["also_inside"], json!(["annex"]));
    assert_eq!(people[1]["card_status"], "revoked");
    assert_eq!(people[3]["left_by_gate"], "north-2");
    assert_eq!(people[3]["last_seen"]["direction"], "exit");
    assert_eq!(people[0]["last_seen"]["direction"], "entry");
    assert_eq!(before["entered_since"][0]["employee_id"], "E6");
    let csv =
        open.desk.send(reqwest::Method::GET, "/v1/buildings/hq/muster", &[("accept", "text/csv")], "").await;
    assert_eq!(csv.status, 200);
    assert!(csv.body.lines().any(|line| line.starts_with("accounted,E2,'=cmd(),C2,active,")), "{}", csv.body);
    assert!(csv.body.lines().last().unwrap().starts_with("entered_since,E6,"), "{}", csv.body);
    open.daemon.kill();
    drop(open);

    let open = house.open();
    assert_eq!(without_moment(open.muster().await), without_moment(before));
    assert_eq!(open.metric("turnstiled_muster_missing{building=\"hq\"}").await, 2.0);
    open.mode("lockdown").await;
    open.leave("C3", "north-1").await;
    open.mode("evacuation").await;
    assert_eq!(open.muster().await["taken_at"], taken["since"], "the same roster goes on");
    assert_eq!(states(&open.muster().await)[0], of("E4", "missing"));
    open.mode("normal").await;
    assert_eq!(open.inside().await, ["E6"], "who came in since the roster is inside");
    assert_eq!(open.muster().await["people"], json!([]));
    assert_eq!(open.metric("turnstiled_muster_missing{building=\"hq\"}").await, 0.0);
    assert_eq!(open.enter("C1").await, "granted");
    // the events come to the same, read again
    let token = house.site.token("admin");
    let compare =
        ["replay", "--url", open.daemon.base_url(), "--token", &token, "--to", "state", "--from", "wal"];
    let found = house.site.run_well(&compare);
    // 6 cards, E1 and E6 in hq, E3 in the annex
    assert!(found.starts_with("0 of 9 entries differ"), "{found}");
    let (status, _) = open.daemon.stop();
    assert!(status.success());
    let log = house.site.dump();
    let looks = log.iter().filter(|event| event["type"] == "audit.read" && event["data"]["what"] == "muster");
    assert_eq!(looks.count(), 6, "each look is recorded, in either form");
}

#[tokio::test]
async fn who_may_change_the_mode_and_see_the_muster() {
    let house = House::new();
    let open = house.open();
    open.register("C1", json!({ "employee_id": "E1" })).await;
    open.enter("C1").await;
    let person = |roles: &str| open.daemon.person(&house.site.token(roles));
    let other_panel = open.daemon.device(&panel(&house.site, "annex"));
    let (mode, muster, account) =
        ("/v1/buildings/hq/mode", "/v1/buildings/hq/muster", "/v1/buildings/hq/muster/E1/account");
    open.mode("evacuation").await;
    // the caller, and what it gets for mode, account, muster and the building
    let callers = [
        (open.daemon.anyone(), [401, 401, 401, 401]),
        (open.daemon.device("no-such-key"), [401, 401, 401, 401]),
        (open.panel.clone(), [200, 401, 401, 401]),
        (other_panel, [403, 401, 401, 401]),
        (open.gate.clone(), [403, 401, 401, 401]),
        (person("security"), [200; 4]),
        (person("security@hq"), [200; 4]),
        (person("security@annex"), [403, 403, 403, 200]),
        (person("hr"), [403, 403, 403, 200]),
        (person("auditor"), [403, 403, 403, 200]),
        (person("admin"), [403, 403, 403, 200]),
    ];
    for (number, (caller, expected)) in callers.into_iter().enumerate() {
        let found = [
            caller.post(mode, &to("evacuation")).await.status,
            caller.post(account, &json!({})).await.status,
            caller.get(muster).await.status,
            caller.get("/v1/buildings/hq").await.status,
        ];
        assert_eq!(found, expected, "caller {number}");
    }
    // a panel's key opens nothing else
    open.panel
        .post("/v1/buildings/hq/entries", &json!({ "card_id": "C1", "gate_id": "north-1" }))
        .await
        .expect(403);
    open.panel
        .post("/v1/buildings/hq/exits", &json!({ "card_id": "C1", "gate_id": "north-1" }))
        .await
        .expect(403);
    open.panel.get("/v1/buildings/hq/presence").await.expect(401);
    // what does not fit
    for path in ["/v1/buildings/none/mode", "/v1/buildings/none/muster/E1/account"] {
        open.desk.post(path, &to("normal")).await.expect(404);
    }
    open.desk.get("/v1/buildings/none").await.expect(404);
    open.desk.get("/v1/buildings/none/muster").await.expect(404);
    for body in [
        json!({}),
        json!({ "mode": "normal" }),
        json!({ "mode": "panic", "reason": "x" }),
        json!({ "mode": "normal", "reason": " " }),
        json!({ "mode": "normal", "reason": "x".repeat(501) }),
        json!({ "mode": "normal", "reason": "x", "more": 1 }),
    ] {
        open.desk.post(mode, &body).await.expect(422);
    }
    open.account("E1", json!({ "note": "x".repeat(501) })).await.expect(422);
    open.account("not%20an%20id", json!({})).await.expect(422);
    assert_eq!(open.muster().await["mode"], "evacuation");
}
