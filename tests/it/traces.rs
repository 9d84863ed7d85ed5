//! Traces, from the turnstile's request to every delivery, at a collector of the tests' own.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use aws_sdk_sqs::types::Message;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    aws::{create_queue, create_topic, drain, subscribe},
    collector::{Collector, Span, assert_connected},
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS, events},
    fake_service::{Reply, serve_requests},
    http::Caller,
    moto::Moto,
    proxy::{Mode, Proxy},
    sinks::settled,
    wait::eventually,
    webhook::secret,
};

const ENTRIES: &str = "/v1/buildings/hq/entries";
const SERVER_SPAN: &str = "POST /v1/buildings/{building}/entries";
const ROOT: &str = "Root=1-5759e988-bd862e3fe1be46a994272793";
const TRACE: &str = "5759e988bd862e3fe1be46a994272793";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

fn swipe(card: &str) -> Value {
    json!({ "card_id": card, "gate_id": "north-1" })
}

async fn register(daemon: &Daemon, site: &Site) {
    let card = json!({ "employee_id": "E1", "holder_name": "Ada Lovelace" });
    daemon.person(&site.token("hr")).put("/v1/cards/C1", &card).await.expect(201);
}

async fn enter(gate: &Caller, card: &str, headers: &[(&str, &str)]) -> crate::http::Answer {
    gate.send(Method::POST, ENTRIES, headers, &swipe(card).to_string()).await
}

fn counted(spans: &[Span]) -> HashMap<&str, usize> {
    let mut counted = HashMap::new();
    for span in spans {
        *counted.entry(span.name.as_str()).or_default() += 1;
    }
    counted
}

fn sinks(topic_arn: &str, queue_url: &str) -> String {
    format!(
        r#"
        [sinks.internal]
        type = "sns"
        topic_arn = "{topic_arn}"
        [sinks.direct]
        type = "sqs"
        queue_url = "{queue_url}"
        [[routes]]
        name = "entries"
        types = ["access.entry.*"]
        to = ["internal", "direct"]
        "#
    )
}

/// The trace that a message names, and its span. The emulator forgets `AWSTraceHeader` of a batch to SQS.
fn named(message: &Message) -> (String, String) {
    let attributes = message.message_attributes.as_ref().unwrap();
    let attribute = |name: &str| attributes.get(name).and_then(|attribute| attribute.string_value.as_deref());
    let traceparent: Vec<&str> = attribute("traceparent").unwrap().split('-').collect();
    let ["00", trace, span, "01"] = traceparent[..] else { panic!("{traceparent:?}") };
    if let Some(xray) = attribute("X-Amzn-Trace-Id") {
        assert_eq!(xray, format!("Root=1-{}-{};Parent={span};Sampled=1", &trace[..8], &trace[8..]));
    }
    (trace.to_owned(), span.to_owned())
}

#[tokio::test]
async fn the_trace_of_an_entry_goes_on_after_a_restart_through_sns_and_sqs() {
    let Some(moto) = Moto::start() else { return };
    let collector = Collector::start();
    let (config, proxy) = (moto.sdk_config(), Proxy::start(&moto.endpoint_url()).await);
    let topic = create_topic(&config, "internal").await;
    let behind_topic = create_queue(&config, "behind-topic").await;
    subscribe(&config, &topic, "behind-topic").await;
    let direct = create_queue(&config, "direct").await;
    let text = format!("{TWO_BUILDINGS}{FILE_SINK}{}{}", sinks(&topic, &direct), collector.telemetry(""));
    let site = Site::new(&text).with_aws_at(proxy.url());
    proxy.switch(Mode::Refuse);

    let daemon = site.start();
    register(&daemon, &site).await;
    let gate = daemon.device(&site.key("hq"));
    let answer = enter(&gate, "C1", &[("X-Amzn-Trace-Id", ROOT)]).await;
    assert_eq!(answer.expect(200)["decision"], "granted");
    let own = answer.header("traceparent").to_owned();
    assert!(own.starts_with(&format!("00-{TRACE}-")) && own.ends_with("-01"), "{own}");
    assert!(answer.header("x-amzn-trace-id").starts_with(&format!("{ROOT};Parent=")));
    eventually("a failed attempt of each is in the trace", async || {
        let spans = collector.trace(TRACE);
        let has_failed = |name| spans.iter().any(|span| span.name == name && span.is_error);
        (has_failed("deliver internal") && has_failed("deliver direct")).then_some(())
    })
    .await;
    assert!(daemon.stop().0.success());
    let of_first_run: HashSet<String> = collector.trace(TRACE).into_iter().map(|span| span.id).collect();

    proxy.switch(Mode::Forward);
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &[("internal", 1), ("direct", 1)]).await;
    assert!(daemon.stop().0.success(), "what is queued has been exported");
    let spans = collector.trace(TRACE);
    let root = assert_connected(&spans);
    assert_eq!((root.name.as_str(), root.parent.as_str()), (SERVER_SPAN, ""));
    assert_eq!(own.split('-').nth(2), Some(root.id.as_str()));
    let delivered: HashMap<&str, &Span> = (spans.iter().filter(|span| !span.is_error))
        .filter_map(|span| Some((span.name.strip_prefix("deliver ")?, span)))
        .collect();
    assert_eq!(delivered.len(), 3, "{spans:#?}");
    assert!(
        !of_first_run.contains(&delivered["internal"].id) && of_first_run.contains(&delivered["files"].id)
    );
    let counted = counted(&spans);
    for name in [SERVER_SPAN, "decide", "commit", "route"] {
        assert_eq!(counted[name], 1, "{name}: {spans:#?}");
    }
    for (queue, sink) in [(behind_topic, "internal"), (direct, "direct")] {
        let messages = drain(&config, &queue).await;
        assert_eq!(messages.len(), 1);
        assert_eq!(named(&messages[0]), (TRACE.to_owned(), delivered[sink].id.clone()));
        let has_xray = messages[0].message_attributes.as_ref().unwrap().contains_key("X-Amzn-Trace-Id");
        assert_eq!(has_xray, sink == "internal");
        let event: Value = serde_json::from_str(messages[0].body.as_ref().unwrap()).unwrap();
        assert_eq!(event["traceparent"], own);
    }
    let decide = spans.iter().find(|span| span.name == "decide").unwrap();
    assert_eq!(decide.attribute("aws.xray.annotations"), "event_type building gate decision");
    let route = spans.iter().find(|span| span.name == "route").unwrap();
    assert_eq!(route.attribute("sinks"), "direct files internal");
    let files = delivered["files"];
    assert_eq!((files.attribute("sink"), files.attribute("gate")), ("files", "north-1"));
}

#[tokio::test]
async fn denied_entries_and_errors_are_kept_whatever_the_ratio() {
    let collector = Collector::start();
    let telemetry = collector.telemetry("otlp_protocol = \"http/protobuf\"\nsample_ratio = 0.0");
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{telemetry}"));
    let daemon = site.start();
    register(&daemon, &site).await;
    let gate = daemon.device(&site.key("hq"));
    assert_eq!(enter(&gate, "C1", &[]).await.expect(200)["decision"], "granted");
    let denied = enter(&gate, "C1", &[]).await;
    assert_eq!(denied.expect(200)["reason"], "anti_passback");
    let bad = gate.post(ENTRIES, &json!({ "card_id": 7 })).await;
    bad.expect(422);
    let nobody =
        daemon.anyone().send(Method::POST, ENTRIES, &[("traceparent", &format!("{CALLER}-00"))], "{}").await;
    nobody.expect(401);
    // the caller records, or does not
    gate.send(Method::POST, ENTRIES, &[("traceparent", &format!("{CALLER}-01"))], "{").await.expect(400);
    daemon
        .anyone()
        .send(Method::GET, "/readyz", &[("traceparent", &format!("{CALLER}-01"))], "")
        .await
        .expect(200);
    settled(&daemon.person(&site.token("admin")), &[("files", 3)]).await;
    let (status, log) = daemon.stop();
    assert!(status.success());

    let mut traces: HashMap<String, Vec<Span>> = HashMap::new();
    // what else was written at once is no part of it
    for span in collector.spans().into_iter().filter(|span| span.name != "send files") {
        traces.entry(span.trace.clone()).or_default().push(span);
    }
    let id =
        |answer: &crate::http::Answer| answer.header("traceparent").split('-').nth(1).unwrap().to_owned();
    let caller = CALLER.split('-').nth(1).unwrap();
    assert_eq!(traces.len(), 3, "{traces:#?}");
    let spans = &traces[&id(&denied)];
    assert_eq!(assert_connected(spans).name, SERVER_SPAN);
    let names = counted(spans);
    assert_eq!(
        names,
        [SERVER_SPAN, "decide", "commit", "route", "deliver files"].map(|name| (name, 1)).into()
    );
    let decide = spans.iter().find(|span| span.name == "decide").unwrap();
    let said = ["building", "gate", "decision", "reason", "event_type", "card_id", "employee_id"];
    let expected = ["hq", "north-1", "denied", "anti_passback", "access.entry.denied", "", ""];
    assert_eq!(said.map(|name| decide.attribute(name)), expected);
    assert_eq!(traces[&id(&bad)][0].attribute("http.response.status_code"), "422");
    assert!(denied.header("traceparent").ends_with("-01"));
    let mut of_caller: Vec<&str> =
        traces[caller].iter().map(|span| span.attribute("http.response.status_code")).collect();
    of_caller.sort_unstable();
    assert_eq!(of_caller, ["400", "401"]);
    assert!(traces[caller].iter().all(|span| span.parent == CALLER.split('-').nth(2).unwrap()));
    // a line of the log names the trace, and no line the holder
    let refused: Vec<Value> = events(log.lines());
    let refused: Vec<&Value> =
        refused.iter().filter(|line| line["message"] == "refused: missing or bad credentials").collect();
    assert_eq!((refused.len(), &refused[0]["trace_id"]), (1, &json!(caller)), "{log}");
    assert!(!log.contains("Ada") && !log.contains("E1"), "{log}");
    assert!(collector.spans().iter().all(|span| !format!("{span:?}").contains("E1")));
}

#[tokio::test]
async fn a_batch_links_to_its_events_and_cards_are_named_when_that_is_wanted() {
    let Some(moto) = Moto::start() else { return };
    let collector = Collector::start();
    let config = moto.sdk_config();
    let queue = create_queue(&config, "direct").await;
    let proxy = Proxy::start(&moto.endpoint_url()).await;
    let sink = format!(
        "[sinks.direct]\ntype = 'sqs'\nqueue_url = '{queue}'\n[[routes]]\nname = 'all'\ntypes = ['**']\nto = ['direct']\n"
    );
    let site = Site::new(&format!("{TWO_BUILDINGS}{sink}{}", collector.telemetry("annotate_ids = true")));
    let site = site.with_aws_at(proxy.url());
    let daemon = site.start();
    let exits: Vec<Value> =
        (0..7).map(|n| json!({ "card_id": format!("C{n}"), "gate_id": "north-1" })).collect();
    let gate = daemon.device(&site.key("hq"));
    gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
    settled(&daemon.person(&site.token("admin")), &[("direct", 7)]).await;
    assert!(daemon.stop().0.success());

    let spans = collector.spans();
    let attempts: HashMap<&str, &Span> = (spans.iter().filter(|span| span.name == "deliver direct"))
        .map(|span| (span.id.as_str(), span))
        .collect();
    assert_eq!(attempts.len(), 7);
    let cards: HashSet<&str> = attempts.values().map(|span| span.attribute("card_id")).collect();
    assert_eq!(cards.len(), 7, "{cards:?}");
    let calls: Vec<&Span> = spans.iter().filter(|span| span.name == "send direct").collect();
    let linked: usize = calls.iter().map(|call| call.links.len()).sum();
    assert_eq!(linked, 7, "{calls:#?}");
    for call in calls {
        assert_eq!(
            (call.parent.as_str(), call.attribute("messaging.batch.message_count")),
            ("", &*call.links.len().to_string())
        );
        assert!(call.links.iter().all(|link| attempts[link.as_str()].links == [call.id.clone()]));
    }
    // of the batch there is one decision, and it names how many
    let decide: Vec<&Span> = spans.iter().filter(|span| span.name == "decide").collect();
    assert_eq!((decide.len(), decide[0].attribute("events")), (1, "7"));
    let messages = drain(&config, &queue).await;
    let ids: HashSet<String> = messages.iter().map(|message| named(message).1).collect();
    assert!(ids.len() == 7 && ids.iter().all(|id| attempts.contains_key(id.as_str())));
}

#[tokio::test]
async fn a_webhook_and_a_service_are_told_the_trace() {
    let collector = Collector::start();
    let (told, hears) = std::sync::mpsc::channel();
    let url = serve_requests(move |request| {
        let header = |name| request.header(name).to_owned();
        told.send((header("traceparent"), header("x-amzn-trace-id"))).unwrap();
        Reply { status: 400, headers: Vec::new(), body: "{\"__type\":\"Nothing\"}".to_owned() }
    });
    let sinks = format!(
        "[sinks.hook]\ntype = 'http'\nurl = '{url}'\nsecret = '{}'\n[sinks.bus]\ntype = 'eventbridge'\nbus = 'b'\n\
         [[routes]]\nname = 'exits'\ntypes = ['access.exit.*']\nto = ['SINK']\n[[routes]]\nname = 'rest'\ntypes = ['**']\nto = []\n",
        secret()
    );
    for sink in ["hook", "bus"] {
        let text = format!("{TWO_BUILDINGS}{}{}", sinks.replace("SINK", sink), collector.telemetry(""));
        let site = Site::new(&text).with_aws_at(url.clone());
        let daemon = site.start();
        let gate = daemon.device(&site.key("hq"));
        let answer = gate.post("/v1/buildings/hq/exits", &swipe("C1")).await;
        answer.expect(202);
        let trace = answer.header("traceparent").split('-').nth(1).unwrap().to_owned();
        let (w3c, xray) = eventually("a request arrives", async || hears.try_recv().ok()).await;
        assert!(xray.starts_with(&format!("Root=1-{}-{};Parent=", &trace[..8], &trace[8..])), "{xray}");
        assert_eq!(w3c.split('-').nth(1), (sink == "hook").then_some(trace.as_str()), "{w3c}");
        daemon.stop();
        while hears.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn a_delivery_goes_on_with_the_trace_of_an_answer_after_kill_9() {
    let collector = Collector::start();
    let (told, hears) = std::sync::mpsc::channel();
    let is_away = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&is_away);
    let url = serve_requests(move |request| {
        let status = if away.load(Relaxed) { 503 } else { 200 };
        told.send((status, request.header("traceparent").to_owned())).unwrap();
        Reply { status, headers: Vec::new(), body: String::new() }
    });
    let sink = format!(
        "[sinks.hook]\ntype = 'http'\nurl = '{url}'\nsecret = '{}'\n\
         [[routes]]\nname = 'entries'\ntypes = ['access.entry.*']\nto = ['hook']\n\
         [[routes]]\nname = 'rest'\ntypes = ['**']\nto = []\n",
        secret()
    );
    let site = Site::new(&format!("{TWO_BUILDINGS}{sink}{}", collector.telemetry("sample_ratio = 0.0")));
    let mut daemon = site.start();
    // denied, so kept: the event alone can say so to the next process
    let answer = enter(&daemon.device(&site.key("hq")), "NOBODY", &[]).await;
    assert_eq!(answer.expect(200)["decision"], "denied");
    daemon.kill();
    drop(daemon);
    let own: Vec<&str> = answer.header("traceparent").split('-').collect();
    let ["00", trace, request, "01"] = own[..] else { panic!("{own:?}") };
    let before: HashSet<String> = collector.trace(trace).into_iter().map(|span| span.id).collect();

    is_away.store(false, Relaxed);
    let daemon = site.start();
    settled(&daemon.person(&site.token("admin")), &[("hook", 1)]).await;
    assert!(daemon.stop().0.success());
    let delivered: Vec<Span> = (collector.trace(trace).into_iter())
        .filter(|span| span.name == "deliver hook" && !span.is_error && !before.contains(&span.id))
        .collect();
    assert_eq!(delivered.len(), 1, "{:#?}", collector.spans());
    // which the collector may never have seen: what was not exported is lost
    assert_eq!(delivered[0].parent, request);
    assert_eq!((delivered[0].attribute("decision"), delivered[0].attribute("sink")), ("denied", "hook"));
    let taken: Vec<String> =
        hears.try_iter().filter(|(status, _)| *status == 200).map(|told| told.1).collect();
    assert_eq!(taken, [format!("00-{trace}-{}-01", delivered[0].id)]);
}

#[tokio::test]
async fn a_collector_that_is_down_costs_no_decision() {
    let collector = Collector::start();
    let closed = collector.telemetry("").replace(&collector.port(), "9");
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{closed}"));
    let daemon = site.start();
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("admin")));
    for _ in 0..20 {
        enter(&gate, "C1", &[]).await.expect(200);
    }
    settled(&admin, &[("files", 20)]).await;
    eventually("what the collector did not take is counted", async || {
        let text = daemon.anyone().get("/metrics").await.body;
        let line = text
            .lines()
            .find(|line| line.starts_with("turnstiled_trace_spans_dropped_total{reason=\"not_exported\"}"));
        line.filter(|line| !line.ends_with(" 0")).map(|_| ())
    })
    .await;
    enter(&gate, "C1", &[]).await.expect(200);
    let (status, log) = daemon.stop();
    assert!(status.success());
    let said = log.lines().filter(|line| line.contains("the collector takes no traces")).count();
    assert_eq!(said, 1, "once, however often: {log}");
}
