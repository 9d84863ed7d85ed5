//! The live feed: nothing is missed or repeated however often its connection is cut, and nobody waits for its readers.

use std::{
    collections::BTreeMap,
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS, sequence},
    http::Caller,
    random::Random,
    trimmed::{SHORT_LOG, lose_the_beginning},
    wait::eventually,
};

/// Exits that one request of the load records.
const BATCH: usize = 40;
/// Connections of the test that cuts them.
const CUTS: usize = 60;

const STREAM: &str = "/v1/events/stream";
const REQUEST_TIMEOUT: u16 = 408;
const EXITS: &str = "/v1/buildings/hq/exits/batch";

/// What a feed has said so far.
#[derive(Default)]
struct Reader {
    /// What is not yet a whole block.
    rest: String,
    last_id: String,
    /// Sequence, type and event.
    events: Vec<(u64, String, Value)>,
    comments: Vec<String>,
    /// How often the server ended it.
    ends: u64,
}

impl Reader {
    /// Takes bytes as they came, events and characters cut anywhere.
    fn take(&mut self, bytes: &[u8]) {
        self.rest.push_str(str::from_utf8(bytes).unwrap());
        while let Some((block, rest)) = self.rest.split_once("\n\n") {
            let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
            for line in block.lines() {
                match line.strip_prefix(": ") {
                    Some(comment) => self.comments.push(comment.to_owned()),
                    None => drop(line.split_once(": ").map(|(name, value)| fields.insert(name, value))),
                }
            }
            if let Some(id) = fields.get("id") {
                self.last_id = (*id).to_owned();
            }
            if let Some(data) = fields.get("data") {
                let event: Value = serde_json::from_str(data).unwrap();
                assert_eq!(self.last_id, format!("{}:{}", event["log"].as_str().unwrap(), sequence(&event)));
                assert_eq!(event["type"], fields["event"]);
                self.events.push((sequence(&event), fields["event"].to_owned(), event));
            }
            self.rest = rest.to_owned();
        }
    }

    /// Reads until `is_enough`, or to the feed's end.
    async fn read(&mut self, feed: &mut Response, is_enough: impl Fn(&Self) -> bool) {
        while !is_enough(self) {
            match feed.chunk().await.unwrap() {
                Some(bytes) => self.take(&bytes),
                None => return,
            }
        }
    }

    /// The next bytes; `None` if the server ended the feed, or cut it because its reader did not read.
    async fn next(&mut self, feed: &mut Response) -> Option<Bytes> {
        let bytes = feed.chunk().await.ok().flatten();
        self.ends += u64::from(bytes.is_none());
        bytes
    }

    /// Where a feed begins.
    async fn first_id(feed: &mut Response) -> String {
        let mut reader = Self::default();
        reader.read(feed, |reader| !reader.last_id.is_empty()).await;
        reader.last_id
    }

    fn last(&self) -> Option<u64> {
        self.events.last().map(|(sequence, ..)| *sequence)
    }

    fn sequences(&self) -> Vec<u64> {
        self.events.iter().map(|(sequence, ..)| *sequence).collect()
    }
}

async fn open(caller: &Caller, query: &str, after: Option<&str>) -> Response {
    let headers: Vec<_> = after.map(|id| ("Last-Event-ID", id)).into_iter().collect();
    let feed = caller.open(&format!("{STREAM}{query}"), &headers).await;
    assert_eq!(feed.status().as_u16(), 200);
    assert_eq!(feed.headers()["content-type"], "text/event-stream");
    feed
}

fn batch(exits: usize) -> Value {
    json!({ "exits": vec![json!({ "card_id": "C1", "gate_id": "north-1" }); exits] })
}

async fn exit_batch(gate: &Caller, exits: usize) {
    gate.post(EXITS, &batch(exits)).await.expect(202);
}

pub(crate) async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let text = daemon.anyone().get("/metrics").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
}

/// Also where this process or the daemon is stopped for a while, as on a machine with too much to do: connections that are
/// cut by that are cuts like the others, and a request that the daemon did not read in time is sent again.
#[tokio::test]
async fn a_feed_that_is_cut_at_any_moment_goes_on_without_gap_or_repeat() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("security"));
    let daemon = site.start();
    let is_over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (gate, is_over) = (daemon.device(&key).patient(), Arc::clone(&is_over));
        async move {
            while !is_over.load(SeqCst) {
                // without an answer there is just one more
                let answer = gate.try_post(EXITS, &batch(BATCH)).await.ok();
                assert!(answer.is_none_or(|answer| [202, REQUEST_TIMEOUT].contains(&answer.status)));
            }
        }
    });
    let guard = daemon.person(&token).patient();
    let (mut random, mut reader) = (Random::new(), Reader::default());
    let (mut openings, mut retries, mut end) = (0, 0, u64::MAX);
    while reader.last() <= Some(end) {
        let feed = guard.try_open(STREAM, &[("Last-Event-ID", &reader.last_id)]).await;
        let mut feed = match feed {
            Ok(feed) if feed.status().as_u16() != REQUEST_TIMEOUT => feed,
            _ => {
                retries += 1;
                open(&guard, "", Some(&reader.last_id)).await
            }
        };
        assert_eq!(feed.status().as_u16(), 200);
        openings += 1;
        let mut left = if openings <= CUTS { random.below(60_000) as usize } else { usize::MAX };
        while left > 0 && reader.last() <= Some(end) {
            let Some(bytes) = reader.next(&mut feed).await else { break };
            let taken = left.min(bytes.len());
            reader.take(&bytes[..taken]);
            left -= taken;
        }
        // what was not a whole event has not been received
        reader.rest.clear();
        if openings == CUTS {
            is_over.store(true, SeqCst);
            end = metric(&daemon, "turnstiled_log_sequence").await;
        }
    }
    load.await.unwrap();
    let dropped = metric(&daemon, "turnstiled_feed_dropped_total").await;
    println!("{openings} openings; the server ended {} feeds and dropped {dropped}", reader.ends);
    assert!(reader.ends <= dropped, "none ends for another reason");
    daemon.stop();
    let log = site.dump();
    let first = reader.sequences()[0];
    let expected: Vec<u64> = (first..first + reader.events.len() as u64).collect();
    assert_eq!(reader.sequences(), expected);
    for ((_, event_type, event), logged) in reader.events.iter().zip(&log[first as usize - 1..]) {
        assert_eq!((event_type.as_str(), &event["id"]), (logged["type"].as_str().unwrap(), &logged["id"]));
    }
    let reads = log.iter().filter(|event| event["data"]["what"] == "events.stream").count();
    assert!((openings..=openings + retries).contains(&reads), "each opening is recorded: {reads}");
}

#[tokio::test]
async fn a_place_that_was_trimmed_from_the_log_is_gone() {
    let site = Site::new(&format!("{SHORT_LOG}{TWO_BUILDINGS}{FILE_SINK}"));
    let (key, token) = (site.key("hq"), site.token("security"));
    let daemon = site.start();
    let (gate, guard) = (daemon.device(&key), daemon.person(&token));
    let mut reader = Reader::default();
    let mut feed = open(&guard, "", None).await;
    reader.read(&mut feed, |reader| !reader.events.is_empty()).await;
    drop(feed);
    lose_the_beginning(&daemon, &gate).await;

    let gone = guard.send(Method::GET, STREAM, &[("Last-Event-ID", &reader.last_id)], "").await;
    assert_eq!(gone.header("content-type"), "application/problem+json");
    let mut problem = gone.expect(410);
    let trace_id = problem["trace_id"].take();
    assert_eq!(trace_id.as_str().map(str::len), Some(32));
    let detail = format!(
        "the events after {} are no longer in the log; an archive may have them; begin anew without Last-Event-ID",
        reader.last_id
    );
    let expected =
        json!({ "type": "about:blank", "title": "Gone", "status": 410, "detail": detail, "trace_id": null });
    assert_eq!(problem, expected);
    // anew, as it says
    let mut reader = Reader::default();
    let mut feed = open(&guard, "", None).await;
    reader.read(&mut feed, |reader| !reader.events.is_empty()).await;
    assert_eq!(reader.events[0].1, "audit.read");
    daemon.stop();
    let log = site.dump();
    assert!(sequence(&log[0]) > 1);
    let reads = log.iter().filter(|event| event["type"] == "audit.read");
    assert_eq!(reads.count(), 1, "what is refused is none, and the first one is trimmed");
}

#[tokio::test]
async fn a_feed_shows_what_its_reader_may_see() {
    let site = Site::with_files();
    let (hq_key, annex_key, hr) = (site.key("hq"), site.key("annex"), site.token("hr"));
    let daemon = site.start();
    let (everywhere, at_hq) =
        (daemon.person(&site.token("auditor")), daemon.person(&site.token("security@hq")));
    let mut all = open(&everywhere, "", None).await;
    let mut here = open(&at_hq, "", None).await;
    let mut cards = open(&everywhere, "?types=card.*,presence.*", None).await;
    let mut there = open(&everywhere, "?building=annex&types=access.**", None).await;

    let card = json!({ "employee_id": "E1", "holder_name": "Ada" });
    daemon.person(&hr).put("/v1/cards/C1", &card).await.expect(201);
    for (building, gate, key) in [("hq", "north-1", &hq_key), ("annex", "main", &annex_key)] {
        let swipe = json!({ "card_id": "C1", "gate_id": gate });
        daemon.device(key).post(&format!("/v1/buildings/{building}/entries"), &swipe).await.expect(200);
    }
    daemon.person(&hr).post("/v1/cards/C1/suspend", &json!({})).await.expect(200);

    let types = async |feed: &mut Response, events: usize| {
        let mut reader = Reader::default();
        reader.read(feed, |reader| reader.events.len() == events).await;
        let places = reader.events.iter().map(|(_, event_type, event)| {
            assert!(event["data"].get("holder_name").is_none() && event["chainhash"].is_string(), "{event}");
            format!("{event_type} {}", event["data"]["building"].as_str().unwrap_or("-"))
        });
        places.filter(|place| !place.starts_with("audit.read")).collect::<Vec<_>>()
    };
    let (hq, annex) = ("access.entry.granted hq", "access.entry.granted annex");
    // and four openings: its own, and the three after it
    assert_eq!(types(&mut all, 8).await, ["card.registered -", hq, annex, "card.suspended -"]);
    // and its own opening, which is about this building
    assert_eq!(types(&mut here, 2).await, [hq]);
    assert_eq!(types(&mut cards, 2).await, ["card.registered -", "card.suspended -"]);
    assert_eq!(types(&mut there, 1).await, [annex]);

    let refused = async |caller: &Caller, query: &str, headers: &[(&str, &str)]| {
        caller.send(Method::GET, &format!("{STREAM}{query}"), headers, "").await.status
    };
    assert_eq!(refused(&at_hq, "?building=annex", &[]).await, 403);
    assert_eq!(refused(&daemon.person(&hr), "", &[]).await, 403);
    assert_eq!(refused(&daemon.anyone(), "", &[]).await, 401);
    assert_eq!(refused(&everywhere, "?building=nowhere", &[]).await, 404);
    assert_eq!(refused(&everywhere, "?types=access..x", &[]).await, 422);
    assert_eq!(refused(&everywhere, "?since=now", &[]).await, 422);
    let id = Reader::first_id(&mut open(&everywhere, "", None).await).await;
    let (log, _) = id.split_once(':').unwrap();
    for (id, status) in [
        (format!("{log}:x"), 400),
        ("7".to_owned(), 400),
        ("hq-1.1:3".to_owned(), 410),
        (format!("{log}:9999"), 410),
    ] {
        assert_eq!(refused(&everywhere, "", &[("Last-Event-ID", &id)]).await, status, "{id}");
    }
    let head = everywhere.send(Method::HEAD, STREAM, &[], "").await;
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    assert!(metric(&daemon, "turnstiled_feeds").await <= 5, "a HEAD opens none");
    daemon.stop();
    let log = site.dump();
    let reads: Vec<_> = log.iter().filter(|event| event["type"] == "audit.read").collect();
    assert_eq!(reads.len(), 5, "{reads:?}");
    let data =
        json!({ "building": "annex", "what": "events.stream", "type": "access.**", "by": "person/ada" });
    assert_eq!(reads[3]["data"], data);
}

#[tokio::test]
async fn a_feed_ends_with_its_token_or_the_server() {
    let site = Site::with_files();
    let daemon = site.start();
    let mut long = open(&daemon.person(&site.token("auditor")), "", None).await;
    let token = site.run_well(&["token", "--role", "security", "--ttl", "2s"]);
    let mut short = open(&daemon.person(token.trim()), "", None).await;
    let mut reader = Reader::default();
    reader.read(&mut short, |_| false).await;
    assert_eq!(reader.comments, ["the token has expired"]);
    assert_eq!(reader.events.len(), 1, "its own opening");
    let (status, _) = daemon.stop();
    assert!(status.success());
    let mut reader = Reader::default();
    reader.read(&mut long, |_| false).await;
    assert_eq!(reader.comments, ["the server stops"]);
}

#[tokio::test]
async fn a_feed_ends_with_its_key() {
    let site = Site::with_files();
    let key = site.run_well(&["keys", "add", "--building", "hq", "--kind", "break-glass"]).trim().to_owned();
    let gate = site.key("hq");
    let daemon = site.start();
    let mut feed = open(&daemon.person(&key), "", None).await;
    site.run_well(&["keys", "revoke", key.split_once('.').unwrap().0]);
    exit_batch(&daemon.device(&gate), 3).await;
    let mut reader = Reader::default();
    reader.read(&mut feed, |_| false).await;
    assert_eq!(reader.comments, ["the key is revoked"]);
    assert!(reader.events.iter().all(|(_, kind, _)| kind != "access.exit.recorded"), "nothing more is shown");
    daemon.stop();
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_dropped_and_the_gates_go_on() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("security"));
    let daemon = site.start();
    let gate = daemon.device(&key);
    let mut sleeper = TcpStream::connect(daemon.base_url().trim_start_matches("http://")).unwrap();
    write!(sleeper, "GET {STREAM} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    eventually("the feed is open", async || (metric(&daemon, "turnstiled_feeds").await == 1).then_some(()))
        .await;
    let mut awake = open(&daemon.person(&token), "", None).await;
    let end = Arc::new(AtomicU64::new(u64::MAX));
    let reading = tokio::spawn({
        let end = Arc::clone(&end);
        async move {
            let (mut reader, has_all) = (Reader::default(), |last: &u64| *last >= end.load(SeqCst));
            reader.read(&mut awake, |reader| reader.last().as_ref().is_some_and(has_all)).await;
            reader
        }
    });
    eventually("the sleeper is dropped", async || {
        exit_batch(&gate, 1_000).await;
        let swipe = json!({ "card_id": "C1", "gate_id": "north-1" });
        gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
        // no more than fills the buffers of the connection, and then the time that he has
        tokio::time::sleep(Duration::from_millis(250)).await;
        (metric(&daemon, "turnstiled_feed_dropped_total").await == 1).then_some(())
    })
    .await;
    assert_eq!(metric(&daemon, "turnstiled_feeds").await, 1, "the other one goes on");
    drop(sleeper);
    end.store(metric(&daemon, "turnstiled_log_sequence").await + 1, SeqCst);
    exit_batch(&gate, 1).await;
    let sequences = reading.await.unwrap().sequences();
    assert!(sequences.windows(2).all(|pair| pair[0] + 1 == pair[1]), "gaps or repeats");
    assert_eq!(sequences.last(), Some(&end.load(SeqCst)));
}

#[tokio::test]
async fn there_are_only_so_many_feeds() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("security"));
    let daemon = site.start();
    let guard = daemon.person(&token);
    let mut feeds = Vec::new();
    for _ in 0..64 {
        feeds.push(open(&guard, "", None).await);
    }
    let refused = guard.get(STREAM).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    drop(feeds);
    // what is sent to a closed connection shows that it is closed
    let gate = daemon.device(&key);
    eventually("the places are free again", async || {
        exit_batch(&gate, 1).await;
        (metric(&daemon, "turnstiled_feeds").await == 0).then_some(())
    })
    .await;
    drop(open(&guard, "", None).await);
}
