//! `/metrics` of the running daemon: valid text, what `deploy/METRICS.md` says, the contract's names, and true depths.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::json;
use turnstiled::{
    actors::{
        building::{MAILBOX_MESSAGES, MAX_WAITING_BATCHES},
        feeds::MAX_FEEDS,
        log::MAX_COMMIT_RECORDS,
        places::MAX_IN_FLIGHT_RECORDS,
        replay::manager::MAX_RUNNING_REPLAYS,
    },
    delivery::machine::MAX_DEAD_LETTERS,
    trace::MAX_QUEUED_SPANS,
};

use crate::{
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS},
    http::Caller,
    reload::{TAKEN, hang_up},
    sinks::settled,
    wait::eventually,
};

/// Section 6 of the contract. Without labels where it names none.
const CONTRACT: [(&str, &[&str]); 19] = [
    ("decisions_total", &["building", "decision", "reason"]),
    ("exits_total", &["building", "anomaly"]),
    ("decision_seconds", &[]),
    ("commit_seconds", &[]),
    ("commit_records", &[]),
    ("inside", &["building"]),
    ("log_bytes", &[]),
    ("log_sequence", &[]),
    ("sink_accepted_total", &["sink"]),
    ("sink_delivered_total", &["sink"]),
    ("sink_retried_total", &["sink"]),
    (SINK_DEAD, &["sink"]),
    ("sink_discarded_total", &["sink"]),
    ("sink_pending", &["sink"]),
    ("sink_oldest_seconds", &["sink"]),
    ("sink_state", &["sink", "state"]),
    ("auth_failures_total", &["kind"]),
    ("http_requests_total", &["route", "status"]),
    ("build_info", &["version"]),
];

/// How much may wait in each queue. The help says it, too.
const QUEUE_LIMITS: [(&str, usize); 4] = [
    ("building_queue_requests", MAILBOX_MESSAGES),
    ("building_queue_batches", MAX_WAITING_BATCHES),
    ("log_queue_records", MAX_IN_FLIGHT_RECORDS),
    ("trace_queue_spans", MAX_QUEUED_SPANS),
];

/// A gauge by its meaning; the name is the contract's.
const SINK_DEAD: &str = "sink_dead_total";

/// Units that are none of Prometheus' base units.
const NO_BASE_UNITS: [&str; 16] = [
    "ms",
    "millis",
    "milliseconds",
    "us",
    "micros",
    "microseconds",
    "ns",
    "nanos",
    "minutes",
    "hours",
    "days",
    "kb",
    "kib",
    "mb",
    "mib",
    "percent",
];

/// The Prometheus text format, version 0.0.4, as far as it is used here; parsing panics at what is none.
pub(crate) struct Scrape {
    pub(crate) families: BTreeMap<String, Family>,
    /// Series as they are written, and their values.
    samples: Vec<(String, f64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Family {
    help: String,
    kind: String,
    /// The names of the labels of each series, without a histogram's `le`.
    labels: BTreeSet<BTreeSet<String>>,
}

impl Scrape {
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends too");
        let (mut families, mut samples) = (BTreeMap::<String, Family>::new(), Vec::new());
        // the family of the lines that follow its HELP
        let mut current = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                let family = Family { help: help.to_owned(), ..Family::default() };
                assert!(families.insert(name.to_owned(), family).is_none(), "{name} is there twice");
                name.clone_into(&mut current);
                continue;
            }
            let family = families.get_mut(&current).unwrap_or_else(|| panic!("{line} has no HELP"));
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let kind = kind.strip_prefix(&format!("{current} ")).unwrap_or_else(|| panic!("{line}"));
                assert!(family.kind.is_empty(), "{line} is there twice");
                kind.clone_into(&mut family.kind);
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let ending = name.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{line} of {current}"));
            let endings: &[&str] = match family.kind.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                "counter" | "gauge" => &[""],
                kind => panic!("{current}: {kind:?}"),
            };
            assert!(endings.contains(&ending), "{line} of a {}", family.kind);
            family.labels.insert(label_names(labels));
            samples.push((series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}"))));
        }
        let mut series: Vec<_> = samples.iter().map(|(series, _)| series).collect();
        series.sort();
        assert!(series.windows(2).all(|pair| pair[0] != pair[1]), "a series is there twice");
        Self { families, samples }
    }

    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        self.samples.iter().find(|(name, _)| name == series).map(|(_, value)| *value)
    }

    async fn of(caller: &Caller) -> Self {
        Self::parse(&caller.get("/metrics").await.body)
    }
}

/// Of `a="1",b="2"}`. No value here has a quote or a comma in it.
fn label_names(labels: &str) -> BTreeSet<String> {
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{labels}"));
    let names = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("{labels}"));
        assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{labels}");
        name.to_owned()
    });
    names.filter(|name| name != "le").collect()
}

/// What the tables of `deploy/METRICS.md` say: type and labels by name, and the whole row.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/METRICS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `turnstiled_"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let unquoted = |cell: &str| cell.trim_matches('`').to_owned();
        let labels = cells[3].split(", ").filter(|label| !label.is_empty()).map(unquoted).collect();
        (unquoted(cells[1]), (cells[2].to_owned(), labels, line.to_owned()))
    };
    rows.map(row).collect()
}

/// What is wrong with a name, by Prometheus' conventions.
fn fault_of(name: &str, family: &Family) -> Option<&'static str> {
    let Some(short) = name.strip_prefix("turnstiled_") else { return Some("no prefix") };
    if !short.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
        return Some("letters");
    }
    let words: Vec<&str> = short.split('_').collect();
    let is_counter = family.kind == "counter";
    let last = words.len() - 1 - usize::from(words.last() == Some(&"total"));
    if short != SINK_DEAD && is_counter != short.ends_with("_total") {
        return Some("_total is for counters, and for each of them");
    }
    if words.iter().any(|word| NO_BASE_UNITS.contains(word)) {
        return Some("not a base unit");
    }
    if words.iter().position(|word| ["seconds", "bytes"].contains(word)).is_some_and(|at| at != last) {
        return Some("the unit is not at the end");
    }
    if ["_sum", "_count", "_bucket"].iter().any(|ending| short.ends_with(ending)) {
        return Some("an ending of histograms' samples");
    }
    (!family.help.ends_with('.')).then_some("no sentence of help")
}

#[test]
fn the_lint_finds_what_is_against_the_conventions() {
    let fault = |name: &str, kind: &str| {
        let family = Family { help: "So.".to_owned(), kind: kind.to_owned(), ..Family::default() };
        fault_of(&format!("turnstiled_{name}"), &family)
    };
    for (name, kind) in [
        ("exits", "counter"),
        ("inside_total", "gauge"),
        ("commit_ms", "histogram"),
        ("commit_seconds_p99", "gauge"),
        ("log_bytes_limit", "gauge"),
        ("log_kb", "gauge"),
        ("inside_count", "gauge"),
        ("Inside", "gauge"),
    ] {
        assert!(fault(name, kind).is_some(), "{name}");
    }
    for (name, kind) in [("scrubbed_bytes_total", "counter"), (SINK_DEAD, "gauge"), ("inside", "gauge")] {
        assert_eq!(fault(name, kind), None, "{name}");
    }
}

/// Something of most kinds: a card, an entry that is granted and one that is denied, an exit, a failure, a reload.
async fn traffic(site: &Site, daemon: &Daemon) {
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("hr,admin")));
    admin.put("/v1/cards/ADA", &json!({ "employee_id": "E1" })).await.expect(201);
    let swipe = json!({ "card_id": "ADA", "gate_id": "north-1" });
    for decision in ["granted", "denied"] {
        let answer = gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
        assert_eq!(answer["decision"], decision);
    }
    gate.post("/v1/buildings/hq/exits", &swipe).await.expect(202);
    gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": [swipe] })).await.expect(202);
    daemon.anyone().post("/v1/buildings/hq/exits", &swipe).await.expect(401);
    hang_up(daemon, TAKEN).await;
    settled(&admin, &[("files", 6)]).await;
}

#[tokio::test]
async fn what_is_served_is_what_is_documented() {
    let site = Site::with_files();
    let daemon = site.start();
    traffic(&site, &daemon).await;
    let scrape = Scrape::of(&daemon.anyone()).await;
    let documented = documented();
    for (name, family) in &scrape.families {
        let Some((kind, labels, _)) = documented.get(name) else { panic!("{name} is not in METRICS.md") };
        assert_eq!(kind, &family.kind, "{name}");
        assert_eq!(family.labels, BTreeSet::from([labels.clone()]), "{name}");
        assert_eq!(fault_of(name, family), None, "{name}");
    }
    for (name, labels) in CONTRACT {
        let name = format!("turnstiled_{name}");
        let family = scrape.families.get(&name).unwrap_or_else(|| panic!("{name} is not served"));
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        assert_eq!(family.labels, BTreeSet::from([labels]), "{name}");
    }
    for histogram in ["decision_seconds", "commit_seconds", "commit_records"] {
        let bucket = format!("turnstiled_{histogram}_bucket{{le=\"");
        let buckets = scrape.samples.iter().filter(|(series, _)| series.starts_with(&bucket));
        let counts: Vec<f64> = buckets.map(|(_, count)| *count).collect();
        assert!(counts.is_sorted() && counts.len() > 10, "{histogram}: {counts:?}");
        let count = scrape.value(&format!("turnstiled_{histogram}_count"));
        assert_eq!(scrape.value(&format!("{bucket}+Inf\"}}")), count, "{histogram}");
        assert!(count > Some(0.0), "{histogram}");
    }
    for (name, limit) in QUEUE_LIMITS {
        let help = &scrape.families[&format!("turnstiled_{name}")].help;
        assert!(help.contains(&limit.to_string()), "{name}: {help}");
    }
    // nothing waits, and too little is known of how the log grows
    for (series, value) in [
        ("building_queue_requests{building=\"hq\"}", 0.0),
        ("building_queue_requests{building=\"annex\"}", 0.0),
        ("building_queue_batches{building=\"hq\"}", 0.0),
        ("log_queue_records", 0.0),
        ("router_queue_records", 0.0),
        ("trace_queue_spans", 0.0),
        ("log_full_seconds", f64::INFINITY),
    ] {
        assert_eq!(scrape.value(&format!("turnstiled_{series}")), Some(value), "{series}");
    }
    daemon.stop();
}

#[test]
fn the_document_has_the_limits() {
    let documented = documented();
    let others = [
        ("feeds", MAX_FEEDS),
        ("replays_running", MAX_RUNNING_REPLAYS),
        ("commit_records", MAX_COMMIT_RECORDS),
        ("sink_dead_letters", MAX_DEAD_LETTERS as usize),
    ];
    for (name, limit) in QUEUE_LIMITS.into_iter().chain(others) {
        let (_, _, row) = &documented[&format!("turnstiled_{name}")];
        let digits = limit.to_string();
        let with_comma = match digits.split_at_checked(digits.len().saturating_sub(3)) {
            Some((thousands, rest)) if !thousands.is_empty() => format!("{thousands},{rest}"),
            _ => digits,
        };
        assert!(row.contains(&format!(" {with_comma}")), "{name}: {with_comma}: {row}");
    }
}

/// Requests that are under way when a scrape comes are seen, by buildings and on their way into the log.
#[tokio::test]
async fn what_waits_is_seen_while_it_waits() {
    const GATES: usize = 64;
    let site = Site::with_files();
    let daemon = site.start();
    let (gate, anyone) = (daemon.device(&site.key("hq")), daemon.anyone());
    let swipe = json!({ "exits": vec![json!({ "card_id": "C1", "gate_id": "north-1" }); 100] });
    let exits = |gate: Caller, swipe| async move {
        gate.post("/v1/buildings/hq/exits/batch", &swipe).await.expect(202);
    };
    let mut unseen = BTreeSet::from([
        "turnstiled_building_queue_requests{building=\"hq\"}",
        "turnstiled_building_queue_batches{building=\"hq\"}",
        "turnstiled_log_queue_records",
    ]);
    eventually("each queue is seen with something in it", async || {
        let flood: Vec<_> = (0..GATES).map(|_| tokio::spawn(exits(gate.clone(), swipe.clone()))).collect();
        while !flood.iter().all(|exits| exits.is_finished()) {
            let scrape = Scrape::of(&anyone).await;
            unseen.retain(|series| scrape.value(series) == Some(0.0));
        }
        for exits in flood {
            exits.await.unwrap();
        }
        unseen.is_empty().then_some(())
    })
    .await;
    let scrape = Scrape::of(&anyone).await;
    assert_eq!(scrape.value("turnstiled_building_queue_requests{building=\"hq\"}"), Some(0.0));
    daemon.stop();
}

#[tokio::test]
async fn the_age_of_the_snapshot_is_known_after_a_restart() {
    let site = Site::new(&format!("[wal]\nsnapshot_every = \"1s\"\n{TWO_BUILDINGS}{FILE_SINK}"));
    let daemon = site.start();
    let taken_at = async |daemon: &Daemon| {
        Scrape::of(&daemon.anyone()).await.value("turnstiled_snapshot_timestamp_seconds").unwrap()
    };
    assert_eq!(taken_at(&daemon).await, 0.0, "there is none");
    let exit = json!({ "card_id": "C1", "gate_id": "north-1" });
    daemon.device(&site.key("hq")).post("/v1/buildings/hq/exits", &exit).await.expect(202);
    let first = eventually("a snapshot", async || Some(taken_at(&daemon).await).filter(|at| *at > 0.0)).await;
    daemon.stop();
    let daemon = site.start();
    let again = taken_at(&daemon).await;
    assert!((first - 1.0..=first).contains(&again), "{again} is not when it was taken, {first}");
    daemon.stop();
}
