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
    /// The sinks. What the log holds for them already has been counted.
    pub sinks: Vec<(String, Addr<DeliveryActor>)>,
}

impl RouterActor {
    /// Counts from the log's end on.
    #[must_use]
    pub fn new(parts: RouterParts) -> Self {
        let RouterParts { log, routes, board, disk, sinks } = parts;
        let scanned_to = log.committed();
        let sinks = sinks.into_iter().map(|(name, delivery)| (name.into(), delivery)).collect();
        Self { log, routes, board, disk, sinks, scanned_to, scanning: false, is_stalled: false }
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
        let mut counts: HashMap<Arc<str>, u64> = HashMap::new();
        for found in records {
            self.scanned_to = found.sequence;
            // The deliveries stall here and say so.
            let Ok(record) = EventRecord::parse(found.payload) else { continue };
            for destination in self.routes.sinks_for(record.event_type()).iter() {
                if self.sinks.contains_key(&destination.sink) {
                    *counts.entry(Arc::clone(&destination.sink)).or_default() += 1;
                }
            }
        }
        for (name, events) in counts {
            self.board.accept(&name, events);
            if let Some(delivery) = self.sinks.get(&name) {
                wake(delivery);
            }
        }
        if self.scanned_to < self.log.committed() {
            self.scan_soon(ctx);
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
