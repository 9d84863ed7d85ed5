//! From HTTP to a Kinesis stream: how many durable events a second arrive, what memory that takes, and whether any
//! arrives twice. Writes `benches/DELIVERY.md`. The stream is `stub.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark stops at the first surprise"
)]

mod report;
mod stub;
#[path = "../support/mod.rs"]
mod support;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{
    stub::Stub,
    support::{
        daemon::{CARDS, Daemon, Setup},
        turnstiled::{batch_crew, lone_exits_crew},
    },
};

/// Connections that send batches, and those that send an exit at a time.
const BATCH_CONNECTIONS: usize = 4;
const LONE_CONNECTIONS: usize = 8;

/// How long the sink may take for what is pending when the load ends.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
struct Options {
    /// How often every case is run, one after the other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How long events are sent in a case; it ends when all of them have arrived.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Where the results go; the notes at the end of the file that is there are kept.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/DELIVERY.md"))]
    out: PathBuf,
    /// Set by `cargo bench`; without it nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is run.
#[derive(Clone, Copy, Debug)]
struct Case {
    store: &'static str,
    in_batches: bool,
    aggregate: bool,
    /// The stream refuses half of every 20th request.
    throttles: bool,
}

const fn batches(store: &'static str, aggregate: bool, throttles: bool) -> Case {
    Case { store, in_batches: true, aggregate, throttles }
}

const CASES: [Case; 7] = [
    batches("segments", false, false),
    batches("segments", true, false),
    batches("segments", false, true),
    batches("segments", true, true),
    batches("sled", false, false),
    batches("sled", true, false),
    Case { store: "segments", in_batches: false, aggregate: false, throttles: false },
];

/// What one run of a case came to.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    events: u64,
    /// From the first request to the last arrival.
    per_second: f64,
    /// What was still to be delivered when the last answer was there.
    behind: f64,
    repeats: u64,
    refused: u64,
    events_per_request: f64,
    peak_memory_bytes: u64,
}

fn main() {
    let options = Options::parse();
    if !options.bench {
        eprintln!("delivery: nothing is measured here; use `make bench-delivery`");
        return;
    }
    let machine = support::machine::describe();
    let mut outcomes = vec![Vec::new(); CASES.len()];
    for round in 1..=options.rounds {
        for (case, outcomes) in CASES.iter().zip(&mut outcomes) {
            let outcome = case.run(options.seconds);
            eprintln!("delivery: round {round}, {case:?}: {outcome:?}");
            outcomes.push(outcome);
        }
    }
    report::write(&options, &machine, &outcomes);
    eprintln!("delivery: {} is written", options.out.display());
}

impl Case {
    /// A daemon and a stream of its own.
    fn run(self, seconds: f64) -> Outcome {
        let stub = Stub::start(self.throttles);
        let sink = format!(
            "type = \"kinesis\"\nstream = \"bench\"\nregion = \"us-east-1\"\nendpoint_url = \"http://{}\"\naggregate = {}\n",
            stub.address, self.aggregate
        );
        let daemon = Daemon::launch(&Setup {
            store: self.store,
            sink: &sink,
            telemetry: "",
            anti_passback: "off",
            data_dir: None,
        });
        daemon.register(CARDS);
        let registered = arrived(&daemon, &stub);
        let mut crew = if self.in_batches {
            batch_crew(&daemon, CARDS, BATCH_CONNECTIONS)
        } else {
            lone_exits_crew(&daemon, CARDS, LONE_CONNECTIONS)
        };
        let begun = Instant::now();
        crew.run(seconds);
        let behind = last_sequence(&daemon) as f64 - stub.events() as f64;
        let events = arrived(&daemon, &stub) - registered;
        let received = stub.received();
        let took = received.last.unwrap() - begun;
        Outcome {
            events,
            per_second: events as f64 / took.as_secs_f64(),
            behind,
            repeats: received.repeats,
            refused: received.refused,
            events_per_request: received.events as f64 / received.requests as f64,
            peak_memory_bytes: daemon.memory_bytes("VmHWM"),
        }
    }
}

/// Waits until the stream has every event of the log; how many these are.
fn arrived(daemon: &Daemon, stub: &Stub) -> u64 {
    let (begun, events) = (Instant::now(), last_sequence(daemon));
    while stub.events() < events {
        assert!(begun.elapsed() < CATCH_UP_TIMEOUT, "{} of {events} events arrived", stub.events());
        thread::sleep(Duration::from_millis(5));
    }
    events
}

fn last_sequence(daemon: &Daemon) -> u64 {
    daemon.metric("turnstiled_log_sequence").unwrap() as u64
}
