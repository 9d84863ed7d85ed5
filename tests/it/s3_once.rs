//! Promise 4 with the daemon and Parquet: one object for each batch, of the bytes that were spooled, whatever happens.

use std::{collections::BTreeMap, fs};

use aws_sdk_s3::Client;
use serde_json::json;

use crate::{
    athena::PARQUET_SINK,
    daemon::{Daemon, Site, TWO_BUILDINGS},
    http::Caller,
    moto::Moto,
    proxy::{Mode, Proxy},
    s3::{bucket, in_trouble, spooled},
    sinks::{settled, sinks_by_name},
    wait::eventually,
};

const SPOOL: &str = "data/spool/archive";
const EXITS: u64 = 5;

/// Versions and bytes of everything in the bucket, by key.
async fn objects(client: &Client) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for listed in client.list_objects_v2().bucket("archive").send().await.unwrap().contents() {
        let key = listed.key().unwrap();
        let object = client.get_object().bucket("archive").key(key).send().await.unwrap();
        found.insert(key.to_owned(), object.body.collect().await.unwrap().to_vec());
    }
    found
}

async fn exits(site: &Site, daemon: &Daemon) {
    let gate = daemon.device(&site.key("hq"));
    let exit = json!({ "card_id": "C1", "gate_id": "north-1" });
    let exits: Vec<_> = (0..EXITS).map(|_| exit.clone()).collect();
    gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
}

/// The bytes of the spooled object of the first events.
fn spooled_bytes(site: &Site) -> Vec<u8> {
    let mut files = spooled(&site.path(SPOOL));
    files.sort();
    let bytes = fs::read(&files[0]).unwrap();
    let head = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    bytes[head + 1..].to_vec()
}

async fn spool_is_empty(site: &Site) {
    eventually("the spool is empty", async || spooled(&site.path(SPOOL)).is_empty().then_some(())).await;
}

/// Not by the proxy: it rests while this waits.
fn verify(site: Site, moto: &Moto, events: u64) {
    let output = site.with_aws(moto).run(&["wal", "verify", "--against", "s3://archive/events"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = format!("log and archive tell the same story: {events} events");
    assert!(output.status.success() && said.contains(&expected), "{said}");
}

async fn start(proxy: &Proxy) -> (Site, Daemon, Caller) {
    let site = Site::new(&format!("{TWO_BUILDINGS}{PARQUET_SINK}")).with_aws_at(proxy.url());
    let token = site.token("admin");
    let daemon = site.start();
    let admin = daemon.person(&token);
    (site, daemon, admin)
}

#[tokio::test]
async fn kill_9_between_spool_and_upload_makes_one_object_of_the_spooled_bytes() {
    let Some(moto) = Moto::start() else { return };
    let client = bucket(&moto.sdk_config()).await;
    let proxy = Proxy::start(&moto.endpoint_url()).await;
    proxy.switch(Mode::Refuse);
    let (site, mut daemon, admin) = start(&proxy).await;
    exits(&site, &daemon).await;
    in_trouble(&admin, "ConnectionFailed").await;
    daemon.kill();
    drop(daemon);
    let before = spooled_bytes(&site);
    assert!(objects(&client).await.is_empty(), "nothing was uploaded");

    // more events are waiting by the time that the object can go: they do not change it
    let mut daemon = site.start();
    exits(&site, &daemon).await;
    in_trouble(&daemon.person(&site.token("admin")), "ConnectionFailed").await;
    daemon.kill();
    drop(daemon);
    assert_eq!(spooled_bytes(&site), before, "it was not formed anew");

    proxy.switch(Mode::Forward);
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &[("archive", 2 * EXITS)]).await;
    spool_is_empty(&site).await;
    assert!(daemon.stop().0.success());
    let found = objects(&client).await;
    assert_eq!(found.values().filter(|bytes| **bytes == before).count(), 1, "{:?}", found.keys());
    verify(site, &moto, 2 * EXITS);
}

#[tokio::test]
async fn a_lost_reply_makes_one_object_and_the_retry_finds_it_there() {
    let Some(moto) = Moto::start() else { return };
    let client = bucket(&moto.sdk_config()).await;
    let proxy = Proxy::start(&moto.endpoint_url()).await;
    proxy.switch(Mode::LoseReplies);
    let (site, daemon, admin) = start(&proxy).await;
    exits(&site, &daemon).await;
    eventually("the object is there, and its reply was lost", async || {
        (!objects(&client).await.is_empty() && proxy.lost_replies() > 0).then_some(())
    })
    .await;
    let (before, bytes) = (objects(&client).await, spooled_bytes(&site));
    proxy.switch(Mode::Forward);
    settled(&admin, &[("archive", EXITS)]).await;
    let archive = sinks_by_name(&admin).await.remove("archive").unwrap();
    assert!(archive["retried"].as_u64().unwrap() >= EXITS, "{archive}");
    spool_is_empty(&site).await;
    assert!(daemon.stop().0.success());
    let after = objects(&client).await;
    assert_eq!(after, before);
    assert_eq!(after.into_values().collect::<Vec<_>>(), [bytes]);
    verify(site, &moto, EXITS);
}
