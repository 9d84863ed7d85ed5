//! A daemon that starts from a snapshot knows what it knew, and forgets no sink by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use turnstiled::{
    actors::sink_state::SinkStates,
    app::{
        housekeeping::{Keeper, Parts},
        log_options,
    },
    config::wal::WalConfig,
    data_dir,
    metrics::Metrics,
    projections::store::Snapshots,
};
use turnstiled_wal::{Log, StateStore};

use crate::{
    daemon::{FILE_SINK, Site, TWO_BUILDINGS, copy_dir},
    http::Caller,
};

/// What the housekeeping of a running daemon does every `snapshot_every`.
pub(crate) fn take_snapshot(site: &Site) -> PathBuf {
    let data = site.path("data");
    let log = Log::open(&data_dir::log_dir(&data), log_options(&WalConfig::default())).unwrap();
    let snapshots =
        Snapshots::open(&data_dir::snapshots_dir(&data), data_dir::log_name(&data).unwrap()).unwrap();
    let parts = Parts {
        log: log.reader(),
        trimmer: log.trimmer(),
        snapshots: snapshots.clone(),
        states: SinkStates::new(StateStore::open(&data_dir::state_dir(&data)).unwrap()),
        disk: turnstiled::actors::disk::DiskBoard::default(),
        retention: Duration::ZERO,
        snapshot_every: Duration::MAX,
        metrics: Metrics::new(),
    };
    Keeper::new(parts, Arc::new(AtomicBool::new(false))).snapshot(Instant::now());
    snapshots.list().unwrap().pop().unwrap().1
}

fn damage(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replacen("\"version\":1", "\"version\":7", 1)).unwrap();
}

async fn people(person: &Caller) -> Value {
    let mut presence = person.get("/v1/buildings/hq/presence").await.expect(200);
    presence["people"].take()
}

#[tokio::test]
async fn a_start_from_a_snapshot_knows_what_was_known() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("hr,security"));
    let swipe = |number: u32, card: &str| {
        let swipe_id = format!("0199a0f4-2c2e-7d6a-9a53-{number:012}");
        json!({ "card_id": card, "gate_id": "north-1", "swipe_id": swipe_id })
    };
    let mut first_answers = Vec::new();
    let mut expected = Value::Null;
    let mut snapshots: Vec<PathBuf> = Vec::new();
    for round in 0..4_u32 {
        let daemon = site.start();
        let (gate, person) = (daemon.device(&key), daemon.person(&token));
        if round > 0 {
            assert_eq!(people(&person).await, expected, "round {round}");
        }
        if round == 3 {
            let stderr = daemon.stderr();
            assert!(stderr.contains("is damaged") && stderr.contains("set aside"), "{stderr}");
            assert!(!snapshots[2].exists());
        }
        for (number, answer) in &first_answers {
            let again = gate.post("/v1/buildings/hq/entries", &swipe(*number, &format!("C{number}"))).await;
            assert_eq!(again.expect(200), *answer, "the first answer again");
        }
        let card = format!("C{round}");
        let details = json!({ "employee_id": format!("E{round}"), "holder_name": "Jane" });
        person.put(&format!("/v1/cards/{card}"), &details).await.expect(201);
        let answer = gate.post("/v1/buildings/hq/entries", &swipe(round, &card)).await.expect(200);
        assert_eq!(answer["decision"], "granted");
        first_answers.push((round, answer));
        expected = people(&person).await;
        assert_eq!(expected.as_array().unwrap().len() as u32, round + 1);
        assert!(daemon.stop().0.success());
        snapshots.push(take_snapshot(&site));
        if round == 2 {
            damage(&snapshots[2]);
        }
    }
}

#[tokio::test]
async fn a_sink_that_left_is_forgotten_on_demand() {
    let left = FILE_SINK.replace("files", "left");
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{left}"));
    let token = site.token("admin");
    let daemon = site.start();
    let admin = daemon.person(&token);
    let forget = async |admin: &Caller| admin.send(Method::DELETE, "/v1/sinks/left/cursor", &[], "").await;
    forget(&admin).await.expect(409);
    forget(&daemon.person(&site.token("hr"))).await.expect(403);
    assert!(daemon.stop().0.success());
    site.configure(&format!("{TWO_BUILDINGS}{FILE_SINK}"));
    let daemon = site.start();
    let stderr = daemon.stderr();
    assert!(stderr.contains("/v1/sinks/left/cursor"), "{stderr}");
    let admin = daemon.person(&token);
    assert_eq!(forget(&admin).await.status, 204);
    forget(&admin).await.expect(404);
    daemon.stop();
    let daemon = site.start();
    assert!(!daemon.stderr().contains("/v1/sinks/left/cursor"));
    daemon.stop();
}

/// A log of so many cards, closed.
async fn log_of(cards: usize) -> Site {
    let site = Site::with_files();
    let daemon = site.start();
    let person = daemon.person(&site.token("hr"));
    for number in 0..cards {
        let card = json!({ "employee_id": format!("E{number}") });
        person.put(&format!("/v1/cards/C{number}"), &card).await.expect(201);
    }
    assert!(daemon.stop().0.success());
    site
}

#[tokio::test]
async fn verify_holds_snapshots_against_the_log() {
    let (site, shorter, other) = (log_of(3).await, log_of(2).await, log_of(3).await);
    let snapshot = take_snapshot(&site);
    let name = snapshot.file_name().unwrap().to_str().unwrap();
    let said = site.run_well(&["wal", "verify"]);
    assert!(
        said.contains("snapshots: 1\nevery record, the hash chain and every snapshot is whole"),
        "{said}"
    );
    let verify_refuses = |what: &str| {
        let output = site.run(&["wal", "verify"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("{name} {what}")), "{what}: {said}");
    };
    for (log, what) in [
        (&shorter, "has the state up to sequence 3, but the log ends at 2"),
        (&other, "has the state up to sequence 3, which is another event there than in the log"),
    ] {
        let kept = site.path("kept");
        fs::rename(site.path("data/log"), &kept).unwrap();
        copy_dir(&log.path("data/log"), &site.path("data/log"));
        verify_refuses(what);
        fs::remove_dir_all(site.path("data/log")).unwrap();
        fs::rename(kept, site.path("data/log")).unwrap();
    }
    site.run_well(&["wal", "verify"]);
    damage(&snapshot);
    verify_refuses("is damaged");
}
