//! turnstiled beside a bare append + fdatasync, Redis and PostgreSQL doing the same decision: one run, one disk,
//! interleaved rounds. Writes `benches/RESULTS.md`.
//!
//! The map: `cases.rs` what is run, in which order · `rest.rs` nobody else runs meanwhile · `load.rs` the client ·
//! `swipes.rs` who swipes ·
//! `turnstiled.rs`, `redis.rs` with `decide.lua`, `postgres.rs` with `decide.sql` and `pg_wire.rs`, `bare.rs` who is
//! asked · `large.rs` a million cards and the time of a start, on logs that `history.rs` makes ·
//! `measure.rs`, `figures.rs` from answers to medians · `targets.rs`, `report.rs`, `machine.rs` the page

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark stops at the first surprise"
)]

mod bare;
mod cases;
mod figures;
mod history;
mod large;
mod load;
mod machine;
mod measure;
mod options;
mod pg_wire;
mod postgres;
mod redis;
mod report;
mod rest;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod swipes;
mod targets;
mod turnstiled;

use clap::Parser;

fn main() {
    let options = options::Options::parse();
    if !options.bench {
        eprintln!("compare: nothing is measured here; use `make bench-compare`");
        return;
    }
    let machine = machine::describe();
    let run = cases::run(&options);
    report::write(&options, &machine, &run);
    eprintln!("compare: {} is written", options.out.display());
}
