//! The page: `benches/DELIVERY.md`.

use std::fmt::Write;

use crate::{
    CASES, Case, Options, Outcome,
    support::{
        page::finish,
        spread::{Spread, number},
    },
};

/// Durable events a second from HTTP to the stream, and bytes of memory, that this project set itself.
const BATCHES_PER_SECOND: f64 = 60_000.0;
const LONE_PER_SECOND: f64 = 20_000.0;
const MEMORY_BYTES: f64 = 100e6;

const METHOD: &str = "\
The release executable as shipped, with API keys, hash chain, metrics and trace context, on one disk. Exits come over
loopback: 4 connections with 100 a request, or 8 connections with one. Each is durable before it is answered. One sink
takes every event to a Kinesis stream of this benchmark's own (`benches/delivery/stub.rs`, 128 shards, plain HTTP), which
decodes every record and marks each event that came. Load, daemon and stream share the cores. The rate is that of events
from the first request until the last of them has arrived. `throttling`: the stream refuses every second record of every
20th request, by the error of a shard that had too much. Memory is the daemon's highest resident set. Every case has a new
daemon and a new stream; figures are medians of the rounds with the smallest and the largest in brackets.
";

pub(crate) fn write(options: &Options, machine: &[(&str, String)], outcomes: &[Vec<Outcome>]) {
    let mut page = String::from(
        "# From HTTP to Kinesis\n\nWritten by `benches/delivery`; run it again rather than edit it.\n\n| | |\n|---|---|\n",
    );
    for (name, value) in machine {
        let _ = writeln!(page, "| {name} | {value} |");
    }
    let _ = writeln!(page, "| rounds | {} of {} s of sending a case |\n", options.rounds, options.seconds);
    page.push_str(
        "| case | events/s end to end | aim | events | behind at the last answer | events a request | refused | repeats | memory, MB | aim |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (case, outcomes) in CASES.iter().zip(outcomes) {
        line(&mut page, *case, outcomes);
    }
    finish(page, METHOD, &options.out);
}

fn line(page: &mut String, case: Case, outcomes: &[Outcome]) {
    let figure = |of: fn(&Outcome) -> f64| Spread::of(outcomes.iter().map(of)).unwrap();
    let (rate, memory) = (figure(|of| of.per_second), figure(|of| of.peak_memory_bytes as f64 / 1e6));
    let aim = if case.in_batches { BATCHES_PER_SECOND } else { LONE_PER_SECOND };
    let verdict = |is_reached: bool| if is_reached { "reached" } else { "**not reached**" };
    let _ = writeln!(
        page,
        "| {} | {rate} | {}: {} | {} | {} | {} | {} | {} | {memory} | 100: {} |",
        name(case),
        number(aim),
        verdict(rate.median >= aim),
        figure(|of| of.events as f64),
        figure(|of| of.behind),
        figure(|of| of.events_per_request),
        figure(|of| of.refused as f64),
        figure(|of| of.repeats as f64),
        verdict(memory.median * 1e6 < MEMORY_BYTES),
    );
}

fn name(case: Case) -> String {
    let Case { store, in_batches, aggregate, throttles } = case;
    let how = if in_batches { "100 exits a request" } else { "one exit a request" };
    let aggregated = if aggregate { ", aggregated" } else { "" };
    let throttling = if throttles { ", throttling" } else { "" };
    format!("`{store}`, {how}{aggregated}{throttling}")
}
