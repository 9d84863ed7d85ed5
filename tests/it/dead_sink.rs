//! A dead sink beside four healthy ones: theirs is as if it were not there.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::{
    daemon::{Site, TWO_BUILDINGS, assert_gapless, events, sequence},
    fake_service::{Reply, serve_requests},
    http::Caller,
    proxy::{Mode, Proxy},
    sinks::{assert_ordered_by_key, conserves, settled, sinks_by_name},
    wait::eventually,
    webhook::secret,
};

const FILES: [&str; 2] = ["file-1", "file-2"];
const HOOKS: [&str; 2] = ["hook-1", "hook-2"];
const DEAD: &str = "dead";
const WAVES: u64 = 6;
const EXITS_PER_WAVE: u64 = 30;
const HOLDERS: u64 = 7;

type Taken = Arc<Mutex<Vec<String>>>;

/// A webhook's URL, and what was posted there.
fn hook() -> (String, Taken) {
    let taken = Taken::default();
    let taking = Arc::clone(&taken);
    let url = serve_requests(move |request| {
        taking.lock().unwrap().push(request.body.clone());
        Reply { status: 204, headers: Vec::new(), body: String::new() }
    });
    (url, taken)
}

#[tokio::test]
async fn a_dead_sink_takes_nothing_from_four_healthy_ones() {
    let hooks: BTreeMap<&str, (String, Taken)> = HOOKS.into_iter().map(|name| (name, hook())).collect();
    let (url, late) = hook();
    let proxy = Proxy::start(&url).await;
    let webhook = |name: &str, url: &str| {
        format!("[sinks.{name}]\ntype = 'http'\nurl = '{url}'\nsecret = '{}'\n", secret())
    };
    let mut config = TWO_BUILDINGS.to_owned() + &webhook(DEAD, &proxy.url());
    for (name, (url, _)) in &hooks {
        config += &webhook(name, url);
    }
    for name in FILES {
        config += &format!("[sinks.{name}]\ntype = 'file'\ndir = 'sinks/{name}'\n");
    }
    let healthy: Vec<&str> = FILES.into_iter().chain(HOOKS).collect();
    let all: Vec<&str> = healthy.iter().copied().chain([DEAD]).collect();
    config += &format!("[[routes]]\nname = 'all'\ntypes = ['**']\nto = {}\n", json!(all));
    proxy.switch(Mode::Refuse);
    let site = Site::new(&config);
    let daemon = site.start();
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("admin")));

    for wave in 1..=WAVES {
        leave(&gate).await;
        let count = wave * EXITS_PER_WAVE;
        let expected: Vec<(&str, u64)> = healthy.iter().map(|name| (*name, count)).collect();
        settled(&admin, &expected).await;
        let sinks = eventually("the dead sink is given up for now", async || {
            let sinks = sinks_by_name(&admin).await;
            (sinks[DEAD]["state"] == "open").then_some(sinks)
        })
        .await;
        conserves(&sinks[DEAD]);
        assert_eq!((&sinks[DEAD]["delivered"], &sinks[DEAD]["pending"]), (&json!(0), &json!(count)));
        for name in &healthy {
            assert_untroubled(&sinks[*name], count);
        }
        // a request an event, not one more for what is dead beside it
        for (name, (_, taken)) in &hooks {
            assert_eq!(taken.lock().unwrap().len() as u64, count, "{name}");
        }
    }
    let recorded = WAVES * EXITS_PER_WAVE;
    let before = sinks_by_name(&admin).await;
    proxy.switch(Mode::Forward);
    settled(&admin, &[(DEAD, recorded)]).await;
    let after = sinks_by_name(&admin).await;
    for name in &healthy {
        assert_eq!(after[*name], before[*name], "{name}");
    }
    assert!(daemon.stop().0.success());

    for name in FILES {
        let dir = format!("sinks/{name}");
        let sequences: Vec<u64> = site.files(&dir).iter().map(sequence).collect();
        assert_eq!(sequences, (1..=recorded).collect::<Vec<_>>(), "{name}");
    }
    for (name, taken) in hooks.iter().map(|(name, (_, taken))| (*name, taken)).chain([(DEAD, &late)]) {
        let taken = taken.lock().unwrap();
        assert_eq!(taken.len() as u64, recorded, "{name}");
        assert_gapless(&events(taken.iter().map(String::as_str)));
        assert_ordered_by_key(&taken);
    }
}

async fn leave(gate: &Caller) {
    let exit = |place| json!({ "card_id": format!("C{}", place % HOLDERS), "gate_id": "north-1" });
    let exits: Vec<Value> = (0..EXITS_PER_WAVE).map(exit).collect();
    gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
}

/// Everything delivered, nothing tried twice, and nothing that waits.
#[track_caller]
fn assert_untroubled(sink: &Value, count: u64) {
    assert_eq!((&sink["state"], &sink["last_error"]), (&json!("healthy"), &Value::Null), "{sink}");
    let counts = ["accepted", "delivered", "pending", "dead", "retried", "lag_events", "lag_seconds"];
    assert_eq!(counts.map(|name| sink[name].as_u64().unwrap()), [count, count, 0, 0, 0, 0, 0], "{sink}");
}
