//! A service that is away while far more events are recorded than a sink holds in memory: they wait in the log, and
//! memory does not grow with them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    daemon::{Site, TWO_BUILDINGS, sequence},
    fake_service::{Reply, Request, serve_requests},
    kinesis::{json_reply, two_shards},
    proxy::{Mode, Proxy},
    sinks::{conserves, sinks_by_name},
    wait::eventually,
};

const EVENTS: u64 = 40_000;
const LONG_EVENTS: u64 = 1_000_000;
/// In one request.
const EXITS: u64 = 1_000;
const HOLDERS: u64 = 100;
/// From here on the sink's window is full, and everything else that a flood fills once.
const FULL_AT: u64 = 10_000;
/// How much more memory there may be for what comes after that: the allocator keeps some of what it was given back.
/// The events that come after it have 16 MiB of JSON; in memory they would be 48 MiB.
const MAX_GROWTH_BYTES: u64 = 12 << 20;
const SINK: &str = "stream";

/// What the service took.
#[derive(Default)]
struct Stream {
    events: u64,
    last_of_holder: HashMap<String, u64>,
}

impl Stream {
    fn take(&mut self, record: &Value) {
        let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
        let event: Value = serde_json::from_slice(&data).unwrap();
        let holder = event["partitionkey"].as_str().unwrap().to_owned();
        let before = self.last_of_holder.insert(holder, sequence(&event));
        assert!(before < Some(sequence(&event)), "after {before:?}: {event}");
        self.events += 1;
    }
}

fn answer(stream: &Mutex<Stream>, request: &Request) -> Reply {
    if request.header("x-amz-target").ends_with("ListShards") {
        return json_reply(&two_shards());
    }
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let records = body["Records"].as_array().unwrap();
    let mut stream = stream.lock().unwrap();
    records.iter().for_each(|record| stream.take(record));
    let results = vec![json!({ "SequenceNumber": "1", "ShardId": "low" }); records.len()];
    json_reply(&json!({ "FailedRecordCount": 0, "Records": results }))
}

#[tokio::test]
async fn what_waits_for_a_service_does_not_wait_in_memory() {
    let is_long = std::env::var_os("TURNSTILED_LONG").is_some();
    let count = if is_long { LONG_EVENTS } else { EVENTS };
    let stream: Arc<Mutex<Stream>> = Arc::default();
    let taking = Arc::clone(&stream);
    let proxy = Proxy::start(&serve_requests(move |request| answer(&taking, request))).await;
    proxy.switch(Mode::Refuse);
    let config = format!(
        "[wal]\nstore = 'segments'\n{TWO_BUILDINGS}[sinks.{SINK}]\ntype = 'kinesis'\nstream = 'exits'\n\
         [[routes]]\nname = 'all'\ntypes = ['**']\nto = ['{SINK}']\n"
    );
    let site = Site::new(&config).with_aws_at(proxy.url());
    let daemon = site.start();
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("admin")));
    let exit = |place| json!({ "card_id": format!("C{}", place % HOLDERS), "gate_id": "north-1" });
    let exits = json!({ "exits": (0..EXITS).map(exit).collect::<Vec<Value>>() });
    let mut full = None;
    for posted in 1..=count / EXITS {
        gate.post("/v1/buildings/hq/exits/batch", &exits).await.expect(202);
        if posted * EXITS == FULL_AT {
            full = Some(daemon.peak_bytes());
        }
    }
    let (full, queued) = (full.unwrap(), daemon.peak_bytes());
    let sink = sinks_by_name(&admin).await[SINK].clone();
    assert_eq!((&sink["pending"], &sink["delivered"]), (&json!(count), &json!(0)));

    proxy.switch(Mode::Forward);
    let mut delivered = 0;
    while delivered < count {
        delivered = eventually("more arrives", async || {
            let sink = sinks_by_name(&admin).await[SINK].clone();
            conserves(&sink);
            sink["delivered"].as_u64().filter(|more| *more > delivered)
        })
        .await;
    }
    let caught_up = daemon.peak_bytes();
    assert_eq!(stream.lock().unwrap().events, count, "each once");
    println!(
        "{count} events; at most {full} bytes up to {FULL_AT}, {queued} with all, {caught_up} in the end"
    );
    let grew = caught_up.saturating_sub(full);
    assert!(grew <= MAX_GROWTH_BYTES, "{grew} bytes more for {} events that wait", count - FULL_AT);
}
