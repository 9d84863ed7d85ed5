//! The `kinesis` sink and the shards of its stream.

use std::sync::{Arc, Mutex};

use md5::{Digest, Md5};
use serde_json::{Value, json};
use turnstiled::{delivery::outcome::Outcome, sinks::open_with};

use crate::{
    fake_service::{Reply, Request, serve_requests},
    moto::sdk_config,
    sinks_moto::{entry, kinesis},
};

pub(crate) fn json_reply(body: &Value) -> Reply {
    let headers = vec!["content-type: application/x-amz-json-1.1".to_owned()];
    Reply { status: 200, headers, body: body.to_string() }
}

/// What a stream of two shards says that each have half of the hash keys.
pub(crate) fn two_shards() -> Value {
    let middle = u128::MAX / 2;
    shard_list(&[("low", 0, middle), ("high", middle + 1, u128::MAX)])
}

/// What a stream says of its shards: id, first and last hash key of each.
pub(crate) fn shard_list(shards: &[(&str, u128, u128)]) -> Value {
    let shard = |(id, first, last): &(&str, u128, u128)| {
        json!({
            "ShardId": id,
            "HashKeyRange": { "StartingHashKey": first.to_string(), "EndingHashKey": last.to_string() },
            "SequenceNumberRange": { "StartingSequenceNumber": "1" }
        })
    };
    json!({ "Shards": shards.iter().map(shard).collect::<Vec<_>>() })
}

/// Whether a key leads to the lower half of all hash keys.
fn is_low(key: &str) -> bool {
    Md5::digest(key)[0] < 128
}

#[tokio::test]
async fn a_shard_that_throttled_is_paced_and_the_others_are_not() {
    let puts: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let seen = Arc::clone(&puts);
    let endpoint_url = serve_requests(move |request: &Request| {
        if request.header("x-amz-target").ends_with("ListShards") {
            return json_reply(&two_shards());
        }
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let records = body["Records"].as_array().unwrap();
        let key = |record: &Value| record["PartitionKey"].as_str().unwrap().to_owned();
        let keys: Vec<String> = records.iter().map(key).collect();
        let result = |key: &String| match is_low(key) {
            true => {
                json!({ "ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down" })
            }
            false => json!({ "SequenceNumber": "1", "ShardId": "high" }),
        };
        let results: Vec<Value> = keys.iter().map(result).collect();
        seen.lock().unwrap().push(keys);
        json_reply(&json!({ "FailedRecordCount": 1, "Records": results }))
    });
    let sink = open_with(&kinesis("exits"), &sdk_config(&endpoint_url));
    let batch: Vec<_> = (1..=400).map(|sequence| entry(&format!("E{sequence}"), sequence)).collect();
    let first = sink.send(batch.clone()).await;
    let held =
        |outcomes: &[Outcome]| outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Later(_))).count();
    assert_eq!(held(&first), 0, "nobody has throttled yet");
    let low = batch.iter().filter(|event| is_low(event.record.partition_key())).count();

    let second = sink.send(batch.clone()).await;
    let puts = puts.lock().unwrap();
    assert!(held(&second) > 0 && held(&second) < low, "{} of {low} held back", held(&second));
    assert_eq!(puts[1].len(), 400 - held(&second), "what is held back is not sent");
    for (event, outcome) in batch.iter().zip(&second) {
        let is_low = is_low(event.record.partition_key());
        assert_eq!(is_low, *outcome != Outcome::Delivered, "{} {outcome:?}", event.record.partition_key());
    }
}
