//! The log's limit comes first: sinks that are behind are let go of, unless they are required, and every event is
//! accounted for, also after a restart.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site, TWO_BUILDINGS},
    http::Caller,
    sinks::{conserves, sinks_by_name},
    trimmed::SHORT_LOG,
    wait::eventually,
};

const FILES: &str = "[sinks.files]\ntype = \"file\"\ndir = \"sinks/files\"\n";
const EXITS_A_BATCH: usize = 500;
const MAX_BATCHES: usize = 100;

/// A site with a log of the smallest size; of these sinks the service is away.
fn site(sinks: &[(&str, bool)]) -> Site {
    let is_away = crate::fake_service::serve(|_| crate::fake_service::Reply {
        status: 503,
        headers: Vec::new(),
        body: String::new(),
    });
    Site::new(&config(sinks)).with_aws_at(is_away)
}

fn config(sinks: &[(&str, bool)]) -> String {
    let tables: String = (sinks.iter())
        .map(|(name, required)| {
            format!(
                "[sinks.{name}]\ntype = \"sqs\"\nrequired = {required}\n\
                 queue_url = \"https://sqs.eu-central-1.amazonaws.com/000000000000/{name}\"\n"
            )
        })
        .collect();
    let names: Vec<&str> = sinks.iter().map(|(name, _)| *name).chain(["files"]).collect();
    format!(
        "{SHORT_LOG}{TWO_BUILDINGS}{FILES}{tables}[[routes]]\nname = \"all\"\ntypes = [\"**\"]\nto = {names:?}\n"
    )
}

/// Exits until entries are refused; how many.
pub(crate) async fn fill(daemon: &Daemon, gate: &Caller) -> u64 {
    let exits: Vec<Value> = (0..EXITS_A_BATCH)
        .map(|number| json!({ "card_id": format!("C{number}"), "gate_id": "north-1" }))
        .collect();
    for batches in 1..=MAX_BATCHES {
        gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
        if daemon.anyone().get("/readyz").await.expect(200)["disk"] == "full" {
            return (batches * EXITS_A_BATCH) as u64;
        }
    }
    panic!("the log does not fill up");
}

/// Exits one by one, so that there is something for the next snapshot, until two are past everything before; how many.
async fn take_two_snapshots(site: &Site, gate: &Caller) -> u64 {
    let exit = json!({ "card_id": "C1", "gate_id": "north-1" });
    for _ in 0..2 {
        gate.post("/v1/buildings/hq/exits", &exit).await.expect(202);
        let last = newest_snapshot(site);
        eventually("a snapshot is taken", async || (newest_snapshot(site) > last).then_some(())).await;
    }
    2
}

fn newest_snapshot(site: &Site) -> Option<PathBuf> {
    let Ok(files) = std::fs::read_dir(site.path("data/snapshots")) else { return None };
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "snapshot")).max()
}

/// Entries are granted again, and the log begins later than it did: without a restart, and nobody freed anything.
async fn comes_back(daemon: &Daemon, gate: &Caller) {
    let entry = json!({ "card_id": "nobody", "gate_id": "north-1" });
    eventually("entries are decided again", async || {
        (gate.post("/v1/buildings/hq/entries", &entry).await.status == 200).then_some(())
    })
    .await;
    // two threads say the last two, each after what it did
    eventually("it is logged", async || {
        let stderr = daemon.stderr();
        let full = stderr.find("the disk is full")?;
        let after = ["the log is trimmed", "the disk has space again"];
        after.iter().all(|line| stderr[full..].contains(line)).then_some(())
    })
    .await;
}

/// Takes a minute, as long as a sink may hold the log.
#[tokio::test]
async fn a_sink_that_is_behind_is_let_go_of_unless_it_is_required() {
    tokio::join!(a_required_sink_holds_the_log(), a_sink_that_is_let_go_of_makes_room());
}

/// With the trim after it entries come back.
async fn a_sink_that_is_let_go_of_makes_room() {
    let site = site(&[("optional", false)]);
    let daemon = site.start();
    let (admin, gate) = (daemon.person(&site.token("admin")), daemon.device(&site.key("hq")));
    fill(&daemon, &gate).await;
    let entry = json!({ "card_id": "C1", "gate_id": "north-1" });
    assert_eq!(gate.post("/v1/buildings/hq/entries", &entry).await.status, 503, "the log is at its limit");
    take_two_snapshots(&site, &gate).await;
    comes_back(&daemon, &gate).await;
    let sinks = sinks_by_name(&admin).await;
    sinks.values().for_each(conserves);
    assert_ne!(sinks["optional"]["detached"], json!([]), "{}", sinks["optional"]);
    assert_eq!(sinks["files"]["detached"], json!([]), "it had caught up");
}

async fn a_required_sink_holds_the_log() {
    let site = site(&[("kept", true), ("optional", false)]);
    let daemon = site.start();
    let key = site.key("hq");
    let (admin, gate) = (daemon.person(&site.token("admin")), daemon.device(&key));
    let mut recorded = fill(&daemon, &gate).await;
    assert_eq!(
        sinks_by_name(&admin).await["optional"]["detached"],
        json!([]),
        "nothing could be trimmed yet"
    );
    recorded += take_two_snapshots(&site, &gate).await;
    let detached = eventually("the optional sink is let go of", async || {
        let sinks = sinks_by_name(&admin).await;
        sinks.values().for_each(conserves);
        let is_empty = sinks["optional"]["detached"].as_array().unwrap().is_empty();
        (!is_empty).then(|| sinks["optional"]["detached"].clone())
    })
    .await;
    let entry = json!({ "card_id": "C1", "gate_id": "north-1" });
    assert_eq!(gate.post("/v1/buildings/hq/entries", &entry).await.status, 503, "the log is at its limit");
    eventually("the files have everything", async || {
        (sinks_by_name(&admin).await["files"]["delivered"] == recorded).then_some(())
    })
    .await;
    let sinks = sinks_by_name(&admin).await;
    assert_eq!(
        (&sinks["kept"]["detached"], &sinks["kept"]["dead"]),
        (&json!([]), &json!(0)),
        "{}",
        sinks["kept"]
    );
    assert_eq!(sinks["files"]["detached"], json!([]), "it had caught up");
    let events: u64 =
        detached.as_array().unwrap().iter().map(|range| range["events"].as_u64().unwrap()).sum();
    assert_eq!(sinks["optional"]["dead"], events, "{}", sinks["optional"]);
    assert!(events > 0 && detached[0]["first"] == format!("{:020}", 1), "{detached}");
    assert!(daemon.stderr().contains("was let go of"), "it is logged");

    let before = sinks["optional"].clone();
    let (status, _) = daemon.stop();
    assert!(status.success());
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    let sinks = sinks_by_name(&admin).await;
    sinks.values().for_each(conserves);
    assert_eq!(sinks["optional"]["accepted"], before["accepted"]);
    assert_eq!(sinks["optional"]["detached"], before["detached"]);
    assert_eq!(sinks["kept"]["pending"], recorded);

    // nobody delivers to what is not configured: from here on they hold nothing
    assert!(daemon.stop().0.success());
    site.configure(&config(&[]));
    let daemon = site.start();
    comes_back(&daemon, &daemon.device(&key)).await;
    assert!(daemon.stderr().contains("the configuration does not name"), "{}", daemon.stderr());
}
