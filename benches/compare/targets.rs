//! What turnstiled has set itself, beside what was measured.

use crate::{
    cases::Run,
    figures::{Load, Peer, ratio, spread},
    support::spread::Spread,
};

/// The disk's own p99 up to which the limit of an entry's p99 holds, in microseconds.
const CALM_DISK_P99_MICROS: f64 = 400.0;

/// What counts as "no slower": differences below this are the disk's.
const NO_SLOWER_RATIO: f64 = 1.05;

pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// One line of the table.
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) limit: Limit,
    /// `None`: not measured.
    pub(crate) measured: Option<Spread>,
    /// Whether the condition holds under which it is set.
    pub(crate) is_due: bool,
}

impl Target {
    pub(crate) fn verdict(&self) -> &'static str {
        match (&self.measured, &self.limit) {
            (None, _) => "not measured",
            _ if !self.is_due => "not due",
            (Some(spread), Limit::AtLeast(limit)) if spread.median >= *limit => "reached",
            (Some(spread), Limit::AtMost(limit)) if spread.median <= *limit => "reached",
            (Some(_), _) => "**not reached**",
        }
    }
}

pub(crate) fn targets(run: &Run) -> Vec<Target> {
    [single_connection(run), many_connections(run), sizes(run)].into_iter().flatten().collect()
}

fn single_connection(run: &Run) -> Vec<Target> {
    let bare = (Load::One, Peer::BareGrowing);
    let bare_p99 = spread(&run.samples, bare, |of| of.p99_micros);
    let disk_p99 = bare_p99.map_or(f64::INFINITY, |p99| p99.median);
    let mut targets = Vec::new();
    for (peer, name, limit) in [(Peer::Segments, "segments", 1.3), (Peer::Sled, "sled", 2.5)] {
        targets.push(Target {
            what: format!("`{name}`, 1 connection: entry p50 over the bare append's to a growing file"),
            unit: " ×",
            limit: Limit::AtMost(limit),
            measured: ratio(&run.samples, (Load::One, peer), bare, |of| of.p50_micros),
            is_due: true,
        });
        targets.push(Target {
            what: format!(
                "`{name}`, 1 connection: entry p99, due where the disk's own (bare append, growing file) is below \
                 {CALM_DISK_P99_MICROS} µs; this one's is {disk_p99:.0} µs"
            ),
            unit: " µs",
            limit: Limit::AtMost(1_000.0),
            measured: spread(&run.samples, (Load::One, peer), |of| of.p99_micros),
            is_due: disk_p99 < CALM_DISK_P99_MICROS,
        });
    }
    targets
}

fn many_connections(run: &Run) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add =
        |what: String, peer, over, limit, measured: fn(&crate::support::measure::Measured) -> f64| {
            let measured = ratio(&run.samples, (Load::Many, peer), (Load::Many, over), measured);
            targets.push(Target { what, unit: " ×", limit, measured, is_due: true });
        };
    let stores = [
        (Peer::Segments, Peer::Sled, Peer::Memory, "sink off"),
        (Peer::SegmentsSink, Peer::SledSink, Peer::MemorySink, "sink on"),
    ];
    for (segments, sled, memory, sink) in stores {
        let name = format!("`segments`, 64 connections, {sink}");
        let rate = |of: &crate::support::measure::Measured| of.per_second;
        add(format!("{name}: rate over Redis'"), segments, Peer::Redis, Limit::AtLeast(1.5), rate);
        add(format!("{name}: the same (stretch)"), segments, Peer::Redis, Limit::AtLeast(2.0), rate);
        add(format!("{name}: rate over PostgreSQL's"), segments, Peer::Postgres, Limit::AtLeast(3.0), rate);
        add(format!("{name}: entry p99 over Redis'"), segments, Peer::Redis, Limit::AtMost(1.0), |of| {
            of.p99_micros
        });
        add(
            format!("{name}: rate over the daemon's in memory"),
            segments,
            memory,
            Limit::AtLeast(0.85),
            rate,
        );
        let name = format!("`sled`, 64 connections, {sink}");
        add(format!("{name}: rate over Redis'"), sled, Peer::Redis, Limit::AtLeast(0.9), rate);
    }
    targets
}

fn sizes(run: &Run) -> Vec<Target> {
    let large = &run.large;
    let resident = [large.after_start_bytes, large.after_load_bytes, large.from_snapshot_bytes];
    let megabytes = Spread::of(resident.into_iter().max().into_iter().map(|bytes| bytes as f64 / 1e6));
    let started = run.starts.iter().filter(|start| start.with_snapshot).map(|start| start.seconds);
    let events = run.starts.first().map_or(0, |start| start.events);
    vec![
        Target {
            what: "`segments`, exits in batches of 100: durable events a second".to_owned(),
            unit: "",
            limit: Limit::AtLeast(200_000.0),
            measured: spread(&run.samples, (Load::Batches, Peer::Segments), |of| of.per_second),
            is_due: true,
        },
        Target {
            what: format!("{} cards, {} people inside: resident memory", large.cards, large.inside),
            unit: " MB",
            limit: Limit::AtMost(400.0),
            measured: megabytes,
            is_due: true,
        },
        Target {
            what: format!("{} cards: entry p50 over that with 1,000", large.cards),
            unit: " ×",
            limit: Limit::AtMost(NO_SLOWER_RATIO),
            measured: ratio(&run.samples, (Load::One, Peer::Large), (Load::One, Peer::Segments), |of| {
                of.p50_micros
            }),
            is_due: true,
        },
        Target {
            what: format!("start on a log of {events} events with a snapshot"),
            unit: " s",
            limit: Limit::AtMost(5.0),
            measured: Spread::of(started),
            is_due: true,
        },
    ]
}
