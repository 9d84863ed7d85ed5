//! A replay beside the live stream of its sink: live events go first, and a replay that is deleted takes nothing along.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    daemon::{events, sequence},
    replay::{EXITS, RATE, assert_replayed, leave, live_and_replayed, over, site, some_delivered},
    sinks::{conserves, settled, sinks_by_name},
};

/// Live exits in the middle of a replay.
const LIVE: usize = 20;
/// Events a second of a sink that a replay keeps busy for so long that a slow machine gets its live exits in.
const SLOW: usize = 10;

/// The replay has no rate of its own. It must not use up the sink's for long either, although a batch of this sink may hold
/// all of it.
#[tokio::test]
async fn live_events_go_before_the_rest_of_a_replay_into_a_sink_with_a_rate() {
    let site = site();
    let token = site.token("admin");
    let daemon = site.start();
    leave(&site, &daemon, EXITS).await;
    settled(&daemon.person(&token), &[("copy", EXITS as u64)]).await;
    assert!(daemon.stop().0.success());
    let config = fs::read_to_string(site.path("routes.toml")).unwrap();
    site.configure(&config.replace("[sinks.copy]", &format!("[sinks.copy]\nrate_limit = {SLOW}")));

    let daemon = site.start();
    let admin = daemon.person(&token);
    let order = json!({ "name": "again", "from": "wal", "to": "copy", "type": "access.exit.*" });
    admin.post("/v1/replays", &order).await.expect(201);
    some_delivered(&admin, "again", 1).await;
    leave(&site, &daemon, LIVE).await;
    let before = site.file_lines("sinks/copy").len();
    let report = over(&admin, "again").await;
    assert_eq!((&report["state"], &report["delivered"]), (&json!("done"), &json!(EXITS)), "{report}");
    settled(&admin, &[("copy", (EXITS + 1 + LIVE) as u64)]).await;
    assert!(daemon.stop().0.success());

    let taken = events(site.file_lines("sinks/copy").iter().map(String::as_str));
    let is_replayed = |event: &&Value| event.get("replayed").is_some();
    let last_live = taken.iter().rposition(|event| !is_replayed(&event)).unwrap();
    let overtaking = taken[before..=last_live].iter().filter(is_replayed).count();
    assert!(
        overtaking <= SLOW,
        "{overtaking} replayed events went before the live ones: more than one batch"
    );
    let after = taken[last_live..].iter().filter(is_replayed).count();
    assert!(after >= SLOW, "{after} replayed events came after the live ones, which waited for the others");
}

#[tokio::test]
async fn a_replay_that_is_deleted_ends_and_the_live_stream_goes_on_where_it_was() {
    let site = site();
    let daemon = site.start();
    let token = site.token("admin");
    let admin = daemon.person(&token);
    leave(&site, &daemon, EXITS).await;
    settled(&admin, &[("copy", EXITS as u64)]).await;
    let order = |rate: usize| json!({ "name": "again", "from": "wal", "to": "copy", "type": "access.exit.*", "rate": rate });
    admin.post("/v1/replays", &order(RATE)).await.expect(201);
    some_delivered(&admin, "again", RATE).await;
    assert_eq!(admin.send(Method::DELETE, "/v1/replays/again", &[], "").await.status, 204);
    assert_eq!(admin.get("/v1/replays/again").await.status, 404);
    // its beginning and its end are recorded, too
    leave(&site, &daemon, LIVE).await;
    let recorded = EXITS + 2 + LIVE;
    settled(&admin, &[("copy", recorded as u64)]).await;
    let replayed = live_and_replayed(&site, "sinks/copy").1.len();
    assert!((RATE..EXITS).contains(&replayed), "{replayed} were sent");
    assert!(daemon.stop().0.success());

    let daemon = site.start();
    let admin = daemon.person(&token);
    assert_eq!(admin.get("/v1/replays").await.expect(200)["items"], json!([]), "it does not go on");
    leave(&site, &daemon, 1).await;
    settled(&admin, &[("copy", recorded as u64 + 1)]).await;
    sinks_by_name(&admin).await.values().for_each(conserves);
    let (live, still_replayed) = live_and_replayed(&site, "sinks/copy");
    let sequences: Vec<u64> = live.iter().map(sequence).collect();
    assert_eq!(sequences, (1..=recorded as u64 + 1).collect::<Vec<_>>(), "each live event once, in order");
    assert_eq!(still_replayed.len(), replayed, "nothing more was sent");

    // under the same name it begins anew
    admin.post("/v1/replays", &order(100_000)).await.expect(201);
    let exits = EXITS + LIVE + 1;
    let report = over(&admin, "again").await;
    assert_eq!((&report["state"], &report["delivered"]), (&json!("done"), &json!(exits)), "{report}");
    assert!(daemon.stop().0.success());
    let (live, all_replayed) = live_and_replayed(&site, "sinks/copy");
    assert_eq!(
        assert_replayed(&live, &all_replayed, "access.exit.recorded"),
        replayed,
        "only those are repeats"
    );
}
