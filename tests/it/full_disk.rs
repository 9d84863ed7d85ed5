//! A disk that fills up: entries are refused cleanly, exits go on, nothing ends, and all recovers by itself when
//! there is space again. What was answered is in the log, what was refused is not.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site, assert_gapless},
    detach::fill,
    http::Caller,
    modes::{House, states, to, without_moment},
    random::Random,
    sinks::{settled, sinks_by_name},
    small_disk::SmallDisk,
    traffic::Crowd,
    wait::eventually,
};

const DISK_MIB: u64 = 16;
/// What someone else has of it, and gives back.
const OTHERS_MIB: usize = 2;
/// Each of the crowd leaves so often while the disk is full. All of them fit into the reserve of such a disk.
const EXITS_WHILE_FULL: usize = 20;

/// What each file may grow to, in the shell's blocks of half a kilobyte: room for some thousand events.
const FILE_LIMIT_BLOCKS: u64 = 4_096;

#[tokio::test]
async fn a_full_disk_refuses_entries_and_recovers_with_sled() {
    a_full_disk_refuses_entries_and_recovers("sled").await;
}

#[tokio::test]
async fn a_full_disk_refuses_entries_and_recovers_with_segments() {
    a_full_disk_refuses_entries_and_recovers("segments").await;
}

async fn a_full_disk_refuses_entries_and_recovers(store: &str) {
    let mut random = Random::new();
    let site = Site::with_files_and_store(store);
    let Some(disk) = SmallDisk::under(&site, DISK_MIB) else { return };
    let mut crowd = Crowd::new(&site, &mut random);
    disk.take(OTHERS_MIB);
    let daemon = site.start();
    crowd.register(&daemon).await;
    eventually("the ballast is in place", async || disk.has_ballast().then_some(())).await;
    let refused = crowd.swipe_until_full(&daemon, EXITS_WHILE_FULL).await;
    println!("{store}: {} answers, then {refused} entries refused", crowd.answers());
    shows_full(&daemon).await;

    // a restart does not need space that is not there, however it ends
    let (status, _) = daemon.stop();
    assert!(status.success());
    let mut daemon = site.start();
    shows_full(&daemon).await;
    assert!(!crowd.enter(&daemon).await && crowd.leave(&daemon).await);
    daemon.kill();
    drop(daemon);
    let daemon = site.start();
    assert!(!crowd.enter(&daemon).await && crowd.leave(&daemon).await);
    if store == "segments" {
        deliveries_rest(&site, &daemon, &mut crowd, &disk).await;
    }

    disk.give_back();
    let daemon = recovers(daemon, &mut crowd, &disk).await;
    the_log_has_it_all(&site, daemon, &mut crowd).await;
}

#[tokio::test]
async fn a_disk_without_a_byte_left_opens_and_recovers_with_sled() {
    a_disk_without_a_byte_left_opens_and_recovers("sled").await;
}

#[tokio::test]
async fn a_disk_without_a_byte_left_opens_and_recovers_with_segments() {
    a_disk_without_a_byte_left_opens_and_recovers("segments").await;
}

/// Someone else takes everything while the server is away, and while it runs exits use up what there is.
async fn a_disk_without_a_byte_left_opens_and_recovers(store: &str) {
    let mut random = Random::new();
    let site = Site::with_files_and_store(store);
    let Some(disk) = SmallDisk::under(&site, DISK_MIB) else { return };
    let mut crowd = Crowd::new(&site, &mut random);
    let daemon = site.start();
    crowd.register(&daemon).await;
    eventually("the ballast is in place", async || disk.has_ballast().then_some(())).await;
    assert!(crowd.enter(&daemon).await && crowd.leave(&daemon).await);
    let (status, _) = daemon.stop();
    assert!(status.success());
    disk.take_rest();
    let daemon = site.start();
    assert!(!disk.has_ballast(), "it was given away");
    // sled refuses them from the first one on; in segments what is prepared is used up first
    crowd.swipe_until_full(&daemon, 0).await;
    let mut exits = 0;
    while crowd.leave(&daemon).await {
        exits += 1;
    }
    println!("{store}: {exits} exits on a disk without a byte left");
    assert!(exits > 100, "{exits} exits were recorded");
    assert!(!crowd.enter(&daemon).await);
    let (status, _) = daemon.stop();
    assert!(status.success(), "nothing failed");
    let daemon = site.start();
    disk.give_back();
    let daemon = recovers(daemon, &mut crowd, &disk).await;
    the_log_has_it_all(&site, daemon, &mut crowd).await;
}

/// What is prepared takes exits without a byte of the disk; progress beside the log needs some, and waits.
async fn deliveries_rest(site: &Site, daemon: &Daemon, crowd: &mut Crowd, disk: &SmallDisk) {
    let admin = daemon.person(&site.token("admin"));
    disk.take_rest();
    eventually("deliveries rest", async || {
        assert!(crowd.leave(daemon).await);
        let sinks = sinks_by_name(&admin).await;
        (sinks["files"]["last_error"]["code"] == "disk_full").then_some(())
    })
    .await;
    // a write that fails would cost the server, so none is tried
    admin.send(Method::DELETE, "/v1/sinks/left/cursor", &[], "").await.expect(503);
}

#[tokio::test]
async fn a_building_is_evacuated_on_a_full_disk_with_sled() {
    a_building_is_evacuated_on_a_full_disk("sled").await;
}

#[tokio::test]
async fn a_building_is_evacuated_on_a_full_disk_with_segments() {
    a_building_is_evacuated_on_a_full_disk("segments").await;
}

/// The reserve takes what the fire panel says, and responders come in. A disk without a byte left takes no mode: that is
/// said, and the old one stays.
async fn a_building_is_evacuated_on_a_full_disk(store: &str) {
    let site = Site::with_files_and_store(store);
    let Some(disk) = SmallDisk::under(&site, DISK_MIB) else { return };
    disk.take(OTHERS_MIB);
    // in this order, so that the disk goes before the directory that it is mounted in
    let (house, disk) = (House::at(site), disk);
    let open = house.open();
    for (card, is_responder) in [("ada", false), ("grace", false), ("late", false), ("fire", true)] {
        open.register(card, json!({ "employee_id": card, "responder": is_responder })).await;
    }
    assert_eq!((open.enter("ada").await, open.enter("grace").await), (json!("granted"), json!("granted")));
    eventually("the ballast is in place", async || disk.has_ballast().then_some(())).await;
    fill(&open.daemon, &open.gate).await;
    shows_full(&open.daemon).await;

    let taken = open.mode("evacuation").await;
    assert!(taken["event_id"].is_string(), "{taken}");
    open.leave("ada", "north-1").await;
    let late = json!({ "card_id": "late", "gate_id": "north-1" });
    open.gate.post("/v1/buildings/hq/entries", &late).await.expect(503);
    assert_eq!(open.enter("fire").await, "granted", "a responder comes in");
    let of = |employee: &str, state: &str| (employee.to_owned(), state.to_owned());
    assert_eq!(states(&open.muster().await), [of("grace", "missing"), of("ada", "left")]);
    open.account("grace", json!({})).await.expect(200);
    open.mode("lockdown").await;
    let before = without_moment(open.muster().await);
    shows_full(&open.daemon).await;

    // kill -9, and while it is away the rest is taken
    drop(open);
    disk.take_rest();
    let open = house.open();
    assert_eq!(without_moment(open.muster().await), before);
    assert_eq!(open.enter("fire").await, "granted");
    use_up(&open.gate).await;
    let refused = open.panel.post("/v1/buildings/hq/mode", &to("normal")).await;
    assert_ne!(refused.header("retry-after"), "");
    let problem = refused.expect(503);
    assert!(problem["detail"].as_str().unwrap().contains("let people out by hand"), "{problem}");
    drop(open);
    let open = house.open();
    assert_eq!(open.desk.get("/v1/buildings/hq").await.expect(200)["mode"], "lockdown");

    disk.give_back();
    eventually("the panel is heard again", async || {
        let answer = open.panel.post("/v1/buildings/hq/mode", &to("normal")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(open.inside().await, ["fire"]);
    assert!(open.daemon.stop().0.success());
    let log = house.site.dump();
    assert_gapless(&log);
    let changes = log.iter().filter(|event| event["type"] == "building.mode.changed");
    let modes: Vec<_> = changes.map(|event| &event["data"]["mode"]).collect();
    assert_eq!(modes, ["evacuation", "lockdown", "normal"]);
}

/// Exits until not even they can be recorded.
async fn use_up(gate: &Caller) {
    let exit = json!({ "card_id": "ada", "gate_id": "north-1" });
    for exits in [100, 1] {
        let body = json!({ "exits": vec![exit.clone(); exits] });
        while gate.post("/v1/buildings/hq/exits/batch", &body).await.status == 202 {}
    }
}

async fn shows_full(daemon: &Daemon) {
    let anyone = daemon.anyone();
    let ready = anyone.get("/readyz").await.expect(200);
    assert_eq!(ready["disk"], "full", "{ready}");
    let metrics = anyone.get("/metrics").await.body;
    assert!(metrics.contains("turnstiled_disk_step 3"), "{metrics}");
    assert!(metrics.contains("turnstiled_log_full_seconds 0\n"), "{metrics}");
}

/// Entries are granted again without a restart, and the ballast is back.
async fn recovers(daemon: Daemon, crowd: &mut Crowd, disk: &SmallDisk) -> Daemon {
    eventually("entries are granted again", async || crowd.enter(&daemon).await.then_some(())).await;
    assert!(crowd.leave(&daemon).await);
    eventually("the ballast is back", async || disk.has_ballast().then_some(())).await;
    daemon
}

async fn the_log_has_it_all(site: &Site, daemon: Daemon, crowd: &mut Crowd) {
    let admin = daemon.person(&site.token("admin"));
    let sequence = || async {
        let metrics = daemon.anyone().get("/metrics").await.body;
        let line = metrics.lines().find(|line| line.starts_with("turnstiled_log_sequence ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    settled(&admin, &[("files", sequence().await)]).await;
    let (status, _) = daemon.stop();
    assert!(status.success());
    let log: Vec<Value> = site.dump();
    crowd.check(&log);
    let delivered = site.files("sinks/files");
    let ids: HashSet<&str> = delivered.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), log.len(), "and everything was delivered");
    let daemon = site.start();
    crowd.check_presence(&daemon, &log).await;
}

/// A limit that no file system tells of: the commit fails, and the disk says what is true.
#[tokio::test]
async fn a_log_that_cannot_commit_answers_503_and_stops() {
    let mut random = Random::new();
    let mut site = Site::with_files();
    let mut crowd = Crowd::new(&site, &mut random);
    site.limit_files(Some(FILE_LIMIT_BLOCKS));
    let mut daemon = site.start();
    crowd.register(&daemon).await;
    crowd
        .swipe(&mut daemon, async |daemon, _| {
            eventually("the server gives up", async || daemon.has_ended().then_some(())).await;
        })
        .await;
    assert!(!daemon.wait().success(), "{}", daemon.stderr());
    assert!(daemon.stderr().contains("could not commit"), "it says why: {}", daemon.stderr());
    drop(daemon);

    site.limit_files(None);
    let log = site.dump();
    crowd.check(&log);
    let daemon = site.start();
    crowd.check_presence(&daemon, &log).await;
    let (kept, lost) = crowd.retry(&daemon, &log).await;
    println!("{} answers; unanswered swipes: {kept} were in the log, {lost} were not", crowd.answers());
    let admin = daemon.person(&site.token("admin"));
    // one look at who is inside, and the swipes that were sent again
    settled(&admin, &[("files", (log.len() + 1 + lost) as u64)]).await;
}
