//! Hears of every commit, counts what the routes lead to each sink, and wakes the sinks it is for.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::{sync::oneshot, task::yield_now};
use turnstiled_wal::LogReader;

use super::{
    delivery::{DeliveryActor, DetachIfBehind},
    disk::DiskBoard,
    feeds::Feeds,
    log::LogGrew,
    sink_board::SinkBoard,
};
use crate::{
    domain::{record::EventRecord, routes::RouteTable, trace::TraceContext},
    metrics::Metrics,
    space::Step,
    trace::{
        Annotations, Tracer,
        record::{Times, routed},
    },
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
    feeds: Feeds,
    metrics: Metrics,
    tracer: Tracer,
    lanes: HashMap<String, Lane>,
    joining: Vec<Join>,
    scanned_to: u64,
    scanning: bool,
    is_stalled: bool,
}

/// The way to one sink.
struct Lane {
    delivery: Addr<DeliveryActor>,
    /// What leads there. While a reload goes on, sinks may be at different tables.
    routes: Arc<RouteTable>,
    /// Events since the lane was laid, while those before it are still being counted.
    uncounted: Option<u64>,
}

/// Lay a lane to a delivery, also in place of an earlier one. The reply is the sequence up to which somebody else counts
/// what is for this sink; what comes after that is counted here.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Join {
    /// The sink.
    pub name: String,
    /// Who delivers.
    pub delivery: Addr<DeliveryActor>,
    /// What leads there.
    pub routes: Arc<RouteTable>,
    /// The last sequence that the delivery had settled when it began: only from there on it is known what is pending.
    pub reached: u64,
    /// The reply.
    pub reply: oneshot::Sender<u64>,
}

/// What a sink has accepted up to the sequence that [`Join`] was answered with.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Counted {
    /// The sink.
    pub name: String,
    /// Settled and pending ones.
    pub accepted: u64,
}

/// A sink is no longer there.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave(pub String);

/// Count events for these routes from now on. Which of them lead to a sink its lane says.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetRoutes(pub Arc<RouteTable>);

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
    /// Who looks on.
    pub feeds: Feeds,
    /// Where routes are counted.
    pub metrics: Metrics,
    /// Who records where events were led to.
    pub tracer: Tracer,
    /// The sinks. What the log holds for them already has been counted.
    pub sinks: Vec<(String, Addr<DeliveryActor>)>,
}

impl RouterActor {
    /// Counts from the log's end on.
    #[must_use]
    pub fn new(parts: RouterParts) -> Self {
        let RouterParts { log, routes, board, disk, feeds, metrics, tracer, sinks } = parts;
        let scanned_to = log.committed();
        metrics.set_routes([].into_iter(), names(&routes));
        let lane = |delivery| Lane { delivery, routes: Arc::clone(&routes), uncounted: None };
        let lanes = sinks.into_iter().map(|(name, delivery)| (name, lane(delivery))).collect();
        Self {
            log,
            routes,
            board,
            disk,
            feeds,
            metrics,
            tracer,
            lanes,
            joining: Vec::new(),
            scanned_to,
            scanning: false,
            is_stalled: false,
        }
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
        let (mut by_type, mut traced) = (HashMap::<String, u64>::new(), Vec::new());
        let from = SystemTime::now();
        for found in records {
            self.scanned_to = found.sequence;
            // The deliveries stall here and say so.
            let Ok(record) = EventRecord::parse(found.payload) else { continue };
            match by_type.get_mut(record.event_type()) {
                Some(events) => *events += 1,
                None => drop(by_type.insert(record.event_type().to_owned(), 1)),
            }
            if self.tracer.is_on()
                && let Some(trace) = TraceContext::of_recorded_event(&record.json())
            {
                traced.push((trace, record));
            }
        }
        self.count(&by_type);
        self.board.set_routed(self.scanned_to);
        self.trace(&traced, from);
        if self.scanned_to < self.log.committed() {
            self.scan_soon(ctx);
        }
    }

    fn trace(&self, events: &[(TraceContext, EventRecord)], from: SystemTime) {
        let times = Times { from, to: SystemTime::now() };
        for (trace, event) in events {
            let lanes = self.lanes.iter();
            let led = lanes.filter(|(name, lane)| lane.routes.form_for(event.event_type(), name).is_some());
            let mut sinks: Vec<&str> = led.map(|(name, _)| name.as_str()).collect();
            sinks.sort_unstable();
            let annotations = Annotations::of_event(event, self.tracer.annotates_ids());
            self.tracer.record(routed(*trace, annotations, &sinks, times));
        }
    }

    /// Counts events by type for their routes and sinks, and wakes those sinks.
    fn count(&mut self, by_type: &HashMap<String, u64>) {
        for (event_type, &events) in by_type {
            for route in self.routes.taken_by(event_type) {
                self.metrics.route_events.with_label_values(&[&route.name]).inc_by(events);
            }
        }
        for (name, lane) in &mut self.lanes {
            let is_led = |event_type: &str| lane.routes.form_for(event_type, name).is_some();
            let led = by_type.iter().filter(|(event_type, _)| is_led(event_type));
            let events: u64 = led.map(|(_, events)| events).sum();
            if events == 0 {
                continue;
            }
            match &mut lane.uncounted {
                Some(uncounted) => *uncounted = uncounted.saturating_add(events),
                None => self.board.accept(name, events),
            }
            wake(&lane.delivery);
        }
        self.let_join();
    }

    /// Those whose deliveries are not ahead of what is counted here.
    fn let_join(&mut self) {
        let scanned_to = self.scanned_to;
        for Join { name, delivery, routes, reply, .. } in
            self.joining.extract_if(.., |join| join.reached <= scanned_to)
        {
            wake(&delivery);
            self.lanes.insert(name, Lane { delivery, routes, uncounted: Some(0) });
            // An error: the server stops.
            let _ = reply.send(scanned_to);
        }
    }

    /// A full mailbox hears of it a second later.
    fn detach_those_behind(&self) {
        for (name, lane) in self.lanes.iter().filter(|(_, lane)| lane.uncounted.is_none()) {
            let accepted = self.board.accepted(name);
            let _ = lane.delivery.try_send(DetachIfBehind { to: self.scanned_to, accepted });
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

fn names(routes: &RouteTable) -> impl Iterator<Item = &str> {
    routes.routes().iter().map(|route| route.name.as_str())
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
            actor.lanes.values().for_each(|lane| wake(&lane.delivery));
            actor.feeds.wake();
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
        self.feeds.wake();
        self.scan_soon(ctx);
    }
}

impl Handler<Join> for RouterActor {
    type Result = ();

    fn handle(&mut self, join: Join, ctx: &mut Self::Context) {
        self.joining.push(join);
        self.let_join();
        self.scan_soon(ctx);
    }
}

impl Handler<Counted> for RouterActor {
    type Result = ();

    fn handle(&mut self, Counted { name, accepted }: Counted, _: &mut Self::Context) {
        if let Some(lane) = self.lanes.get_mut(&name) {
            let since = lane.uncounted.take().unwrap_or(0);
            self.board.set_accepted(&name, accepted.saturating_add(since));
        }
    }
}

impl Handler<Leave> for RouterActor {
    type Result = ();

    fn handle(&mut self, Leave(name): Leave, _: &mut Self::Context) {
        self.lanes.remove(&name);
    }
}

impl Handler<SetRoutes> for RouterActor {
    type Result = ();

    fn handle(&mut self, SetRoutes(routes): SetRoutes, _: &mut Self::Context) {
        self.metrics.set_routes(names(&self.routes), names(&routes));
        self.routes = routes;
    }
}
