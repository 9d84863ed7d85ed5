//! Replays: on the delivery arbiter, beside the deliveries that they send through.

use std::sync::Arc;

use actix::{Actor, Addr};
use tokio::sync::oneshot;
use turnstiled_wal::LogReader;

use super::{
    StartError,
    archive_sink::{open_archive, sink_of},
    delivery_side::DeliverySide,
};
use crate::{
    actors::{
        disk::DiskBoard,
        replay::{
            archive::ArchiveOpener,
            board::ReplayBoard,
            manager::{ReplaysActor, ReplaysParts},
            prepare::{Parts, ReplayPlaces},
            state_check::LiveState,
        },
        sink_state::SinkStates,
    },
    config::{
        Config,
        sinks::{SinkConfig, SinkKind},
    },
    domain::ids::LogName,
    metrics::Metrics,
    sinks::archive::Location,
};

/// Who replays, and what there is to ask them for.
#[derive(Debug)]
pub(super) struct ReplaySide {
    pub(super) places: ReplayPlaces,
    pub(super) board: ReplayBoard,
    pub(super) replays: Addr<ReplaysActor>,
}

/// What it is started with.
#[derive(Debug)]
pub(super) struct Beside<'a> {
    pub(super) delivery: &'a DeliverySide,
    /// Whose events are replayed, and the present epoch.
    pub(super) log_name: LogName,
    pub(super) live: LiveState,
    pub(super) log: LogReader,
    pub(super) states: SinkStates,
    pub(super) disk: DiskBoard,
    pub(super) metrics: Metrics,
}

impl ReplaySide {
    /// Those that a stop or a crash has interrupted go on.
    pub(super) async fn start(config: &Config, beside: Beside<'_>) -> Result<Self, StartError> {
        let Beside { delivery, log_name, live, log, states, disk, metrics } = beside;
        let places = ReplayPlaces::new(places_of(config, log_name, log, states.clone()));
        let (board, found) = (ReplayBoard::default(), states.replays()?);
        let parts = ReplaysParts {
            places: places.clone(),
            sinks: delivery.starter.deliveries.clone(),
            live,
            states,
            board: board.clone(),
            disk,
            metrics,
            found,
        };
        let (started, address) = oneshot::channel();
        delivery.starter.arbiter.spawn_fn(move || {
            // Nobody to tell: the start was given up.
            let _ = started.send(ReplaysActor::new(parts).start());
        });
        let replays = address.await.map_err(|_| StartError::Arbiter("delivery"))?;
        Ok(Self { places, board, replays })
    }
}

/// What a configuration allows.
pub(super) fn places_of(config: &Config, log_name: LogName, log: LogReader, states: SinkStates) -> Parts {
    let sinks = config.sinks.iter().map(|sink| (sink.name.clone(), archive_of(sink))).collect();
    let opened_by = config.clone();
    let opener = ArchiveOpener::new(move |location| open_archive(location, sink_of(&opened_by, location)));
    Parts { log, routes: Arc::new(config.routes.clone()), log_name, states, opener, sinks }
}

/// Where a sink writes what can be replayed.
fn archive_of(sink: &SinkConfig) -> Option<Location> {
    match &sink.kind {
        SinkKind::S3 { bucket, prefix, .. } => {
            Some(Location::S3 { bucket: bucket.clone(), prefix: prefix.trim_matches('/').to_owned() })
        }
        SinkKind::File { dir, .. } => Some(Location::Dir(dir.clone())),
        _ => None,
    }
}
