//! Hears of every commit, counts what the routes lead to each sink, and wakes the sinks it is for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, WrapFuture};
use tokio::task::yield_now;
use turnstiled_wal::LogReader;

use super::{
    delivery::{DeliveryActor, DetachIfBehind},
    disk::DiskBoard,
    log::LogGrew,
    sink_board::SinkBoard,
};
use crate::{
    domain::{record::EventRecord, routes::RouteTable},
    metrics::Metrics,
    space::Step,
};

/// Messages that may wait for the router: a commit that finds it full is seen with the next one.
pub const MAILBOX_MESSAGES: usize = 16;

/// Log records looked at before others on this thread have their turn.
const MAX_SCANNED_RECORDS: usize = 2_000;

/// Log bytes looked at at once.
const MAX_SCANNED_BYTES: usize = 4 << 20;

/// How often sinks that nothing was led to hear of the log's growth, so that their cursors follow.
const WAKE_ALL_EVERY: Duration = Duration::from_secs(1);

/// Matches routes, wakes sinks.
pub struct RouterActor {
    log: LogReader,
    routes: Arc<RouteTable>,
    board: SinkBoard,
    disk: DiskBoard,
    metrics: Metrics,
    sinks: HashMap<Arc<str>, Addr<DeliveryActor>>,
    scanned_to: u64,
    scanning: bool,
    is_stalled: bool,
}

/// What a router works with.
#[derive(Debug)]
pub struct RouterParts {
    /// Where events come from.
    pub log: LogReader,
    /// Where they go.
    pub routes: Arc<RouteTable>,
    /// Where they are counted.
    pub board: SinkBoard,
    /// How full the disk is.
    pub disk: DiskBoard,
    /// Where routes are counted.
    pub metrics: Metrics,
    /// The sinks. What the log holds for them already has been counted.
    pub sinks: Vec<(String, Addr<DeliveryActor>)>,
}

impl RouterActor {
    /// Counts from the log's end on.
    #[must_use]
    pub fn new(parts: RouterParts) -> Self {
        let RouterParts { log, routes, board, disk, metrics, sinks } = parts;
        let scanned_to = log.committed();
        for route in routes.routes() {
            metrics.route_events.with_label_values(&[&route.name]); // 0 is shown, too
        }
        let sinks = sinks.into_iter().map(|(name, delivery)| (name.into(), delivery)).collect();
        Self { log, routes, board, disk, metrics, sinks, scanned_to, scanning: false, is_stalled: false }
    }

    fn scan(&mut self, ctx: &mut Context<Self>) {
        self.scanning = false;
        let records = match self.log.read(self.scanned_to, MAX_SCANNED_RECORDS, MAX_SCANNED_BYTES) {
            Ok(records) => records,
            // The deliveries stall at the same place and say so; counting goes on when the log can be read.
            Err(error) => {
                if !std::mem::replace(&mut self.is_stalled, true) {
                    tracing::error!(%error, "the router cannot read the log; run `turnstiled wal verify`");
                }
                return;
            }
        };
        self.is_stalled = false;
        let mut by_type: HashMap<String, u64> = HashMap::new();
        for found in records {
            self.scanned_to = found.sequence;
            // The deliveries stall here and say so.
            let Ok(record) = EventRecord::parse(found.payload) else { continue };
            match by_type.get_mut(record.event_type()) {
                Some(events) => *events += 1,
                None => drop(by_type.insert(record.event_type().to_owned(), 1)),
            }
        }
        self.count(&by_type);
        if self.scanned_to < self.log.committed() {
            self.scan_soon(ctx);
        }
    }

    /// Counts events by type for their routes and sinks, and wakes those sinks.
    fn count(&self, by_type: &HashMap<String, u64>) {
        let mut led: HashMap<Arc<str>, u64> = HashMap::new();
        for (event_type, &events) in by_type {
            for route in self.routes.taken_by(event_type) {
                self.metrics.route_events.with_label_values(&[&route.name]).inc_by(events);
            }
            for destination in self.routes.sinks_for(event_type).iter() {
                *led.entry(Arc::clone(&destination.sink)).or_default() += events;
            }
        }
        for (name, events) in led {
            if let Some(delivery) = self.sinks.get(&name) {
                self.board.accept(&name, events);
                wake(delivery);
            }
        }
    }

    /// A full mailbox hears of it a second later.
    fn detach_those_behind(&self) {
        for (name, delivery) in &self.sinks {
            let accepted = self.board.accepted(name);
            let _ = delivery.try_send(DetachIfBehind { to: self.scanned_to, accepted });
        }
    }

    fn scan_soon(&mut self, ctx: &mut Context<Self>) {
        if !self.scanning {
            self.scanning = true;
            // Others on this thread have their turn first, their I/O and timers too.
            ctx.spawn(yield_now().into_actor(self).map(|(), actor, ctx| actor.scan(ctx)));
        }
    }
}

/// A full mailbox already holds such a message, and one is enough.
fn wake(delivery: &Addr<DeliveryActor>) {
    let _ = delivery.try_send(LogGrew);
}

impl Actor for RouterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
        self.scan_soon(ctx);
        ctx.run_interval(WAKE_ALL_EVERY, |actor, ctx| {
            actor.sinks.values().for_each(wake);
            if actor.disk.has_reached(Step::Detach) {
                actor.detach_those_behind();
            }
            if actor.scanned_to < actor.log.committed() {
                actor.scan_soon(ctx);
            }
        });
    }
}

impl Handler<LogGrew> for RouterActor {
    type Result = ();

    fn handle(&mut self, _: LogGrew, ctx: &mut Self::Context) {
        self.scan_soon(ctx);
    }
}
