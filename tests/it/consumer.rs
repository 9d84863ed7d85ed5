//! The example's consumer, which knows nothing of turnstiled's own code, against what the daemon sends: each event
//! reaches it once, however often it was sent.

#[path = "../../examples/consumer/once.rs"]
mod once;
#[path = "../../examples/consumer/queue.rs"]
mod queue;
#[path = "../../examples/consumer/stream.rs"]
mod stream;

use std::collections::HashSet;

use aws_config::SdkConfig;
use serde_json::json;

use self::once::Once;
use crate::{
    aws::{create_queue, s3_client},
    daemon::{Site, TWO_BUILDINGS, events},
    moto::Moto,
    replay::{leave, over},
    sinks::settled,
};

const STREAM: &str = "exits";
const EXITS: usize = 30;

/// A queue and a stream for exits.
fn sinks(queue_url: &str) -> String {
    format!(
        r#"
        [sinks.queue]
        type = "sqs"
        queue_url = "{queue_url}"
        [sinks.stream]
        type = "kinesis"
        stream = "{STREAM}"

        [[routes]]
        name = "exits"
        types = ["access.exit.*"]
        to = ["queue", "stream"]
        [[routes]]
        name = "others"
        types = ["**"]
        to = []
        "#
    )
}

/// What the consumer hands on of both, and how many repeats it has seen.
async fn consume(config: &SdkConfig, queue_url: &str, seen: &mut [Once; 2]) -> [Vec<String>; 2] {
    let [by_queue, by_stream] = seen;
    let (mut queue, mut stream) = (Vec::new(), Vec::new());
    let client = aws_sdk_sqs::Client::new(config);
    let mut handle = |event: &str| {
        queue.push(event.to_owned());
        Ok(())
    };
    queue::read(&client, queue_url, by_queue, &mut handle).await.unwrap();
    let client = aws_sdk_kinesis::Client::new(config);
    let mut handle = |event: &str| {
        stream.push(event.to_owned());
        Ok(())
    };
    stream::read(&client, STREAM, by_stream, &mut handle).await.unwrap();
    [queue, stream]
}

#[tokio::test]
async fn a_consumer_sees_each_event_once_however_often_it_is_sent() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let queue_url = create_queue(&config, "exits").await;
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    kinesis.create_stream().stream_name(STREAM).shard_count(2).send().await.unwrap();
    let site = Site::new(&format!("{TWO_BUILDINGS}{}", sinks(&queue_url))).with_aws(&moto);
    let daemon = site.start();
    leave(&site, &daemon, EXITS).await;
    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &[("queue", EXITS as u64), ("stream", EXITS as u64)]).await;

    let mut seen = [Once::default(), Once::default()];
    let first = consume(&config, &queue_url, &mut seen).await;
    for lines in &first {
        let ids = events(lines.iter().map(String::as_str))
            .iter()
            .map(|event| event["id"].to_string())
            .collect::<HashSet<_>>();
        assert_eq!((lines.len(), ids.len()), (EXITS, EXITS), "all of them, once each");
    }
    for to in ["queue", "stream"] {
        admin.post("/v1/replays", &json!({ "name": to, "from": "wal", "to": to })).await.expect(201);
        assert_eq!(over(&admin, to).await["delivered"], EXITS);
    }
    let again = consume(&config, &queue_url, &mut seen).await;
    assert_eq!(again, [Vec::<String>::new(), Vec::new()], "nothing is handled a second time");
    // the queue has only the replayed ones left, the stream both
    assert_eq!(
        seen.map(|once| (once.handled, once.repeats)),
        [(EXITS as u64, EXITS as u64), (EXITS as u64, 2 * EXITS as u64)]
    );
}

#[test]
fn an_event_that_could_not_be_handled_comes_again() {
    let (mut once, event) = (Once::default(), r#"{"id":"0190a0a0-0000-7000-8000-000000000001"}"#);
    assert!(once.take(event, &mut |_| Err("the database is away".into())).is_err());
    let mut handled = 0;
    let mut handle = |_: &str| {
        handled += 1;
        Ok(())
    };
    once.take(event, &mut handle).unwrap();
    once.take(event, &mut handle).unwrap();
    assert!(once.take("{}", &mut handle).is_err());
    assert_eq!((handled, once.handled, once.repeats), (1, 1, 1));
}

/// What `deploy/rejected.toml` takes from the environment beside `deploy/routes.aws.toml`.
const REJECTED_BUCKET: (&str, &str) = ("TURNSTILED_REJECTED_BUCKET", "rejected");

#[tokio::test]
async fn denied_entries_go_to_a_bucket_of_their_own() {
    let deploy = |name: &str| {
        std::fs::read_to_string(format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    // as the file says: behind the AWS configuration
    let site = Site::new(&(deploy("routes.aws.toml") + &deploy("rejected.toml")));
    for command in ["check", "test-routes"] {
        let output =
            site.command(&[command]).envs(crate::cli::DEPLOYMENT).envs([REJECTED_BUCKET]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("rejected") || text.contains(" 0 failed"), "{text}");
    }

    // and alone, with the sinks of its tests, it leads denied entries there and nothing else
    let Some(moto) = Moto::start() else { return };
    let client = s3_client(&moto.sdk_config());
    client
        .create_bucket()
        .bucket("rejected")
        .create_bucket_configuration(crate::aws::location())
        .send()
        .await
        .unwrap();
    let snippet =
        deploy("rejected.toml").replace("${TURNSTILED_REJECTED_BUCKET}", "rejected").replace("60s", "300ms");
    let (route, _tests) = snippet.split_once("[[tests]]").unwrap();
    let rest = "\n[[routes]]\nname = \"others\"\ntypes = [\"**\"]\nto = []\n";
    let site = Site::new(&format!("{TWO_BUILDINGS}{route}{rest}")).with_aws(&moto);
    let daemon = site.start();
    daemon.person(&site.token("hr")).put("/v1/cards/C1", &json!({ "employee_id": "E1" })).await.expect(201);
    let gate = daemon.device(&site.key("hq"));
    for card in ["C1", "nobody"] {
        let swipe = json!({ "card_id": card, "gate_id": "north-1" });
        gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
    }
    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &[("rejected", 1)]).await;
    let listed = client.list_objects_v2().bucket("rejected").send().await.unwrap();
    let keys: Vec<&str> = listed.contents().iter().map(|object| object.key().unwrap()).collect();
    assert!(keys.len() == 1 && keys[0].starts_with("rejected/building=hq/dt="), "{keys:?}");
    daemon.stop();
    // the event in it is the log's, and the only one that has to be there
    site.run_well(&["wal", "verify", "--against", "s3://rejected/rejected"]);
}
