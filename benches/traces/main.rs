//! What tracing costs the decision: the same load on daemons without `[telemetry]`, with a collector at two ratios, and with
//! one that is down, in alternating turns. Writes `benches/TRACES.md`.
//!
//! The map: `site.rs` a daemon, its turns · `collector.rs` who takes the spans · `report.rs` the page · `../support` the load,
//! who swipes, the daemon, the machine

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark stops at the first surprise"
)]

mod collector;
mod report;
mod site;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;

use clap::Parser;

use crate::site::{Site, Tracing};

/// The ratio that has an aim.
const RATIO: f64 = 0.01;

#[derive(Debug, Parser)]
struct Options {
    /// How often every daemon has two turns.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How long a turn is measured; a warm-up comes before it.
    #[arg(long, default_value_t = 0.6)]
    seconds: f64,
    /// Where the results go; the notes at the end of the file that is there are kept.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/TRACES.md"))]
    out: PathBuf,
    /// Set by `cargo bench`; without it nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Daemons that differ in nothing but tracing. The first is the one without.
struct Group {
    store: &'static str,
    has_sink: bool,
    sites: Vec<Site>,
}

impl Group {
    fn start(store: &'static str, has_sink: bool, more: &[Tracing]) -> Self {
        let tracings = [Tracing::Off, Tracing::Ratio(RATIO)].iter().chain(more);
        let sites = tracings.map(|tracing| Site::start(store, has_sink, *tracing)).collect();
        Self { store, has_sink, sites }
    }

    /// Forwards, then backwards (A B B A), so that what changes slowly hits all alike; who begins changes from round to round.
    fn round(&mut self, round: u16, seconds: f64) {
        let sites = self.sites.len();
        let order: Vec<usize> = (0..sites).map(|place| (place + usize::from(round)) % sites).collect();
        for site in order.iter().chain(order.iter().rev()) {
            self.sites[*site].take_turn(seconds);
        }
    }
}

fn main() {
    let options = Options::parse();
    if !options.bench {
        eprintln!("traces: nothing is measured here; use `make bench-traces`");
        return;
    }
    let machine = support::machine::describe();
    let mut groups = [
        Group::start("segments", false, &[Tracing::Ratio(1.0), Tracing::Down(RATIO)]),
        Group::start("segments", true, &[]),
        Group::start("sled", false, &[]),
    ];
    for round in 1..=options.rounds {
        groups.iter_mut().for_each(|group| group.round(round, options.seconds));
        for group in &groups {
            let last =
                |site: &Site| (site.tracing, site.outcomes().last().map(|last| last.per_second.round()));
            let sites: Vec<_> = group.sites.iter().map(last).collect();
            eprintln!("traces: round {round}, {}, sink: {}: {sites:?}", group.store, group.has_sink);
        }
    }
    report::write(&options, &machine, &groups);
    eprintln!("traces: {} is written", options.out.display());
}
