//! An observability drill: four artificial errors, each to be seen for what it is in a trace, in the metrics and in the log.
//! No trace is recorded but those that have to be.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    collector::{Collector, Span},
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS, events},
    detach::fill,
    fake_service::{Reply, serve},
    http::{Answer, Caller},
    sinks::{settled, sinks_by_name},
    trimmed::SHORT_LOG,
    wait::{self, POLL_INTERVAL, eventually},
    webhook::secret,
};

const ENTRIES: &str = "/v1/buildings/hq/entries";
const EXITS: &str = "/v1/buildings/hq/exits";
const BATCH: &str = "/v1/buildings/hq/exits/batch";
const ENTRIES_ROUTE: &str = "/v1/buildings/{building}/entries";
const HOLDER: &str = "Ada Lovelace";
/// What the receiver of a webhook needs for each answer while it is slowed down; more than a send should take.
const SLOWED: Duration = Duration::from_millis(1_500);
/// As many exits as end a spell of slowness.
const QUICK_EXITS: usize = 10;

fn site(collector: &Collector, more: &str) -> Site {
    let telemetry = collector.telemetry("sample_ratio = 0.0");
    Site::new(&format!("{TWO_BUILDINGS}{more}{telemetry}"))
}

/// All exits go to this receiver.
fn to_webhook(url: &str) -> String {
    format!(
        "[sinks.hook]\ntype = 'http'\nurl = '{url}'\nsecret = '{}'\n[[routes]]\nname = 'exits'\n\
         types = ['access.exit.*']\nto = ['hook']\n[[routes]]\nname = 'rest'\ntypes = ['**']\nto = []\n",
        secret()
    )
}

fn swipe(card: &str) -> Value {
    json!({ "card_id": card, "gate_id": "north-1" })
}

fn reply(status: u16) -> Reply {
    Reply { status, headers: Vec::new(), body: String::new() }
}

/// The trace that an answer names, in its problem document as in its header.
#[track_caller]
fn trace_of(answer: &Answer) -> String {
    let trace = answer.header("traceparent").split('-').nth(1).unwrap().to_owned();
    if let Ok(Value::Object(body)) = serde_json::from_str(&answer.body)
        && let Some(named) = body.get("trace_id")
    {
        assert_eq!(*named, trace);
    }
    trace
}

async fn metrics(daemon: &Daemon) -> HashMap<String, f64> {
    let text = daemon.anyone().get("/metrics").await.body;
    let samples = text.lines().filter_map(|line| line.strip_prefix("turnstiled_")?.rsplit_once(' '));
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

fn requests(metrics: &HashMap<String, f64>, route: &str, status: u16) -> f64 {
    let name = format!("http_requests_total{{route=\"{route}\",status=\"{status}\"}}");
    metrics.get(&name).copied().unwrap_or(0.0)
}

/// The lines of a trace.
fn lines_of(log: &str, trace: &str) -> Vec<Value> {
    events(log.lines()).into_iter().filter(|line| line["trace_id"] == trace).collect()
}

/// The one line of a trace.
#[track_caller]
fn line_of(log: &str, trace: &str) -> Value {
    let mut lines = lines_of(log, trace);
    assert_eq!(lines.len(), 1, "{trace}: {lines:#?}");
    lines.remove(0)
}

/// The span of a request, which is alone in its trace: nothing was decided.
#[track_caller]
fn request_span(collector: &Collector, trace: &str) -> Span {
    let mut spans = collector.trace(trace);
    assert_eq!(spans.len(), 1, "{trace}: {spans:#?}");
    spans.remove(0)
}

/// That it is searched for by its kind, and is an error or not.
#[track_caller]
fn shows(span: &Span, status: u16, problem: &str, is_error: bool) {
    assert_eq!(span.attribute("http.response.status_code"), status.to_string());
    assert_eq!((span.attribute("error.type"), span.is_error), (problem, is_error), "{span:#?}");
    assert_eq!(span.attribute("error_type"), problem);
    assert!(span.attribute("aws.xray.annotations").split(' ').any(|name| name == "error_type"));
}

#[tokio::test]
async fn a_request_that_breaks_the_model() {
    let collector = Collector::start();
    let site = site(&collector, FILE_SINK);
    let daemon = site.start();
    let (gate, hr) = (daemon.device(&site.key("hq")), daemon.person(&site.token("hr")));
    hr.put("/v1/cards/C1", &json!({ "employee_id": "E1", "holder_name": HOLDER })).await.expect(201);
    let large = format!("{{\"card_id\": \"{}\"}}", "C".repeat(64 << 10));
    let swipe_id =
        json!({ "card_id": "C1", "gate_id": "north-1", "swipe_id": "7f0c0a3e-5f2b-4d0e-9d83-0d6c8a3b6a11" });
    gate.post(ENTRIES, &swipe_id).await.expect(200);
    let reused = json!({ "card_id": "C2", "gate_id": "north-1", "swipe_id": swipe_id["swipe_id"] });
    let unknown = json!({ "card_id": 7, "gate_id": "north-1", HOLDER: "E1" });
    // what is sent, the answer, and what the log says of fields
    let broken = [
        (ENTRIES, unknown.to_string(), 422, "invalid", Some("card_id (unknown)")),
        (ENTRIES, "{\"card_id\": \"SECRET-1\"".to_owned(), 400, "malformed", None),
        ("/v1/buildings/attic/entries", swipe("C1").to_string(), 404, "not_found", None),
        (ENTRIES, reused.to_string(), 409, "conflict", None),
        (ENTRIES, large, 413, "too_large", None),
    ];
    let mut traces = Vec::new();
    for (path, body, status, ..) in &broken {
        let answer = gate.send(Method::POST, path, &[], body).await;
        answer.expect(*status);
        traces.push(trace_of(&answer));
    }
    let no_method = Method::from_bytes(b"SECRET-2").unwrap();
    let wrong_method = gate.send(no_method, ENTRIES, &[], "").await;
    wrong_method.expect(405);
    let metrics = metrics(&daemon).await;
    for (.., status, _, _) in &broken {
        assert_eq!(requests(&metrics, ENTRIES_ROUTE, *status), 1.0, "{status}: {metrics:#?}");
    }
    let (status, log) = daemon.stop();
    assert!(status.success());

    for ((.., status, problem, fields), trace) in broken.iter().zip(&traces) {
        let span = request_span(&collector, trace);
        assert_eq!(span.name, format!("POST {ENTRIES_ROUTE}"));
        shows(&span, *status, problem, false);
        let line = line_of(&log, trace);
        assert_eq!((&line["level"], &line["route"]), (&json!("INFO"), &json!(ENTRIES_ROUTE)));
        assert_eq!((&line["status"], &line["problem"]), (&json!(status), &json!(problem)), "{line}");
        assert_eq!(line.get("fields").and_then(Value::as_str), *fields, "{line}");
    }
    let span = request_span(&collector, &trace_of(&wrong_method));
    shows(&span, 405, "method_not_allowed", false);
    assert_eq!(span.name, format!("_OTHER {ENTRIES_ROUTE}"));
    for secret in [HOLDER, "SECRET-1", "SECRET-2", "attic", "CCCC", "C1", "C2", "E1"] {
        assert!(!log.contains(secret), "{secret}: {log}");
        assert!(!format!("{:?}", collector.spans()).contains(&format!("\"{secret}\"")), "{secret}");
    }
}

#[tokio::test]
async fn a_flood_of_broken_requests_is_a_few_lines_and_hides_no_failure_of_another_kind() {
    let collector = Collector::start();
    let site = site(&collector, FILE_SINK);
    let daemon = site.start();
    let gate = daemon.device(&site.key("hq"));
    let begun = std::time::Instant::now();
    for _ in 0..200 {
        gate.send(Method::POST, ENTRIES, &[], "{").await.expect(400);
    }
    let other = gate.post("/v1/buildings/annex/exits", &swipe("C1")).await;
    other.expect(403);
    assert_eq!(requests(&metrics(&daemon).await, ENTRIES_ROUTE, 400), 200.0);
    let seconds = begun.elapsed().as_secs() + 1;
    let (_, log) = daemon.stop();
    let lines = log.lines().filter(|line| line.contains("\"malformed\"")).count() as u64;
    assert!((20..=21 + seconds).contains(&lines), "{lines} lines in {seconds} s");
    assert_eq!(line_of(&log, &trace_of(&other))["problem"], "forbidden");
}

#[tokio::test]
async fn a_valid_request_that_cannot_be_done() {
    let collector = Collector::start();
    let away = "[sinks.hook]\nrequired = true\n";
    let sinks = to_webhook(&serve(|_| reply(503))).replace("[sinks.hook]\n", away);
    let site = site(&collector, &format!("{SHORT_LOG}{sinks}"));
    let daemon = site.start();
    let gate = daemon.device(&site.key("hq"));
    fill(&daemon, &gate).await;
    let refused = gate.post(ENTRIES, &swipe("C1")).await;
    refused.expect(503);
    assert_ne!(refused.header("retry-after"), "");
    let seen = metrics(&daemon).await;
    assert_eq!((requests(&seen, ENTRIES_ROUTE, 503), seen["disk_step"]), (1.0, 3.0));
    let (_, log) = daemon.stop();
    let trace = trace_of(&refused);
    shows(&request_span(&collector, &trace), 503, "disk_full", true);
    let line = line_of(&log, &trace);
    assert_eq!(
        ["level", "route", "problem"].map(|name| line[name].as_str().unwrap()),
        ["WARN", ENTRIES_ROUTE, "disk_full"]
    );
    assert_eq!(line["status"], 503);
}

#[tokio::test]
async fn a_valid_event_that_a_service_calls_invalid() {
    let collector = Collector::start();
    let site = site(&collector, &to_webhook(&serve(|_| reply(422))));
    let daemon = site.start();
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("admin")));
    let answer = gate.post(EXITS, &swipe("C1")).await;
    answer.expect(202);
    let hook = eventually("the event is a dead letter", async || {
        let hook = sinks_by_name(&admin).await.remove("hook").unwrap();
        (hook["dead"] == 1).then_some(hook)
    })
    .await;
    assert_eq!(hook["pending"], 0);
    let metrics = metrics(&daemon).await;
    assert_eq!(metrics["sink_dead_total{sink=\"hook\"}"], 1.0);
    assert_eq!(metrics["sink_dead_letters{sink=\"hook\"}"], 1.0);
    assert_eq!(requests(&metrics, "/v1/buildings/{building}/exits", 202), 1.0, "the gate is not concerned");
    let (_, log) = daemon.stop();

    let trace = trace_of(&answer);
    let spans = collector.trace(&trace);
    let [deliver] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((deliver.name.as_str(), deliver.is_error), ("deliver hook", true));
    assert_eq!((deliver.attribute("error.type"), deliver.attribute("sink")), ("Http422", "hook"));
    assert!(deliver.attribute("aws.xray.annotations").contains("error_type"));
    let line = lines_of(&log, &trace).remove(0);
    assert_eq!((&line["level"], &line["code"]), (&json!("ERROR"), &json!("Http422")), "{line}");
    assert_eq!((&line["sink"], &line["sequence"]), (&json!("hook"), &json!(1)));
    assert!(!log.contains("C1"), "{log}");
}

#[tokio::test]
async fn failed_authentication_and_authorisation() {
    let collector = Collector::start();
    let site = site(&collector, FILE_SINK);
    let daemon = site.start();
    let (key, token) = (site.key("hq"), site.token("auditor"));
    let (unknown_key, bad_token) = ("k_00000000.NOBODYS-KEY", &token[..token.len() - 2]);
    let gate = daemon.device(&key);
    let card = "/v1/cards/C1";
    let put = async |caller: &Caller| caller.put(card, &json!({ "employee_id": "E1" })).await;
    let failed = [
        (daemon.device(unknown_key).post(ENTRIES, &swipe("C1")).await, "device"),
        (daemon.anyone().post(ENTRIES, &swipe("C1")).await, "device"),
        (put(&daemon.person(bad_token)).await, "person"),
    ];
    let forbidden = [
        (put(&daemon.person(&token)).await, "/v1/cards/{card_id}"),
        (gate.post("/v1/buildings/annex/entries", &swipe("C1")).await, ENTRIES_ROUTE),
    ];
    let metrics = metrics(&daemon).await;
    assert_eq!(metrics["auth_failures_total{kind=\"device\"}"], 2.0);
    assert_eq!(metrics["auth_failures_total{kind=\"person\"}"], 1.0);
    assert_eq!(requests(&metrics, ENTRIES_ROUTE, 401), 2.0);
    let (_, log) = daemon.stop();

    for (answer, kind) in &failed {
        answer.expect(401);
        let trace = trace_of(answer);
        shows(&request_span(&collector, &trace), 401, "unauthenticated", false);
        let line = line_of(&log, &trace);
        assert_eq!(line["message"], "refused: missing or bad credentials");
        assert_eq!((&line["kind"], &line["address"]), (&json!(kind), &json!("127.0.0.1")));
    }
    for (answer, route) in &forbidden {
        answer.expect(403);
        assert_eq!(requests(&metrics, route, 403), 1.0);
        let trace = trace_of(answer);
        shows(&request_span(&collector, &trace), 403, "forbidden", false);
        let line = line_of(&log, &trace);
        assert_eq!(
            ["level", "message", "route", "problem", "address"].map(|name| line[name].as_str().unwrap()),
            ["WARN", "refused: not allowed with these credentials", *route, "forbidden", "127.0.0.1"]
        );
    }
    let spans = format!("{:?}", collector.spans());
    for secret in [&key[12..], bad_token, "NOBODYS-KEY", "C1", "E1"] {
        assert!(!log.contains(secret) && !spans.contains(&format!("\"{secret}\"")), "{secret}: {log}");
    }
    assert!(!spans.contains("\"ada\"") && !log.contains("person/ada"), "{log}");
}

#[tokio::test]
async fn a_sink_that_is_slowed_down() {
    let collector = Collector::start();
    let (is_slowed, is_lag_seen) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (slowed, seen) = (Arc::clone(&is_slowed), Arc::clone(&is_lag_seen));
    let url = serve(move |_| {
        if slowed.load(Relaxed) {
            thread::sleep(SLOWED);
            while !seen.load(Relaxed) {
                thread::sleep(POLL_INTERVAL);
            }
        }
        reply(204)
    });
    let site = site(&collector, &to_webhook(&url));
    let daemon = site.start();
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("admin")));
    // of one holder, so one after the other: what comes second waits
    let (first, second) = (gate.post(EXITS, &swipe("C1")).await, gate.post(EXITS, &swipe("C1")).await);
    first.expect(202);
    second.expect(202);
    eventually("the lag shows", async || {
        let metrics = metrics(&daemon).await;
        let lag = ["pending", "oldest_seconds"].map(|name| metrics[&format!("sink_{name}{{sink=\"hook\"}}")]);
        (lag[0] == 2.0 && lag[1] >= 1.0).then_some(())
    })
    .await;
    is_lag_seen.store(true, Relaxed);
    settled(&admin, &[("hook", 2)]).await;
    let in_time = |metrics: &HashMap<String, f64>, le: &str| {
        metrics[&format!("sink_send_seconds_bucket{{sink=\"hook\",le=\"{le}\"}}")]
    };
    let seen = metrics(&daemon).await;
    assert_eq!((in_time(&seen, "1"), in_time(&seen, "+Inf")), (0.0, 2.0), "{seen:#?}");
    assert!(seen["sink_send_seconds_sum{sink=\"hook\"}"] >= 2.0 * SLOWED.as_secs_f64());
    assert_eq!(seen["sink_state{sink=\"hook\",state=\"healthy\"}"], 1.0, "slow is not away");

    is_slowed.store(false, Relaxed);
    let exits: Vec<Value> = (0..QUICK_EXITS).map(|n| swipe(&format!("C{n}"))).collect();
    eventually("it is quick again", async || {
        gate.post(BATCH, &json!({ "exits": exits })).await.expect(202);
        daemon.stderr().contains("the sink is quick again").then_some(())
    })
    .await;
    let (_, log) = daemon.stop();

    for answer in [&first, &second] {
        let spans = collector.trace(&trace_of(answer));
        let [deliver] = &spans[..] else { panic!("{spans:#?}") };
        assert_eq!((deliver.name.as_str(), deliver.is_error), ("deliver hook", false));
        assert!(deliver.took >= SLOWED, "{deliver:#?}");
    }
    let line = line_of(&log, &trace_of(&first));
    assert_eq!((&line["level"], &line["sink"]), (&json!("WARN"), &json!("hook")));
    assert!(line["message"].as_str().unwrap().contains("has become slow"), "{line}");
    assert!(line["seconds"].as_f64().unwrap() >= SLOWED.as_secs_f64());
    assert_eq!(lines_of(&log, &trace_of(&second)), [json!(null); 0], "said once: {log}");
    assert!(!log.contains("C1"), "{log}");
}

#[tokio::test]
async fn what_is_no_http_is_no_line() {
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}"));
    let daemon = site.start();
    let address = daemon.base_url().strip_prefix("http://").unwrap();
    for nonsense in
        [&b"GET / HTTP/9.9\r\n\r\n"[..], b"\x16\x03\x01\x00\r\n\r\n", b"GET / HTTP/1.1\r\nA\x01: b\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(wait::LIMIT)).unwrap();
        stream.write_all(nonsense).unwrap();
        // until it is answered or closed
        drop(stream.read_to_end(&mut Vec::new()));
    }
    let (status, log) = daemon.stop();
    assert!(status.success());
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}
