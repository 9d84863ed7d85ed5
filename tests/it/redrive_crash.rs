//! Dead letters are redriven through outages, lost replies and `kill -9`: none is lost, none is counted twice.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    dead_letters::{REDRIVE, discard},
    moody_queue::{Mood, Service, Taken, moody_queue, queue_site},
    random::Random,
    sinks::{conserves, metrics_conserve, settled, sinks_by_name},
    wait::eventually,
};

const LETTERS: usize = 60;
/// How late the service answers while it is killed around: long enough to be in the middle.
const LATE: Duration = Duration::from_millis(15);

/// One look: promise 2 holds in `/v1/sinks` and in `/metrics`.
async fn look(daemon: &Daemon, token: &str) -> Value {
    let sink = sinks_by_name(&daemon.person(token)).await["queue"].clone();
    conserves(&sink);
    metrics_conserve(daemon, &["queue", "files"]).await;
    sink
}

fn ids(taken: &Taken) -> BTreeSet<String> {
    let taken = taken.lock().unwrap();
    let id = |text: &String| serde_json::from_str::<Value>(text).unwrap()["id"].as_str().unwrap().to_owned();
    taken.iter().map(id).collect()
}

#[tokio::test]
async fn a_redrive_through_kill_9_loses_nothing_and_counts_nothing_twice() {
    let (taken, asked, mood) = (Taken::default(), Taken::default(), Mood::default());
    let site = queue_site(&moody_queue(Arc::clone(&taken), Arc::clone(&asked), Arc::clone(&mood)));
    let mut random = Random::new();
    let mut daemon = site.start();
    let (token, key) = (site.token("admin"), site.key("hq"));
    for exit in 0..LETTERS {
        let body = json!({ "card_id": format!("CARD{}", exit % 7), "gate_id": "north-1" });
        daemon.device(&key).post("/v1/buildings/hq/exits", &body).await.expect(202);
    }
    settled(&daemon.person(&token), &[("queue", LETTERS as u64)]).await;
    let letters = daemon.person(&token).get("/v1/dead-letters?sink=queue").await.expect(200);
    let thrown_away = letters["items"][LETTERS / 2]["id"].as_str().unwrap().to_owned();
    let answer = discard(&daemon.person(&token), &thrown_away, &json!({ "reason": "not wanted" })).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert_eq!(look(&daemon, &token).await["dead"], json!(LETTERS - 1));

    let mut live = 0;
    for round in 0_usize.. {
        let (next, most_asked) = match round % 4 {
            0 => (Service::RefusesAll, 20),
            // asked seldom once it is found to be away
            1 => (Service::Away, 1),
            2 => (Service::LosesReplies, 20),
            _ => (Service::Slow(LATE), 40),
        };
        *mood.lock().unwrap() = next;
        let dead = look(&daemon, &token).await["dead"].as_u64().unwrap();
        if dead == 0 {
            break;
        }
        let before = asked.lock().unwrap().len();
        daemon.person(&token).post(REDRIVE, &json!({ "sink": "queue" })).await.expect(202);
        // a live event beside them
        let body = json!({ "card_id": "LIVE", "gate_id": "north-2" });
        daemon.device(&key).post("/v1/buildings/hq/exits", &body).await.expect(202);
        live += 1;
        let enough = before + 1 + random.below(dead.min(most_asked)) as usize;
        eventually("it is in the middle, or through", async || {
            let sink = look(&daemon, &token).await;
            let letters = daemon.person(&token).get("/v1/dead-letters?sink=queue").await.expect(200);
            let rests =
                letters["items"].as_array().unwrap().iter().all(|letter| letter["redriving"] == false);
            (asked.lock().unwrap().len() >= enough || (rests && sink["pending"] == 0)).then_some(())
        })
        .await;
        daemon.kill();
        daemon = site.start();
        let sink = look(&daemon, &token).await;
        assert_eq!(sink["discarded"], 1);
        let arrived = ids(&taken).len() as u64;
        assert!(sink["delivered"].as_u64().unwrap() <= arrived, "{arrived} arrived: {sink}");
        assert_eq!(sink["accepted"], json!(LETTERS + live), "{sink}");
    }
    let all = (LETTERS + live) as u64;
    *mood.lock().unwrap() = Service::Slow(Duration::ZERO);
    settled(&daemon.person(&token), &[("queue", all)]).await;
    daemon.person(&token).post(REDRIVE, &json!({})).await.expect(202);
    let sink = eventually("all are delivered", async || {
        let sink = look(&daemon, &token).await;
        (sink["delivered"] == all - 1).then_some(sink)
    })
    .await;
    assert_eq!((&sink["dead"], &sink["discarded"]), (&json!(0), &json!(1)), "{sink}");
    assert!(daemon.stop().0.success());

    let exits: BTreeSet<String> = (site.dump().iter())
        .filter(|event| {
            event["type"] == "access.exit.recorded"
                && !thrown_away.ends_with(event["sequence"].as_str().unwrap())
        })
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    let arrived = ids(&taken);
    assert_eq!(arrived, exits, "every one but that which was thrown away");
    let repeats = taken.lock().unwrap().len() - arrived.len();
    println!("{live} kills, {} arrivals, {repeats} of them repeats", taken.lock().unwrap().len());
}
