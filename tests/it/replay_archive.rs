//! Replays from directories and buckets, and into buckets.

use std::{collections::HashSet, fs};

use aws_sdk_s3::Client;
use serde_json::{Value, json};

use crate::{
    aws::{location, s3_client},
    daemon::{Site, TWO_BUILDINGS, events},
    moto::Moto,
    replay::{
        EXITS, MAX_REPEATS, RATE, assert_replayed, leave, live_and_replayed, over, site, some_delivered,
    },
    sinks::{conserves, settled, sinks_by_name},
    wait::eventually,
};

#[tokio::test]
async fn a_replay_from_a_directory_goes_on_after_kill_9() {
    let site = site();
    let mut daemon = site.start();
    leave(&site, &daemon, EXITS).await;
    let token = site.token("admin");
    let admin = daemon.person(&token);
    settled(&admin, &[("copy", EXITS as u64), ("files", EXITS as u64)]).await;
    let from = site.path("moved");
    fs::create_dir(&from).unwrap();
    // the archive as many files, the cursor in one of them
    for (number, lines) in site.file_lines("sinks/files").chunks(70).enumerate() {
        fs::write(from.join(format!("{number}.ndjson")), lines.join("\n") + "\n").unwrap();
    }
    let order = json!({ "name": "again", "from": from, "to": "copy", "rate": RATE });
    admin.post("/v1/replays", &order).await.expect(201);
    some_delivered(&admin, "again", 3 * RATE).await;
    daemon.kill();

    let daemon = site.start();
    let admin = daemon.person(&token);
    let report = over(&admin, "again").await;
    assert_eq!((&report["state"], &report["delivered"]), (&json!("done"), &json!(EXITS)), "{report}");
    assert_eq!(
        (&report["scanned"], &report["others"], &report["unreadable"]),
        (&json!(EXITS), &json!(0), &json!(0))
    );
    assert_eq!(report["range"], Value::Null);
    daemon.stop();
    let (live, replayed) = live_and_replayed(&site, "sinks/copy");
    let repeats = assert_replayed(&live, &replayed, "access.exit.recorded");
    println!("{} replayed, {repeats} of them twice", replayed.len());
    assert!(repeats <= MAX_REPEATS, "{repeats} repeats");
}

#[tokio::test]
async fn what_is_no_event_of_this_server_is_not_replayed_and_said() {
    let site = site();
    let daemon = site.start();
    leave(&site, &daemon, 5).await;
    let token = site.token("admin");
    let admin = daemon.person(&token);
    settled(&admin, &[("files", 5), ("copy", 5)]).await;
    let mut lines = site.file_lines("sinks/files");
    lines.push(lines[0].replace("\"log\":\"hq-1.", "\"log\":\"annex-1."));
    lines.push(lines[0].replacen("\"id\"", "\"key\"", 1));
    lines.push("{".to_owned());
    for dir in ["moved", "empty", "notes"] {
        fs::create_dir(site.path(dir)).unwrap();
    }
    fs::write(site.path("notes/notes.txt"), "no events").unwrap();
    // half a line at the end is what a crash leaves; it was not acknowledged
    let text = lines.join("\n") + "\n" + &lines[1][..20];
    fs::write(site.path("moved/a.ndjson"), text).unwrap();
    fs::write(site.path("moved/notes.txt"), "no events").unwrap();
    let replay = |from: &str, to: &str, more: &[&str]| {
        let url = ["replay", "--url", daemon.base_url(), "--token", &token, "--from", from, "--to", to];
        let output = site.run(&[&url, more].concat());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = replay("moved", "copy", &[]);
    assert_eq!((code, out.as_str()), (Some(1), "5 of 9 events delivered to copy, 0 refused\n"), "{err}");
    assert!(err.contains("a.ndjson: line 7 has no id") && err.contains("line 8"), "{err}");
    assert!(err.contains("not replayed: 1 event of other servers"), "{err}");
    let (live, replayed) = live_and_replayed(&site, "sinks/copy");
    assert_eq!(assert_replayed(&live, &replayed, "access.exit.recorded"), 0);

    for (from, to, expected) in [
        ("sinks/files", "files", "to is the archive that this would read"),
        ("sinks", "files", "to is the archive that this would read"),
        ("sinks/nosuch", "copy", "from is no directory that the server can see"),
        ("s3:///events", "copy", "has no bucket"),
        ("empty", "copy", "the replay failed: "),
        ("notes", "copy", "1 there that no sink writes, such as notes.txt"),
    ] {
        let (code, out, err) = replay(from, to, &[]);
        assert!(code == Some(1) && err.contains(expected), "{from} {to}: {err}");
        assert!(out.is_empty() || out.starts_with("0 of 0 events delivered"), "{from} {to}: {out}");
    }
    // a filter that matches nothing is no failure
    let (code, out, err) = replay("sinks/files", "copy", &["--building", "annex"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("0 of ") && !out.starts_with("0 of 0 "), "{out}");
    let relative = json!({ "from": "moved", "to": "copy" });
    assert_eq!(admin.post("/v1/replays", &relative).await.expect(422)["errors"][0]["field"], "from");
    sinks_by_name(&admin).await.values().for_each(conserves);
}

const S3_SINKS: &str = r#"
[sinks.archive]
type = "s3"
bucket = "archive"
prefix = "events"
max_age = "1s"

[sinks.second]
type = "s3"
bucket = "second"
prefix = "events"
format = "ndjson"
compression = "none"
max_age = "1s"

[sinks.copy]
type = "file"
dir = "sinks/copy"

[[routes]]
name = "all"
types = ["**"]
to = ["archive", "second", "copy"]
"#;

#[tokio::test]
async fn buckets_are_replayed_from_and_into() {
    let Some(moto) = Moto::start() else { return };
    let client = s3_client(&moto.sdk_config());
    for name in ["archive", "second"] {
        client.create_bucket().bucket(name).create_bucket_configuration(location()).send().await.unwrap();
    }
    let site = Site::new(&format!("{TWO_BUILDINGS}{S3_SINKS}")).with_aws(&moto);
    let daemon = site.start();
    leave(&site, &daemon, 40).await;
    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &[("archive", 40), ("second", 40), ("copy", 40)]).await;

    let replay = async |name: &str, from: &str, to: &str| {
        let order = json!({ "name": name, "from": from, "to": to, "type": "access.**" });
        admin.post("/v1/replays", &order).await.expect(201);
        let report = over(&admin, name).await;
        assert_eq!((&report["state"], &report["delivered"]), (&json!("done"), &json!(40)), "{report}");
        report
    };
    // Parquet to files
    let report = replay("parquet", "s3://archive/events", "copy").await;
    assert!(report["objects"]["total"].as_u64().unwrap() >= 1, "{report}");
    let (live, replayed) = live_and_replayed(&site, "sinks/copy");
    assert_eq!(assert_replayed(&live, &replayed, "access.exit.recorded"), 0);
    // into a bucket, twice: from the log, and from the other archive
    replay("log", "wal", "second").await;
    replay("bucket", "s3://archive", "second").await;
    let copies = replayed_in(&client, "second").await;
    assert_eq!(copies.len(), 80);
    assert_eq!(copies.iter().map(|event| event["id"].as_str().unwrap()).collect::<HashSet<_>>().len(), 40);

    for (from, to) in [
        ("s3://archive/events", "archive"),
        ("s3://archive", "archive"),
        ("s3://second/events/building=hq", "second"),
    ] {
        let problem = admin.post("/v1/replays", &json!({ "from": from, "to": to })).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], "to", "{from} {to}: {problem}");
    }
    // a bucket that is away is no failure: the replay waits, and says why
    let order = json!({ "name": "away", "from": "s3://nosuch/events", "to": "copy" });
    admin.post("/v1/replays", &order).await.expect(201);
    eventually("it says why it waits", async || {
        let report = admin.get("/v1/replays/away").await.expect(200);
        assert_eq!(report["state"], "running", "{report}");
        (report["last_error"]["code"] == "source_unreadable").then_some(())
    })
    .await;
    assert_eq!(admin.send(reqwest::Method::DELETE, "/v1/replays/away", &[], "").await.status, 204);
    assert_eq!(admin.get("/v1/replays/away").await.status, 404);
    sinks_by_name(&admin).await.values().for_each(conserves);
    let (_, log) = daemon.stop();
    let unread: Vec<&str> = log.lines().filter(|line| line.contains("cannot be read")).collect();
    assert!(!unread.is_empty() && unread.iter().all(|line| line.contains("\"away\"")), "{unread:#?}");
}

/// The replayed events in a bucket of plain ndjson.
async fn replayed_in(client: &Client, bucket: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for listed in client.list_objects_v2().bucket(bucket).send().await.unwrap().contents() {
        let object = client.get_object().bucket(bucket).key(listed.key().unwrap()).send().await.unwrap();
        let bytes = object.body.collect().await.unwrap().to_vec();
        found.extend(events(std::str::from_utf8(&bytes).unwrap().lines()));
    }
    found.retain(|event| event["replayed"] == true);
    found
}
