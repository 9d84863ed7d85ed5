//! Reloads while everyone swipes: nothing is lost, nothing comes twice, also not when the server is killed in the middle.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    aws::Estate,
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS, assert_gapless, events},
    fake_service::{Reply, serve_requests},
    moto::Moto,
    random::Random,
    reload::reload,
    replay,
    sinks::{assert_ordered_by_key, conserves, settled, sinks_by_name},
    traffic::Crowd,
    wait::eventually,
};

const RELOADS: usize = 12;
const ANSWERS_BETWEEN_RELOADS: u64 = 40;
const EXITS_BETWEEN_RELOADS: usize = 60;
const KILLS: usize = 8;
/// The process is killed so long after SIGHUP, drawn anew each time.
const MILLIS_BEFORE_KILL: Range<u64> = 0..60;

/// What a webhook has taken, by the events' ids.
type Taken = Arc<Mutex<Vec<String>>>;

fn hook() -> (String, Taken) {
    let taken = Taken::default();
    let url = serve_requests({
        let taken = Arc::clone(&taken);
        move |request| {
            let id = request.header("webhook-id");
            if !id.is_empty() {
                // else it is half a request of a process that was killed
                taken.lock().unwrap().push(id.to_owned());
            }
            Reply { status: 204, headers: vec![], body: String::new() }
        }
    });
    (url, taken)
}

/// The same sinks in ever other settings and routes; `exits` and `late` come and go.
fn configurations(url: &str) -> Vec<String> {
    let secret = format!("whsec_{}", "A".repeat(32));
    let hook = |settings: &str, form: &str| {
        format!(
            "[sinks.hook]\ntype = \"http\"\nurl = \"{url}\"\nsecret = \"{secret}\"\n{settings}\n\
             [[routes]]\nname = \"hook\"\ntypes = [\"access.**\"]\nto = [\"hook\"]\n{form}\n"
        )
    };
    let files = |name: &str, types: &str, form: &str| {
        format!(
            "[sinks.{name}]\ntype = \"file\"\ndir = \"sinks/{name}\"\nfrom = \"oldest\"\n\
             [[routes]]\nname = \"{name}\"\ntypes = [\"{types}\"]\nto = [\"{name}\"]\n{form}\n"
        )
    };
    let (exits, late) = (|form| files("exits", "access.exit.*", form), || files("late", "**", ""));
    let all = |parts: &[String]| format!("{TWO_BUILDINGS}{FILE_SINK}{}", parts.concat());
    vec![
        all(&[exits(""), hook("", ""), late()]),
        all(&[exits("drop = [\"by\"]"), hook("rate_limit = 900", "")]),
        all(&[late(), hook("rate_limit = 900", "add = { site = \"x\" }")]),
        all(&[exits(""), hook("", "add = { site = \"x\" }")]),
    ]
}

async fn more_answers(count: &AtomicU64, more: u64) {
    let enough = count.load(Relaxed) + more;
    eventually("answers", async || (count.load(Relaxed) >= enough).then_some(())).await;
}

/// Every event is at each of its sinks, in the end; how many repeats there were at each.
async fn check(site: &Site, taken: &Taken, log: &[Value]) -> Vec<(&'static str, usize)> {
    let of = |prefix: &'static str| {
        log.iter().filter(move |event| event["type"].as_str().unwrap().starts_with(prefix))
    };
    let ids = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    };
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    let count = |prefix| of(prefix).count() as u64;
    let (all, exits, hook) = (log.len() as u64, count("access.exit."), count("access."));
    settled(&admin, &[("files", all), ("late", all), ("exits", exits), ("hook", hook)]).await;
    assert!(daemon.stop().0.success());
    let found = [
        ("files", ids(&site.files("sinks/files")), ""),
        ("late", ids(&site.files("sinks/late")), ""),
        ("exits", ids(&site.files("sinks/exits")), "access.exit."),
        ("hook", taken.lock().unwrap().clone(), "access."),
    ];
    found
        .into_iter()
        .map(|(name, found, prefix)| {
            let expected: HashSet<String> =
                of(prefix).map(|event| event["id"].as_str().unwrap().to_owned()).collect();
            let distinct: HashSet<String> = found.iter().cloned().collect();
            let lost: Vec<_> = expected.difference(&distinct).collect();
            let strange: Vec<_> = distinct.difference(&expected).collect();
            assert!(lost.is_empty() && strange.is_empty(), "{name}: lost {lost:?}, strange {strange:?}");
            (name, found.len() - distinct.len())
        })
        .collect()
}

#[tokio::test]
async fn a_reload_under_load_loses_nothing_and_repeats_nothing() {
    let (url, taken) = hook();
    let configurations = configurations(&url);
    let site = Site::new(&configurations[0]);
    let mut crowd = Crowd::new(&site, &mut Random::new());
    let mut daemon = site.start();
    crowd.register(&daemon).await;
    let admin = daemon.person(&site.token("admin"));
    crowd
        .swipe(&mut daemon, async |daemon: &mut Daemon, count: &AtomicU64| {
            for (number, config) in configurations.iter().cycle().skip(1).take(RELOADS).enumerate() {
                more_answers(count, ANSWERS_BETWEEN_RELOADS).await;
                reload(&site, daemon, config).await;
                let sinks = sinks_by_name(&admin).await;
                sinks.values().for_each(conserves);
                assert_eq!(sinks.contains_key("exits"), (number + 1) % 4 != 2);
            }
            more_answers(count, ANSWERS_BETWEEN_RELOADS).await;
            daemon.signal("TERM");
            assert!(daemon.wait().success());
        })
        .await;
    let log = site.dump();
    crowd.check(&log);
    let reloads = log.iter().filter(|event| event["type"] == "admin.reload").count();
    assert_eq!(reloads, RELOADS);
    site.configure(&configurations[0]);
    let repeats = check(&site, &taken, &log).await;
    assert!(repeats.iter().all(|(_, repeats)| *repeats == 0), "{repeats:?}");
    assert_gapless(&site.files("sinks/late"));
    println!("{} events in the log, {RELOADS} reloads, no repeats", log.len());
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_reload_loses_nothing() {
    let (url, taken) = hook();
    let configurations = configurations(&url);
    let site = Site::new(&configurations[0]);
    let mut random = Random::new();
    let mut crowd = Crowd::new(&site, &mut random);
    let mut log = Vec::new();
    for round in 0..KILLS {
        let mut daemon = site.start();
        if round == 0 {
            crowd.register(&daemon).await;
        }
        crowd.retry(&daemon, &log).await;
        let millis = random.below(MILLIS_BEFORE_KILL.end);
        let config = &configurations[(round + 1) % configurations.len()];
        crowd
            .swipe(&mut daemon, async |daemon: &mut Daemon, count: &AtomicU64| {
                more_answers(count, ANSWERS_BETWEEN_RELOADS).await;
                site.configure(config);
                daemon.signal("HUP");
                tokio::time::sleep(Duration::from_millis(millis)).await;
                daemon.kill();
            })
            .await;
        drop(daemon);
        log = site.dump();
        crowd.check(&log);
    }
    site.configure(&configurations[0]);
    let repeats = check(&site, &taken, &log).await;
    println!("{} events in the log, {KILLS} kills; repeats: {repeats:?}", log.len());
}

#[tokio::test]
async fn services_get_everything_once_over_reloads() {
    let Some(moto) = Moto::start() else { return };
    let estate = Estate::make(&moto).await;
    let config = format!("{TWO_BUILDINGS}{}", estate.sinks());
    let other = config
        .replace("type = \"kinesis\"", "type = \"kinesis\"\nrate_limit = 5000")
        .replace("type = \"sns\"", "type = \"sns\"\nrate_limit = 5000")
        .replace("type = \"dynamodb\"", "type = \"dynamodb\"\nrate_limit = 5000")
        .replace("max_age = \"300ms\"", "max_age = \"200ms\"");
    let site = Site::new(&config).with_aws(&moto);
    let daemon = site.start();
    // bounded, because the emulator is slow
    for (number, config) in [&other, &config, &other, &config].into_iter().enumerate() {
        replay::leave(&site, &daemon, EXITS_BETWEEN_RELOADS).await;
        let card = json!({ "employee_id": format!("E{number}") });
        daemon.person(&site.token("hr")).put(&format!("/v1/cards/N{number}"), &card).await.expect(201);
        reload(&site, &daemon, config).await;
    }
    assert!(daemon.stop().0.success());
    let log = site.dump();
    let count =
        |wanted: fn(&str) -> bool| log.iter().filter(|event| wanted(event["type"].as_str().unwrap())).count();
    let exits = count(|event_type| event_type == "access.exit.recorded");
    let internal =
        count(|event_type| event_type.starts_with("card.") || event_type.starts_with("access.entry."));
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    let expected = [("internal", internal as u64), ("exits", exits as u64), ("archive", log.len() as u64)];
    settled(&admin, &expected).await;
    assert_eq!(admin.get("/v1/dead-letters").await.expect(200)["items"], json!([]));
    assert_ordered_by_key(&estate.read_stream().await);
    for (name, lines, expected) in [
        ("queue", estate.drain_queue().await, internal),
        ("stream", estate.read_stream().await, exits),
        ("archive", estate.read_archive().await, log.len()),
    ] {
        let found = events(lines.iter().map(String::as_str));
        let ids: HashSet<&str> = found.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!((ids.len(), found.len()), (expected, expected), "{name}");
    }
    assert!(daemon.stop().0.success());
}
