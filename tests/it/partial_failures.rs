//! Services that take a part of each batch: only what failed comes again, each event once, in order where the sink
//! keeps order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    aws::ACCOUNT,
    daemon::{FILE_SINK, Site, TWO_BUILDINGS},
    fake_service::{Reply, Request, serve_requests},
    kinesis::{json_reply, two_shards},
    sinks::{assert_ordered_by_key, settled, sinks_by_name},
};

const SINKS: [&str; 4] = ["stream", "lines", "bus", "queue"];
const BATCHES: usize = 4;
const EXITS_PER_BATCH: usize = 50;
const HOLDERS: usize = 20;
/// How often an event may fail, so that the test ends.
const MAX_FAILURES: usize = 2;

/// How one service puts the parts of a batch.
struct Dialect {
    entries: &'static str,
    event: fn(&Value) -> String,
    answer: fn(&[Value], &[bool]) -> Value,
}

fn dialect(target: &str) -> Dialect {
    let data = |entry: &Value| {
        let bytes = STANDARD.decode(entry["Data"].as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap().trim_end_matches('\n').to_owned()
    };
    match target {
        "Kinesis_20131202.PutRecords" => Dialect {
            entries: "Records",
            event: data,
            answer: |_, took| json!({ "FailedRecordCount": failures(took), "Records": results(took) }),
        },
        "Firehose_20150804.PutRecordBatch" => Dialect {
            entries: "Records",
            event: data,
            answer: |_, took| json!({ "FailedPutCount": failures(took), "RequestResponses": results(took) }),
        },
        "AWSEvents.PutEvents" => Dialect {
            entries: "Entries",
            event: |entry| entry["Detail"].as_str().unwrap().to_owned(),
            answer: |_, took| json!({ "FailedEntryCount": failures(took), "Entries": results(took) }),
        },
        "AmazonSQS.SendMessageBatch" => Dialect {
            entries: "Entries",
            event: |entry| entry["MessageBody"].as_str().unwrap().to_owned(),
            answer: |entries, took| {
                let of = |wanted: bool| {
                    let chosen = entries.iter().zip(took).filter(move |(_, took)| **took == wanted);
                    chosen.map(|(entry, _)| entry["Id"].clone())
                };
                let successful =
                    of(true).map(|id| json!({ "Id": id, "MessageId": "m", "MD5OfMessageBody": "" }));
                let failed =
                    of(false).map(|id| json!({ "Id": id, "Code": "InternalFailure", "SenderFault": false }));
                json!({ "Successful": successful.collect::<Vec<_>>(), "Failed": failed.collect::<Vec<_>>() })
            },
        },
        other => panic!("{other}"),
    }
}

fn failures(took: &[bool]) -> usize {
    took.iter().filter(|took| !**took).count()
}

/// Throttled and failed by turns.
fn results(took: &[bool]) -> Vec<Value> {
    let codes = ["ProvisionedThroughputExceededException", "InternalFailure"];
    let result = |(place, took): (usize, &bool)| match took {
        true => json!({ "SequenceNumber": "1", "ShardId": "0", "RecordId": "1", "EventId": "1" }),
        false => json!({ "ErrorCode": codes[place % 2], "ErrorMessage": "not this one" }),
    };
    took.iter().enumerate().map(result).collect()
}

/// What a service took, and how often it refused each event.
#[derive(Default)]
struct Service {
    requests: usize,
    taken: Vec<String>,
    refused: HashMap<String, usize>,
}

impl Service {
    /// Refuses a part of each batch whose size goes from none to all.
    fn takes(&mut self, place: usize, event: &str) -> bool {
        let refused = self.refused.entry(event.to_owned()).or_default();
        if *refused < MAX_FAILURES && place % 4 < self.requests % 5 {
            *refused += 1;
            return false;
        }
        self.taken.push(event.to_owned());
        true
    }
}

type Services = Arc<Mutex<HashMap<String, Service>>>;

fn answer(services: &Services, request: &Request) -> Reply {
    let target = request.header("x-amz-target");
    if target == "Kinesis_20131202.ListShards" {
        return json_reply(&two_shards());
    }
    let dialect = dialect(target);
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let entries = body[dialect.entries].as_array().unwrap();
    let mut services = services.lock().unwrap();
    let service = services.entry(target.to_owned()).or_default();
    service.requests += 1;
    let took: Vec<bool> = (entries.iter().enumerate())
        .map(|(place, entry)| service.takes(place, &(dialect.event)(entry)))
        .collect();
    json_reply(&(dialect.answer)(entries, &took))
}

#[tokio::test]
async fn only_what_failed_comes_again() {
    let services = Services::default();
    let seen = Arc::clone(&services);
    let endpoint_url = serve_requests(move |request| answer(&seen, request));
    let sinks = format!(
        r#"
        [sinks.stream]
        type = "kinesis"
        stream = "exits"
        [sinks.lines]
        type = "firehose"
        delivery_stream = "lines"
        [sinks.bus]
        type = "eventbridge"
        bus = "turnstiles"
        [sinks.queue]
        type = "sqs"
        queue_url = "{endpoint_url}/{ACCOUNT}/queue.fifo"
        [[routes]]
        name = "fakes"
        types = ["access.**"]
        to = ["stream", "lines", "bus", "queue"]
        "#
    );
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{sinks}")).with_aws_at(endpoint_url);
    let daemon = site.start();
    let gate = daemon.device(&site.key("hq"));
    for _ in 0..BATCHES {
        let exit = |place| json!({ "card_id": format!("C{}", place % HOLDERS), "gate_id": "north-1" });
        let exits: Vec<Value> = (0..EXITS_PER_BATCH).map(exit).collect();
        gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
    }
    let admin = daemon.person(&site.token("admin"));
    let expected = BATCHES * EXITS_PER_BATCH;
    settled(&admin, &SINKS.map(|name| (name, expected as u64))).await;

    let reported = sinks_by_name(&admin).await;
    let services = services.lock().unwrap();
    assert_eq!(services.len(), SINKS.len());
    for (target, service) in services.iter() {
        let mut once = service.taken.clone();
        once.sort();
        once.dedup();
        assert_eq!((service.taken.len(), once.len()), (expected, expected), "{target}: each once");
        let refusals: usize = service.refused.values().sum();
        assert!(refusals > expected / 4, "{target}: {refusals} refusals prove little");
        if target.starts_with("Kinesis") || target.starts_with("AmazonSQS") {
            assert_ordered_by_key(&service.taken);
        }
    }
    let refusals: usize = services.values().flat_map(|service| service.refused.values()).sum();
    let retried: u64 = SINKS.iter().map(|name| reported[*name]["retried"].as_u64().unwrap()).sum();
    assert_eq!(retried, refusals as u64, "counted per record");
}
