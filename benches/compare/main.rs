//! turnstiled beside a bare append + fdatasync, Redis and PostgreSQL doing the same decision: one run, one disk,
//! interleaved rounds. Writes `benches/RESULTS.md`.
//!
//! The map: `cases.rs` what is run, in which order · `../support/rest.rs` nobody else runs meanwhile ·
//! `redis.rs` with `decide.lua`, `postgres.rs` with `decide.sql` and `pg_wire.rs`, `bare.rs` who is
//! asked · `large.rs` a million cards and the time of a start, on logs that `history.rs` makes ·
//! `figures.rs` from answers to medians · `targets.rs`, `report.rs` the page · `../support` the load, who swipes, turnstiled itself

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
mod options;
mod pg_wire;
mod postgres;
mod redis;
mod report;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod targets;

use clap::Parser;

fn main() {
    let options = options::Options::parse();
    if !options.bench {
        eprintln!("compare: nothing is measured here; use `make bench-compare`");
        return;
    }
    let machine = support::machine::describe();
    let run = cases::run(&options);
    report::write(&options, &machine, &run);
    eprintln!("compare: {} is written", options.out.display());
}
