//! Stopping, signals, keys that change while the daemon runs, and what it shows to everyone.

use std::{collections::HashSet, net::TcpListener};

use serde_json::{Value, json};

use crate::{
    aws::Estate,
    daemon::{Site, TWO_BUILDINGS, sequence},
    http::Caller,
    metrics::Scrape,
    moto::Moto,
    sinks::{settled, sinks_by_name},
};

const EXITS: &str = "/v1/buildings/hq/exits";

async fn leave(gate: &Caller, times: usize) {
    for number in 0..times {
        let exit = json!({ "card_id": format!("C{number}"), "gate_id": "north-1" });
        gate.post(EXITS, &exit).await.expect(202);
    }
}

#[tokio::test]
async fn a_clean_stop_repeats_nothing() {
    const ROUNDS: usize = 3;
    const EXITS_A_ROUND: usize = 40;
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("admin"));
    for round in 1..=ROUNDS {
        let daemon = site.start();
        leave(&daemon.device(&key), EXITS_A_ROUND).await;
        // the first stop finds deliveries under way, the others find none
        if round > 1 {
            settled(&daemon.person(&token), &[("files", (round * EXITS_A_ROUND) as u64)]).await;
        }
        let (status, stderr) = daemon.stop();
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("\"stopped\""), "{stderr}");
    }
    let daemon = site.start();
    let admin = daemon.person(&token);
    settled(&admin, &[("files", (ROUNDS * EXITS_A_ROUND) as u64)]).await;
    daemon.stop();
    let sequences: Vec<u64> = site.files("sinks/files").iter().map(sequence).collect();
    assert_eq!(sequences, (1..=(ROUNDS * EXITS_A_ROUND) as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way() {
    let site = Site::with_files();
    let key = site.key("hq");
    let daemon = site.start();
    let gate = daemon.device(&key);
    let swipes: Vec<_> = (0..64)
        .map(|number| {
            let gate = gate.clone();
            tokio::spawn(async move {
                let exit = json!({ "card_id": format!("C{number}"), "gate_id": "north-1" });
                gate.try_post(EXITS, &exit).await
            })
        })
        .collect();
    leave(&gate, 1).await;
    let stopped = tokio::task::spawn_blocking(move || daemon.stop());
    let mut answered = HashSet::new();
    for swipe in swipes {
        // one that came too late for the listener has no answer at all
        if let Ok(answer) = swipe.await.unwrap() {
            match answer.status {
                202 => drop(answered.insert(answer.expect(202)["event_id"].as_str().unwrap().to_owned())),
                status => assert_eq!(status, 503, "{}", answer.body),
            }
        }
    }
    assert_eq!(stopped.await.unwrap().0.code(), Some(0));
    let logged: HashSet<String> =
        site.dump().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    assert!(answered.is_subset(&logged), "an answered exit is not in the log");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_aws() {
    const EXITS: usize = 30;
    let Some(moto) = Moto::start() else { return };
    let estate = Estate::make(&moto).await;
    // connections are taken by the kernel and nobody ever reads them
    let silence = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new(&format!("{TWO_BUILDINGS}{}", estate.sinks()))
        .with_aws_at(format!("http://{}", silence.local_addr().unwrap()));
    let (key, token) = (site.key("hq"), site.token("admin"));
    let daemon = site.start();
    let admin = daemon.person(&token);
    leave(&daemon.device(&key), EXITS).await;
    settled(&admin, &[("files", EXITS as u64)]).await;
    assert_eq!(sinks_by_name(&admin).await["exits"]["pending"], EXITS);
    assert_eq!(daemon.stop().0.code(), Some(0));

    let site = site.with_aws(&moto);
    let daemon = site.start();
    let count = EXITS as u64;
    settled(&daemon.person(&token), &[("files", count), ("exits", count), ("archive", count)]).await;
    assert_eq!(estate.read_stream().await.len(), EXITS);
    daemon.stop();
    assert_eq!(site.file_lines("sinks/files").len(), EXITS);
}

#[tokio::test]
async fn a_hang_up_does_not_end_it() {
    let site = Site::with_files();
    let key = site.key("hq");
    let daemon = site.start();
    let gate = daemon.device(&key);
    for _ in 0..3 {
        daemon.signal("HUP");
        leave(&gate, 5).await;
    }
    assert_eq!(daemon.stop().0.code(), Some(0));
    let exits = site.dump().into_iter().filter(|event| event["type"] == "access.exit.recorded");
    assert_eq!(exits.count(), 15);
}

#[tokio::test]
async fn an_interrupt_stops_it_too() {
    let site = Site::with_files();
    let mut daemon = site.start();
    daemon.signal("INT");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[tokio::test]
async fn keys_count_at_once() {
    let site = Site::with_files();
    let daemon = site.start();
    for _ in 0..5 {
        let key = site.key("hq");
        let gate = daemon.device(&key);
        leave(&gate, 1).await;
        let (id, _) = key.split_once('.').unwrap();
        site.run_well(&["keys", "revoke", id]);
        let exit = json!({ "card_id": "C0", "gate_id": "north-1" });
        assert_eq!(gate.post(EXITS, &exit).await.status, 401, "{id} is revoked");
    }
}

#[tokio::test]
async fn state_survives_a_restart() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("hr,security"));
    let swipe =
        json!({ "card_id": "C1", "gate_id": "north-1", "swipe_id": "0199a0f4-2c2e-7d6a-9a53-222222222222" });
    let (first, before) = {
        let daemon = site.start();
        let person = daemon.person(&token);
        person.put("/v1/cards/C1", &json!({ "employee_id": "E1", "holder_name": "Ada" })).await.expect(201);
        let first = daemon.device(&key).post("/v1/buildings/hq/entries", &swipe).await.expect(200);
        let people = person.get("/v1/buildings/hq/presence").await.expect(200)["people"].clone();
        daemon.stop();
        (first, people)
    };
    assert_eq!(before.as_array().unwrap().len(), 1);
    let daemon = site.start();
    let (gate, person) = (daemon.device(&key), daemon.person(&token));
    assert_eq!(person.get("/v1/buildings/hq/presence").await.expect(200)["people"], before);
    assert_eq!(gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200), first, "the same swipe");
    let other = json!({ "card_id": "C1", "gate_id": "north-2" });
    assert_eq!(gate.post("/v1/buildings/hq/entries", &other).await.expect(200)["reason"], "anti_passback");
    let csv =
        person.send(reqwest::Method::GET, "/v1/buildings/hq/presence", &[("Accept", "text/csv")], "").await;
    assert!(csv.header("content-type").starts_with("text/csv"), "{csv:?}");
    assert!(
        csv.body.starts_with("employee_id,card_id,holder_name,since,gate,certainty\r\nE1,C1,Ada,"),
        "{csv:?}"
    );
}

#[tokio::test]
async fn everyone_may_see_that_it_is_well() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("hr,admin"));
    let daemon = site.start();
    let anyone = daemon.anyone();
    anyone.get("/healthz").await.expect(200);
    anyone.get("/readyz").await.expect(200);
    let document = anyone.get("/openapi.json").await;
    assert_eq!(document.header("content-type"), "application/json");
    assert!(document.expect(200)["openapi"].as_str().unwrap().starts_with("3.1"));

    daemon.person(&token).put("/v1/cards/ADA", &json!({ "employee_id": "E1" })).await.expect(201);
    let gate = daemon.device(&key);
    let swipe = json!({ "card_id": "ADA", "gate_id": "north-1" });
    for decision in ["granted", "denied"] {
        let answer = gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
        assert_eq!(answer["decision"], decision);
    }
    leave(&gate, 2).await;
    let admin = daemon.person(&token);
    settled(&admin, &[("files", 5)]).await;
    daemon.anyone().post(EXITS, &swipe).await;
    let scrape = anyone.get("/metrics").await;
    assert!(scrape.header("content-type").starts_with("text/plain; version=0.0.4"), "{scrape:?}");
    let metrics = Scrape::parse(&scrape.body);
    for (series, value) in [
        ("turnstiled_decisions_total{building=\"hq\",decision=\"granted\",reason=\"\"}", 1.0),
        ("turnstiled_decisions_total{building=\"hq\",decision=\"denied\",reason=\"anti_passback\"}", 1.0),
        ("turnstiled_exits_total{anomaly=\"unknown_card\",building=\"hq\"}", 2.0),
        ("turnstiled_inside{building=\"hq\"}", 1.0),
        ("turnstiled_log_sequence", 5.0),
        ("turnstiled_decision_seconds_count", 4.0),
        ("turnstiled_commit_records_sum", 5.0),
        ("turnstiled_sink_accepted_total{sink=\"files\"}", 5.0),
        ("turnstiled_sink_delivered_total{sink=\"files\"}", 5.0),
        ("turnstiled_sink_pending{sink=\"files\"}", 0.0),
        ("turnstiled_sink_dead_total{sink=\"files\"}", 0.0),
        ("turnstiled_sink_discarded_total{sink=\"files\"}", 0.0),
        ("turnstiled_sink_retried_total{sink=\"files\"}", 0.0),
        ("turnstiled_sink_oldest_seconds{sink=\"files\"}", 0.0),
        ("turnstiled_sink_state{sink=\"files\",state=\"healthy\"}", 1.0),
        ("turnstiled_auth_failures_total{kind=\"device\"}", 1.0),
    ] {
        assert_eq!(metrics.value(series), Some(value), "{series}\n{}", scrape.body);
    }
    for family in [
        "turnstiled_commit_seconds",
        "turnstiled_log_bytes",
        "turnstiled_http_requests_total",
        "turnstiled_build_info",
    ] {
        assert!(metrics.families.contains_key(family), "{family}\n{}", scrape.body);
    }
    assert_eq!(sinks_by_name(&admin).await["files"]["last_error"], Value::Null);
}
