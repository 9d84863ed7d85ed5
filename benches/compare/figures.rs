//! From measurements to medians and their spread.

use std::{collections::BTreeMap, fmt};

use crate::support::{measure::Measured, spread::Spread};

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    /// One connection, one request at a time.
    One,
    /// 64 connections.
    Many,
    /// Exits in batches.
    Batches,
}

/// Who is asked, in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    BareGrowing,
    BarePreallocated,
    Segments,
    SegmentsSink,
    Sled,
    SledSink,
    Redis,
    Postgres,
    Memory,
    MemorySink,
    Large,
}

impl Peer {
    pub(crate) fn has_sink(self) -> bool {
        matches!(self, Self::SegmentsSink | Self::SledSink | Self::MemorySink)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::BareGrowing => "bare append + fdatasync, growing file",
            Self::BarePreallocated => "bare append + fdatasync, preallocated file",
            Self::Segments => "turnstiled, `segments`",
            Self::SegmentsSink => "turnstiled, `segments`, `file` sink on",
            Self::Sled => "turnstiled, `sled`",
            Self::SledSink => "turnstiled, `sled`, `file` sink on",
            Self::Redis => "Redis, Lua + XADD, `appendfsync always`",
            Self::Postgres => "PostgreSQL, plpgsql, `synchronous_commit = on`",
            Self::Memory => "turnstiled, `segments` in memory (tmpfs)",
            Self::MemorySink => "turnstiled, `segments` in memory (tmpfs), `file` sink on",
            Self::Large => "turnstiled, `segments`, the large building",
        })
    }
}

/// Every round of every case.
pub(crate) type Samples = BTreeMap<(Load, Peer), Vec<Measured>>;

/// A figure of one measurement.
pub(crate) type Figure = fn(&Measured) -> f64;

pub(crate) fn spread(samples: &Samples, key: (Load, Peer), figure: Figure) -> Option<Spread> {
    Spread::of(samples.get(&key)?.iter().map(figure))
}

/// One case over another, taken within each round.
pub(crate) fn ratio(
    samples: &Samples,
    key: (Load, Peer),
    over: (Load, Peer),
    figure: Figure,
) -> Option<Spread> {
    let (above, below) = (samples.get(&key)?, samples.get(&over)?);
    Spread::of(above.iter().zip(below).map(|(above, below)| figure(above) / figure(below)))
}
