//! The delivery arbiter: the router and a delivery for each sink, apart from the log's thread.

use std::sync::Arc;

use actix::{Actor, Addr, Arbiter, Recipient};
use tokio::sync::oneshot;
use turnstiled_wal::LogReader;

use super::StartError;
use crate::{
    actors::{
        delivery::{DeliveryActor, DeliveryParts, StopDelivery},
        log::LogGrew,
        router::{RouterActor, RouterParts},
        sink_board::SinkBoard,
        sink_state::SinkStates,
    },
    config::{
        Config,
        sinks::{SinkConfig, StartAt},
    },
    delivery::progress::{Progress, Settlement},
    sinks::Sink,
};

/// The addresses of everything on the delivery arbiter.
#[derive(Debug)]
pub(super) struct DeliverySide {
    arbiter: Arbiter,
    router: Addr<RouterActor>,
    deliveries: Vec<Addr<DeliveryActor>>,
    pub(super) board: SinkBoard,
}

impl DeliverySide {
    /// Starts with the sinks of the configuration, in its order.
    pub(super) async fn start(
        config: &Config,
        sinks: Vec<Arc<dyn Sink>>,
        log: &LogReader,
        states: &SinkStates,
    ) -> Result<Self, StartError> {
        let board = SinkBoard::new(config.sinks.iter().map(|sink| sink.name.clone()), log.clone());
        let routes = Arc::new(config.routes.clone());
        let mut parts = Vec::with_capacity(sinks.len());
        for (settings, sink) in config.sinks.iter().zip(sinks) {
            parts.push(DeliveryParts {
                name: settings.name.clone(),
                sink,
                progress: progress(settings, log, states)?,
                rate_limit: settings.rate_limit,
                log: log.clone(),
                routes: Arc::clone(&routes),
                states: states.clone(),
                board: board.clone(),
            });
        }
        let arbiter = Arbiter::new();
        let (started, addresses) = oneshot::channel();
        let (log, router_board) = (log.clone(), board.clone());
        arbiter.spawn_fn(move || {
            let sinks: Vec<_> = (parts.into_iter())
                .map(|part| {
                    let (name, progress) = (part.name.clone(), part.progress.clone());
                    (name, DeliveryActor::new(part).start(), progress)
                })
                .collect();
            let deliveries: Vec<_> = sinks.iter().map(|(_, delivery, _)| delivery.clone()).collect();
            let router = RouterActor::new(RouterParts { log, routes, board: router_board, sinks }).start();
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

    /// Lets what was sent come back, writes every cursor, then ends the thread.
    pub(super) async fn stop(self) {
        let mut stopped = Vec::with_capacity(self.deliveries.len());
        for delivery in &self.deliveries {
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

/// Where a sink goes on. A sink that was never seen gets its place at once, durably: from now on every
/// event that is for it counts.
fn progress(sink: &SinkConfig, log: &LogReader, states: &SinkStates) -> Result<Progress, StartError> {
    let committed = log.committed();
    if let Some(progress) = states.progress(&sink.name)? {
        let reached = progress.settled.last().map_or(progress.cursor, |&(_, last)| last);
        if reached > committed {
            return Err(StartError::CursorAhead { sink: sink.name.clone(), cursor: reached, committed });
        }
        return Ok(progress);
    }
    let progress = Progress::starting_after(match sink.from {
        StartAt::Head => committed,
        StartAt::Oldest => log.first().saturating_sub(1),
    });
    states.settle(&sink.name, &Settlement { progress: progress.clone(), dead: vec![] })?;
    Ok(progress)
}
