//! kill -9 under load, again and again: what was answered is in the log, what was not is there whole or not
//! at all, a retry gets the answer that the log has, and presence is what the answers say.

use std::{collections::HashSet, ops::Range, sync::atomic::Ordering::Relaxed};

use serde_json::{Value, json};

use crate::{
    aws::Estate,
    daemon::{Site, TWO_BUILDINGS, events},
    moto::Moto,
    random::Random,
    sinks::{assert_ordered_by_key, everything_is_in_files, settled, sinks_by_name},
    traffic::{Crowd, fold},
    wait::eventually,
};

const ROUNDS: usize = 10;
/// The process is killed after so many answers of a round, drawn anew each time.
const ANSWERS_BEFORE_KILL: Range<u64> = 30..400;
/// With the emulator, which takes hundreds of events in a test, not thousands.
const AWS_ROUNDS: usize = 4;
const AWS_ANSWERS_BEFORE_KILL: Range<u64> = 10..60;

#[tokio::test]
async fn what_was_answered_survives_ten_kills_with_sled() {
    what_was_answered_survives_ten_kills("sled").await;
}

#[tokio::test]
async fn what_was_answered_survives_ten_kills_with_segments() {
    what_was_answered_survives_ten_kills("segments").await;
}

async fn what_was_answered_survives_ten_kills(store: &str) {
    let mut random = Random::new();
    let site = Site::with_files_and_store(store);
    let mut crowd = Crowd::new(&site, &mut random);
    let log = kill_again_and_again(&site, &mut crowd, &mut random, ROUNDS, ANSWERS_BEFORE_KILL).await;
    let repeats = everything_is_in_files(&site, &log).await;
    println!(
        "{store}: {} answers, {} events in the log; repeats to the file sink: {repeats}",
        crowd.answers(),
        log.len()
    );
}

#[tokio::test]
async fn every_service_gets_everything_in_spite_of_kills() {
    let Some(moto) = Moto::start() else { return };
    let estate = Estate::make(&moto).await;
    let mut random = Random::new();
    let site = Site::new(&format!("{TWO_BUILDINGS}{}", estate.sinks())).with_aws(&moto);
    let mut crowd = Crowd::new(&site, &mut random);
    let log = kill_again_and_again(&site, &mut crowd, &mut random, AWS_ROUNDS, AWS_ANSWERS_BEFORE_KILL).await;
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    let count = |wanted: fn(&str) -> bool| {
        log.iter().filter(|event| wanted(event["type"].as_str().unwrap())).count() as u64
    };
    let is_exit: fn(&str) -> bool = |event_type| event_type == "access.exit.recorded";
    let is_internal: fn(&str) -> bool =
        |event_type| event_type.starts_with("card.") || event_type.starts_with("access.entry.");
    settled(
        &admin,
        &[("internal", count(is_internal)), ("exits", count(is_exit)), ("archive", log.len() as u64)],
    )
    .await;
    assert_eq!(admin.get("/v1/dead-letters").await.expect(200)["items"], json!([]));
    assert_ordered_by_key(&estate.read_stream().await);
    let mut repeats = Vec::new();
    for (name, lines, wanted) in [
        ("queue", estate.drain_queue().await, is_internal),
        ("stream", estate.read_stream().await, is_exit),
        ("archive", estate.read_archive().await, |_| true),
    ] {
        let found = events(lines.iter().map(String::as_str));
        let ids: HashSet<&str> = found.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len() as u64, count(wanted), "{name}: each event is there");
        assert!(name != "archive" || found.len() == ids.len(), "objects are exactly once");
        repeats.push(format!("{name} {}", found.len() - ids.len()));
    }
    eventually("the table has caught up", async || {
        (sinks_by_name(&admin).await["card-state"]["pending"] == 0).then_some(())
    })
    .await;
    let inside = fold(&log);
    for employee in crowd.employees() {
        let item = estate.item(&format!("EMPLOYEE#{employee}"), "PRESENCE#hq").await;
        let is_inside = item.is_some_and(|item| *item["inside"].as_bool().unwrap());
        assert_eq!(is_inside, inside.contains_key(&employee), "{employee}");
    }
    println!("{} events in the log; repeats: {}", log.len(), repeats.join(", "));
}

/// What the log has after so many kills under load.
async fn kill_again_and_again(
    site: &Site,
    crowd: &mut Crowd,
    random: &mut Random,
    rounds: usize,
    answers: Range<u64>,
) -> Vec<Value> {
    let mut log: Vec<Value> = Vec::new();
    let (mut kept, mut lost) = (0, 0);
    for round in 0..rounds {
        let mut daemon = site.start();
        if round == 0 {
            crowd.register(&daemon).await;
        }
        crowd.check_presence(&daemon, &log).await;
        let found = crowd.retry(&daemon, &log).await;
        (kept, lost) = (kept + found.0, lost + found.1);
        let answers = answers.start + random.below(answers.end - answers.start);
        crowd
            .swipe(&mut daemon, async |daemon, count| {
                eventually("answers", async || (count.load(Relaxed) >= answers).then_some(())).await;
                daemon.kill();
            })
            .await;
        drop(daemon);
        log = site.dump();
        crowd.check(&log);
    }
    println!("unanswered swipes: {kept} were in the log, {lost} were not");
    log
}
