//! The `s3` sink against the emulator: each object exactly once, through lost replies, kills and damage.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_config::SdkConfig;
use aws_sdk_s3::{Client, primitives::ByteStream};
use serde_json::{Value, json};
use turnstiled::{
    delivery::{
        Outgoing,
        outcome::{Outcome, TroubleKind},
    },
    sinks::{
        Sink, SinkSettings, open_with,
        s3_objects::{Compression, ObjectFormat},
        spool::{Room, manifest::checksum},
    },
};

use crate::{
    aws::{location, s3_client},
    daemon::{Daemon, Site, TWO_BUILDINGS},
    http::Caller,
    moto::{Moto, sdk_config},
    proxy::{Mode, Proxy},
    sinks::{settled, sinks_by_name},
    sinks_moto::{delivered, entry, event, passage, retry_kinds, s3, text},
    wait::eventually,
};

const BUCKET: &str = "archive";

pub(crate) async fn bucket(config: &SdkConfig) -> Client {
    let client = s3_client(config);
    client.create_bucket().bucket(BUCKET).create_bucket_configuration(location()).send().await.unwrap();
    client
}

/// A sink of plain ndjson with its spool in `dir`.
fn open_plain(dir: &Path, config: &SdkConfig) -> Arc<dyn Sink> {
    open_with(&s3(dir, BUCKET, ObjectFormat::Ndjson(Compression::None)), config)
}

fn entries(sequences: std::ops::RangeInclusive<u64>) -> Vec<Outgoing> {
    sequences.map(|sequence| entry("E1", sequence)).collect()
}

/// When each object was put, and its lines, by key.
async fn objects(client: &Client) -> BTreeMap<String, (String, Vec<String>)> {
    let mut found = BTreeMap::new();
    for listed in client.list_objects_v2().bucket(BUCKET).send().await.unwrap().contents() {
        let key = listed.key().unwrap();
        let object = client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
        let (modified, tag) = (format!("{:?}", object.last_modified()), object.e_tag().unwrap().to_owned());
        let bytes = object.body.collect().await.unwrap().to_vec();
        let compression = if key.ends_with(".gz") { Compression::Gzip } else { Compression::None };
        let lines = unpack(compression, &bytes).lines().map(str::to_owned).collect();
        found.insert(key.to_owned(), (format!("{modified} {tag}"), lines));
    }
    found
}

fn key_of(first: u64, last: u64) -> String {
    format!("events/building=hq/dt=2026-11-20/hour=08/hq-1.1-{first:020}-{last:020}.ndjson")
}

/// What lies in a spool.
pub(crate) fn spooled(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn unpack(compression: Compression, bytes: &[u8]) -> String {
    let mut text = String::new();
    match compression {
        Compression::None => text.push_str(std::str::from_utf8(bytes).unwrap()),
        Compression::Gzip => {
            flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
        }
        Compression::Zstd => text = String::from_utf8(zstd::stream::decode_all(bytes).unwrap()).unwrap(),
    }
    text
}

#[tokio::test]
async fn objects_are_put_once() {
    let Some(moto) = Moto::start() else { return };
    let config = moto.sdk_config();
    let client = bucket(&config).await;
    let batch = vec![
        entry("E1", 7),
        event("admin.reload", "", "", 1, 8, json!({})),
        passage("access.exit.recorded", "E1", 1, 9),
    ];
    for (compression, ending) in
        [(Compression::None, ""), (Compression::Gzip, ".gz"), (Compression::Zstd, ".zst")]
    {
        // the second one is of a process that lost its spool: the key is taken, by the same bytes
        for _ in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let sink = open_with(&s3(dir.path(), BUCKET, ObjectFormat::Ndjson(compression)), &config);
            assert_eq!(sink.send(batch.clone()).await, delivered(3));
            assert_eq!(sink.send(batch.clone()).await, delivered(3));
            assert_eq!(spooled(dir.path()).len(), 2, "until the cursor has passed them");
            sink.settled(8);
            assert_eq!(spooled(dir.path()).len(), 1);
            sink.settled(9);
            assert!(spooled(dir.path()).is_empty());
        }
        let key = key_of(7, 9) + ending;
        let object = client.get_object().bucket(BUCKET).key(&key).send().await.unwrap();
        let metadata = object.metadata().unwrap().clone();
        let bytes = object.body.collect().await.unwrap().to_vec();
        let expected = [("first", "7"), ("last", "9"), ("count", "2"), ("sha256", &checksum(&bytes))];
        assert_eq!(metadata, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let lines = format!("{}\n{}\n", text(&batch[0]), text(&batch[2]));
        assert_eq!(unpack(compression, &bytes), lines);
    }
    let listed = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    let keys: Vec<_> = listed.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    assert!(keys.iter().filter(|key| key.contains("/building=_server/")).count() == 3, "{keys:?}");
}

#[tokio::test]
async fn a_key_taken_by_other_bytes_is_held() {
    let Some(moto) = Moto::start() else { return };
    let (config, dir) = (moto.sdk_config(), tempfile::tempdir().unwrap());
    let client = bucket(&config).await;
    let other = ByteStream::from_static(b"something else");
    client.put_object().bucket(BUCKET).key(key_of(7, 7)).body(other).send().await.unwrap();

    let sink = open_plain(dir.path(), &config);
    let outcomes = sink.send(vec![entry("E1", 7), event("admin.reload", "", "", 1, 8, json!({}))]).await;
    assert_eq!(retry_kinds(&outcomes[..1]), [TroubleKind::Hold]);
    assert!(format!("{outcomes:?}").contains("holds other bytes"), "{outcomes:?}");
    assert_eq!(outcomes[1], Outcome::Delivered);
    assert_eq!(objects(&client).await[&key_of(7, 7)].1, ["something else"]);
    // an operator moves it away
    client.delete_object().bucket(BUCKET).key(key_of(7, 7)).send().await.unwrap();
    assert_eq!(sink.send(entries(7..=7)).await, delivered(1));
    assert_eq!(objects(&client).await[&key_of(7, 7)].1, [text(&entry("E1", 7))]);
}

#[tokio::test]
async fn after_a_lost_reply_and_a_kill_a_batch_that_is_cut_otherwise_makes_no_other_object() {
    let Some(moto) = Moto::start() else { return };
    let (config, dir) = (moto.sdk_config(), tempfile::tempdir().unwrap());
    let client = bucket(&config).await;
    let proxy = Proxy::start(&moto.endpoint_url()).await;
    let open = || open_plain(dir.path(), &sdk_config(&proxy.url()));
    proxy.switch(Mode::LoseReplies);
    assert_eq!(retry_kinds(&open().send(entries(1..=4)).await), [TroubleKind::Transient; 4]);
    proxy.switch(Mode::Forward);
    let before = objects(&client).await;
    assert_eq!(before.keys().collect::<Vec<_>>(), [&key_of(1, 4)], "it arrived");

    let sink = open();
    sink.settled(0);
    assert_eq!(sink.send(entries(1..=2)).await, delivered(2));
    assert_eq!(sink.send(entries(3..=6)).await, delivered(4));
    let sink = open();
    sink.settled(2);
    assert_eq!(sink.send(entries(3..=7)).await, delivered(5));
    let after = objects(&client).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), [&key_of(1, 4), &key_of(5, 6), &key_of(7, 7)]);
    assert_eq!(after[&key_of(1, 4)], before[&key_of(1, 4)], "it was not put again");
    sink.settled(7);
    assert!(spooled(dir.path()).is_empty());
}

#[tokio::test]
async fn what_was_never_uploaded_goes_to_the_place_that_is_configured_now() {
    let Some(moto) = Moto::start() else { return };
    let (config, dir) = (moto.sdk_config(), tempfile::tempdir().unwrap());
    let client = bucket(&config).await;
    // a slip of the pen, and its correction
    let wrong = open_with(&s3(dir.path(), "archiv", ObjectFormat::Ndjson(Compression::None)), &config);
    assert_eq!(retry_kinds(&wrong.send(entries(1..=2)).await), [TroubleKind::Hold; 2]);
    let right = open_with(&s3(dir.path(), BUCKET, ObjectFormat::Ndjson(Compression::Gzip)), &config);
    assert_eq!(right.send(entries(1..=3)).await, delivered(3));
    assert_eq!(objects(&client).await.into_keys().collect::<Vec<_>>(), [key_of(1, 3) + ".gz"]);
}

#[tokio::test]
async fn damage_in_the_spool_loses_and_repeats_nothing() {
    let Some(moto) = Moto::start() else { return };
    let (config, dir) = (moto.sdk_config(), tempfile::tempdir().unwrap());
    let client = bucket(&config).await;
    let proxy = Proxy::start(&moto.endpoint_url()).await;
    let open = || open_plain(dir.path(), &sdk_config(&proxy.url()));
    for (mode, batch) in [(Mode::LoseReplies, 1..=2), (Mode::Refuse, 3..=4)] {
        proxy.switch(mode);
        assert_eq!(retry_kinds(&open().send(entries(batch)).await), [TroubleKind::Transient; 2]);
    }
    proxy.switch(Mode::Forward);
    for path in spooled(dir.path()) {
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    // the first one is in the bucket and needs no bytes; the second one is not, so its events are formed anew
    let sink = open();
    let outcomes = sink.send(entries(1..=5)).await;
    assert_eq!(outcomes[..2], delivered(2));
    assert_eq!(retry_kinds(&outcomes[2..4]), [TroubleKind::Transient; 2]);
    assert_eq!(outcomes[4], Outcome::Delivered);
    assert_eq!(sink.send(entries(3..=4)).await, delivered(2));
    let found = objects(&client).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), [&key_of(1, 2), &key_of(3, 4), &key_of(5, 5)]);
    assert_eq!(found[&key_of(3, 4)].1, [text(&entry("E1", 3)), text(&entry("E1", 4))]);
}

#[tokio::test]
async fn on_a_full_disk_a_batch_is_halved_and_one_event_waits() {
    let Some(moto) = Moto::start() else { return };
    let (config, dir) = (moto.sdk_config(), tempfile::tempdir().unwrap());
    let client = bucket(&config).await;
    let SinkSettings::S3(mut settings) = s3(dir.path(), BUCKET, ObjectFormat::Ndjson(Compression::None))
    else {
        panic!("s3")
    };
    settings.spool.room = Room::asking(|bytes| Ok(bytes < 1_500));
    let sink = open_with(&SinkSettings::S3(settings.clone()), &config);
    let outcomes = sink.send(entries(1..=8)).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::BatchRefused(_))), "{outcomes:?}");
    assert_eq!(sink.send(entries(1..=2)).await, delivered(2));
    settings.spool.room = Room::asking(|_| Ok(false));
    let sink = open_with(&SinkSettings::S3(settings), &config);
    let outcomes = sink.send(entries(3..=3)).await;
    assert_eq!(retry_kinds(&outcomes), [TroubleKind::Hold]);
    assert!(format!("{outcomes:?}").contains("disk_full"), "{outcomes:?}");
    assert_eq!(objects(&client).await.into_keys().collect::<Vec<_>>(), [key_of(1, 2)]);
}

/// Everything into a bucket.
pub(crate) const ARCHIVE_SINK: &str = r#"
[sinks.archive]
type = "s3"
bucket = "archive"
prefix = "events"
format = "ndjson"
max_age = "500ms"

[[routes]]
name = "archive"
types = ["**"]
to = ["archive"]
"#;

const CARDS: u64 = 3;

/// A server with an archive behind a proxy, and some cards in it.
async fn site_with_cards(proxy: &Proxy) -> Site {
    let site = Site::new(&format!("{TWO_BUILDINGS}{ARCHIVE_SINK}")).with_aws_at(proxy.url());
    let daemon = site.start();
    let hr = daemon.person(&site.token("hr"));
    for number in 0..CARDS {
        let card = json!({ "employee_id": format!("E{number}") });
        hr.put(&format!("/v1/cards/C{number}"), &card).await.expect(201);
    }
    settled(&hr, &[("archive", CARDS)]).await;
    assert!(daemon.stop().0.success());
    assert!(spooled(&site.path("data/spool/archive")).is_empty(), "a clean stop leaves nothing");
    site
}

/// One more exit for each card.
async fn exits(site: &Site, daemon: &Daemon) {
    let gate = daemon.device(&site.key("hq"));
    for number in 0..CARDS {
        let swipe = json!({ "card_id": format!("C{number}"), "gate_id": "north-1" });
        gate.post("/v1/buildings/hq/exits", &swipe).await.expect(202);
    }
}

pub(crate) async fn in_trouble(admin: &Caller, code: &str) {
    eventually(&format!("the archive is in trouble: {code}"), async || {
        let archive = sinks_by_name(admin).await.remove("archive").unwrap();
        (archive["last_error"]["code"] == code && archive["state"] != "healthy").then_some(())
    })
    .await;
}

#[tokio::test]
async fn kill_9_between_upload_and_cursor_makes_no_second_object() {
    let Some(moto) = Moto::start() else { return };
    let client = bucket(&moto.sdk_config()).await;
    let proxy = Proxy::start(&moto.endpoint_url()).await;
    let site = site_with_cards(&proxy).await;
    let first = objects(&client).await;
    let mut before = first.clone();
    for kills in 1..=3 {
        proxy.switch(Mode::LoseReplies);
        let mut daemon = site.start();
        exits(&site, &daemon).await;
        eventually("the object is in the bucket, and the daemon does not know", async || {
            let found = objects(&client).await;
            (found.len() > first.len() && proxy.lost_replies() >= kills).then_some(())
        })
        .await;
        daemon.kill();
        drop(daemon);
        assert!(!spooled(&site.path("data/spool/archive")).is_empty());
        let found = objects(&client).await;
        assert!(before.iter().all(|(key, object)| found[key] == *object), "{before:?} {found:?}");
        before = found;
    }
    proxy.switch(Mode::Forward);
    let daemon = site.start();
    exits(&site, &daemon).await;
    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &[("archive", CARDS * 5)]).await;
    eventually("the spool is empty", async || {
        spooled(&site.path("data/spool/archive")).is_empty().then_some(())
    })
    .await;
    let after = objects(&client).await;
    assert!(before.iter().all(|(key, object)| after[key] == *object), "{before:?} {after:?}");
    let lines: Vec<&String> = after.values().flat_map(|(_, lines)| lines).collect();
    let ids: HashSet<String> = lines.iter().map(|line| id(line)).collect();
    assert_eq!((lines.len() as u64, ids.len() as u64), (CARDS * 5, CARDS * 5), "each event once");
    assert!(daemon.stop().0.success());
}

fn id(line: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_foreign_object_under_the_key_is_left_alone_and_alarmed() {
    let Some(moto) = Moto::start() else { return };
    let client = bucket(&moto.sdk_config()).await;
    let proxy = Proxy::start(&moto.endpoint_url()).await;
    let site = site_with_cards(&proxy).await;
    proxy.switch(Mode::Refuse);
    let mut daemon = site.start();
    exits(&site, &daemon).await;
    in_trouble(&daemon.person(&site.token("admin")), "ConnectionFailed").await;
    daemon.kill();
    drop(daemon);
    let spooled = spooled(&site.path("data/spool/archive"));
    assert_eq!(spooled.len(), 1);
    let bytes = fs::read(&spooled[0]).unwrap();
    let head = bytes.split(|byte| *byte == b'\n').next().unwrap();
    let json = head.splitn(3, |byte| *byte == b' ').nth(2).unwrap();
    let key = serde_json::from_slice::<Value>(json).unwrap()["key"].as_str().unwrap().to_owned();
    let foreign = ByteStream::from_static(b"not gzip");
    client.put_object().bucket(BUCKET).key(&key).body(foreign).send().await.unwrap();

    proxy.switch(Mode::Forward);
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    in_trouble(&admin, "PreconditionFailed").await;
    let there = client.get_object().bucket(BUCKET).key(&key).send().await.unwrap();
    assert_eq!(there.body.collect().await.unwrap().to_vec(), b"not gzip");
    assert!(daemon.stderr().contains("holds other bytes"), "{}", daemon.stderr());
    client.delete_object().bucket(BUCKET).key(&key).send().await.unwrap();
    settled(&admin, &[("archive", CARDS * 2)]).await;
    assert!(objects(&client).await.contains_key(&key));
}
