//! Replays: on the delivery arbiter, beside the deliveries that they send through.

use std::{collections::HashMap, sync::Arc};

use actix::{Actor, Addr};
use tokio::sync::oneshot;
use turnstiled_wal::LogReader;

use super::{StartError, delivery_side::DeliverySide};
use crate::{
    actors::{
        disk::DiskBoard,
        replay::{
            board::ReplayBoard,
            manager::{ReplaysActor, ReplaysParts},
            prepare::{Parts, ReplayPlaces},
        },
        sink_state::SinkStates,
    },
    config::{
        Config,
        sinks::{SinkConfig, SinkKind},
    },
    delivery::outcome::BatchLimits,
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
    /// What each sink takes at once, in the order of the configuration.
    pub(super) limits: Vec<BatchLimits>,
    pub(super) log: LogReader,
    pub(super) states: SinkStates,
    pub(super) disk: DiskBoard,
    pub(super) metrics: Metrics,
}

impl ReplaySide {
    /// Those that a stop or a crash has interrupted go on.
    pub(super) async fn start(config: &Config, beside: Beside<'_>) -> Result<Self, StartError> {
        let Beside { delivery, limits, log, states, disk, metrics } = beside;
        let sinks = config.sinks.iter().map(|sink| (sink.name.clone(), archive_of(sink))).collect();
        let places = ReplayPlaces::new(Parts { log, routes: Arc::new(config.routes.clone()), sinks });
        let with_limits = config.sinks.iter().zip(limits).filter_map(|(sink, limits)| {
            let delivery = delivery.deliveries.get(&sink.name)?;
            Some((sink.name.clone(), (delivery.clone(), limits)))
        });
        let sinks: HashMap<_, _> = with_limits.collect();
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
