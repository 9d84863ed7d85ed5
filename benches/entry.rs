//! A whole entry over HTTP, from the request to the durable answer, beside a bare append + fdatasync on the
//! same disk in the same run: the ratio between the two is the figure to look at, not the microseconds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark stops at the first surprise"
)]

mod support;

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{
    BareFile, EVENT_BYTES,
    client::Client,
    daemon::{CARDS, Daemon},
    scratch,
};

const CONNECTIONS: usize = 64;

/// Which store, and whether a `file` sink takes everything meanwhile.
const STORES: [(&str, bool); 4] = [("sled", false), ("sled", true), ("segments", false), ("segments", true)];

fn name(store: &str, with_sink: bool) -> String {
    format!("whole entry, {store}{}", if with_sink { ", file sink" } else { "" })
}

fn enter(turnstile: &mut Client, number: usize) {
    let body = format!("{{\"card_id\":\"C{}\",\"gate_id\":\"g\"}}", number % CARDS);
    let (status, answer) = turnstile.request("POST", "/v1/buildings/hq/entries", &body);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(answer));
}

/// `requests` entries, spread over all connections; the time from the first to the last.
fn enter_on_all(turnstiles: &mut [Client], requests: u64) -> Duration {
    let start = Barrier::new(turnstiles.len() + 1);
    let each = requests.div_ceil(turnstiles.len() as u64);
    let started = thread::scope(|scope| {
        for (index, turnstile) in turnstiles.iter_mut().enumerate() {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                (0..each).for_each(|number| enter(turnstile, index * 17 + number as usize));
            });
        }
        start.wait();
        Instant::now()
    });
    // More were sent than asked for where the connections do not divide the requests.
    started.elapsed().mul_f64(requests as f64 / (each * turnstiles.len() as u64) as f64)
}

fn entry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("entry, 1 connection");
    group.sample_size(100).measurement_time(Duration::from_secs(8));
    let dir = scratch();
    let mut file = BareFile::create(dir.path(), false);
    let bytes = vec![b'x'; EVENT_BYTES];
    group.bench_function("bare append + fdatasync", |bench| bench.iter(|| file.append(&bytes)));
    for (store, with_sink) in STORES {
        let daemon = Daemon::start(store, with_sink);
        let mut turnstile = daemon.turnstile();
        let mut number = 0;
        group.bench_function(name(store, with_sink), |bench| {
            bench.iter(|| {
                number += 1;
                enter(&mut turnstile, number);
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group(format!("entry, {CONNECTIONS} connections"));
    group.sample_size(20).measurement_time(Duration::from_secs(10)).throughput(Throughput::Elements(1));
    for (store, with_sink) in STORES {
        let daemon = Daemon::start(store, with_sink);
        let mut turnstiles: Vec<Client> = (0..CONNECTIONS).map(|_| daemon.turnstile()).collect();
        group.bench_function(name(store, with_sink), |bench| {
            bench.iter_custom(|requests| enter_on_all(&mut turnstiles, requests))
        });
    }
    group.finish();
}

criterion_group!(benches, entry);
criterion_main!(benches);
