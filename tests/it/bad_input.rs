//! Bad requests: the status, the problem document, and that nothing was recorded.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site},
    http::{Answer, Caller},
};

const ENTRIES: &str = "/v1/buildings/hq/entries";
const EXITS: &str = "/v1/buildings/hq/exits";
const BATCH: &str = "/v1/buildings/hq/exits/batch";
const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_BATCH_BODY_BYTES: usize = 1024 * 1024;
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A running daemon with everyone who calls it.
struct Scene {
    site: Site,
    daemon: Daemon,
    gate: Caller,
    hr: Caller,
}

impl Scene {
    fn start() -> Self {
        let site = Site::with_files();
        let (key, token) = (site.key("hq"), site.token("hr"));
        let daemon = site.start();
        let (gate, hr) = (daemon.device(&key), daemon.person(&token));
        Self { site, daemon, gate, hr }
    }

    /// Stops the daemon; the types of the events in its log.
    fn recorded(self) -> Vec<String> {
        let Self { site, daemon, .. } = self;
        assert!(daemon.stop().0.success());
        // keys that a test makes while the daemon runs are events, too
        let types = site.dump().into_iter().map(|event| event["type"].as_str().unwrap().to_owned());
        types.filter(|event_type| event_type != "admin.keys").collect()
    }
}

/// That it is a problem document as RFC 9457 and the contract have it; the fields it names.
#[track_caller]
fn problem(answer: &Answer, status: u16) -> Vec<String> {
    let body = answer.expect(status);
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.body);
    for field in ["type", "title", "detail"] {
        assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {body}");
    }
    assert_eq!(body["status"], status);
    let trace_id = body["trace_id"].as_str().unwrap();
    assert!(trace_id.len() == 32 && trace_id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{body}");
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    assert!(errors.iter().all(|error| error["detail"].as_str().is_some_and(|text| !text.is_empty())));
    errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}

fn swipe(card_id: &str) -> Value {
    json!({ "card_id": card_id, "gate_id": "north-1" })
}

#[tokio::test]
async fn malformed_json_is_400() {
    let scene = Scene::start();
    for body in ["", "{", "not json", "{\"card_id\": \"C1\",}", "\u{fffd}", "{\"card_id\": \"C1\"} {}"] {
        for (method, path, caller) in [
            (Method::POST, ENTRIES, &scene.gate),
            (Method::POST, EXITS, &scene.gate),
            (Method::POST, BATCH, &scene.gate),
            (Method::PUT, "/v1/cards/C1", &scene.hr),
        ] {
            problem(&caller.send(method, path, &[], body).await, 400);
        }
    }
    // an action takes an empty body, but not a broken one
    problem(&scene.hr.send(Method::POST, "/v1/cards/C1/suspend", &[], "{").await, 400);
    let card = json!({ "employee_id": "E1" }).to_string();
    let answer = scene.hr.send(Method::PUT, "/v1/cards/C1", &[("If-Match", "latest")], &card).await;
    problem(&answer, 400);
    assert_eq!(scene.recorded(), [""; 0]);
}

#[tokio::test]
async fn a_broken_model_is_422_and_every_field_is_named() {
    let scene = Scene::start();
    let cases = [
        (json!({}), vec!["card_id", "gate_id"]),
        (json!([]), vec![""]),
        (json!({ "card_id": 5, "gate_id": null }), vec!["card_id", "gate_id"]),
        (
            json!({ "card_id": "C 1", "gate_id": "north-1", "swipe_id": "7", "occurred_at": "yesterday", "x": 1 }),
            vec!["card_id", "occurred_at", "swipe_id", "x"],
        ),
        (json!({ "card_id": "x".repeat(65), "gate_id": "north-1" }), vec!["card_id"]),
    ];
    for (body, fields) in cases {
        for path in [ENTRIES, EXITS] {
            let mut named = problem(&scene.gate.post(path, &body).await, 422);
            named.sort();
            assert_eq!(named, fields, "{body}");
        }
    }
    let cards = [
        (json!({}), vec!["employee_id"]),
        (
            json!({ "employee_id": "", "holder_name": 1, "buildings": "hq", "valid_from": "soon",
                    "anti_passback_exempt": "no", "colour": "red" }),
            vec!["anti_passback_exempt", "buildings", "colour", "employee_id", "holder_name", "valid_from"],
        ),
        (
            json!({ "employee_id": "E1", "buildings": ["nowhere"], "gates": ["west-9"] }),
            vec!["buildings", "gates"],
        ),
        (
            json!({ "employee_id": "E1", "valid_from": "2026-02-01T00:00:00Z", "valid_until": "2026-01-01T00:00:00Z" }),
            vec!["valid_until"],
        ),
        (json!({ "employee_id": "E1", "holder_name": "x".repeat(201) }), vec!["holder_name"]),
    ];
    for (body, fields) in cards {
        let mut named = problem(&scene.hr.put("/v1/cards/C1", &body).await, 422);
        named.sort();
        assert_eq!(named, fields, "{body}");
    }
    assert_eq!(
        problem(&scene.hr.put("/v1/cards/C%201", &json!({ "employee_id": "E1" })).await, 422),
        ["card_id"]
    );
    let named = problem(&scene.hr.get("/v1/cards?status=gone&limit=0&cursor=*&page=2").await, 422);
    assert_eq!(named, ["status", "limit", "cursor", "page"]);
    assert_eq!(scene.recorded(), [""; 0]);
}

#[tokio::test]
async fn a_batch_is_refused_as_a_whole() {
    let scene = Scene::start();
    let exits = |count: usize| json!({ "exits": vec![swipe("C1"); count] });
    for count in [0, 1_001] {
        assert_eq!(problem(&scene.gate.post(BATCH, &exits(count)).await, 422), ["exits"]);
    }
    let mut bad = exits(5);
    bad["exits"][1] = json!({ "gate_id": "north-1" });
    bad["exits"][3] = json!({ "card_id": "", "gate_id": "north-1", "y": 1 });
    let named = problem(&scene.gate.post(BATCH, &bad).await, 422);
    assert_eq!(named, ["exits[1].card_id", "exits[3].card_id", "exits[3].y"]);
    let mut elsewhere = exits(3);
    elsewhere["exits"][2]["gate_id"] = json!("nosuch");
    problem(&scene.gate.post(BATCH, &elsewhere).await, 404);
    // just as many as may be
    let answer = scene.gate.post(BATCH, &exits(1_000)).await.expect(202);
    assert_eq!(answer["results"].as_array().unwrap().len(), 1_000);
    assert_eq!(scene.recorded(), vec!["access.exit.recorded"; 1_000]);
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let scene = Scene::start();
    for path in
        ["/v1/buildings/nosuch/entries", "/v1/buildings/nosuch/exits", "/v1/buildings/nosuch/exits/batch"]
    {
        problem(&scene.gate.post(path, &swipe("C1")).await, 404);
    }
    let wrong_gate = json!({ "card_id": "C1", "gate_id": "nosuch" });
    problem(&scene.gate.post(ENTRIES, &wrong_gate).await, 404);
    problem(&scene.gate.post(EXITS, &wrong_gate).await, 404);
    problem(&scene.hr.get("/v1/cards/NOSUCH").await, 404);
    for action in ["suspend", "reinstate", "revoke", "report-lost"] {
        problem(&scene.hr.post(&format!("/v1/cards/NOSUCH/{action}"), &json!({})).await, 404);
    }
    problem(&scene.hr.post("/v1/cards/C1/burn", &json!({})).await, 404);
    problem(&scene.daemon.anyone().get("/v1/nosuch").await, 404);
    let security = scene.daemon.person(&scene.site.token("security"));
    problem(&security.get("/v1/buildings/nosuch/presence").await, 404);
    assert_eq!(scene.recorded(), [""; 0]);
}

#[tokio::test]
async fn credentials_are_401_and_rights_403() {
    let scene = Scene::start();
    let daemon = &scene.daemon;
    let body = swipe("C1");
    let good = scene.site.key("hq");
    let forged = format!("{}.{}", good.split_once('.').unwrap().0, "A".repeat(43));
    let token = scene.site.token("hr");
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    let strangers = [
        daemon.anyone(),
        daemon.device(""),
        daemon.device("k_00000000.secret"),
        daemon.device(&forged),
        daemon.person(&token),
    ];
    for stranger in &strangers {
        for path in [ENTRIES, EXITS, BATCH] {
            let answer = stranger.post(path, &body).await;
            problem(&answer, 401);
            assert_ne!(answer.header("www-authenticate"), "");
        }
    }
    // another daemon, because more than 20 failures of an address are answered 429
    let other = Scene::start();
    let strangers = [
        other.daemon.anyone(),
        other.daemon.person("x"),
        other.daemon.person(&unsigned),
        other.daemon.device(&good),
    ];
    for stranger in &strangers {
        for path in
            ["/v1/cards", "/v1/cards/C1", "/v1/sinks", "/v1/buildings/hq/presence", "/v1/dead-letters"]
        {
            problem(&stranger.get(path).await, 401);
        }
    }

    let add = |options: &[&str]| {
        let arguments = [&["keys", "add"], options].concat();
        scene.site.run_well(&arguments).trim().to_owned()
    };
    let elsewhere = daemon.device(&scene.site.key("annex"));
    let panel = daemon.device(&add(&["--building", "hq", "--kind", "panel"]));
    let other_gate = daemon.device(&add(&["--building", "hq", "--gate", "north-2"]));
    for device in [&elsewhere, &panel, &other_gate] {
        for path in [ENTRIES, EXITS] {
            problem(&device.post(path, &body).await, 403);
        }
        problem(&device.post(BATCH, &json!({ "exits": [body] })).await, 403);
    }

    let person = |roles: &str| daemon.person(&scene.site.token(roles));
    let card = json!({ "employee_id": "E1" });
    for roles in ["auditor", "security", "admin", "hr@hq"] {
        problem(&person(roles).put("/v1/cards/C1", &card).await, 403);
    }
    for roles in ["security", "admin", "auditor@hq"] {
        problem(&person(roles).get("/v1/cards").await, 403);
        problem(&person(roles).get("/v1/cards/C1").await, 403);
    }
    for roles in ["auditor", "admin", "security@annex"] {
        problem(&person(roles).post("/v1/cards/C1/suspend", &json!({})).await, 403);
    }
    for roles in ["hr", "admin", "security@annex", "auditor@annex"] {
        problem(&person(roles).get("/v1/buildings/hq/presence").await, 403);
    }
    // any role sees the sinks, and a role for one building counts there
    for roles in ["hr", "auditor", "security", "admin", "hr@annex"] {
        person(roles).get("/v1/sinks").await.expect(200);
    }
    person("hr,security@hq").get("/v1/buildings/hq/presence").await.expect(200);
    assert_eq!(scene.recorded(), ["audit.read"]);
}

#[tokio::test]
async fn too_large_is_413() {
    let scene = Scene::start();
    let padded = |bytes: usize| {
        let body = swipe("C1").to_string();
        " ".repeat(bytes - body.len()) + &body
    };
    for path in [ENTRIES, EXITS] {
        let ok = scene.gate.send(Method::POST, path, &[], &padded(MAX_BODY_BYTES)).await;
        assert!(ok.status == 200 || ok.status == 202, "{}", ok.body);
        problem(&scene.gate.send(Method::POST, path, &[], &padded(MAX_BODY_BYTES + 1)).await, 413);
    }
    problem(&scene.hr.send(Method::PUT, "/v1/cards/C1", &[], &" ".repeat(MAX_BODY_BYTES + 1)).await, 413);
    let batch = json!({ "exits": [swipe("C1")] }).to_string();
    let fits = " ".repeat(MAX_BATCH_BODY_BYTES - batch.len()) + &batch;
    scene.gate.send(Method::POST, BATCH, &[], &fits).await.expect(202);
    problem(&scene.gate.send(Method::POST, BATCH, &[], &format!(" {fits}")).await, 413);
    assert_eq!(scene.recorded(), ["access.entry.denied", "access.exit.recorded", "access.exit.recorded"]);
}

#[tokio::test]
async fn a_wrong_method_is_405_with_allow() {
    let scene = Scene::start();
    for (method, path, allow) in [
        (Method::GET, ENTRIES, "POST"),
        (Method::DELETE, EXITS, "POST"),
        (Method::PUT, BATCH, "POST"),
        (Method::POST, "/v1/cards", "GET"),
        (Method::DELETE, "/v1/cards/C1", "GET, PUT"),
        (Method::GET, "/v1/cards/C1/suspend", "POST"),
        (Method::POST, "/v1/sinks", "GET"),
        (Method::POST, "/healthz", "GET"),
        (Method::POST, "/v1/buildings/hq/presence", "GET"),
    ] {
        let answer = scene.hr.send(method.clone(), path, &[], "").await;
        problem(&answer, 405);
        let mut allowed: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        allowed.retain(|method| *method != "HEAD");
        allowed.sort_unstable();
        assert_eq!(allowed.join(", "), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn a_swipe_id_is_for_one_swipe() {
    let scene = Scene::start();
    let swipe_id = "0199a0f4-2c2e-7d6a-9a53-111111111111";
    let with_id = |card_id: &str, gate_id: &str| json!({ "card_id": card_id, "gate_id": gate_id, "swipe_id": swipe_id });
    scene.hr.put("/v1/cards/C1", &json!({ "employee_id": "E1" })).await.expect(201);
    let first = scene.gate.post(ENTRIES, &with_id("C1", "north-1")).await.expect(200);
    assert_eq!(first["decision"], "granted");
    let again = scene.gate.post(ENTRIES, &with_id("C1", "north-1")).await.expect(200);
    assert_eq!(again, first, "the first answer again, not a second entry");
    problem(&scene.gate.post(ENTRIES, &with_id("C2", "north-1")).await, 409);
    problem(&scene.gate.post(EXITS, &with_id("C1", "north-1")).await, 409);
    let mut later = with_id("C1", "north-1");
    later["occurred_at"] = json!("2026-01-01T00:00:00Z");
    problem(&scene.gate.post(ENTRIES, &later).await, 409);
    // in a batch it is one result's error
    let batch = json!({ "exits": [swipe("C1"), with_id("C1", "north-1")] });
    let answer = scene.gate.post(BATCH, &batch).await.expect(202);
    assert!(answer["results"][0]["event_id"].is_string(), "{answer}");
    assert_eq!(answer["results"][1]["status"], 409);
    // another gate has swipe ids of its own
    let elsewhere = scene.gate.post(ENTRIES, &with_id("C1", "north-2")).await.expect(200);
    assert_ne!(elsewhere["event_id"], first["event_id"]);
    assert_eq!(
        scene.recorded(),
        ["card.registered", "access.entry.granted", "access.exit.recorded", "access.entry.granted"]
    );
}

#[tokio::test]
async fn the_callers_trace_is_kept() {
    let scene = Scene::start();
    let traced = [("traceparent", TRACEPARENT)];
    let answer = scene.gate.send(Method::POST, ENTRIES, &traced, &swipe("C1").to_string()).await;
    answer.expect(200);
    let refused = scene.gate.send(Method::POST, ENTRIES, &traced, "{").await;
    assert_eq!(refused.expect(400)["trace_id"], TRACE_ID);
    let broken = [("traceparent", "00-not-a-trace")];
    scene.gate.send(Method::POST, ENTRIES, &broken, &swipe("C1").to_string()).await.expect(200);
    let Scene { site, daemon, .. } = scene;
    daemon.stop();
    let log = site.dump();
    assert_eq!(log[0]["traceparent"], TRACEPARENT);
    let begun = log[1]["traceparent"].as_str().unwrap();
    assert!(begun.len() == TRACEPARENT.len() && begun.starts_with("00-"), "{begun}");
}
