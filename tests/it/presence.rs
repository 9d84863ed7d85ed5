//! Who is inside, and what the security desk can say of it; all of it through kill -9.

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site},
    http::{Answer, Caller},
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
