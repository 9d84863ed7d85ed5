//! Replays: on the delivery arbiter, beside the deliveries that they send through.

use std::{collections::HashMap, sync::Arc};

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
            manager::{ReplaySink, ReplaysActor, ReplaysParts},
            prepare::{Parts, ReplayPlaces},
        },
        sink_state::SinkStates,
    },
    config::{
        Config,
        sinks::{SinkConfig, SinkKind},
    },
    metrics::Metrics,
    sinks::{Sink, archive::Location},
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
    /// In the order of the configuration.
    pub(super) sinks: Vec<Arc<dyn Sink>>,
    /// Whose events are replayed.
    pub(super) server: String,
    pub(super) log: LogReader,
    pub(super) states: SinkStates,
    pub(super) disk: DiskBoard,
    pub(super) metrics: Metrics,
}

impl ReplaySide {
    /// Those that a stop or a crash has interrupted go on.
    pub(super) async fn start(config: &Config, beside: Beside<'_>) -> Result<Self, StartError> {
        let Beside { delivery, sinks, server, log, states, disk, metrics } = beside;
        let archives = config.sinks.iter().map(|sink| (sink.name.clone(), archive_of(sink))).collect();
        let opened_by = config.clone();
        let opener =
            ArchiveOpener::new(move |location| open_archive(location, sink_of(&opened_by, location)));
        let routes = Arc::new(config.routes.clone());
        let places = ReplayPlaces::new(Parts { log, routes, server, opener, sinks: archives });
        let sinks = config.sinks.iter().zip(sinks).filter_map(|(settings, sink)| {
            let delivery = delivery.deliveries.get(&settings.name)?.clone();
            Some((settings.name.clone(), ReplaySink { delivery, sink }))
        });
        let sinks: HashMap<_, _> = sinks.collect();
        let (board, found) = (ReplayBoard::default(), states.replays()?);
        let parts = ReplaysParts {
            places: places.clone(),
            sinks,
            states,
            board: board.clone(),
            disk,
            metrics,
            found,
        };
        let (started, address) = oneshot::channel();
        delivery.arbiter().spawn_fn(move || {
            // Nobody to tell: the start was given up.
            let _ = started.send(ReplaysActor::new(parts).start());
        });
        let replays = address.await.map_err(|_| StartError::Arbiter("delivery"))?;
        Ok(Self { places, board, replays })
    }
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
