//! Events that are sent again: with their own ids, marked, once each but around a kill, and beside the live stream.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site, TWO_BUILDINGS, events},
    dead_letters::{self, leave_in_a_batch, picky_queue, picky_topic},
    http::Caller,
    moody_queue::Taken,
    sinks::{conserves, settled, sinks_by_name},
    wait::eventually,
};

/// Exits that there are to replay.
pub(crate) const EXITS: usize = 300;
/// Events a second, so that a replay takes its time.
pub(crate) const RATE: usize = 50;
/// A kill repeats at most what was sent in the last write's 200 ms, and what was under way: two batches of a second.
pub(crate) const MAX_REPEATS: usize = 2 * RATE;

/// Everything into files, and once more into those that are replayed to.
const TWO_FILE_SINKS: &str = r#"
[sinks.files]
type = "file"
dir = "sinks/files"

[sinks.copy]
type = "file"
dir = "sinks/copy"

[[routes]]
name = "all"
types = ["**"]
to = ["files", "copy"]
"#;

pub(crate) fn site() -> Site {
    Site::new(&format!("{TWO_BUILDINGS}{TWO_FILE_SINKS}"))
}

/// Cards `C0`.. leave the building `hq` `exits` times in all.
pub(crate) async fn leave(site: &Site, daemon: &Daemon, exits: usize) {
    let swipes: Vec<Value> = (0..exits)
        .map(|number| json!({ "card_id": format!("C{}", number % 7), "gate_id": "north-1" }))
        .collect();
    let gate = daemon.device(&site.same_key("hq"));
    gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": swipes })).await.expect(202);
}

/// Waits until a replay has delivered so many events at least; how many.
pub(crate) async fn some_delivered(admin: &Caller, name: &str, at_least: usize) -> usize {
    eventually("some are delivered", async || {
        let report = admin.get(&format!("/v1/replays/{name}")).await.expect(200);
        let delivered = usize::try_from(report["delivered"].as_u64().unwrap()).unwrap();
        (delivered >= at_least).then_some(delivered)
    })
    .await
}

/// Waits until a replay is over; how it ended.
pub(crate) async fn over(admin: &Caller, name: &str) -> Value {
    eventually("the replay is over", async || {
        let report = admin.get(&format!("/v1/replays/{name}")).await.expect(200);
        let sum = |names: [&str; 3]| names.map(|name| report[name].as_u64().unwrap()).iter().sum::<u64>();
        if report["dry_run"] == false {
            assert_eq!(report["matched"], sum(["delivered", "pending", "refused"]), "{report}");
        }
        (report["state"] != "running").then_some(report)
    })
    .await
}

/// The live and the replayed events of a file sink.
pub(crate) fn live_and_replayed(site: &Site, dir: &str) -> (Vec<Value>, Vec<Value>) {
    events(site.file_lines(dir).iter().map(String::as_str))
        .into_iter()
        .partition(|event| event.get("replayed").is_none())
}

/// That these are the events of the wanted type of `live`, but for their mark; how many of them are there twice.
#[track_caller]
pub(crate) fn assert_replayed(live: &[Value], replayed: &[Value], wanted: &str) -> usize {
    let live: HashMap<&str, &Value> = (live.iter())
        .filter(|event| event["type"] == wanted)
        .map(|event| (event["id"].as_str().unwrap(), event))
        .collect();
    let mut seen = HashSet::new();
    for event in replayed {
        let mut unmarked = event.clone();
        assert_eq!(unmarked.as_object_mut().unwrap().shift_remove("replayed"), Some(json!(true)));
        let id = event["id"].as_str().unwrap();
        assert_eq!(Some(&&unmarked), live.get(id), "it is the same event");
        seen.insert(id);
    }
    assert_eq!(seen.len(), live.len(), "all of them came");
    replayed.len() - seen.len()
}

#[tokio::test]
async fn a_replay_goes_on_after_kill_9() {
    let site = site();
    let mut daemon = site.start();
    leave(&site, &daemon, EXITS).await;
    let token = site.token("admin");
    let admin = daemon.person(&token);
    settled(&admin, &[("copy", EXITS as u64)]).await;
    let order =
        json!({ "name": "again", "from": "wal", "to": "copy", "type": "access.exit.*", "rate": RATE });
    let begun = admin.post("/v1/replays", &order).await.expect(201);
    assert_eq!((&begun["state"], &begun["to"]), (&json!("running"), &json!("copy")));
    let delivered = some_delivered(&admin, "again", 3 * RATE).await;
    assert!(delivered < EXITS, "the rate is kept");
    daemon.kill();

    let daemon = site.start();
    let admin = daemon.person(&token);
    let report = over(&admin, "again").await;
    assert_eq!((&report["state"], &report["delivered"]), (&json!("done"), &json!(EXITS)), "{report}");
    assert_eq!(
        (&report["refused"], &report["scanned"], &report["total"]),
        (&json!(0), &json!(EXITS), &json!(EXITS))
    );
    // asked again it tells how it ended, and sends nothing
    assert_eq!(admin.post("/v1/replays", &order).await.expect(200)["finished_at"], report["finished_at"]);
    let metrics = admin.get("/metrics").await.body;
    assert!(metrics.contains("turnstiled_replays_running 0"), "{metrics}");

    // the replay's own record is live, and the sinks count nothing twice
    let recorded = EXITS as u64 + 1;
    settled(&admin, &[("copy", recorded), ("files", recorded)]).await;
    daemon.stop();
    let (live, replayed) = live_and_replayed(&site, "sinks/copy");
    let repeats = assert_replayed(&live, &replayed, "access.exit.recorded");
    println!("{} replayed, {repeats} of them twice", replayed.len());
    assert!(repeats <= MAX_REPEATS, "{repeats} repeats");
    let act = live.iter().find(|event| event["type"] == "admin.replay").unwrap();
    assert_eq!((&act["subject"], &act["data"]["action"]), (&json!("replay/again"), &json!("start")));
    assert_eq!((&act["data"]["order"]["to"], &act["data"]["by"]), (&json!("copy"), &json!("person/ada")));
    assert_eq!(live_and_replayed(&site, "sinks/files").1, Vec::<Value>::new(), "other sinks get nothing");
}

#[tokio::test]
async fn the_command_line_replays_attaches_and_counts() {
    let site = site();
    let daemon = site.start();
    leave(&site, &daemon, 20).await;
    let token = site.token("admin");
    let admin = daemon.person(&token);
    settled(&admin, &[("copy", 20)]).await;
    let replay = |more: &[&str]| {
        let url = ["replay", "--url", daemon.base_url(), "--token", &token, "--from", "wal", "--to", "copy"];
        let output = site.run(&[&url, more].concat());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let card = ["--type", "access.**", "--card", "C3"];
    let (code, out, err) = replay(&[&card[..], &["--dry-run"]].concat());
    assert_eq!((code, out.as_str()), (Some(0), "3 of 20 events would be sent to copy\n"), "{err}");
    assert!(live_and_replayed(&site, "sinks/copy").1.is_empty(), "a dry run sends nothing");

    let (code, out, err) = replay(&card);
    assert_eq!((code, out.as_str()), (Some(0), "3 of 21 events delivered to copy, 0 refused\n"), "{err}");
    let (code, out, err) = replay(&card);
    assert_eq!((code, out.as_str()), (Some(0), "3 of 21 events delivered to copy, 0 refused\n"));
    assert!(err.contains("--again"), "{err}");
    let (_, replayed) = live_and_replayed(&site, "sinks/copy");
    assert_eq!(replayed.len(), 3, "it was over, and nothing was sent twice");
    assert!(replayed.iter().all(|event| event["subject"] == "card/C3"), "{replayed:?}");
    let (code, _, err) = replay(&[&card[..], &["--again"]].concat());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(live_and_replayed(&site, "sinks/copy").1.len(), 6);

    // times: a half-open range of the first batch of exits
    let live = live_and_replayed(&site, "sinks/files").0;
    let time = |event: &Value| event["time"].as_str().unwrap().to_owned();
    let (first, next) = (time(&live[0]), time(&live[20]));
    let range = ["--since", &first, "--until", &next, "--dry-run"];
    assert_eq!(replay(&range).1, "20 of 20 events would be sent to copy\n");
    assert_eq!(
        replay(&["--since", &next, "--type", "admin.*", "--dry-run"]).1,
        "5 of 5 events would be sent to copy\n"
    );
    let (code, _, err) = replay(&["--building", "annex", "--until", "1970-01-01T00:00:00Z", "--dry-run"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err) = replay(&["--type", "card.lost", "--dry-run"]);
    assert!(code == Some(0) && out.starts_with("0 of 2") && !err.contains("no route"), "{out}{err}");
    let (code, _, err) = replay(&["--until", &first, "--since", &first]);
    assert!(code == Some(1) && err.contains("until is not after since"), "{err}");

    sinks_by_name(&admin).await.values().for_each(conserves);
    let list = admin.get("/v1/replays").await.expect(200);
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    for name in names {
        let path = format!("/v1/replays/{name}");
        assert_eq!(admin.send(reqwest::Method::DELETE, &path, &[], "").await.status, 204);
    }
    assert_eq!(admin.get("/v1/replays").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused() {
    let site = site();
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    let order = json!({ "from": "wal", "to": "copy", "dry_run": true });
    for role in ["hr", "auditor", "security", "admin@hq"] {
        let person = daemon.person(&site.token(role));
        assert_eq!(person.post("/v1/replays", &order).await.status, 403, "{role}");
        assert_eq!(person.get("/v1/replays").await.status, 403, "{role}");
    }
    assert_eq!(daemon.anyone().get("/v1/replays").await.status, 401);
    for (wrong, field) in [
        (json!({ "from": "wal" }), "to"),
        (json!({ "to": "copy" }), "from"),
        (json!({ "from": "wal", "to": "nosuch" }), "to"),
        (json!({ "from": "wal", "to": "copy", "rate": 0 }), "rate"),
        (json!({ "from": "wal", "to": "copy", "since": "yesterday" }), "since"),
        (json!({ "from": "wal", "to": "copy", "type": "access..exit" }), "type"),
        (json!({ "from": "wal", "to": "copy", "name": "a b" }), "name"),
        (json!({ "from": "wal", "to": "copy", "colour": "red" }), "colour"),
    ] {
        let problem = admin.post("/v1/replays", &wrong).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], field, "{wrong}: {problem}");
    }
    assert_eq!(admin.get("/v1/replays").await.expect(200)["items"], json!([]), "nothing was begun");

    let named =
        |card: &str| json!({ "name": "one", "from": "wal", "to": "copy", "card": card, "dry_run": true });
    admin.post("/v1/replays", &named("C1")).await.expect(201);
    admin.post("/v1/replays", &named("C1")).await.expect(200);
    assert_eq!(admin.post("/v1/replays", &named("C2")).await.status, 409);
    assert_eq!(admin.get("/v1/replays/two").await.status, 404);
    assert_eq!(admin.send(reqwest::Method::DELETE, "/v1/replays/two", &[], "").await.status, 404);
}

#[tokio::test]
async fn a_replayed_event_that_is_refused_is_named_and_no_dead_letter() {
    let (by_topic, by_queue) = (Taken::default(), Taken::default());
    let site = dead_letters::site(&picky_topic(Arc::clone(&by_topic)), &picky_queue(Arc::clone(&by_queue)));
    let daemon = site.start();
    let event_id = leave_in_a_batch(&site, &daemon).await;
    let token = site.token("admin");
    let admin = daemon.person(&token);
    let exits = dead_letters::EXITS as u64;
    settled(&admin, &[("queue", exits), ("topic", exits)]).await;
    let before = sinks_by_name(&admin).await["queue"].clone();
    assert_eq!(before["dead_letters"], 1);

    let url = ["replay", "--url", daemon.base_url(), "--token", &token];
    let output = site.run(&[&url[..], &["--from", "wal", "--to", "queue"]].concat());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        (output.status.code(), &*out),
        (Some(1), "24 of 25 events delivered to queue, 1 refused\n"),
        "{err}"
    );
    assert!(err.contains(&format!("refused: {event_id}: InvalidMessageContents")), "{err}");
    let taken = by_queue.lock().unwrap().clone();
    assert_eq!(taken.len() as u64, 2 * (exits - 1));
    let replayed = taken.iter().filter(|event| event.ends_with(",\"replayed\":true}")).count() as u64;
    assert_eq!(replayed, exits - 1);
    // neither counted nor kept a second time
    let after = sinks_by_name(&admin).await["queue"].clone();
    for count in ["accepted", "delivered", "pending", "dead", "dead_letters", "retried"] {
        assert_eq!(after[count], before[count], "{count}: {after}");
    }
    let metrics = admin.get("/metrics").await.body;
    for line in
        ["turnstiled_replayed_total{sink=\"queue\"} 24", "turnstiled_replay_refused_total{sink=\"queue\"} 1"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
}
