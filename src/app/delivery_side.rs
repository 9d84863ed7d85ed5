//! The delivery arbiter: the router and a delivery for each sink, apart from the log's thread.

use std::sync::Arc;

use actix::{Actor, Addr, Arbiter, ArbiterHandle};
use tokio::sync::oneshot;
use turnstiled_wal::LogReader;

use super::StartError;
use crate::{
    actors::{
        card_sync::{CardSync, CardSyncParts},
        deliveries::{Deliveries, Delivering},
        delivery::{DeliveryActor, DeliveryParts, stop::StopDelivery},
        disk::DiskBoard,
        feeds::Feeds,
        mirror::{MirrorActor, MirrorParts},
        replay::manager::{ReplaysActor, StopReplays},
        router::{RouterActor, RouterParts},
        sink_board::SinkBoard,
        sink_state::{SinkStateError, SinkStates},
    },
    config::{
        Config,
        sinks::{SinkConfig, SinkOrder, StartAt},
    },
    delivery::{outcome::Order, progress::Progress},
    domain::routes::RouteTable,
    metrics::Metrics,
    sinks::Sink,
    trace::Tracer,
};

/// A sink, where it goes on, and how much it has still to take.
#[derive(Debug)]
pub(super) struct OpenedSink {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) progress: Progress,
    pub(super) pending: u64,
}

/// What deliveries work with, all of them.
pub(super) struct Around<'a> {
    pub(super) log: &'a LogReader,
    pub(super) states: &'a SinkStates,
    pub(super) disk: &'a DiskBoard,
    pub(super) feeds: &'a Feeds,
    pub(super) metrics: &'a Metrics,
    pub(super) tracer: &'a Tracer,
}

/// The addresses of everything on the delivery arbiter.
#[derive(Debug)]
pub(super) struct DeliverySide {
    arbiter: Arbiter,
    pub(super) router: Addr<RouterActor>,
    pub(super) starter: Starter,
}

/// Starts deliveries, on the one thread of all of them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Starter {
    pub(super) arbiter: ArbiterHandle,
    pub(super) log: LogReader,
    pub(super) states: SinkStates,
    pub(super) board: SinkBoard,
    pub(super) disk: DiskBoard,
    pub(super) deliveries: Deliveries,
    pub(super) tracer: Tracer,
    pub(super) metrics: Metrics,
}

impl Starter {
    /// A delivery that goes on after `progress`, in place of an earlier one of the sink.
    pub(super) async fn start(
        &self,
        settings: &SinkConfig,
        sink: Arc<dyn Sink>,
        progress: Progress,
        routes: Arc<RouteTable>,
    ) -> Result<Addr<DeliveryActor>, StartError> {
        let (name, deliveries) = (settings.name.clone(), self.deliveries.clone());
        let (order, rate_limit) = (settings.order.map(order_of), settings.rate_limit);
        let parts = DeliveryParts {
            name: name.clone(),
            sink: Arc::clone(&sink),
            progress,
            order,
            rate_limit,
            log: self.log.clone(),
            routes,
            states: self.states.clone(),
            board: self.board.clone(),
            disk: self.disk.clone(),
            is_required: settings.required,
            tracer: self.tracer.clone(),
            seconds: self.metrics.sink_send_seconds.with_label_values(&[&name]),
        };
        let (started, address) = oneshot::channel();
        self.arbiter.spawn_fn(move || {
            let actor = DeliveryActor::new(parts).start();
            // before it runs: a mark that is set after its first look reaches it
            deliveries.set(&name, Delivering { actor: actor.clone(), sink, order, rate_limit });
            // Nobody to tell: the start was given up.
            let _ = started.send(actor);
        });
        address.await.map_err(|_| StartError::Arbiter("delivery"))
    }
}

impl DeliverySide {
    /// Starts with the sinks of the configuration, in its order.
    pub(super) async fn start(
        config: &Config,
        sinks: Vec<OpenedSink>,
        around: Around<'_>,
    ) -> Result<Self, StartError> {
        let Around { log, states, disk, feeds, metrics, tracer } = around;
        let arbiter = Arbiter::new();
        let starter = Starter {
            arbiter: arbiter.handle(),
            log: log.clone(),
            states: states.clone(),
            board: SinkBoard::new(config.sinks.iter().map(|sink| sink.name.clone()), log.clone()),
            disk: disk.clone(),
            deliveries: Deliveries::default(),
            tracer: tracer.clone(),
            metrics: metrics.clone(),
        };
        let routes = Arc::new(config.routes.clone());
        let mut deliveries = Vec::with_capacity(sinks.len());
        for (settings, OpenedSink { sink, progress, pending }) in config.sinks.iter().zip(sinks) {
            starter.board.accept(&settings.name, progress.totals.settled().saturating_add(pending));
            let delivery = starter.start(settings, sink, progress, Arc::clone(&routes)).await?;
            deliveries.push((settings.name.clone(), delivery));
        }
        let parts = RouterParts {
            log: log.clone(),
            routes,
            board: starter.board.clone(),
            disk: disk.clone(),
            feeds: feeds.clone(),
            metrics: metrics.clone(),
            tracer: tracer.clone(),
            sinks: deliveries,
        };
        let (started, address) = oneshot::channel();
        arbiter.spawn_fn(move || {
            // Nobody to tell: the start was given up.
            let _ = started.send(RouterActor::new(parts).start());
        });
        let router = address.await.map_err(|_| StartError::Arbiter("delivery"))?;
        Ok(Self { arbiter, router, starter })
    }

    /// Mirrors dead letters, on the same thread.
    pub(super) fn mirror(&self, mirror: MirrorParts) {
        self.arbiter.spawn_fn(move || drop(MirrorActor::new(mirror).start()));
    }

    /// Follows the queue of other servers' cards, on the same thread.
    pub(super) fn sync_cards(&self, sync: CardSyncParts) {
        self.arbiter.spawn(CardSync::new(sync).run());
    }

    /// Lets what was sent come back, writes every cursor, then ends the thread.
    pub(super) async fn stop(self, replays: Addr<ReplaysActor>) {
        // first, because they send by way of the deliveries
        let mut stopped = replays.send(StopReplays).await.unwrap_or_default();
        for delivery in self.starter.deliveries.all() {
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

fn order_of(order: SinkOrder) -> Order {
    match order {
        SinkOrder::None => Order::None,
        SinkOrder::PerKey => Order::PerKey,
        SinkOrder::Batch => Order::Batch,
    }
}

/// Where each sink goes on. Those that were never seen get their place at once, durably and together: from
/// now on every event that is for them counts. With `has_lost_state` they begin at the oldest event, whatever
/// their `from`: repeats are better than gaps. Nobody but their deliveries changes what is kept of them from now on.
pub(super) fn progress_of_all(
    sinks: &[SinkConfig],
    log: &LogReader,
    states: &SinkStates,
    has_lost_state: bool,
) -> Result<Vec<(String, Progress)>, StartError> {
    let mut claimed = states.claimed();
    claimed.extend(sinks.iter().map(|sink| sink.name.clone()));
    let (mut all, mut new) = (Vec::with_capacity(sinks.len()), Vec::new());
    let committed = log.committed();
    for sink in sinks {
        if let Some(progress) = states.progress(&sink.name)? {
            let reached = progress.reached();
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
    drop(claimed);
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
            warn_of_forgotten_sink(&name, progress.cursor);
        }
    }
    Ok(())
}

pub(super) fn warn_of_forgotten_sink(name: &str, cursor: u64) {
    tracing::warn!(
        sink = name,
        cursor,
        "the configuration no longer names this sink, and the log keeps every event after its cursor; if it will not \
         come back, DELETE /v1/sinks/{name}/cursor"
    );
}
