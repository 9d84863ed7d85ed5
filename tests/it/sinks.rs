//! Looking at `/v1/sinks`.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::{
    daemon::{Daemon, Site, sequence},
    http::Caller,
    wait::eventually,
};

pub(crate) async fn sinks_by_name(person: &Caller) -> BTreeMap<String, Value> {
    let answer = person.get("/v1/sinks").await.expect(200);
    let items = answer["items"].as_array().unwrap().iter();
    items.map(|sink| (sink["name"].as_str().unwrap().to_owned(), sink.clone())).collect()
}

/// Promise 2: `accepted = delivered + pending + dead + discarded`.
#[track_caller]
pub(crate) fn conserves(sink: &Value) {
    let settled: u64 =
        ["delivered", "pending", "dead", "discarded"].map(|name| sink[name].as_u64().unwrap()).iter().sum();
    assert_eq!(sink["accepted"].as_u64().unwrap(), settled, "{sink}");
}

/// Promise 2 in one look at `/metrics`, for each of these sinks; the sample by name and sink.
pub(crate) async fn metrics_conserve(daemon: &Daemon, sinks: &[&str]) -> HashMap<String, u64> {
    let text = daemon.anyone().get("/metrics").await.body;
    let samples = text.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("turnstiled_")?.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    let samples: HashMap<String, u64> = samples.collect();
    for sink in sinks {
        let value = |name: &str| samples[&format!("sink_{name}{{sink=\"{sink}\"}}")];
        let settled = value("delivered_total") + value("dead_total") + value("discarded_total");
        assert_eq!(value("accepted_total"), settled + value("pending"), "{sink}: {text}");
    }
    samples
}

/// Waits until these sinks have accepted so many events and have nothing left to deliver.
pub(crate) async fn settled(person: &Caller, accepted: &[(&str, u64)]) {
    let mut last = BTreeMap::new();
    let what = format!("sinks settle at {accepted:?}");
    eventually(&what, async || {
        last = sinks_by_name(person).await;
        last.values().for_each(conserves);
        let is_settled = |name: &str, count: u64| {
            let sink = &last[name];
            assert!(sink["accepted"].as_u64().unwrap() <= count, "more than was recorded: {sink}");
            sink["accepted"] == count && sink["pending"] == 0
        };
        accepted.iter().all(|(name, count)| is_settled(name, *count)).then_some(())
    })
    .await;
}

/// That the first copies of each holder's events are in the order they happened.
#[track_caller]
pub(crate) fn assert_ordered_by_key(lines: &[String]) {
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut seen = HashSet::new();
    for line in lines {
        let event: Value = serde_json::from_str(line).unwrap();
        if seen.insert(event["id"].as_str().unwrap().to_owned()) {
            let previous = last.insert(event["partitionkey"].as_str().unwrap().to_owned(), sequence(&event));
            assert!(previous < Some(sequence(&event)), "after {previous:?}: {line}");
        }
    }
}

/// After however many crashes the files of [`crate::daemon::FILE_SINK`] hold every event; how many of them more
/// than once.
pub(crate) async fn everything_is_in_files(site: &Site, log: &[Value]) -> usize {
    // a start tells of the keys anew if a crash took the note that they were told of
    assert!(site.start().stop().0.success());
    let last = log.iter().map(sequence).max().unwrap_or(0);
    let told: Vec<Value> = site.dump().into_iter().filter(|event| sequence(event) > last).collect();
    assert!(told.iter().all(|event| event["type"] == "admin.keys"), "{told:?}");
    let log = &[log, &told].concat();
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &[("files", log.len() as u64)]).await;
    assert_eq!(sinks_by_name(&admin).await["files"]["dead"], 0);
    let (status, _) = daemon.stop();
    assert!(status.success());
    let delivered = site.files("sinks/files");
    let mut seen = HashSet::new();
    let in_order = delivered.iter().filter(|event| seen.insert(event["id"].as_str().unwrap().to_owned()));
    let sequences: Vec<u64> = in_order.map(sequence).collect();
    assert_eq!(sequences, (1..=log.len() as u64).collect::<Vec<_>>(), "first copies come in order");
    delivered.len() - log.len()
}
