//! The AWS sinks against the emulator.

use std::{collections::HashMap, net::TcpListener, path::Path, sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_credential_types::{
    credential_fn::provide_credentials_fn,
    provider::{SharedCredentialsProvider, error::CredentialsError},
};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use serde_json::{Value, json};
use turnstiled::{
    delivery::{
        Outgoing,
        outcome::{Outcome, Trouble, TroubleKind},
    },
    domain::record::EventRecord,
    sinks::{
        Sink, SinkSettings,
        aws::{AwsSettings, Target},
        dynamodb::DynamoDbSettings,
        eventbridge::EventBridgeSettings,
        kinesis::KinesisSettings,
        open_with,
        s3::S3Settings,
        s3_objects::{Compression, ObjectFormat},
        spool::{Room, SpoolSettings},
    },
};

use crate::{
    aws::{
        ACCOUNT, create_queue, create_table, create_table_with, create_topic, drain, location, read_stream,
        s3_client, subscribe,
    },
    moto::{Moto, sdk_config},
};

const TIME: &str = "2026-11-20T08:01:02.345Z";

/// An event of `hq-1.<epoch>`.
pub(crate) fn event(
    event_type: &str,
    building: &str,
    key: &str,
    epoch: u64,
    sequence: u64,
    data: Value,
) -> Outgoing {
    let body = json!({
        "specversion": "1.0", "id": format!("id-{epoch}-{sequence}"), "source": "/buildings/hq",
        "type": event_type, "log": format!("hq-1.{epoch}"), "time": TIME,
        "sequence": format!("{sequence:020}"), "partitionkey": key, "data": data,
    })
    .to_string();
    let record = EventRecord::encode(event_type, building, key, body.as_bytes()).unwrap();
    Outgoing { sequence, record, body: body.into(), trace: None }
}

pub(crate) fn passage(event_type: &str, employee: &str, epoch: u64, sequence: u64) -> Outgoing {
    let data = json!({ "building": "hq", "gate": "north-1", "card_id": "04A2", "employee_id": employee, "reason": null });
    event(event_type, "hq", employee, epoch, sequence, data)
}

pub(crate) fn entry(employee: &str, sequence: u64) -> Outgoing {
    passage("access.entry.granted", employee, 1, sequence)
}

fn too_large(bytes: usize) -> Outgoing {
    event("access.entry.granted", "hq", "E9", 1, 9, json!({ "note": "x".repeat(bytes) }))
}

pub(crate) fn text(event: &Outgoing) -> String {
    String::from_utf8(event.body.to_vec()).unwrap()
}

pub(crate) fn delivered(records: usize) -> Vec<Outcome> {
    vec![Outcome::Delivered; records]
}

pub(crate) fn retry_kinds(outcomes: &[Outcome]) -> Vec<TroubleKind> {
    let kind = |outcome: &Outcome| match outcome {
        Outcome::Retry(Trouble { kind, .. }) => *kind,
        other => panic!("expected a retry, got {other:?}"),
    };
    outcomes.iter().map(kind).collect()
}

pub(crate) fn target(name: &str) -> Target {
    Target { name: name.to_owned(), aws: AwsSettings::default() }
}

pub(crate) fn sns(topic_arn: &str) -> SinkSettings {
    SinkSettings::Sns(target(topic_arn))
}

pub(crate) fn sqs(queue_url: &str) -> SinkSettings {
    SinkSettings::Sqs(target(queue_url))
}

pub(crate) fn kinesis(stream: &str) -> SinkSettings {
    SinkSettings::Kinesis(KinesisSettings { stream: target(stream), aggregate: false })
}

pub(crate) fn firehose(delivery_stream: &str) -> SinkSettings {
    SinkSettings::Firehose(target(delivery_stream))
}

pub(crate) fn eventbridge(bus: &str) -> SinkSettings {
    SinkSettings::EventBridge(EventBridgeSettings { bus: target(bus), detail_type: None })
}

pub(crate) fn dynamodb(table: &str) -> SinkSettings {
    SinkSettings::DynamoDb(DynamoDbSettings { table: target(table), events: false })
}

/// A sink that spools in `dir`.
pub(crate) fn s3(dir: &Path, bucket: &str, format: ObjectFormat) -> SinkSettings {
    SinkSettings::S3(S3Settings {
        spool: SpoolSettings { dir: dir.to_owned(), room: Room::asking(|_| Ok(true)) },
        tag: None,
        bucket: bucket.to_owned(),
        prefix: "events".to_owned(),
        format,
        max_age: Duration::from_secs(60),
        max_bytes: 16 * 1024 * 1024,
        aws: AwsSettings::default(),
    })
}

fn bodies(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.body.clone().unwrap()).collect()
}

fn attributes(message: &Message) -> HashMap<String, String> {
    let attributes = message.message_attributes.clone().unwrap_or_default();
    attributes.into_iter().map(|(name, value)| (name, value.string_value.unwrap())).collect()
}

fn group_id(message: &Message) -> String {
    message.attributes.as_ref().unwrap()[&MessageSystemAttributeName::MessageGroupId].clone()
}

#[tokio::test]
async fn an_sns_topic_fans_out_the_event_with_its_attributes() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let topic_arn = create_topic(&config, "internal").await;
    let queue_url = create_queue(&config, "listener").await;
    subscribe(&config, &topic_arn, "listener").await;

    let sink = open_with(&sns(&topic_arn), &config);
    let batch = vec![entry("E1", 1), event("admin.reload", "", "", 1, 2, json!({ "by": "SIGHUP" }))];
    assert_eq!(sink.send(batch.clone()).await, delivered(2));

    let mut messages = drain(&config, &queue_url).await;
    messages.sort_by_key(|message| message.body.clone().unwrap().contains("admin.reload"));
    assert_eq!(bodies(&messages), batch.iter().map(text).collect::<Vec<_>>());
    let expected = |event_type: &str, building: &str| {
        [("type", event_type), ("building", building), ("server", "hq-1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    };
    assert_eq!(attributes(&messages[0]), expected("access.entry.granted", "hq"));
    assert_eq!(attributes(&messages[1]), expected("admin.reload", "_server"));
}

#[tokio::test]
async fn an_sns_fifo_topic_keeps_order_per_key_and_drops_repeats() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let topic_arn = create_topic(&config, "internal.fifo").await;
    let queue_url = create_queue(&config, "listener.fifo").await;
    subscribe(&config, &topic_arn, "listener.fifo").await;

    let sink = open_with(&sns(&topic_arn), &config);
    for sequence in [1, 2, 2, 3] {
        assert_eq!(sink.send(vec![entry("E1", sequence), entry("Ü 2", sequence + 10)]).await, delivered(2));
    }
    let messages = drain(&config, &queue_url).await;
    let of_first: Vec<_> = messages.iter().filter(|message| group_id(message) == "E1").cloned().collect();
    assert_eq!(bodies(&of_first), [1, 2, 3].map(|sequence| text(&entry("E1", sequence))));
    assert_eq!(messages.len(), 6);
}

#[tokio::test]
async fn an_sqs_queue_takes_full_batches_and_a_fifo_one_keeps_order() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let queue_url = create_queue(&config, "events").await;
    let sink = open_with(&sqs(&queue_url), &config);
    let batch: Vec<_> = (1..=10).map(|sequence| entry("E1", sequence)).collect();
    assert_eq!(sink.send(batch.clone()).await, delivered(10));
    let messages = drain(&config, &queue_url).await;
    let (mut received, mut sent) = (bodies(&messages), batch.iter().map(text).collect::<Vec<_>>());
    received.sort();
    sent.sort();
    assert_eq!(received, sent);
    assert_eq!(attributes(&messages[0])["type"], "access.entry.granted");

    let fifo_url = create_queue(&config, "events.fifo").await;
    let sink = open_with(&sqs(&fifo_url), &config);
    for sequence in [1, 1, 2, 3] {
        assert_eq!(sink.send(vec![entry("E1", sequence)]).await, delivered(1));
    }
    let messages = drain(&config, &fifo_url).await;
    assert_eq!(bodies(&messages), [1, 2, 3].map(|sequence| text(&entry("E1", sequence))));
    assert_eq!(group_id(&messages[0]), "E1");
}

#[tokio::test]
async fn a_kinesis_stream_holds_each_keys_events_in_order() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let client = aws_sdk_kinesis::Client::new(&config);
    client.create_stream().stream_name("exits").shard_count(2).send().await.unwrap();

    let sink = open_with(&kinesis("exits"), &config);
    let mut sent: HashMap<String, Vec<String>> = HashMap::new();
    for round in 0..3 {
        let batch: Vec<_> =
            (0..40).map(|employee| entry(&format!("E{employee}"), round * 40 + employee)).collect();
        for event in &batch {
            sent.entry(event.record.partition_key().to_owned()).or_default().push(text(event));
        }
        assert_eq!(sink.send(batch).await, delivered(40));
    }
    assert_eq!(read_stream(&client, "exits").await, sent);

    let filler = "x".repeat(9_000);
    let full: Vec<_> = (0..500)
        .map(|sequence| {
            event(
                "access.exit.recorded",
                "hq",
                &format!("F{sequence}"),
                1,
                sequence,
                json!({ "note": filler }),
            )
        })
        .collect();
    assert_eq!(sink.send(full.clone()).await, delivered(500));

    // AWS takes 10 MiB; what refuses more than 5 gets halves
    let filler = "x".repeat(2_000);
    let fuller: Vec<_> = (full.into_iter())
        .map(|mut event| {
            event.body = [event.body.to_vec(), filler.clone().into_bytes()].concat().into();
            event
        })
        .collect();
    let outcomes = sink.send(fuller).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::BatchRefused(_))), "{:?}", outcomes[0]);
}

#[tokio::test]
async fn firehose_objects_are_ndjson() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let s3 = s3_client(&config);
    s3.create_bucket().bucket("lines").create_bucket_configuration(location()).send().await.unwrap();
    let destination = aws_sdk_firehose::types::ExtendedS3DestinationConfiguration::builder()
        .bucket_arn("arn:aws:s3:::lines")
        .role_arn(format!("arn:aws:iam::{ACCOUNT}:role/firehose"))
        .build()
        .unwrap();
    let client = aws_sdk_firehose::Client::new(&config);
    let stream = client.create_delivery_stream().delivery_stream_name("events");
    let request = stream.extended_s3_destination_configuration(destination);
    Box::pin(request.send()).await.unwrap();

    let batch: Vec<_> = (1..=500).map(|sequence| entry("E1", sequence)).collect();
    assert_eq!(open_with(&firehose("events"), &config).send(batch.clone()).await, delivered(500));
    let listed = s3.list_objects_v2().bucket("lines").send().await.unwrap();
    let mut lines = String::new();
    for object in listed.contents() {
        let object = s3.get_object().bucket("lines").key(object.key().unwrap()).send().await.unwrap();
        lines += std::str::from_utf8(&object.body.collect().await.unwrap().to_vec()).unwrap();
    }
    assert_eq!(lines, batch.iter().map(|event| text(event) + "\n").collect::<String>());
}

#[tokio::test]
async fn an_event_bus_leads_events_on_by_rules() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let queue_url = create_queue(&config, "ruled").await;
    let client = aws_sdk_eventbridge::Client::new(&config);
    client.create_event_bus().name("turnstiles").send().await.unwrap();
    let pattern = r#"{"detail-type":["access.entry.granted"],"detail":{"data":{"building":["hq"]}}}"#;
    let rule = client.put_rule().event_bus_name("turnstiles").name("entries");
    rule.event_pattern(pattern).send().await.unwrap();
    let queue_arn = format!("arn:aws:sqs:eu-central-1:{ACCOUNT}:ruled");
    let queue = aws_sdk_eventbridge::types::Target::builder().id("q").arn(queue_arn).build().unwrap();
    let targets = client.put_targets().event_bus_name("turnstiles").rule("entries");
    targets.targets(queue).send().await.unwrap();

    let sink = open_with(&eventbridge("turnstiles"), &config);
    let batch = vec![entry("E1", 1), passage("access.exit.recorded", "E1", 1, 2), entry("E2", 3)];
    assert_eq!(sink.send(batch.clone()).await, delivered(3));
    let mut found: Vec<Value> = (bodies(&drain(&config, &queue_url).await).iter())
        .map(|body| serde_json::from_str(body).unwrap())
        .collect();
    found.sort_by_key(|event| event["detail"]["sequence"].to_string());
    let details: Vec<&Value> = found.iter().map(|event| &event["detail"]).collect();
    let expected = [&batch[0], &batch[2]].map(|event| serde_json::from_str::<Value>(&text(event)).unwrap());
    assert_eq!(details, expected.iter().collect::<Vec<_>>());
    assert_eq!(
        (&found[0]["source"], &found[0]["detail-type"]),
        (&json!("/buildings/hq"), &json!("access.entry.granted"))
    );
}

struct Table {
    client: aws_sdk_dynamodb::Client,
    sink: Arc<dyn Sink>,
}

impl Table {
    async fn create(config: &SdkConfig) -> Self {
        let client = aws_sdk_dynamodb::Client::new(config);
        create_table(&client, "card-state").await;
        Self { client, sink: open_with(&dynamodb("card-state"), config) }
    }

    async fn deliver(&self, event: Outgoing) {
        assert_eq!(self.sink.send(vec![event]).await, delivered(1));
    }

    async fn attribute(&self, partition_key: &str, sort_key: &str, attribute: &str) -> AttributeValue {
        let request = self
            .client
            .get_item()
            .table_name("card-state")
            .key("PK", AttributeValue::S(partition_key.to_owned()))
            .key("SK", AttributeValue::S(sort_key.to_owned()));
        request.send().await.unwrap().item.unwrap()[attribute].clone()
    }

    async fn inside(&self) -> bool {
        *self.attribute("EMPLOYEE#E1", "PRESENCE#hq", "inside").await.as_bool().unwrap()
    }
}

#[tokio::test]
async fn a_table_with_other_keys_is_no_events_fault() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let client = aws_sdk_dynamodb::Client::new(&config);
    for (table, keys) in [("lower", &["pk", "sk"][..]), ("other", &["id"]), ("half", &["PK", "sort"])] {
        create_table_with(&client, table, keys).await;
        let sink = open_with(&dynamodb(table), &config);
        let outcomes = sink.send(vec![entry("E1", 1), passage("access.entry.granted", "E2", 1, 2)]).await;
        assert_eq!(retry_kinds(&outcomes), [TroubleKind::Hold; 2], "{table}: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_late_event_rolls_no_presence_back_and_a_higher_epoch_wins() {
    let Some(moto) = Moto::start() else { return };
    let table = Table::create(&moto.sdk_config()).await;
    table.deliver(passage("access.entry.granted", "E1", 1, 10)).await;
    assert!(table.inside().await);
    table.deliver(passage("access.exit.recorded", "E1", 1, 11)).await;
    assert!(!table.inside().await);

    table.deliver(passage("access.entry.granted", "E1", 1, 10)).await;
    assert!(!table.inside().await, "a replayed entry came back");
    table.deliver(passage("access.entry.granted", "E1", 2, 3)).await;
    assert!(table.inside().await, "the next epoch begins at lower sequences");
    table.deliver(passage("access.exit.recorded", "E1", 1, 500)).await;
    assert!(table.inside().await, "the former epoch came back");
    assert_eq!(
        table.attribute("EMPLOYEE#E1", "PRESENCE#hq", "log").await,
        AttributeValue::S("hq-1.2".to_owned())
    );
}

#[tokio::test]
async fn who_was_forgiven_reset_or_never_came_is_not_inside() {
    let Some(moto) = Moto::start() else { return };
    let table = Table::create(&moto.sdk_config()).await;
    let of = |event_type: &str, sequence: u64, more: Value| {
        let mut data = json!({ "building": "hq", "gate": "g", "card_id": "C", "employee_id": "E1" });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event(event_type, "hq", "E1", 1, sequence, data)
    };
    table.deliver(passage("access.entry.granted", "E1", 1, 10)).await;
    table.deliver(of("presence.forgiven", 11, json!({ "reason": "left by the garage" }))).await;
    assert!(!table.inside().await);
    table.deliver(passage("access.entry.granted", "E1", 1, 12)).await;
    let no_entry = json!({ "outcome": "no_entry", "presence": { "inside": false } });
    table.deliver(of("access.passage.abandoned", 13, no_entry)).await;
    assert!(!table.inside().await);
    table.deliver(of("access.passage.abandoned", 14, json!({ "outcome": "no_entry" }))).await;
    let decided = json!({ "decision": "granted", "occurred_at": "2026-11-20T07:00:00.000Z" });
    table.deliver(of("access.entry.recorded", 15, decided)).await;
    assert!(table.inside().await);
    for sequence in [16, 9] {
        let reset = json!({ "building": "hq", "people": 1, "reason": "a drill" });
        table.deliver(event("presence.reset", "hq", "hq", 1, sequence, reset)).await;
    }
    let cleared = table.attribute("BUILDING#hq", "PRESENCE", "sequence").await;
    let entered = table.attribute("EMPLOYEE#E1", "PRESENCE#hq", "sequence").await;
    let numbers = ["16", "15"].map(|number| AttributeValue::N(number.to_owned()));
    assert_eq!([cleared, entered], numbers, "the reset is later: void");
}

#[tokio::test]
async fn a_card_keeps_its_highest_version() {
    let Some(moto) = Moto::start() else { return };
    let table = Table::create(&moto.sdk_config()).await;
    let card = |event_type: &str, version: u64, status: &str| {
        let data = json!({ "card_id": "04A2", "employee_id": "E1", "status": status, "version": version, "buildings": [] });
        event(event_type, "", "E1", 1, version, data)
    };
    table.deliver(card("card.registered", 9, "active")).await;
    table.deliver(card("card.revoked", 10, "revoked")).await;
    table.deliver(card("card.updated", 9, "active")).await;
    let status = table.attribute("CARD#04A2", "STATE", "status").await;
    assert_eq!(status, AttributeValue::S("revoked".to_owned()));
    assert_eq!(table.attribute("CARD#04A2", "STATE", "buildings").await, AttributeValue::L(vec![]));

    let batch: Vec<_> = (1..=64).map(|sequence| entry(&format!("E{sequence}"), sequence)).collect();
    assert_eq!(table.sink.send(batch).await, delivered(64));
}

#[tokio::test]
async fn a_table_of_events_keeps_each_once_beside_the_state() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let mut table = Table::create(&config).await;
    let settings = DynamoDbSettings { table: target("card-state"), events: true };
    table.sink = open_with(&SinkSettings::DynamoDb(settings), &config);
    for event in [entry("E1", 1), entry("E1", 1), passage("access.exit.recorded", "E1", 1, 2)] {
        table.deliver(event).await;
    }
    assert!(!table.inside().await);
    let query = table.client.query().table_name("card-state").key_condition_expression("PK = :card");
    let card = AttributeValue::S("CARD#04A2".to_owned());
    let items = query.expression_attribute_values(":card", card).send().await.unwrap().items.unwrap();
    let events: Vec<&str> = items.iter().map(|item| item["event"].as_s().unwrap().as_str()).collect();
    assert_eq!(events, [text(&entry("E1", 1)), text(&passage("access.exit.recorded", "E1", 1, 2))]);
    assert_eq!(items[0]["SK"].as_s().unwrap(), &format!("EVENT#{TIME}#hq-1.1#{:020}", 1));
}

#[tokio::test]
async fn what_is_missing_holds_the_events() {
    let dir = tempfile::tempdir().unwrap();
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let targets = [
        sns(&format!("arn:aws:sns:eu-central-1:{ACCOUNT}:nowhere")),
        sqs(&format!("{}/{ACCOUNT}/nowhere", moto.endpoint_url())),
        kinesis("nowhere"),
        firehose("nowhere"),
        eventbridge("nowhere"),
        s3(dir.path(), "nowhere", ObjectFormat::Ndjson(Compression::Gzip)),
        dynamodb("nowhere"),
    ];
    for target in targets {
        let outcomes = open_with(&target, &config).send(vec![entry("E1", 1), entry("E2", 2)]).await;
        assert_eq!(retry_kinds(&outcomes), [TroubleKind::Hold; 2], "{target}: {outcomes:?}");
    }
}

/// A sink of each service on an endpoint where nobody listens.
fn unreachable_sinks(dir: &Path, config: &SdkConfig) -> Vec<(SinkSettings, Arc<dyn Sink>)> {
    [
        sns(&format!("arn:aws:sns:eu-central-1:{ACCOUNT}:topic")),
        sqs(&format!("https://sqs.eu-central-1.amazonaws.com/{ACCOUNT}/queue")),
        kinesis("stream"),
        firehose("stream"),
        eventbridge("bus"),
        s3(dir, "bucket", ObjectFormat::Ndjson(Compression::Gzip)),
        dynamodb("table"),
    ]
    .map(|settings| (settings.clone(), open_with(&settings, config)))
    .into()
}

fn dead_endpoint() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

#[tokio::test]
async fn an_unreachable_endpoint_passes() {
    let dir = tempfile::tempdir().unwrap();
    for (settings, sink) in unreachable_sinks(dir.path(), &sdk_config(&dead_endpoint())) {
        let outcomes = sink.send(vec![entry("E1", 1), entry("E2", 2)]).await;
        assert_eq!(retry_kinds(&outcomes), [TroubleKind::Transient; 2], "{settings}: {outcomes:?}");
    }
}

#[tokio::test]
async fn missing_credentials_hold_the_events() {
    let dir = tempfile::tempdir().unwrap();
    let none =
        provide_credentials_fn(async || Err(CredentialsError::not_loaded("nothing in the chain has any")));
    let mut config = sdk_config(&dead_endpoint()).to_builder();
    config.set_credentials_provider(Some(SharedCredentialsProvider::new(none)));
    for (settings, sink) in unreachable_sinks(dir.path(), &config.build()) {
        let outcomes = sink.send(vec![entry("E1", 1)]).await;
        assert_eq!(retry_kinds(&outcomes), [TroubleKind::Hold], "{settings}: {outcomes:?}");
        assert!(format!("{outcomes:?}").contains("NoCredentials"), "{settings}: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_record_too_large_is_rejected_without_a_call() {
    let dir = tempfile::tempdir().unwrap();
    for (settings, sink) in unreachable_sinks(dir.path(), &sdk_config(&dead_endpoint())) {
        let limit = match settings {
            SinkSettings::Sns(_) => 256 * 1024,
            SinkSettings::Sqs(_) | SinkSettings::Kinesis(_) => 1024 * 1024,
            SinkSettings::Firehose(_) | SinkSettings::EventBridge(_) => 1024 * 1024,
            // S3 takes any event, and no item is as large as its event
            _ => continue,
        };
        let outcomes = sink.send(vec![too_large(limit)]).await;
        assert!(matches!(outcomes[..], [Outcome::Rejected(_)]), "{settings}: {outcomes:?}");
    }
}
