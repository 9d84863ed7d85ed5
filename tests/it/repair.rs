//! The operator's way out of damage: a start that is refused with the next command, `wal repair`, two `mv`, and a
//! daemon that goes on with all that is left.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    daemon::{FILE_SINK, Site, TWO_BUILDINGS, copy_dir, sequence},
    sinks::{settled, sinks_by_name},
    snapshots::take_snapshot,
    traffic::fold,
    wait::eventually,
};

const CARDS: usize = 30;
const EXITS: usize = 200;

/// A stopped daemon's directory: cards, people inside, exits; one sink has everything, the other nothing.
async fn after_traffic(store: &str) -> Site {
    let blocked = FILE_SINK.replace("files", "blocked");
    let site = Site::new(&format!("[wal]\nstore = \"{store}\"\n{TWO_BUILDINGS}{FILE_SINK}{blocked}"));
    let (key, token) = (site.key("hq"), site.token("hr,admin"));
    fs::create_dir(site.path("sinks")).unwrap();
    fs::write(site.path("sinks/blocked"), "in the way").unwrap();
    let daemon = site.start();
    let (hr, gate) = (daemon.person(&token), daemon.device(&key));
    for number in 0..CARDS {
        let card = json!({ "employee_id": format!("E{number}") });
        hr.put(&format!("/v1/cards/C{number}"), &card).await.expect(201);
        let swipe = json!({ "card_id": format!("C{number}"), "gate_id": "north-1" });
        gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
    }
    let exits: Vec<_> =
        (0..EXITS).map(|number| json!({ "card_id": format!("X{number}"), "gate_id": "north-1" })).collect();
    gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
    settled(&hr, &[("files", (2 * CARDS + EXITS) as u64)]).await;
    assert!(daemon.stop().0.success());
    site
}

/// Flips a bit in every copy of an event in the file that the log is in.
fn damage(data: &Path, store: &str, event: &Value) {
    let segment = data.join("log/00000000000000000001");
    let path = if store == "sled" {
        segment.with_extension("sled").join("db")
    } else {
        segment.with_extension("seg")
    };
    let mut bytes = fs::read(&path).unwrap();
    let id = event["id"].as_str().unwrap().as_bytes();
    let starts: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(id)).collect();
    assert!(!starts.is_empty());
    for start in starts {
        bytes[start] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
}

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn repairs_and_goes_on(store: &str) {
    let site = after_traffic(store).await;
    let log = site.dump();
    let highest = log.len() as u64;
    // the entry of one, the registration of another, and one of the exits
    let lost: Vec<&Value> = [9, 20, 150].map(|index: usize| &log[index]).into();
    lost.iter().for_each(|event| damage(&site.path("data"), store, event));
    let damaged = site.path("before");
    copy_dir(&site.path("data"), &damaged);

    let Err(refused) = site.try_start() else { panic!("started with damage") };
    assert!(refused.stderr.contains("turnstiled wal verify"), "{}", refused.stderr);
    let verified = site.run(&["wal", "verify"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(text(&verified).contains("turnstiled wal repair"), "{}", text(&verified));

    let repaired = site.run(&["wal", "repair"]);
    let said = text(&repaired);
    assert_eq!(repaired.status.code(), Some(0), "{said}");
    assert!(said.contains(&format!("{} records salvaged", highest - 3)), "{said}");
    for event in &lost {
        assert!(said.contains(&format!("sequence {}\n", sequence(event))), "{said}");
    }
    assert!(said.contains("mv data data.damaged\n  mv data.repaired data\n"), "{said}");
    assert_eq!(site.run(&["wal", "repair"]).status.code(), Some(1), "never over something");
    fs::rename(site.path("data"), site.path("data.damaged")).unwrap();
    fs::rename(site.path("data.repaired"), site.path("data")).unwrap();
    // unblocked
    fs::remove_file(site.path("sinks/blocked")).unwrap();
    goes_on(&site, &log, &lost).await;
}

async fn goes_on(site: &Site, log: &[Value], lost: &[&Value]) {
    let kept: Vec<Value> = log.iter().filter(|event| !lost.contains(event)).cloned().collect();
    let (highest, daemon) = (log.len() as u64, site.start());
    let (key, token) = (site.key("hq"), site.token("hr,admin,security"));
    let (person, gate) = (daemon.person(&token), daemon.device(&key));
    let inside =
        person.get("/v1/buildings/hq/presence").await.expect(200)["people"].as_array().unwrap().len();
    assert_eq!(inside, fold(&kept).len(), "presence is what the salvaged events say");
    // an exit as ever, and the sink that had nothing gets everything there is
    let exit = json!({ "card_id": "C1", "gate_id": "north-1" });
    let answer = gate.post("/v1/buildings/hq/exits", &exit).await.expect(202);
    // log.repaired, then the look at the presence
    assert_eq!(sequence(&answer), highest + 3);
    let events = kept.len() + 3;
    eventually("the blocked sink has everything", async || {
        let sink = sinks_by_name(&person).await["blocked"].clone();
        (sink["delivered"] == events && sink["pending"] == 0).then_some(())
    })
    .await;
    assert!(daemon.stop().0.success());

    let now = site.dump();
    assert_eq!(&now[..kept.len()], kept, "byte for byte as they were");
    let repaired = &now[kept.len()];
    assert_eq!((repaired["type"].as_str(), sequence(repaired)), (Some("log.repaired"), highest + 1));
    let data = &repaired["data"];
    assert_eq!((&data["salvaged"], &data["missing"]), (&json!(kept.len()), &json!(lost.len())));
    assert_eq!((&data["by"], &data["old_log"]), (&json!("server"), &log[0]["log"]));
    let listed = data["missing_ranges"].as_array().unwrap();
    assert_eq!(listed[0]["first"], lost[0]["sequence"]);
    let epoch =
        |event: &Value| event["log"].as_str().unwrap().rsplit_once('.').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(data["new_epoch"], epoch(repaired));
    assert!(epoch(repaired) > epoch(&log[0]));
    assert!(now[kept.len()..].iter().all(|event| event["log"] == repaired["log"]));
    // each sink has each event that is left, in either epoch
    let mut blocked = site.files("sinks/blocked");
    blocked.sort_by_key(sequence);
    assert_eq!(blocked.len(), now.len());
    assert!(blocked.iter().zip(&now).all(|(there, here)| there["id"] == here["id"]));
    assert_eq!(site.files("sinks/files").len(), log.len() + 3, "and the other one none twice");
    let verified = site.run(&["wal", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
}

#[tokio::test]
async fn a_damaged_log_of_segments_is_repaired_and_goes_on() {
    repairs_and_goes_on("segments").await;
}

#[tokio::test]
async fn a_damaged_log_in_sled_is_repaired_and_goes_on() {
    repairs_and_goes_on("sled").await;
}

/// The log's end, its high-water file and the sinks' state are lost: only the snapshot shows which sequences were used.
#[tokio::test]
async fn no_sequence_is_used_twice_when_only_a_snapshot_knows_of_it() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("hr,security"));
    let daemon = site.start();
    let hr = daemon.person(&token);
    let mut highest = 0;
    for number in 0..10 {
        let card = json!({ "employee_id": format!("E{number}") });
        hr.put(&format!("/v1/cards/C{number}"), &card).await.expect(201);
        let swipe = json!({ "card_id": format!("C{number}"), "gate_id": "north-1" });
        highest = sequence(&daemon.device(&key).post("/v1/buildings/hq/entries", &swipe).await.expect(200));
    }
    assert!(daemon.stop().0.success());
    take_snapshot(&site);
    for event in &site.dump()[15..] {
        damage(&site.path("data"), "sled", event);
    }
    fs::remove_file(site.path("data/log/high-water")).unwrap();
    fs::remove_dir_all(site.path("data/state")).unwrap();
    let repaired = site.run(&["wal", "repair"]);
    let said = text(&repaired);
    assert_eq!(repaired.status.code(), Some(0), "{said}");
    assert!(said.contains(&format!("sequences 16 to {highest}\n")), "{said}");
    fs::rename(site.path("data"), site.path("data.damaged")).unwrap();
    fs::rename(site.path("data.repaired"), site.path("data")).unwrap();
    // and it starts with what the snapshot has of the events that are lost
    let daemon = site.start();
    let presence = daemon.person(&token).get("/v1/buildings/hq/presence").await.expect(200);
    assert_eq!(presence["people"].as_array().unwrap().len(), 10);
    assert!(daemon.stop().0.success());
    let log = site.dump();
    assert_eq!((log[15]["type"].as_str(), sequence(&log[15])), (Some("log.repaired"), highest + 1));
}
