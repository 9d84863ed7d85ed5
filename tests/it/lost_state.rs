//! Cursors and dead letters live beside the log. If they are damaged, either the start is refused, or every
//! event that was not delivered still arrives (promises 2 and 6).

use std::{collections::HashSet, fs, path::Path};

use serde_json::json;

use crate::{
    daemon::{FILE_SINK, Site, TWO_BUILDINGS, copy_dir},
    random::Random,
    sinks::{settled, sinks_by_name},
    wait::eventually,
};

const EXITS: usize = 300;
const FLIPS: u64 = 16;

/// A stopped daemon's directory with two file sinks: one has everything, the other nothing yet.
async fn half_delivered() -> Site {
    let blocked = FILE_SINK.replace("files", "blocked");
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{blocked}"));
    let (key, token) = (site.key("hq"), site.token("admin"));
    fs::create_dir(site.path("sinks")).unwrap();
    // a file where the sink's directory has to be
    fs::write(site.path("sinks/blocked"), "in the way").unwrap();
    let daemon = site.start();
    let exits: Vec<_> =
        (0..EXITS).map(|number| json!({ "card_id": format!("C{number}"), "gate_id": "north-1" })).collect();
    let batch = json!({ "exits": exits });
    daemon.device(&key).post("/v1/buildings/hq/exits/batch", &batch).await.expect(202);
    let admin = daemon.person(&token);
    settled(&admin, &[("files", EXITS as u64)]).await;
    eventually("the blocked sink is in trouble", async || {
        let sink = sinks_by_name(&admin).await["blocked"].clone();
        (sink["pending"] == EXITS && sink["last_error"]["text"].is_string()).then_some(())
    })
    .await;
    assert!(daemon.stop().0.success());
    site
}

/// Damages a copy, makes way for the blocked sink, and starts. Refused with a word about the file: true.
async fn is_refused(original: &Site, what: &str, damage: impl FnOnce(&Path)) -> bool {
    let site = Site::new(&fs::read_to_string(original.path("routes.toml")).unwrap());
    copy_dir(&original.path("data"), &site.path("data"));
    damage(&site.path("data/state"));
    let daemon = match site.try_start() {
        Err(refused) => {
            let state = site.path("data/state").display().to_string();
            assert!(refused.stderr.contains(&state), "{what}: which file? {}", refused.stderr);
            return true;
        }
        Ok(daemon) => daemon,
    };
    let admin = daemon.person(&site.token("admin"));
    eventually(&format!("{what}: the blocked sink gets its events"), async || {
        let sink = sinks_by_name(&admin).await["blocked"].clone();
        assert!(sink["accepted"] == EXITS, "{what}: started, and undelivered events are forgotten: {sink}");
        (sink["pending"] == 0).then_some(())
    })
    .await;
    let events = site.files("sinks/blocked");
    let ids: HashSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), EXITS, "{what}");
    false
}

#[tokio::test]
async fn flipped_bits_in_the_state_forget_nothing() {
    let original = half_delivered().await;
    assert!(!is_refused(&original, "an undamaged copy", |_| {}).await);
    let mut random = Random::new();
    let mut refused = 0;
    for flip in 0..FLIPS {
        let draw = random.next();
        let bytes = fs::read(original.path("data/state/db")).unwrap();
        let filled = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        let place = usize::try_from(draw % filled).unwrap();
        let what = format!("flip {flip}, byte {place} of {filled}");
        let damage = |state: &Path| {
            let mut bytes = bytes;
            bytes[place] ^= 1 << (draw >> 61);
            fs::write(state.join("db"), bytes).unwrap();
        };
        refused += u32::from(is_refused(&original, &what, damage).await);
    }
    println!("{refused} of {FLIPS} starts refused");
}

#[tokio::test]
async fn an_empty_state_forgets_nothing() {
    let original = half_delivered().await;
    let empty = |state: &Path| fs::write(state.join("db"), "").unwrap();
    is_refused(&original, "an empty state", empty).await;
}

#[tokio::test]
async fn a_missing_state_forgets_nothing() {
    let original = half_delivered().await;
    is_refused(&original, "no state", |state| fs::remove_dir_all(state).unwrap()).await;
}
