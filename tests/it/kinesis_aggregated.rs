//! Aggregated records of the `kinesis` sink, read by AWS' own module (PyPI `aws-kinesis-agg`).

use std::{
    collections::{BTreeSet, HashMap},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use aws_config::SdkConfig;
use aws_sdk_kinesis::{
    Client,
    types::{Record, ShardIteratorType},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use turnstiled::{
    delivery::{
        Outgoing,
        outcome::{Outcome, TroubleKind},
    },
    sinks::{SinkSettings, kinesis::KinesisSettings, open_with},
};

use crate::{
    fake_service::{Reply, serve_requests},
    kinesis::{json_reply, shard_list, two_shards},
    moto::{Moto, sdk_config},
    sinks_moto::{entry, retry_kinds, target},
};

const EVENTS: u64 = 300;

fn aggregated(stream: &str) -> SinkSettings {
    SinkSettings::Kinesis(KinesisSettings { stream: target(stream), aggregate: true })
}

fn batch(first: u64) -> Vec<Outgoing> {
    (first..first + EVENTS).map(|sequence| entry(&format!("E{sequence}"), sequence)).collect()
}

fn hash_key(key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(key).into())
}

/// The records of each shard, with the range of its hash keys.
pub(crate) async fn raw(config: &SdkConfig, stream: &str) -> Vec<((u128, u128), Vec<Record>)> {
    let client = Client::new(config);
    let mut shards = Vec::new();
    for shard in client.list_shards().stream_name(stream).send().await.unwrap().shards() {
        let request = client.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
        let iterator = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        let records = client.get_records().set_shard_iterator(iterator.shard_iterator).send().await.unwrap();
        let keys = shard.hash_key_range().unwrap();
        let range = (keys.starting_hash_key().parse().unwrap(), keys.ending_hash_key().parse().unwrap());
        shards.push((range, records.records));
    }
    shards
}

/// A record as it was read, in the terms of `deaggregate.py`.
pub(crate) fn as_read(record: &Record) -> Value {
    json!({
        "SequenceNumber": record.sequence_number(),
        "PartitionKey": record.partition_key(),
        "Data": STANDARD.encode(record.data()),
    })
}

fn deaggregated(records: &[Record]) -> Vec<Value> {
    deaggregate(&records.iter().map(as_read).collect::<Vec<_>>())
}

/// The events in some records, as a consumer sees them that uses the interpreter beside the emulator: both come from
/// `tests/requirements.txt`.
pub(crate) fn deaggregate(records: &[Value]) -> Vec<Value> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server");
    let emulator = std::env::var_os("MOTO_SERVER").map_or(default, PathBuf::from);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/deaggregate.py");
    let mut python = Command::new(emulator.with_file_name("python"));
    let mut child = python
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every event of the batch once, whole, under its own key and with a hash key of the shard it lies on.
fn assert_whole(shards: &[((u128, u128), Vec<Record>)], sent: &[Outgoing]) {
    let mut found = HashMap::new();
    for ((first, last), records) in shards {
        for event in deaggregated(records) {
            let key = event["key"].as_str().unwrap().to_owned();
            let hash =
                event["hash_key"].as_str().map_or_else(|| hash_key(&key), |hash| hash.parse().unwrap());
            assert!((*first..=*last).contains(&hash), "{key}: a consumer of this shard drops it");
            assert!(found.insert(key, event["data"].as_str().unwrap().to_owned()).is_none(), "twice");
        }
    }
    assert_eq!(found.len(), sent.len());
    for event in sent {
        assert_eq!(found[event.record.partition_key()].as_bytes(), event.body);
    }
}

#[tokio::test]
async fn awss_own_reader_finds_every_event_in_order() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let client = Client::new(&config);
    client.create_stream().stream_name("exits").shard_count(2).send().await.unwrap();
    let sink = open_with(&aggregated("exits"), &config);

    let sent = batch(1);
    assert_eq!(sink.send(sent.clone()).await, vec![Outcome::Delivered; sent.len()]);
    let shards = raw(&config, "exits").await;
    let records: usize = shards.iter().map(|(_, records)| records.len()).sum();
    assert!(records < 20, "{records} records for {EVENTS} events");
    assert_whole(&shards, &sent);
    for ((first, last), records) in &shards {
        let keys: Vec<Value> = deaggregated(records).into_iter().map(|event| event["key"].clone()).collect();
        let expected = sent.iter().map(|event| event.record.partition_key());
        let expected: Vec<_> = expected.filter(|key| (*first..=*last).contains(&hash_key(key))).collect();
        assert_eq!(keys, expected, "in order, and where plain records lie, too");
    }

    // an event without company goes as what it is
    let alone = entry("ALONE", 5_000);
    assert_eq!(sink.send(vec![alone.clone()]).await, [Outcome::Delivered]);
    let shards = raw(&config, "exits").await;
    let plain =
        shards.iter().flat_map(|(_, records)| records).filter(|record| record.data().as_ref() == alone.body);
    assert_eq!(plain.count(), 1);
}

/// The emulator goes on writing to a shard that was split, so this is the tests' own service.
#[tokio::test]
async fn a_shard_that_was_split_is_noticed_by_the_first_record_on_it() {
    let quarter = u128::MAX / 4;
    let is_split = Arc::new(Mutex::new(false));
    let put: Arc<Mutex<Vec<String>>> = Arc::default();
    let (split, seen) = (Arc::clone(&is_split), Arc::clone(&put));
    let endpoint_url = serve_requests(move |request| {
        let parts = [("low", 0, quarter), ("middle", quarter + 1, u128::MAX / 2)];
        let is_split = *split.lock().unwrap();
        let low = if is_split { &parts[..] } else { &[("whole", 0, u128::MAX / 2)] };
        let shards = [low, &[("high", u128::MAX / 2 + 1, u128::MAX)]].concat();
        if request.header("x-amz-target").ends_with("ListShards") {
            return json_reply(&shard_list(&shards));
        }
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let result = |record: &Value| {
            // an event that is left over is a plain record
            let explicit = record["ExplicitHashKey"].as_str().map(str::to_owned);
            let own = || hash_key(record["PartitionKey"].as_str().unwrap());
            let hash = explicit.as_ref().map_or_else(own, |hash_key| hash_key.parse().unwrap());
            seen.lock().unwrap().extend(explicit);
            let (id, ..) = shards.iter().find(|(_, first, last)| (*first..=*last).contains(&hash)).unwrap();
            json!({ "SequenceNumber": "1", "ShardId": id })
        };
        let results: Vec<Value> = body["Records"].as_array().unwrap().iter().map(result).collect();
        json_reply(&json!({ "FailedRecordCount": 0, "Records": results }))
    });
    let sink = open_with(&aggregated("exits"), &sdk_config(&endpoint_url));
    let (zero, quarter, half) = ("0".to_owned(), (quarter + 1).to_string(), (u128::MAX / 2 + 1).to_string());
    let expected = [vec![&zero, &half], vec![&zero, &half], vec![&zero, &quarter, &half]]
        .map(|keys| keys.into_iter().cloned().collect::<BTreeSet<_>>());
    for (round, expected) in (0_u64..).zip(expected) {
        *is_split.lock().unwrap() = round > 0;
        put.lock().unwrap().clear();
        let batch = batch(1 + round * EVENTS);
        assert_eq!(sink.send(batch).await, vec![Outcome::Delivered; 300]);
        assert_eq!(put.lock().unwrap().iter().cloned().collect::<BTreeSet<_>>(), expected, "round {round}");
    }
}

#[tokio::test]
async fn a_record_that_failed_brings_back_its_events_and_no_others() {
    let refuse_all = Arc::new(Mutex::new(false));
    let refuses = Arc::clone(&refuse_all);
    let endpoint_url = serve_requests(move |request| {
        if request.header("x-amz-target").ends_with("ListShards") {
            return json_reply(&two_shards());
        }
        if *refuses.lock().unwrap() {
            let error = json!({ "__type": "ValidationException", "message": "one of them" });
            return Reply { status: 400, ..json_reply(&error) };
        }
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let result = |record: &Value| match record["ExplicitHashKey"].as_str() {
            Some("0") => json!({ "ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "" }),
            _ => json!({ "SequenceNumber": "1", "ShardId": "high" }),
        };
        let results: Vec<Value> = body["Records"].as_array().unwrap().iter().map(result).collect();
        json_reply(&json!({ "FailedRecordCount": 1, "Records": results }))
    });
    let sink = open_with(&aggregated("exits"), &sdk_config(&endpoint_url));
    let batch = batch(1);
    let is_low = |event: &Outgoing| hash_key(event.record.partition_key()) <= u128::MAX / 2;
    let outcomes = sink.send(batch.clone()).await;
    for (event, outcome) in batch.iter().zip(&outcomes) {
        match is_low(event) {
            true => assert_eq!(retry_kinds(std::slice::from_ref(outcome)), [TroubleKind::Throttled]),
            false => assert_eq!(*outcome, Outcome::Delivered),
        }
    }
    let paced = sink.send(batch.clone()).await;
    assert!(paced.iter().any(|outcome| matches!(outcome, Outcome::Later(_))), "the shard is paced");

    *refuse_all.lock().unwrap() = true;
    let high: Vec<_> = batch.into_iter().filter(|event| !is_low(event)).take(2).collect();
    let refused = sink.send(high.clone()).await;
    assert!(refused.iter().all(|outcome| matches!(outcome, Outcome::BatchRefused(_))), "{refused:?}");
    let refused = sink.send(high[..1].to_vec()).await;
    assert!(matches!(refused[..], [Outcome::Rejected(_)]), "{refused:?}");
}

#[tokio::test]
async fn without_a_stream_everything_waits() {
    let Some(moto) = Moto::start() else { return };
    let outcomes = open_with(&aggregated("nowhere"), &moto.sdk_config()).send(batch(1)).await;
    assert_eq!(retry_kinds(&outcomes), vec![TroubleKind::Hold; outcomes.len()]);
}
