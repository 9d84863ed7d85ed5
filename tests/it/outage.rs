//! AWS away for a while under load: the turnstiles notice nothing, every event arrives afterwards, and none
//! is taken for poison.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::{
    aws::Estate,
    daemon::{Site, TWO_BUILDINGS},
    http::Caller,
    moto::Moto,
    proxy::{Mode, Proxy},
    sinks::{assert_ordered_by_key, conserves, settled, sinks_by_name},
    wait::eventually,
};

const CLIENTS: usize = 4;
/// Each client's swipes come so far apart: the emulator takes a few hundred events in a test, not thousands.
const SWIPE_INTERVAL: Duration = Duration::from_millis(200);
const AWS_SINKS: [&str; 4] = ["archive", "card-state", "exits", "internal"];
/// A lost reply repeats its batch. The batches of this load are small, whatever the service would take.
const MAX_REPEATS_PER_LOST_REPLY: usize = 20;

#[tokio::test]
async fn an_outage_is_no_poison() {
    let is_long = std::env::var_os("TURNSTILED_LONG").is_some();
    // one connection refused, one reset: both halves of the outage
    let half = Duration::from_secs(if is_long { 30 } else { 5 });
    let Some(moto) = Moto::start() else { return };
    let estate = Estate::make(&moto).await;
    let proxy = Proxy::start(&moto.endpoint_url()).await;
    let site = Site::new(&format!("{TWO_BUILDINGS}{}", estate.sinks())).with_aws_at(proxy.url());
    let daemon = site.start();
    let (admin, hr) = (daemon.person(&site.token("admin")), daemon.person(&site.token("hr")));
    let gate = daemon.device(&site.key("hq"));
    for client in 0..CLIENTS {
        let card = json!({ "employee_id": format!("E{client}") });
        hr.put(&format!("/v1/cards/C{client}"), &card).await.expect(201);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(come_and_go(gate.clone(), client, Arc::clone(&is_over))))
        .collect();
    eventually("events arrive before the outage", async || {
        let sinks = sinks_by_name(&admin).await;
        AWS_SINKS.iter().all(|name| sinks[*name]["delivered"] != 0).then_some(())
    })
    .await;

    proxy.switch(Mode::LoseReplies);
    all_see_it(&admin).await;
    eventually("replies are lost", async || (proxy.lost_replies() >= AWS_SINKS.len()).then_some(())).await;
    for mode in [Mode::Refuse, Mode::Reset] {
        proxy.switch(mode);
        all_see_it(&admin).await;
        let before = sinks_by_name(&admin).await;
        watch_for(half, &admin, &daemon.anyone()).await;
        let during = sinks_by_name(&admin).await;
        for name in AWS_SINKS {
            let grew = during[name]["pending"].as_u64() > before[name]["pending"].as_u64();
            assert!(grew, "{mode:?}: nothing more waits for {name}: {}", during[name]);
            assert!(during[name]["lag_seconds"].as_u64().unwrap() > 0, "{}", during[name]);
            assert_eq!(during[name]["delivered"], before[name]["delivered"], "{mode:?}: {name}");
        }
        assert_eq!(during["files"]["state"], "healthy", "a dead sink harms no other");
    }
    proxy.switch(Mode::Forward);
    eventually("the first event arrives again", async || {
        let sinks = sinks_by_name(&admin).await;
        sinks.values().for_each(conserves);
        AWS_SINKS.iter().all(|name| sinks[*name]["state"] == "healthy").then_some(())
    })
    .await;
    is_over.store(true, Relaxed);
    let mut swipes = Swipes::default();
    for client in load {
        let made = client.await.unwrap();
        swipes = Swipes { entries: swipes.entries + made.entries, exits: swipes.exits + made.exits };
    }

    let cards = CLIENTS as u64;
    let all = cards + swipes.entries + swipes.exits;
    let expected = [
        ("internal", all - swipes.exits),
        ("exits", swipes.exits),
        ("card-state", all),
        ("archive", all),
        ("files", all),
    ];
    settled(&admin, &expected).await;
    let sinks = sinks_by_name(&admin).await;
    for (name, count) in expected {
        assert_eq!((&sinks[name]["delivered"], &sinks[name]["dead"]), (&json!(count), &json!(0)), "{name}");
    }
    assert_eq!(admin.get("/v1/dead-letters").await.expect(200)["items"], json!([]));

    for client in 0..CLIENTS {
        let item = estate.item(&format!("EMPLOYEE#E{client}"), "PRESENCE#hq").await.unwrap();
        assert_eq!(item["inside"], AttributeValue::Bool(false), "everyone has left: {item:?}");
    }

    let lost_replies = proxy.lost_replies();
    let mut repeats = Vec::new();
    assert_ordered_by_key(&estate.read_stream().await);
    let found = [
        ("internal", estate.drain_queue().await),
        ("exits", estate.read_stream().await),
        ("archive", estate.read_archive().await),
        ("files", site.file_lines("sinks/files")),
    ];
    for ((name, lines), (_, count)) in
        found.iter().zip(expected.iter().filter(|(name, _)| *name != "card-state"))
    {
        let surplus = count_repeats(lines, *count, name);
        // an object is there once, however often it was put, and no reply of a file is lost
        let is_exact = *name == "archive" || *name == "files";
        let allowed = if is_exact { 0 } else { lost_replies * MAX_REPEATS_PER_LOST_REPLY };
        assert!(surplus <= allowed, "{name}: {surplus} repeats, {lost_replies} replies lost");
        repeats.push(format!("{name} {surplus}"));
    }
    println!("{all} events; {lost_replies} replies lost, repeats: {}", repeats.join(", "));
}

#[derive(Default)]
struct Swipes {
    entries: u64,
    exits: u64,
}

/// Enters and leaves until it is over; every single answer has to be what it always is.
async fn come_and_go(gate: Caller, client: usize, is_over: Arc<AtomicBool>) -> Swipes {
    let swipe = json!({ "card_id": format!("C{client}"), "gate_id": "north-1" });
    let mut swipes = Swipes::default();
    let mut pace = tokio::time::interval(SWIPE_INTERVAL);
    while !is_over.load(Relaxed) {
        pace.tick().await;
        let entered = gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
        assert_eq!(entered["decision"], "granted");
        swipes.entries += 1;
        pace.tick().await;
        gate.post("/v1/buildings/hq/exits", &swipe).await.expect(202);
        swipes.exits += 1;
    }
    swipes
}

/// Every sink on AWS says that it is in trouble, and which.
async fn all_see_it(admin: &Caller) {
    eventually("every sink on AWS sees the outage", async || {
        let sinks = sinks_by_name(admin).await;
        sinks.values().for_each(conserves);
        let sees = |sink: &Value| {
            let in_trouble = sink["state"] == "retrying" || sink["state"] == "open";
            in_trouble && sink["last_error"]["code"].is_string() && sink["pending"] != 0
        };
        AWS_SINKS.iter().all(|name| sees(&sinks[*name])).then_some(())
    })
    .await;
}

/// The outage lasts; ready all the while, and no event is counted wrong.
async fn watch_for(outage: Duration, admin: &Caller, anyone: &Caller) {
    let end = Instant::now() + outage;
    let mut looks = tokio::time::interval(SWIPE_INTERVAL);
    while Instant::now() < end {
        looks.tick().await;
        assert_eq!(anyone.get("/readyz").await.status, 200);
        sinks_by_name(admin).await.values().for_each(conserves);
    }
}

/// That `lines` are `count` events; how many of them came more than once.
fn count_repeats(lines: &[String], count: u64, name: &str) -> usize {
    let mut copies: HashMap<String, usize> = HashMap::new();
    for line in lines {
        let event: Value = serde_json::from_str(line).unwrap();
        *copies.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(copies.len() as u64, count, "{name}: each event is there");
    lines.len() - copies.len()
}
