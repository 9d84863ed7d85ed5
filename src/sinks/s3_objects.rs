//! Which objects a batch becomes: the partition of each event, an object's key, and its bytes.
//!
//! The same records always give the same key and the same bytes, so that a repeated upload is recognised
//! by its checksum.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use flate2::{Compression as GzipLevel, GzBuilder};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    delivery::{Outgoing, outcome::Outcome},
    domain::ids::LogName,
    sinks::{
        envelope::{Envelope, building_or_server, reject, reject_unreadable},
        outcomes::Outcomes,
        parquet_file,
        stdout::lines,
    },
};

/// zstd's own default: half of gzip's time at a better ratio.
const ZSTD_LEVEL: i32 = 3;
/// Digits of a sequence in a key, so that keys sort as events do.
const SEQUENCE_DIGITS: usize = 20;

/// How an object's lines are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Plain ndjson.
    None,
    /// For everyone's tools.
    Gzip,
    /// For size.
    Zstd,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectFormat {
    /// One event a line.
    Ndjson(Compression),
    /// Columns for Athena, with the whole event beside them.
    Parquet,
}

/// The partition an event belongs to: building, date and hour of its own `time` in UTC, and its log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    building: String,
    date: String,
    hour: String,
    log: LogName,
}

/// The events of a batch that make one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlan {
    /// Where the object lies.
    pub partition: Partition,
    /// Places in the batch, in its order.
    pub places: Vec<usize>,
    /// The lowest sequence in it.
    pub first: u64,
    /// The highest sequence in it.
    pub last: u64,
}

/// The objects of those events of a batch that have none yet. Events that cannot be placed are rejected in the outcomes.
#[must_use]
pub fn plan_objects(batch: &[Outgoing], has_object: impl Fn(usize) -> bool) -> (Vec<ObjectPlan>, Outcomes) {
    let mut outcomes = Outcomes::of(batch.len());
    let mut plans: BTreeMap<Partition, ObjectPlan> = BTreeMap::new();
    for (place, event) in batch.iter().enumerate().filter(|(place, _)| !has_object(*place)) {
        match partition(event) {
            Ok((partition, sequence)) => {
                let plan = plans.entry(partition).or_insert_with_key(|partition| ObjectPlan {
                    partition: partition.clone(),
                    places: Vec::new(),
                    first: sequence,
                    last: sequence,
                });
                plan.places.push(place);
                plan.first = plan.first.min(sequence);
                plan.last = plan.last.max(sequence);
            }
            Err(outcome) => outcomes.set(place, outcome),
        }
    }
    (plans.into_values().collect(), outcomes)
}

fn partition(event: &Outgoing) -> Result<(Partition, u64), Outcome> {
    let envelope = Envelope::parse(&event.body).map_err(|error| reject_unreadable(&error))?;
    let time: Timestamp = envelope.time.parse().map_err(|error: jiff::Error| {
        reject("NotAnEvent", &format!("event has time {:?}, expected RFC 3339: {error}", envelope.time))
    })?;
    let time = time.to_zoned(TimeZone::UTC);
    let partition = Partition {
        building: building_or_server(event).to_owned(),
        date: time.strftime("%Y-%m-%d").to_string(),
        hour: time.strftime("%H").to_string(),
        log: envelope.log,
    };
    Ok((partition, envelope.sequence))
}

impl ObjectPlan {
    /// The object's key, in Hive's form, which Athena's partition projection reads without a crawler.
    #[must_use]
    pub fn key(&self, prefix: &str, tag: Option<&str>, format: ObjectFormat) -> String {
        let Partition { building, date, hour, log } = &self.partition;
        let (prefix, log, ending) = (prefix.trim_matches('/'), log.to_string(), format.ending());
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!(
            "{prefix}{slash}building={building}/dt={date}/hour={hour}/\
             {log}-{first:0SEQUENCE_DIGITS$}-{last:0SEQUENCE_DIGITS$}{tag}{ending}",
            tag = tag.map_or(String::new(), |tag| format!(".{tag}")),
            first = self.first,
            last = self.last,
        )
    }
}

impl ObjectFormat {
    /// All there are.
    pub const ALL: [Self; 4] = [
        Self::Ndjson(Compression::None),
        Self::Ndjson(Compression::Gzip),
        Self::Ndjson(Compression::Zstd),
        Self::Parquet,
    ];

    /// What a key ends in.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Ndjson(Compression::None) => ".ndjson",
            Self::Ndjson(Compression::Gzip) => ".ndjson.gz",
            Self::Ndjson(Compression::Zstd) => ".ndjson.zst",
            Self::Parquet => ".parquet",
        }
    }

    /// An object of these events.
    ///
    /// # Errors
    /// Whatever the writer says; out of memory is all that is left to it.
    pub fn write(self, events: &[Outgoing]) -> io::Result<Vec<u8>> {
        match self {
            Self::Ndjson(compression) => compression.compress(lines(events)),
            Self::Parquet => {
                let events: Vec<_> = events.iter().map(|event| event.body.clone()).collect();
                parquet_file::write(&events)
            }
        }
    }
}

impl Compression {
    /// Compresses an object's lines.
    ///
    /// # Errors
    /// Whatever the compressor says; out of memory is all that is left to it.
    pub fn compress(self, lines: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(lines),
            Self::Gzip => {
                // no time and no name in the header: the same lines are the same bytes
                let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), GzipLevel::default());
                gzip.write_all(&lines)?;
                gzip.finish()
            }
            Self::Zstd => zstd::bulk::compress(&lines, ZSTD_LEVEL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::test_events::event_at;
    use serde_json::json;
    use std::io::Read;

    fn at(building: &str, log: &str, sequence: u64, time: &str) -> Outgoing {
        event_at("access.entry.granted", building, "E1", log, sequence, time, json!({}))
    }

    #[test]
    fn a_batch_is_grouped_by_building_and_hour_of_the_event() {
        let batch = [
            at("hq", "hq-1.1", 7, "2026-11-20T08:59:59.999Z"),
            at("annex", "hq-1.1", 8, "2026-11-20T08:59:59.999Z"),
            at("hq", "hq-1.1", 9, "2026-11-20T08:00:00Z"),
            at("hq", "hq-1.1", 10, "2026-11-20T10:00:00+01:00"),
            at("", "hq-1.1", 11, "2026-11-21T00:00:00Z"),
            at("hq", "hq-1.2", 12, "2026-11-20T09:00:00Z"),
        ];
        let (plans, _) = plan_objects(&batch, |_| false);
        let planned: Vec<_> = plans
            .iter()
            .map(|plan| {
                (plan.key("/events/", None, ObjectFormat::Ndjson(Compression::Gzip)), plan.places.clone())
            })
            .collect();
        let key = |partition: &str, log: &str, first: u64, last: u64| {
            format!("events/{partition}/{log}-{first:020}-{last:020}.ndjson.gz")
        };
        let expected = [
            (key("building=_server/dt=2026-11-21/hour=00", "hq-1.1", 11, 11), vec![4]),
            (key("building=annex/dt=2026-11-20/hour=08", "hq-1.1", 8, 8), vec![1]),
            (key("building=hq/dt=2026-11-20/hour=08", "hq-1.1", 7, 9), vec![0, 2]),
            (key("building=hq/dt=2026-11-20/hour=09", "hq-1.1", 10, 10), vec![3]),
            (key("building=hq/dt=2026-11-20/hour=09", "hq-1.2", 12, 12), vec![5]),
        ];
        assert_eq!(planned, expected);
    }

    #[test]
    fn an_empty_prefix_has_no_slash() {
        let (plans, _) = plan_objects(&[at("hq", "hq-1.1", 1, "2026-11-20T08:00:00Z")], |_| false);
        assert!(plans[0].key("", None, ObjectFormat::Parquet).starts_with("building=hq/"));
        assert!(plans[0].key("", None, ObjectFormat::Ndjson(Compression::None)).ends_with("1.ndjson"));
    }

    #[test]
    fn an_event_without_a_readable_time_is_rejected() {
        let (plans, outcomes) = plan_objects(&[at("hq", "hq-1.1", 1, "yesterday")], |_| false);
        assert!(plans.is_empty());
        assert!(matches!(outcomes.finish()[..], [Outcome::Rejected(_)]));
    }

    #[test]
    fn the_same_lines_are_the_same_bytes_and_can_be_read_back() {
        let lines = b"{\"a\":1}\n".repeat(1_000);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let bytes = compression.compress(lines.clone()).unwrap();
            assert_eq!(bytes, compression.compress(lines.clone()).unwrap());
            let mut read = Vec::new();
            match compression {
                Compression::None => read.clone_from(&bytes),
                Compression::Gzip => {
                    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut read).unwrap();
                }
                Compression::Zstd => read = zstd::stream::decode_all(&bytes[..]).unwrap(),
            }
            assert_eq!(read, lines);
        }
    }
}
