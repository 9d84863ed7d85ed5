//! Every kind of sink at once, each behind a proxy that treats its requests badly, and a kill -9 in the middle: nothing
//! is lost, holders' events keep their order where the service keeps one, and every single repeat has its reason.

mod deck;
mod estate;
mod message;
mod proxy;
mod service;

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::future::join_all;
use serde_json::{Value, json};

use self::{
    estate::{Estate, Promise, Target, ids},
    proxy::FaultProxy,
};
use crate::{
    daemon::{Daemon, Site, TWO_BUILDINGS, assert_gapless, sequence},
    http::Caller,
    moto::Moto,
    random::Random,
    sinks::{conserves, settled, sinks_by_name},
    wait::eventually,
};

/// More than the largest batch of the services that take few: SQS, SNS and EventBridge take ten.
const HOLDERS: u64 = 12;
/// Of each holder in one request: a batch of exits has more than one event of each.
const EXITS_EACH: u64 = 2;
/// However soon every fault has happened.
const MIN_ROUNDS: u64 = 3;
/// In this round the daemon is killed while it delivers.
const KILL_IN_ROUND: u64 = 2;
/// Beside the sinks on proxies.
const FILES: &str = "files";

struct Stand {
    target: Target,
    proxy: FaultProxy,
    /// Events that the service had and the daemon had not yet written down when it was killed.
    unsettled_at_kill: usize,
}

#[tokio::test]
async fn nothing_is_lost_and_every_repeat_has_its_reason() {
    let Some(moto) = Moto::start() else { return };
    let mut random = Random::new();
    let estate = Estate::make(&moto).await;
    let (mut stands, mut config) = (Vec::new(), TWO_BUILDINGS.to_owned());
    for target in estate.targets() {
        let (proxy, section) = estate.proxy(&target, Random::seeded(random.next())).await;
        config += &section;
        stands.push(Stand { target, proxy, unsettled_at_kill: 0 });
    }
    config += &format!("[sinks.{FILES}]\ntype = 'file'\ndir = 'sinks/files'\n");
    let names: Vec<&str> = stands.iter().map(|stand| stand.target.sink).chain([FILES]).collect();
    config += &format!("[[routes]]\nname = 'all'\ntypes = ['**']\nto = {}\npersonal = true\n", json!(names));
    let site = Site::new(&config).with_aws_at(moto.endpoint_url());
    let (key, hr, admin) = (site.key("hq"), site.token("hr"), site.token("admin"));

    let mut daemon = site.start();
    let mut recorded = 0;
    for holder in 0..HOLDERS {
        let card = json!({ "employee_id": format!("E{holder}") });
        daemon.person(&hr).put(&format!("/v1/cards/C{holder}"), &card).await.expect(201);
        recorded += 1;
    }
    let mut round = 0;
    while round < MIN_ROUNDS || stands.iter().any(|stand| !stand.proxy.faults_left().is_empty()) {
        round += 1;
        let before: Vec<usize> = stands.iter().map(|stand| stand.proxy.taken().len()).collect();
        recorded += come_and_go(&daemon.device(&key)).await;
        if round == KILL_IN_ROUND {
            eventually("half of the services take something of it", async || {
                let took = |(stand, before): &(&Stand, &usize)| stand.proxy.taken().len() > **before;
                (stands.iter().zip(&before).filter(took).count() >= stands.len() / 2).then_some(())
            })
            .await;
            daemon = kill(&site, daemon, &admin, &mut stands).await;
        }
        until_more_is_needed(&daemon.person(&admin), &stands).await;
    }
    let expected: Vec<(&str, u64)> = names.iter().map(|name| (*name, recorded)).collect();
    settled(&daemon.person(&admin), &expected).await;
    for (name, sink) in sinks_by_name(&daemon.person(&admin)).await {
        assert_eq!((&sink["delivered"], &sink["dead"]), (&json!(recorded), &json!(0)), "{name}: {sink}");
    }
    assert!(daemon.stop().0.success());

    let events = first_copies(site.files("sinks/files"));
    assert_gapless(&events);
    assert_eq!(events.len() as u64, recorded);
    let mut counts = vec![format!("{recorded} events in {round} rounds")];
    counts.extend(join_all(stands.iter().map(|stand| stand.check(&estate, &events))).await);
    println!("{}", counts.join("\n"));
}

/// Everyone leaves twice, and some enter in between; how many events that makes.
async fn come_and_go(gate: &Caller) -> u64 {
    let swipe = |holder: u64| json!({ "card_id": format!("C{holder}"), "gate_id": "north-1" });
    let exits: Vec<Value> = (0..HOLDERS * EXITS_EACH).map(|place| swipe(place % HOLDERS)).collect();
    gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
    let entering = HOLDERS / 4;
    for holder in 0..entering {
        let entered = gate.post("/v1/buildings/hq/entries", &swipe(holder)).await.expect(200);
        assert_eq!(entered["decision"], "granted");
    }
    HOLDERS * EXITS_EACH + entering
}

/// kill -9 in the middle of deliveries, and a start that finds every service away until all of what the daemon wrote
/// down was looked at.
async fn kill(site: &Site, mut daemon: Daemon, admin: &str, stands: &mut [Stand]) -> Daemon {
    daemon.kill();
    eventually("every request comes to its end", async || {
        stands.iter().all(|stand| stand.proxy.is_quiet()).then_some(())
    })
    .await;
    stands.iter().for_each(|stand| stand.proxy.pause(true));
    let daemon = site.start();
    let restored = sinks_by_name(&daemon.person(admin)).await;
    for stand in stands {
        if let Some(ids) = ids(&stand.target, &stand.proxy.taken()) {
            let had = ids.into_iter().map(|(id, _)| id).collect::<HashSet<_>>().len();
            let written = restored[stand.target.sink]["delivered"].as_u64().unwrap() as usize;
            // of objects, one holds many events
            let is_object = stand.target.sink == "archive";
            assert!(is_object || written <= had, "{}: {written} delivered, {had} arrived", stand.target.sink);
            stand.unsettled_at_kill = if is_object { 0 } else { had - written };
        }
        stand.proxy.pause(false);
    }
    daemon
}

/// Until the sinks with faults to come have nothing more to deliver.
async fn until_more_is_needed(admin: &Caller, stands: &[Stand]) {
    let mut last = BTreeMap::new();
    eventually("what was recorded arrives", async || {
        last = sinks_by_name(admin).await;
        last.values().for_each(conserves);
        let mut unfinished = stands.iter().filter(|stand| !stand.proxy.faults_left().is_empty());
        unfinished.all(|stand| last[stand.target.sink]["pending"] == 0).then_some(())
    })
    .await;
}

impl Stand {
    /// The service has what it should, and no more than there is a reason for; the counts.
    async fn check(&self, estate: &Estate, recorded: &[Value]) -> String {
        let Self { target: Target { sink, promise, .. }, proxy, unsettled_at_kill } = self;
        if sink.starts_with("table") {
            assert_eq!(estate.presence(sink).await, presence(recorded), "{sink}");
        }
        let taken = proxy.taken();
        let lost_replies = taken.iter().filter(|taken| taken.is_reply_lost).count();
        let mut report = format!("{sink}: {} requests taken, {lost_replies} replies lost", taken.len());
        if *sink == "table" {
            return report;
        }
        let found = estate.events(sink).await;
        let once = first_copies(found.clone());
        let of_sink: Vec<&Value> = (recorded.iter())
            .filter(|event| *sink != "table-events" || event["data"]["card_id"].is_string())
            .collect();
        let by_id: HashMap<&str, &Value> = once.iter().map(|event| (id(event), event)).collect();
        assert_eq!(once.len(), of_sink.len(), "{sink}: not all are there, or more than there are");
        for event in of_sink {
            assert_eq!(by_id.get(id(event)), Some(&event), "{sink}");
        }
        if *promise != Promise::There {
            assert_in_order(&found, sink);
        }
        let copies = found.len() - once.len();
        assert!(*promise != Promise::InOrderOnce || copies == 0, "{sink}: {copies} copies");
        if let Some(ids) = ids(&self.target, &taken) {
            let (explained, unexplained) = repeats(&ids);
            assert!(
                unexplained <= *unsettled_at_kill,
                "{sink}: {unexplained} repeats without a reason, {unsettled_at_kill} unsettled at the kill"
            );
            assert!(copies <= explained + unexplained, "{sink}: {copies} copies");
            report += &format!(
                ", {explained} repeats after them, {unexplained} of {unsettled_at_kill} after the kill, {copies} copies there"
            );
        }
        report
    }
}

fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

fn holder(event: &Value) -> &str {
    event["partitionkey"].as_str().unwrap()
}

fn first_copies(events: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    events.into_iter().filter(|event| seen.insert(id(event).to_owned())).collect()
}

/// Each holder's first copies are in order, and other copies, too: the next event leaves only when the service has said
/// that it has the one before. A daemon that was killed begins again with what it had not written down.
#[track_caller]
fn assert_in_order(events: &[Value], sink: &str) {
    let once = first_copies(events.to_vec());
    let mut last: HashMap<&str, u64> = HashMap::new();
    for event in &once {
        let previous = last.insert(holder(event), sequence(event));
        assert!(previous < Some(sequence(event)), "{sink}: after {previous:?}: {event}");
    }
    let (mut last, mut begun_again) = (HashMap::new(), HashSet::new());
    for event in events {
        let previous = last.insert(holder(event), sequence(event));
        let is_in_order = previous <= Some(sequence(event)) || begun_again.insert(holder(event));
        assert!(is_in_order, "{sink}: again after {previous:?}, and there was one kill: {event}");
    }
}

/// Repeats of what nobody had heard of, and other ones.
fn repeats(taken: &[(String, bool)]) -> (usize, usize) {
    let (mut last, mut counts) = (HashMap::new(), (0, 0));
    for (id, is_reply_lost) in taken {
        match last.insert(id, is_reply_lost) {
            None => {}
            Some(true) => counts.0 += 1,
            Some(false) => counts.1 += 1,
        }
    }
    counts
}

/// Who is inside by the events, as the table puts it.
fn presence(events: &[Value]) -> HashMap<String, (bool, u64)> {
    let mut found = HashMap::new();
    for event in events {
        let is_inside = match event["type"].as_str().unwrap() {
            "access.entry.granted" => true,
            "access.exit.recorded" => false,
            _ => continue,
        };
        let employee = event["data"]["employee_id"].as_str().unwrap();
        found.insert(format!("EMPLOYEE#{employee}"), (is_inside, sequence(event)));
    }
    found
}
