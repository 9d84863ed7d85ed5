//! `wal verify --against`: an archive that tells the log's story passes, and every change of it is found.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    aws::{ACCOUNT, Estate, s3_client},
    daemon::{FILE_SINK, Site, TWO_BUILDINGS, sequence},
    dead_letters::{REDRIVE, discard},
    moody_queue::{Mood, Taken, moody_queue},
    moto::Moto,
    sinks::{settled, sinks_by_name},
    wait::eventually,
};

const CARDS: usize = 5;
const FILES: &str = "sinks/files";

/// Cards, entries, one batch of exits; then the daemon has stopped.
async fn work(site: &Site, sink: &str) {
    let (key, token) = (site.key("hq"), site.token("hr,admin"));
    let daemon = site.start();
    let (hr, gate) = (daemon.person(&token), daemon.device(&key));
    for number in 0..CARDS {
        let card = json!({ "employee_id": format!("E{number}"), "holder_name": "Ada" });
        hr.put(&format!("/v1/cards/C{number}"), &card).await.expect(201);
        let swipe = json!({ "card_id": format!("C{number}"), "gate_id": "north-1" });
        gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
    }
    let exits: Vec<_> =
        (0..CARDS).map(|number| json!({ "card_id": format!("C{number}"), "gate_id": "north-2" })).collect();
    gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
    settled(&hr, &[(sink, 3 * CARDS as u64)]).await;
    assert!(daemon.stop().0.success());
}

/// The exit code and what was printed.
fn verify(site: &Site, against: &str) -> (Option<i32>, String) {
    let output = site.run(&["wal", "verify", "--against", against]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), said + &String::from_utf8_lossy(&output.stderr))
}

/// The only file of the sink, and its lines.
fn file(site: &Site) -> (PathBuf, Vec<String>) {
    let mut paths = fs::read_dir(site.path(FILES)).unwrap().map(|entry| entry.unwrap().path());
    let path = paths.next().unwrap();
    assert!(paths.next().is_none(), "one run writes one file");
    let lines = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    (path, lines)
}

/// What is said once the lines are these.
fn after(site: &Site, lines: &[String]) -> (Option<i32>, String) {
    let path = file(site).0;
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    verify(site, FILES)
}

fn chainhash(line: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap()["chainhash"].as_str().unwrap().to_owned()
}

async fn every_change_is_found(store: &str) {
    let site = Site::with_files_and_store(store);
    work(&site, "files").await;
    let (code, said) = verify(&site, FILES);
    assert_eq!(code, Some(0), "{said}");
    // five cards without their holders' names
    assert!(said.contains("10 events are byte for byte what the log has"), "{said}");
    assert!(said.contains("verdict: log and archive tell the same story: 15 events"), "{said}");

    let (path, whole) = file(&site);
    let name = path.file_name().unwrap().to_str().unwrap();
    let found = |at: usize| format!("sequence {}: ", sequence(&serde_json::from_str(&whole[at]).unwrap()));
    let (exit, entry) = (12, 3);

    let mut changed = whole.clone();
    changed[exit] = changed[exit].replace("north-2", "north-1");
    let (code, said) = after(&site, &changed);
    assert_eq!(code, Some(1), "{said}");
    let expected = "it differs from the log in source, data.gate";
    assert!(said.contains(&format!("{}{expected} ({name})", found(exit))), "{said}");
    assert!(said.contains("do NOT tell the same story: 1 finding "), "{said}");

    let mut changed = whole.clone();
    changed.remove(entry);
    let (code, said) = after(&site, &changed);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("{}1 event is missing from the archive", found(entry))), "{said}");

    let mut changed = whole.clone();
    changed[exit] = changed[exit].replace(&chainhash(&whole[exit]), &chainhash(&whole[entry]));
    let (code, said) = after(&site, &changed);
    assert_eq!(code, Some(1), "{said}");
    let expected = "its chainhash is not the hash of the log's record before it";
    assert!(said.contains(&format!("{}{expected} ({name})", found(exit))), "{said}");

    let mut changed = whole.clone();
    changed[exit] = changed[exit].replace("{\"specversion\"", "{\"specversion");
    let (code, said) = after(&site, &changed);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("{name}: line {} is not a JSON object", exit + 1)), "{said}");

    let mut repeated = whole.clone();
    repeated.push(whole[exit].clone());
    let (code, said) = after(&site, &repeated);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 repeats"), "{said}");

    // a sink that was killed while it wrote
    after(&site, &whole);
    fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"specversion\":\"1.0\",\"id").unwrap();
    let (code, said) = verify(&site, FILES);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 unfinished lines"), "{said}");

    // a copy is of no sink: what should be in it is not known, what is in it is held against the log
    fs::create_dir(site.path("copy")).unwrap();
    fs::write(site.path("copy").join(name), whole[..entry].join("\n") + "\n").unwrap();
    let (code, said) = verify(&site, "copy");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("of no sink of this configuration"), "{said}");
    let lacking = format!("and {} events of the log not here", whole.len() - entry);
    assert!(
        said.contains("verdict: what is here agrees with the log (3 events of ") && said.contains(&lacking),
        "{said}"
    );
    assert!(
        !said.contains("tell the same story") && said.contains(" access.exit.recorded, sequences "),
        "{said}"
    );
    let (code, said) = verify(&site, "nowhere");
    assert_eq!(code, Some(1), "{said}");
    fs::remove_file(site.path("copy").join(name)).unwrap();
    let (code, said) = verify(&site, "copy");
    assert_eq!((code, said.contains("nothing is proven")), (Some(1), true), "{said}");
    assert_eq!(site.dump().len(), whole.len(), "the log is as it was");
}

#[tokio::test]
async fn every_change_of_a_directory_is_found_with_the_log_in_sled() {
    every_change_is_found("sled").await;
}

#[tokio::test]
async fn every_change_of_a_directory_is_found_with_the_log_in_segments() {
    every_change_is_found("segments").await;
}

#[tokio::test]
async fn what_a_repair_lost_is_found_in_the_archive() {
    let site = Site::new(&format!("[wal]\nstore = \"segments\"\n{TWO_BUILDINGS}{FILE_SINK}"));
    work(&site, "files").await;
    let event = &site.dump()[5];
    let segment = site.path("data/log/00000000000000000001.seg");
    let (mut bytes, id) = (fs::read(&segment).unwrap(), event["id"].as_str().unwrap().as_bytes());
    let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(id)).unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (code, said) = verify(&site, FILES);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("the log is damaged, so sinks/files was held against itself only; nothing is wrong"),
        "{said}"
    );
    site.run_well(&["wal", "repair"]);
    fs::rename(site.path("data"), site.path("damaged")).unwrap();
    fs::rename(site.path("data.repaired"), site.path("data")).unwrap();
    let (code, said) = verify(&site, FILES);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 events that a repair found missing from the log are here"), "{said}");
}

/// A sink whose service refused some events: dead letters that are kept, delivered after all, thrown away. The sink that
/// now writes files was an SQS sink for a while, because a directory refuses no event.
#[tokio::test]
async fn dead_letters_are_not_missing_from_the_archive() {
    let queue_url = moody_queue(Taken::default(), Taken::default(), Mood::default());
    let site = Site::with_files().with_aws_at(queue_url.clone());
    let files = fs::read_to_string(site.path("routes.toml")).unwrap();
    let queue = format!("type = \"sqs\"\nqueue_url = \"{queue_url}/{ACCOUNT}/queue\"");
    let queue = files.replace("type = \"file\"\ndir = \"sinks/files\"", &queue);
    let (key, token) = (site.key("hq"), site.token("admin"));
    for (sinks, exits) in [(&files, 1..=3), (&queue, 4..=7), (&files, 8..=9)] {
        site.configure(sinks);
        let daemon = site.start();
        for number in exits.clone() {
            let swipe = json!({ "card_id": format!("C{number}"), "gate_id": "north-1" });
            daemon.device(&key).post("/v1/buildings/hq/exits", &swipe).await.expect(202);
        }
        settled(&daemon.person(&token), &[("files", *exits.end())]).await;
        assert!(daemon.stop().0.success());
    }
    let (code, said) = verify(&site, FILES);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("4 events are not here, because they are dead letters"), "{said}");
    assert!(said.contains("not here: sequence 4, a dead letter\n"), "{said}");

    let daemon = site.start();
    let admin = daemon.person(&token);
    let id = |sequence: u64| format!("files:{sequence:020}");
    let reason = json!({ "reason": "agreed \u{1b}[31mwith the auditor" });
    assert_eq!(discard(&admin, &id(5), &reason).await.status, 204);
    admin.post(REDRIVE, &json!({ "ids": [id(6)] })).await.expect(202);
    // nine exits, the discard and the redrive
    settled(&admin, &[("files", 11)]).await;
    eventually("it is redriven", async || (sinks_by_name(&admin).await["files"]["dead"] == 2).then_some(()))
        .await;
    assert!(daemon.stop().0.success());
    let (code, said) = verify(&site, FILES);
    assert_eq!(code, Some(0), "{said}");
    for expected in [
        "  2 events are not here, because they are dead letters of this sink\n",
        "  1 events are not here, because they were dead letters of this sink and have been discarded\n",
        "  not here: sequence 4, a dead letter\n",
        "  not here: sequence 5, a dead letter that person/ada discarded: agreed  [31mwith the auditor\n",
        "  not here: sequence 7, a dead letter\n",
        "verdict: log and archive tell the same story: 8 events",
    ] {
        assert!(said.contains(expected), "{expected} {said}");
    }

    // what was neither is still found
    for file in fs::read_dir(site.path(FILES)).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let kept = text.lines().filter(|line| !line.contains("\"card_id\":\"C8\""));
        fs::write(&path, kept.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
    let (code, said) = verify(&site, FILES);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("sequence 8: 1 event is missing from the archive"), "{said}");
    assert!(said.contains("do NOT tell the same story: 1 finding "), "{said}");
}

#[tokio::test]
async fn a_changed_object_in_a_bucket_is_found() {
    let Some(moto) = Moto::start() else { return };
    let estate = Estate::make(&moto).await;
    let site = Site::new(&format!("{TWO_BUILDINGS}{}", estate.sinks())).with_aws(&moto);
    work(&site, "archive").await;
    let (code, said) = verify(&site, "s3://archive/events");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("of the sink archive") && said.contains("15 events are byte for byte"), "{said}");
    assert!(said.contains("14 links proven"), "{said}");

    let client = s3_client(&moto.sdk_config());
    let listed = client.list_objects_v2().bucket("archive").send().await.unwrap();
    let key =
        listed.contents().iter().filter_map(|object| object.key()).find(|key| key.contains("=hq/")).unwrap();
    let object = client.get_object().bucket("archive").key(key).send().await.unwrap();
    let bytes = object.body.collect().await.unwrap().to_vec();
    let mut text = std::io::read_to_string(flate2::read::GzDecoder::new(bytes.as_slice())).unwrap();
    // whichever card is in it: that depends on where the objects were cut
    let card = text.find("\"card_id\":\"C").unwrap() + "\"card_id\":\"C".len();
    text.replace_range(card..=card, "X");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let body = gzip.finish().unwrap().into();
    client.put_object().bucket("archive").key(key).body(body).send().await.unwrap();
    let (code, said) = verify(&site, "s3://archive/events");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("it differs from the log in data.card_id") && said.contains(key), "{said}");

    client.delete_object().bucket("archive").key(key).send().await.unwrap();
    let (code, said) = verify(&site, "s3://archive/events");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("missing from the archive"), "{said}");
}
