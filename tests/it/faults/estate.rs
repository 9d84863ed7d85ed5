//! Every kind of sink, each behind a proxy of its own, and what its service has in the end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    deck::Deck,
    proxy::{FaultProxy, Taken},
    service::Service,
};
use crate::{
    aws::{
        ACCOUNT, create_queue, create_table, create_topic, drain, location, read_bucket, read_shards,
        s3_client, subscribe,
    },
    fake_service::{Reply, serve_requests},
    kinesis_aggregated::{as_read, deaggregate, raw},
    moto::Moto,
    random::Random,
    webhook::{secret, verify},
};

/// What every topic, queue, stream, bus, bucket and table of a sink is called, or how its name begins.
const TARGET: &str = "crowd-target";
const LINES: &str = "lines";
const AGGREGATED: &str = "crowd-target-aggregated";
const EVENTS: &str = "crowd-target-events";

/// The shards of a stream: so many records at most has a request that aggregates all events of a shard.
const SHARDS: i32 = 8;
/// Of a batch of up to ten entries.
const EVERY_SIZE: [usize; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
/// Of a batch of up to 500 entries, which are few if they are aggregated.
const SOME_SIZES: [usize; 3] = [1, 2, 4];

/// What a service promises of the events that it has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// They are there.
    There,
    /// Each holder's are there in order.
    InOrder,
    /// Each holder's are there in order, and each once.
    InOrderOnce,
}

/// A sink and its service.
pub(super) struct Target {
    pub(super) sink: &'static str,
    pub(super) service: Service,
    pub(super) promise: Promise,
    settings: String,
}

pub(super) struct Estate {
    config: SdkConfig,
    endpoint_url: String,
    hook_url: String,
    hooked: Arc<Mutex<Vec<String>>>,
    topic_arn: String,
}

impl Estate {
    pub(super) async fn make(moto: &Moto) -> Self {
        let config = moto.sdk_config();
        let fifo = |name: &str| format!("{name}.fifo");
        let topic_arn = create_topic(&config, TARGET).await;
        let fifo_topic_arn = create_topic(&config, &fifo(TARGET)).await;
        for (arn, queue) in [(&topic_arn, "behind-topic"), (&fifo_topic_arn, "behind-topic.fifo")] {
            create_queue(&config, queue).await;
            subscribe(&config, arn, queue).await;
        }
        for queue in [TARGET, &fifo(TARGET), "behind-bus"] {
            create_queue(&config, queue).await;
        }
        for stream in [TARGET, AGGREGATED] {
            let create = aws_sdk_kinesis::Client::new(&config).create_stream();
            create.stream_name(stream).shard_count(SHARDS).send().await.unwrap();
        }
        for bucket in [TARGET, LINES] {
            let create = s3_client(&config).create_bucket().bucket(bucket);
            create.create_bucket_configuration(location()).send().await.unwrap();
        }
        for table in [TARGET, EVENTS] {
            create_table(&aws_sdk_dynamodb::Client::new(&config), table).await;
        }
        make_delivery_stream(&config).await;
        make_bus(&config).await;
        let (hook_url, hooked) = receive();
        Self { config, endpoint_url: moto.endpoint_url(), hook_url, hooked, topic_arn }
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        use Promise::{InOrder, InOrderOnce, There};
        let topic_arn = &self.topic_arn;
        let target = |sink, service, promise, settings: &str| Target {
            sink,
            service,
            promise,
            settings: settings.to_owned(),
        };
        // PROXY is where the sink's requests go
        let queue = |name: &str| format!("type = 'sqs'\nqueue_url = 'PROXY/{ACCOUNT}/{name}'");
        let topic = |ending: &str| format!("type = 'sns'\ntopic_arn = '{topic_arn}{ending}'");
        let stream = |name: &str| format!("type = 'kinesis'\nstream = '{name}'");
        let table = |name: &str| format!("type = 'dynamodb'\ntable = '{name}'");
        let archive = format!(
            "type = 's3'\nbucket = '{TARGET}'\nformat = 'ndjson'\ncompression = 'gzip'\nmax_age = '300ms'"
        );
        let hook = format!("type = 'http'\nurl = 'PROXY/{TARGET}'\nsecret = '{}'", secret());
        vec![
            target("topic", Service::Sns, There, &topic("")),
            target("topic-fifo", Service::Sns, InOrderOnce, &topic(".fifo")),
            target("queue", Service::Sqs, There, &queue(TARGET)),
            target("queue-fifo", Service::Sqs, InOrderOnce, &queue(&format!("{TARGET}.fifo"))),
            target("stream", Service::Kinesis, InOrder, &stream(TARGET)),
            target("aggregated", Service::Kinesis, InOrder, &(stream(AGGREGATED) + "\naggregate = true")),
            target(
                "lines",
                Service::Firehose,
                There,
                &format!("type = 'firehose'\ndelivery_stream = '{TARGET}'"),
            ),
            target("bus", Service::EventBridge, There, &format!("type = 'eventbridge'\nbus = '{TARGET}'")),
            target("archive", Service::S3, InOrderOnce, &archive),
            target("table", Service::DynamoDb, InOrder, &table(TARGET)),
            target("table-events", Service::DynamoDb, InOrderOnce, &(table(EVENTS) + "\nevents = true")),
            target("hook", Service::Webhook, InOrder, &hook),
        ]
    }

    /// What stands before a target, and the target's part of the configuration with it.
    pub(super) async fn proxy(&self, target: &Target, random: Random) -> (FaultProxy, String) {
        let behind = if target.service == Service::Webhook { &self.hook_url } else { &self.endpoint_url };
        let refused: &[usize] = match target.service {
            Service::Sns | Service::Sqs | Service::EventBridge => &EVERY_SIZE,
            Service::Firehose | Service::Kinesis => &SOME_SIZES,
            Service::S3 | Service::DynamoDb | Service::Webhook => &[],
        };
        let deck = Deck::new(refused, random);
        let proxy = FaultProxy::start(target.service, TARGET, behind, deck).await;
        let mut section =
            format!("[sinks.{}]\n{}\n", target.sink, target.settings.replace("PROXY", &proxy.url()));
        if target.service != Service::Webhook {
            section += &format!("endpoint_url = '{}'\n", proxy.url());
        }
        (proxy, section)
    }

    /// The events that the service has, in its order where it keeps one.
    pub(super) async fn events(&self, sink: &str) -> Vec<Value> {
        let config = &self.config;
        let queue = |name: &str| format!("{}/{ACCOUNT}/{name}", self.endpoint_url);
        let queued = async |name: &str| {
            let messages = drain(config, &queue(name)).await;
            messages.into_iter().map(|message| message.body.unwrap()).collect()
        };
        let lines: Vec<String> = match sink {
            "topic" => queued("behind-topic").await,
            "topic-fifo" => queued("behind-topic.fifo").await,
            "queue" => queued(TARGET).await,
            "queue-fifo" => queued(&format!("{TARGET}.fifo")).await,
            "stream" => read_shards(config, TARGET).await,
            "aggregated" => {
                let shards = raw(config, AGGREGATED).await;
                let records: Vec<Value> =
                    shards.iter().flat_map(|(_, records)| records).map(as_read).collect();
                deaggregate(&records).iter().map(|event| text(&event["data"])).collect()
            }
            "lines" => read_bucket(config, LINES).await,
            "bus" => {
                let messages: Vec<String> = queued("behind-bus").await;
                let detail =
                    |body: &String| serde_json::from_str::<Value>(body).unwrap()["detail"].to_string();
                messages.iter().map(detail).collect()
            }
            "archive" => read_bucket(config, TARGET).await,
            "hook" => self.hooked.lock().unwrap().clone(),
            "table-events" => {
                let items = self.items(EVENTS).await.into_iter();
                let mut events: Vec<_> = items.filter_map(|mut item| item.remove("event")).collect();
                events.sort_by_key(|event| event["sequence"].to_string());
                events.iter().map(text).collect()
            }
            other => panic!("{other} has no events"),
        };
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Who is inside by the table of a sink, and the sequence of the event that says so.
    pub(super) async fn presence(&self, sink: &str) -> HashMap<String, (bool, u64)> {
        let items = self.items(if sink == "table" { TARGET } else { EVENTS }).await.into_iter();
        let of_presence = items.filter(|item| item.contains_key("inside"));
        let read = |item: HashMap<String, Value>| {
            let sequence = text(&item["sequence"]).parse().unwrap();
            (text(&item["PK"]), (item["inside"].as_bool().unwrap(), sequence))
        };
        of_presence.map(read).collect()
    }

    async fn items(&self, table: &str) -> Vec<HashMap<String, Value>> {
        let scan = aws_sdk_dynamodb::Client::new(&self.config).scan().table_name(table);
        let mut items = scan.into_paginator().items().send();
        let mut found = Vec::new();
        while let Some(item) = items.next().await {
            let plain = item.unwrap().into_iter().filter_map(|(name, value)| Some((name, plain(value)?)));
            found.push(plain.collect());
        }
        found
    }
}

fn plain(value: AttributeValue) -> Option<Value> {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => Some(json!(text)),
        AttributeValue::Bool(truth) => Some(json!(truth)),
        _ => None,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The ids of the events that a sink's service took, request by request, and whether it could say so. `None` for a
/// service whose requests are no events.
pub(super) fn ids(target: &Target, taken: &[Taken]) -> Option<Vec<(String, bool)>> {
    let id = |line: &str| text(&serde_json::from_str::<Value>(line).unwrap()["id"]);
    let data = |entry: &Value| String::from_utf8(STANDARD.decode(text(&entry["Data"])).unwrap()).unwrap();
    if target.sink == "aggregated" {
        return Some(ids_in_aggregated(taken));
    }
    let of_entry = |entry: &Value| match target.service {
        Service::Sns | Service::Webhook => Some(id(&text(entry))),
        Service::Sqs => Some(id(&text(&entry["MessageBody"]))),
        Service::EventBridge => Some(id(&text(&entry["Detail"]))),
        Service::Kinesis | Service::Firehose => Some(id(&data(entry))),
        // a whole object by its key
        Service::S3 => Some(text(entry)),
        Service::DynamoDb => None,
    };
    let mut found = Vec::new();
    for Taken { entries, is_reply_lost } in taken {
        for entry in entries {
            found.push((of_entry(entry)?, *is_reply_lost));
        }
    }
    Some(found)
}

fn ids_in_aggregated(taken: &[Taken]) -> Vec<(String, bool)> {
    let records: Vec<Value> = (taken.iter().enumerate())
        .flat_map(|(request, taken)| taken.entries.iter().map(move |entry| (request, entry)))
        .map(|(request, entry)| {
            json!({ "SequenceNumber": request.to_string(), "PartitionKey": entry["PartitionKey"], "Data": entry["Data"] })
        })
        .collect();
    let ids = deaggregate(&records).into_iter().map(|event| {
        let request: usize = text(&event["record"]).parse().unwrap();
        let id = text(&serde_json::from_str::<Value>(&text(&event["data"])).unwrap()["id"]);
        (id, taken[request].is_reply_lost)
    });
    ids.collect()
}

async fn make_delivery_stream(config: &SdkConfig) {
    let destination = aws_sdk_firehose::types::ExtendedS3DestinationConfiguration::builder()
        .bucket_arn(format!("arn:aws:s3:::{LINES}"))
        .role_arn(format!("arn:aws:iam::{ACCOUNT}:role/firehose"))
        .build()
        .unwrap();
    let stream = aws_sdk_firehose::Client::new(config).create_delivery_stream().delivery_stream_name(TARGET);
    Box::pin(stream.extended_s3_destination_configuration(destination).send()).await.unwrap();
}

/// A bus that leads everything to a queue.
async fn make_bus(config: &SdkConfig) {
    let client = aws_sdk_eventbridge::Client::new(config);
    client.create_event_bus().name(TARGET).send().await.unwrap();
    let rule = client.put_rule().event_bus_name(TARGET).name("everything");
    rule.event_pattern(json!({ "account": [ACCOUNT] }).to_string()).send().await.unwrap();
    let queue_arn = format!("arn:aws:sqs:eu-central-1:{ACCOUNT}:behind-bus");
    let queue = aws_sdk_eventbridge::types::Target::builder().id("q").arn(queue_arn).build().unwrap();
    client.put_targets().event_bus_name(TARGET).rule("everything").targets(queue).send().await.unwrap();
}

/// A webhook's receiver, and what it took.
fn receive() -> (String, Arc<Mutex<Vec<String>>>) {
    let hooked: Arc<Mutex<Vec<String>>> = Arc::default();
    let taking = Arc::clone(&hooked);
    let url = serve_requests(move |request| {
        let is_here = request.line == format!("POST /{TARGET}");
        if is_here {
            verify(request);
            taking.lock().unwrap().push(request.body.clone());
        }
        Reply { status: if is_here { 200 } else { 404 }, headers: Vec::new(), body: "seen".to_owned() }
    });
    (url, hooked)
}
