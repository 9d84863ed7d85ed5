//! turnstiled itself: the executable as shipped, with authentication, chain, metrics and tracing.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    daemon::Daemon,
    http,
    load::{Crew, Protocol, Request, Script},
    swipes::MakeRequest,
};

/// Exits of one batch.
pub(crate) const BATCH_EXITS: usize = 100;
/// How long a sink may take to catch up after a case.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

const PROTOCOL: Protocol = Protocol { greet: |_| {}, answer: body_of_whole_response };

pub(crate) fn crew(daemon: &Daemon, scripts: impl FnOnce(MakeRequest<'_>) -> Vec<Script>) -> Crew {
    let header = daemon.device_header();
    let make = |is_entry: bool, card: usize| {
        let (path, expects) =
            if is_entry { ("entries", "{\"decision\":\"granted\"") } else { ("exits", "{\"event_id\"") };
        let body = format!("{{\"card_id\":\"C{card}\",\"gate_id\":\"g\"}}");
        let bytes = post(daemon, path, &header, &body);
        Request { bytes, expects: expects.into(), is_timed: is_entry, swipes: 1 }
    };
    Crew { address: daemon.address, protocol: PROTOCOL, scripts: scripts(&make) }
}

/// Panels that send whole batches of exits.
pub(crate) fn batch_crew(daemon: &Daemon, cards: usize, connections: usize) -> Crew {
    let header = daemon.device_header();
    let batch = |first: usize| {
        let exit = |card: usize| format!("{{\"card_id\":\"C{}\",\"gate_id\":\"g\"}}", card % cards);
        let exits: Vec<String> = (first..first + BATCH_EXITS).map(exit).collect();
        let body = format!("{{\"exits\":[{}]}}", exits.join(","));
        let bytes = post(daemon, "exits/batch", &header, &body);
        Request {
            bytes,
            expects: "{\"results\":[{\"event_id\"".into(),
            is_timed: true,
            swipes: BATCH_EXITS as u64,
        }
    };
    let scripts = (0..connections).map(|connection| Script::new(vec![batch(connection * BATCH_EXITS)]));
    Crew { address: daemon.address, protocol: PROTOCOL, scripts: scripts.collect() }
}

/// The events that the sink has still to take.
pub(crate) fn behind(daemon: &Daemon) -> f64 {
    daemon.metric("turnstiled_sink_pending{").unwrap()
}

/// Waits until the sink has everything, so that its work is not on the next case's bill.
pub(crate) fn let_sink_catch_up(daemon: &Daemon) {
    let begun = Instant::now();
    while behind(daemon) > 0.0 {
        assert!(begun.elapsed() < CATCH_UP_TIMEOUT, "the file sink does not catch up");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Turnstiles that send one exit at a time, each of people of its own.
pub(crate) fn lone_exits_crew(daemon: &Daemon, cards: usize, connections: usize) -> Crew {
    let header = daemon.device_header();
    let exit = |card: usize| {
        let bytes = post(daemon, "exits", &header, &format!("{{\"card_id\":\"C{card}\",\"gate_id\":\"g\"}}"));
        Request { bytes, expects: "{\"event_id\"".into(), is_timed: true, swipes: 1 }
    };
    let each = cards / connections;
    let scripts = (0..connections)
        .map(|connection| Script::new((connection * each..(connection + 1) * each).map(exit).collect()));
    Crew { address: daemon.address, protocol: PROTOCOL, scripts: scripts.collect() }
}

fn post(daemon: &Daemon, path: &str, header: &str, body: &str) -> Vec<u8> {
    let (host, length) = (daemon.address, body.len());
    format!(
        "POST /v1/buildings/hq/{path} HTTP/1.1\r\nHost: {host}\r\n{header}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The body, once all of it is there.
fn body_of_whole_response(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(http::body_of(bytes)?)
}
