//! What other devices than turnstiles say: declared types, checked by their schemas, logged and routed like any event.

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS, sequence},
    reload::{REFUSED, TAKEN, hang_up, reload},
    wait::eventually,
};

const SALE: &str = r##"{
    "type": "object",
    "required": ["slot", "price"],
    "additionalProperties": false,
    "properties": {
        "slot": { "type": "integer", "minimum": 1 },
        "price": { "$ref": "#/$defs/money" },
        "lines": { "type": "array", "items": { "type": "object", "required": ["name"] } }
    },
    "$defs": {
        "money": { "type": "object", "required": ["amount"], "properties": { "amount": { "pattern": "^[0-9]+\\.[0-9]{2}$" } } }
    }
}"##;
const VENDING: (&str, &str) = ("device.vending.sale", "vending-sale.json");
const EVENTS: &str = "/v1/buildings/hq/events";

fn config(types: &[(&str, &str)]) -> String {
    let declared: String = (types.iter())
        .map(|(name, schema)| format!("[[event_types]]\ntype = \"{name}\"\nschema = \"{schema}\"\n"))
        .collect();
    format!("{TWO_BUILDINGS}{FILE_SINK}{declared}")
}

fn site() -> Site {
    let site = Site::new(&config(&[VENDING]));
    std::fs::write(site.path(VENDING.1), SALE).unwrap();
    site
}

fn is_sale(event: &Value) -> bool {
    event["type"] == VENDING.0
}

#[tokio::test]
async fn a_sale_is_checked_recorded_and_routed() {
    let site = site();
    let (key, token) = (site.key("hq"), site.token("hr"));
    let mut daemon = site.start();
    daemon.person(&token).put("/v1/cards/C1", &json!({ "employee_id": "E1" })).await.expect(201);
    let sale = json!({ "type": VENDING.0, "card_id": "C1", "swipe_id": "7f0c0a3e-5f2b-4d0e-9d83-0d6c8a3b6a11",
        "occurred_at": "2026-11-20T08:00:00Z", "data": { "slot": 12, "price": { "amount": "1.80" } } });
    let mut other = sale.clone();
    other["data"]["slot"] = json!(13);

    let first = daemon.device(&key).post(EVENTS, &sale).await.expect(202);
    // again: the first answer, also after a restart; something else by that name: 409
    let again = async |daemon: &Daemon| {
        let machine = daemon.device(&key);
        assert_eq!(machine.post(EVENTS, &sale).await.expect(202), first);
        machine.post(EVENTS, &other).await.expect(409);
    };
    again(&daemon).await;
    daemon.kill();
    let daemon = site.start();
    again(&daemon).await;

    let metrics = async || daemon.anyone().get("/metrics").await.body;
    let counted = "turnstiled_device_events_total{building=\"hq\",type=\"device.vending.sale\"}";
    assert!(!metrics().await.contains(counted), "nothing new since the start");
    let at_gate = json!({ "type": VENDING.0, "gate_id": "north-1", "data": { "slot": 1, "price": { "amount": "0.50" } } });
    daemon.device(&key).post(EVENTS, &at_gate).await.expect(202);
    assert!(metrics().await.contains(&format!("{counted} 1\n")));

    let sales = eventually("both sales are delivered", async || {
        let mut sales: Vec<Value> = site.files("sinks/files").into_iter().filter(is_sale).collect();
        // what was written just before the kill may come again
        sales.sort_by_key(sequence);
        sales.dedup_by(|one, other| one["id"] == other["id"]);
        (sales.len() >= 2).then_some(sales)
    })
    .await;
    assert_eq!(sales.len(), 2);
    let event = &sales[0];
    assert_eq!((&event["id"], &event["sequence"]), (&first["event_id"], &first["sequence"]));
    assert_eq!(
        (&event["source"], &event["subject"], &event["partitionkey"]),
        (&json!("/buildings/hq"), &json!("card/C1"), &json!("E1"))
    );
    let data = &event["data"];
    assert_eq!((&data["slot"], &data["price"]), (&json!(12), &json!({ "amount": "1.80" })));
    assert_eq!((&data["employee_id"], &data["building"]), (&json!("E1"), &json!("hq")));
    assert!(data["by"].as_str().unwrap().starts_with("device/k_"), "{data}");
    assert_eq!(sales[1]["source"], "/buildings/hq/gates/north-1");
    assert!(daemon.stop().0.success());
}

#[tokio::test]
async fn what_is_not_as_declared_is_refused_with_every_reason() {
    let site = site();
    let (key, gate_key) =
        (site.key("hq"), site.run_well(&["keys", "add", "--building", "hq", "--gate", "north-1"]));
    let daemon = site.start();
    let machine = daemon.device(&key);
    let refused = async |body: Value| -> Vec<String> {
        let problem = machine.post(EVENTS, &body).await.expect(422);
        let errors = problem["errors"].as_array().unwrap();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    };
    let bad = json!({ "slot": 0, "price": { "amount": "free" }, "lines": [{ "name": 1 }, {}] });
    let mut fields = refused(json!({ "type": VENDING.0, "extra": 1, "data": bad })).await;
    fields.sort();
    assert_eq!(fields, ["/data/lines/1", "/data/price/amount", "/data/slot", "extra"]);
    assert_eq!(refused(json!({ "type": "device.lift.ride", "data": {} })).await, ["type"]);
    assert_eq!(refused(json!({ "type": "access.entry.granted", "data": {} })).await, ["type"]);

    let good = json!({ "type": VENDING.0, "data": { "slot": 1, "price": { "amount": "0.50" } } });
    machine.post("/v1/buildings/annex/events", &good).await.expect(403);
    machine.post("/v1/buildings/none/events", &good).await.expect(404);
    daemon.anyone().post(EVENTS, &good).await.expect(401);
    let mut elsewhere = good.clone();
    elsewhere["gate_id"] = json!("main");
    machine.post(EVENTS, &elsewhere).await.expect(404);
    let of_gate = daemon.device(gate_key.trim());
    elsewhere["gate_id"] = json!("north-2");
    of_gate.post(EVENTS, &elsewhere).await.expect(403);
    of_gate.post(EVENTS, &good).await.expect(202);
    assert!(daemon.stop().0.success());
    let recorded: Vec<Value> = site.dump().into_iter().filter(is_sale).collect();
    assert_eq!((recorded.len(), &recorded[0]["data"]["gate"]), (1, &json!("north-1")), "the gate of its key");
}

#[tokio::test]
async fn a_reload_takes_new_types() {
    let site = site();
    let key = site.key("hq");
    let daemon = site.start();
    let machine = daemon.device(&key);
    let ride = json!({ "type": "device.lift.ride", "data": { "floor": 3 } });
    machine.post(EVENTS, &ride).await.expect(422);
    std::fs::write(site.path("lift.json"), r#"{"required": ["floor"]}"#).unwrap();
    reload(&site, &daemon, &config(&[VENDING, ("device.lift.ride", "lift.json")])).await;
    machine.post(EVENTS, &ride).await.expect(202);
    let mut named = ride.clone();
    named["swipe_id"] = json!("7f0c0a3e-5f2b-4d0e-9d83-0d6c8a3b6a11");
    let first = machine.post(EVENTS, &named).await.expect(202);
    // another schema is taken; one that is broken is refused, and the old one stays
    std::fs::write(site.path("lift.json"), r#"{"required": ["floor", "by_hand"]}"#).unwrap();
    hang_up(&daemon, TAKEN).await;
    machine.post(EVENTS, &ride).await.expect(422);
    std::fs::write(site.path("lift.json"), r#"{"required": 7}"#).unwrap();
    hang_up(&daemon, REFUSED).await;
    machine.post(EVENTS, &ride).await.expect(422);
    // what was answered is answered again, whatever is declared now
    assert_eq!(machine.post(EVENTS, &named).await.expect(202), first);
    std::fs::write(site.path("lift.json"), "{}").unwrap();
    reload(&site, &daemon, &config(&[VENDING])).await;
    assert_eq!(machine.post(EVENTS, &named).await.expect(202), first);
    named["data"]["floor"] = json!(4);
    machine.post(EVENTS, &named).await.expect(409);
    assert!(daemon.stop().0.success());
    let changed = |event: &Value| event["data"]["event_types_changed"] == json!(["device.lift.ride"]);
    assert_eq!(site.dump().iter().filter(|event| changed(event)).count(), 3);
}

#[test]
fn check_names_what_is_wrong_with_a_schema() {
    let site = site();
    let check = |schema: &str| {
        std::fs::write(site.path(VENDING.1), schema).unwrap();
        let output = site.run(&["check"]);
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (passed, said) = check(SALE);
    assert!(passed && said.contains("device.vending.sale"), "{said}");
    for (schema, expected) in [
        (r#"{"properties": {"slot": {"type": "whole"}}}"#, "vending-sale.json: at /properties/slot/type: "),
        ("{\n\"type\"}", "vending-sale.json: at line 2, column 7: is not JSON"),
        (r#"{"$ref": "https://example.com/x.json"}"#, "https://example.com/x.json"),
    ] {
        let (passed, said) = check(schema);
        assert!(!passed && said.contains(expected) && said.contains("routes.toml:"), "{said}");
    }
    std::fs::remove_file(site.path(VENDING.1)).unwrap();
    let output = site.run(&["check"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be read"), "{output:?}");
}
