//! What may be asked for: an order is looked at before anything is recorded or begun.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use serde::Serialize;
use thiserror::Error;
use turnstiled_wal::LogReader;

use super::{
    archive::{self, ArchiveOpener, ArchiveSource},
    record::{ReplayRecord, ReplayState},
    source::Source,
    state_check::StateSource,
    wal::{Extent, WalError, WalSource, extent},
};
use crate::{
    actors::sink_state::{SinkStateError, SinkStates},
    clock,
    delivery::progress::Progress,
    domain::{
        ids::{LogName, ReplayName},
        replay::{ReplayOrder, STATE, WAL},
        routes::RouteTable,
    },
    sinks::archive::Location,
};

/// Where replays may lead, and where they may come from. A reload changes it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReplayPlaces(Arc<RwLock<Arc<Parts>>>);

/// What it is made of.
#[derive(Debug)]
pub struct Parts {
    /// The live log.
    pub log: LogReader,
    /// Which events a sink may have, and in which form.
    pub routes: Arc<RouteTable>,
    /// Whose events are replayed, and the present epoch.
    pub log_name: LogName,
    /// How far sinks are.
    pub states: SinkStates,
    /// Opens archives.
    pub opener: ArchiveOpener,
    /// The sinks of the configuration, and where those that write an archive write it.
    pub sinks: HashMap<String, Option<Location>>,
}

/// Where a sink writes an archive to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArchiveBucket {
    /// The sink.
    pub sink: String,
    /// `s3://BUCKET/PREFIX`
    pub location: String,
}

/// Why an order is refused.
#[derive(Debug, Error)]
pub enum RefusedOrder {
    /// The target.
    #[error("is neither a sink of the configuration nor {STATE}")]
    NoSuchSink,
    /// The target.
    #[error("is the archive that this would read, or lies in it: it would read what it has written")]
    IntoItself,
    /// A field beside the target.
    #[error(
        "does not go together with the target {STATE}: the whole of it is compared, or a building or a card of it"
    )]
    NotForState(&'static str),
    /// The state store.
    #[error(transparent)]
    States(#[from] SinkStateError),
    /// The source.
    #[error("{0}")]
    From(String),
    /// The time.
    #[error("is not after since")]
    NoTime,
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
}

impl RefusedOrder {
    /// The field that is wrong; `None`: nothing is, the log cannot be read.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::NoSuchSink | Self::IntoItself => Some("to"),
            Self::NotForState(field) => Some(field),
            Self::From(_) => Some("from"),
            Self::NoTime => Some("until"),
            Self::Wal(_) | Self::States(_) => None,
        }
    }
}

impl ReplayPlaces {
    /// With these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(parts))))
    }

    /// The configuration is another one now.
    pub fn set(&self, parts: Parts) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(parts);
    }

    /// The buckets that sinks write an archive to.
    #[must_use]
    pub fn buckets(&self) -> Vec<ArchiveBucket> {
        let parts = self.parts();
        let of_sink = |(sink, written): (&String, &Option<Location>)| match written {
            Some(location @ Location::S3 { .. }) => {
                Some(ArchiveBucket { sink: sink.clone(), location: location.to_string() })
            }
            _ => None,
        };
        let mut buckets: Vec<_> = parts.sinks.iter().filter_map(of_sink).collect();
        buckets.sort_unstable_by(|one, other| one.sink.cmp(&other.sink));
        buckets
    }

    fn parts(&self) -> Arc<Parts> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The record of a replay that has still to begin. Reads the log, so it is for a thread that may block.
    ///
    /// # Errors
    /// [`RefusedOrder`].
    pub fn prepare(
        &self,
        name: ReplayName,
        order: ReplayOrder,
        by: String,
    ) -> Result<ReplayRecord, RefusedOrder> {
        self.check(&order)?;
        let Extent { begin, end, trimmed } = match order.from.as_str() {
            WAL => extent(&self.parts().log, &order)?,
            from if from.starts_with('/') && !Path::new(from).is_dir() => {
                return Err(RefusedOrder::From("is no directory that the server can see".to_owned()));
            }
            _ => Extent { begin: 0, end: 0, trimmed: None },
        };
        Ok(ReplayRecord {
            name,
            order,
            by,
            created_at: clock::wall(),
            state: ReplayState::Running,
            finished_at: None,
            error: None,
            begin,
            end,
            progress: Progress::starting_after(begin),
            at: None,
            unrouted: 0,
            others: 0,
            unreadable: 0,
            problems: Vec::new(),
            trimmed,
            differences: None,
            refusals: Vec::new(),
        })
    }

    /// Whether the configuration allows the order: again at each start, for it may have changed.
    ///
    /// # Errors
    /// [`RefusedOrder`].
    pub(super) fn check(&self, order: &ReplayOrder) -> Result<(), RefusedOrder> {
        if order.to == STATE {
            return check_for_state(order);
        }
        if order.since.zip(order.until).is_some_and(|(since, until)| until <= since) {
            return Err(RefusedOrder::NoTime);
        }
        let parts = self.parts();
        let written = parts.sinks.get(&order.to).ok_or(RefusedOrder::NoSuchSink)?;
        if order.from == WAL {
            return Ok(());
        }
        let read = location(&order.from)?;
        match written {
            Some(written) if written.overlaps(&read) => Err(RefusedOrder::IntoItself),
            _ => Ok(()),
        }
    }

    /// Where the events of a replay come from.
    ///
    /// # Errors
    /// [`RefusedOrder`] if the order names no place.
    pub(super) fn source(&self, record: &ReplayRecord) -> Result<Source, RefusedOrder> {
        let (order, parts) = (record.order.clone(), self.parts());
        let (log, routes) = (parts.log.clone(), Arc::clone(&parts.routes));
        if order.from == WAL {
            return Ok(Source::Wal(WalSource { log, routes, order: Arc::new(order), end: record.end }));
        }
        let (opener, server) = (parts.opener.clone(), parts.log_name.server.clone());
        let parts = archive::Parts { opener, location: location(&order.from)?, routes, order, server };
        Ok(Source::Archive(ArchiveSource::new(parts, record.at.clone())))
    }
}

impl ReplayPlaces {
    /// Where a comparison with the live state reads.
    ///
    /// # Errors
    /// [`RefusedOrder`] if the order names no place, or it cannot be said how far its sink is.
    pub(super) fn state_source(&self, order: &ReplayOrder) -> Result<StateSource, RefusedOrder> {
        if order.from == WAL {
            return Ok(StateSource::Wal);
        }
        let (location, parts) = (location(&order.from)?, self.parts());
        let mut settled: Option<u64> = None;
        for (sink, written) in &parts.sinks {
            if written.as_ref().is_some_and(|written| written.overlaps(&location)) {
                let cursor = parts.states.progress(sink)?.map_or(0, |progress| progress.cursor);
                settled = Some(settled.map_or(cursor, |settled| settled.min(cursor)));
            }
        }
        Ok(StateSource::Archive { opener: parts.opener.clone(), location, settled })
    }

    pub(super) fn log(&self) -> (LogReader, LogName) {
        let parts = self.parts();
        (parts.log.clone(), parts.log_name.clone())
    }
}

fn check_for_state(order: &ReplayOrder) -> Result<(), RefusedOrder> {
    let ReplayOrder { since, until, types, rate, .. } = order;
    let given = [
        ("since", since.is_some()),
        ("until", until.is_some()),
        ("type", types.is_some()),
        ("rate", rate.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((field, _)) => Err(RefusedOrder::NotForState(field)),
        None if order.from == WAL => Ok(()),
        None => location(&order.from).map(|_| ()),
    }
}

/// A bucket, or a directory of this machine.
fn location(from: &str) -> Result<Location, RefusedOrder> {
    let location = Location::parse(from).map_err(RefusedOrder::From)?;
    match &location {
        Location::Dir(dir) if !dir.is_absolute() => Err(RefusedOrder::From(format!(
            "is neither {WAL} nor s3://BUCKET/PREFIX nor an absolute path of the server's machine"
        ))),
        _ => Ok(location),
    }
}
