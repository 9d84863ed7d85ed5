//! The delivery arbiter: the router and a delivery for each sink, apart from the log's thread.

use std::{collections::HashMap, sync::Arc};

use actix::{Actor, Addr, Arbiter, ArbiterHandle, Recipient};
use tokio::sync::oneshot;
use turnstiled_wal::LogReader;

use super::StartError;
use crate::{
    actors::{
        delivery::{DeliveryActor, DeliveryParts, StopDelivery},
        disk::DiskBoard,
        log::LogGrew,
        mirror::{MirrorActor, MirrorParts},
        replay::manager::{ReplaysActor, StopReplays},
        router::{RouterActor, RouterParts},
        sink_board::SinkBoard,
        sink_state::{SinkStateError, SinkStates},
    },
    config::{
        Config,
        sinks::{SinkConfig, StartAt},
    },
    delivery::progress::Progress,
    metrics::Metrics,
    sinks::Sink,
};

/// A sink, where it goes on, and how much it has still to take.
#[derive(Debug)]
pub(super) struct OpenedSink {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) progress: Progress,
    pub(super) pending: u64,
}

/// The addresses of everything on the delivery arbiter.
#[derive(Debug)]
pub(super) struct DeliverySide {
    arbiter: Arbiter,
    router: Addr<RouterActor>,
    /// By sink.
    pub(super) deliveries: HashMap<String, Addr<DeliveryActor>>,
    pub(super) board: SinkBoard,
}

impl DeliverySide {
    /// Starts with the sinks of the configuration, in its order, and the mirror of their dead letters, if there is one.
    pub(super) async fn start(
        config: &Config,
        sinks: Vec<OpenedSink>,
        log: &LogReader,
        states: &SinkStates,
        disk: &DiskBoard,
        metrics: &Metrics,
        mirror: Option<MirrorParts>,
    ) -> Result<Self, StartError> {
        let board = SinkBoard::new(config.sinks.iter().map(|sink| sink.name.clone()), log.clone());
        let routes = Arc::new(config.routes.clone());
        let mut parts = Vec::with_capacity(sinks.len());
        for (settings, OpenedSink { sink, progress, pending }) in config.sinks.iter().zip(sinks) {
            let totals = progress.totals;
            board.accept(&settings.name, totals.delivered + totals.dead + totals.discarded + pending);
            parts.push(DeliveryParts {
                name: settings.name.clone(),
                sink,
                progress,
                rate_limit: settings.rate_limit,
                log: log.clone(),
                routes: Arc::clone(&routes),
                states: states.clone(),
                board: board.clone(),
                disk: disk.clone(),
                is_required: settings.required,
            });
        }
        let arbiter = Arbiter::new();
        let (started, addresses) = oneshot::channel();
        let (log, router_board) = (log.clone(), board.clone());
        let (disk, metrics) = (disk.clone(), metrics.clone());
        arbiter.spawn_fn(move || {
            let sinks: Vec<_> = (parts.into_iter())
                .map(|part| (part.name.clone(), DeliveryActor::new(part).start()))
                .collect();
            let deliveries: HashMap<_, _> = sinks.iter().cloned().collect();
            let router = RouterParts { log, routes, board: router_board, disk, metrics, sinks };
            let router = RouterActor::new(router).start();
            if let Some(mirror) = mirror {
                MirrorActor::new(mirror).start();
            }
            // Nobody to tell: the start was given up.
            let _ = started.send((router, deliveries));
        });
        let (router, deliveries) = addresses.await.map_err(|_| StartError::Arbiter("delivery"))?;
        Ok(Self { arbiter, router, deliveries, board })
    }

    /// Who is told of every commit.
    pub(super) fn router(&self) -> Recipient<LogGrew> {
        self.router.clone().recipient()
    }

    /// Its thread, for others who deliver.
    pub(super) fn arbiter(&self) -> ArbiterHandle {
        self.arbiter.handle()
    }

    /// Lets what was sent come back, writes every cursor, then ends the thread.
    pub(super) async fn stop(self, replays: Addr<ReplaysActor>) {
        // first, because they send by way of the deliveries
        let mut stopped = replays.send(StopReplays).await.unwrap_or_default();
        for delivery in self.deliveries.values() {
            let (reply, done) = oneshot::channel();
            if delivery.send(StopDelivery { reply }).await.is_ok() {
                stopped.push(done);
            }
        }
        for done in stopped {
            // An error means that the delivery ended by itself; it has said so.
            let _ = done.await;
        }
        super::end(self.arbiter).await;
    }
}

/// Where each sink goes on. Those that were never seen get their place at once, durably and together: from
/// now on every event that is for them counts. With `has_lost_state` they begin at the oldest event, whatever
/// their `from`: repeats are better than gaps.
pub(super) fn progress_of_all(
    sinks: &[SinkConfig],
    log: &LogReader,
    states: &SinkStates,
    has_lost_state: bool,
) -> Result<Vec<(String, Progress)>, StartError> {
    let (mut all, mut new) = (Vec::with_capacity(sinks.len()), Vec::new());
    let committed = log.committed();
    for sink in sinks {
        if let Some(progress) = states.progress(&sink.name)? {
            let reached = progress.settled.last().map_or(progress.cursor, |&(_, last)| last);
            if reached > committed {
                return Err(StartError::CursorAhead { sink: sink.name.clone(), cursor: reached, committed });
            }
            let progress = skip_what_is_gone(&sink.name, progress, log, &mut new);
            all.push((sink.name.clone(), progress));
            continue;
        }
        let progress = Progress::starting_after(match sink.from {
            StartAt::Head if !has_lost_state => committed,
            StartAt::Head | StartAt::Oldest => log.first().saturating_sub(1),
        })
        .with_letters(&states.letter_sequences(&sink.name)?);
        new.push((sink.name.clone(), progress.clone()));
        all.push((sink.name.clone(), progress));
    }
    states.begin(&new)?;
    Ok(all)
}

/// A sink whose cursor lies before the log's beginning has a state that was restored from an older backup, or it was not
/// in the configuration while the disk was nearly full. What is gone cannot be delivered, and that is said.
fn skip_what_is_gone(
    sink: &str,
    progress: Progress,
    log: &LogReader,
    moved: &mut Vec<(String, Progress)>,
) -> Progress {
    let before_first = log.first().saturating_sub(1);
    // a repair has said what is missing
    if progress.cursor >= before_first || log.is_acknowledged(progress.cursor + 1..=before_first) {
        return progress;
    }
    let events = before_first - progress.cursor;
    tracing::error!(
        sink,
        events,
        cursor = progress.cursor,
        first = log.first(),
        "the log no longer has events that this sink may still have to take; it goes on with the first there is; \
         the archive has the others"
    );
    let progress = progress.skipped_to(before_first);
    moved.push((sink.to_owned(), progress.clone()));
    progress
}

/// A sink that the configuration no longer names may come back, so the log keeps events for it.
pub(super) fn warn_of_forgotten_sinks(
    sinks: &[SinkConfig],
    states: &SinkStates,
) -> Result<(), SinkStateError> {
    for (name, progress) in states.all()? {
        if !sinks.iter().any(|sink| sink.name == name) {
            tracing::warn!(
                sink = name,
                cursor = progress.cursor,
                "the configuration no longer names this sink, and the log keeps every event after its cursor; if it \
                 will not come back, DELETE /v1/sinks/{name}/cursor"
            );
        }
    }
    Ok(())
}
