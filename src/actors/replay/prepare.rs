//! What may be asked for: an order is looked at before anything is recorded or begun.

use std::{collections::HashMap, sync::Arc};

use thiserror::Error;
use turnstiled_wal::LogReader;

use super::{
    record::{ReplayRecord, ReplayState},
    source::Source,
    wal::{Extent, WalError, WalSource, extent},
};
use crate::{
    clock,
    delivery::progress::Progress,
    domain::{
        ids::ReplayName,
        replay::{ReplayOrder, STATE, WAL},
        routes::RouteTable,
    },
    sinks::archive::Location,
};

/// Where replays may lead, and where they may come from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReplayPlaces(Arc<Parts>);

/// What it is made of.
#[derive(Debug)]
pub struct Parts {
    /// The live log.
    pub log: LogReader,
    /// Which events a sink may have, and in which form.
    pub routes: Arc<RouteTable>,
    /// The sinks of the configuration, and where those that write an archive write it.
    pub sinks: HashMap<String, Option<Location>>,
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
    /// The target.
    #[error("is an s3 sink, which this version cannot replay into")]
    IntoS3,
    /// The target.
    #[error("is not there yet in this version")]
    IntoState,
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
            Self::NoSuchSink | Self::IntoItself | Self::IntoS3 | Self::IntoState => Some("to"),
            Self::From(_) => Some("from"),
            Self::NoTime => Some("until"),
            Self::Wal(_) => None,
        }
    }
}

impl ReplayPlaces {
    /// With these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
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
        let Extent { begin, end, trimmed } = extent(&self.0.log, &order)?;
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
            trimmed,
            refusals: Vec::new(),
        })
    }

    /// Whether the configuration allows the order: again at each start, for it may have changed.
    ///
    /// # Errors
    /// [`RefusedOrder`].
    pub(super) fn check(&self, order: &ReplayOrder) -> Result<(), RefusedOrder> {
        if order.to == STATE {
            return Err(RefusedOrder::IntoState);
        }
        if order.since.zip(order.until).is_some_and(|(since, until)| until <= since) {
            return Err(RefusedOrder::NoTime);
        }
        let written = self.0.sinks.get(&order.to).ok_or(RefusedOrder::NoSuchSink)?;
        if let Some(Location::S3 { .. }) = written {
            return Err(RefusedOrder::IntoS3);
        }
        if order.from == WAL {
            return Ok(());
        }
        Err(RefusedOrder::From(format!("is not {WAL}, which is all that this version replays from")))
    }

    pub(super) fn source(&self, record: &ReplayRecord) -> Source {
        let (log, routes) = (self.0.log.clone(), Arc::clone(&self.0.routes));
        Source::Wal(WalSource { log, routes, order: Arc::new(record.order.clone()), end: record.end })
    }
}
