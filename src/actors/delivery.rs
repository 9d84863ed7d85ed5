//! One sink's shell: reads the log for the delivery machine, sends what it says, keeps what it settles.

pub mod letters;
mod pace;
mod report;
pub mod retire;
pub mod spare;
pub mod stop;
mod traced;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use thiserror::Error;
use tokio::{sync::oneshot, task::yield_now};
use turnstiled_wal::{LogReader, ReadError};

use self::spare::Borrowers;
use super::{
    disk::DiskBoard,
    log::LogGrew,
    sink_board::{LastError, SinkBoard},
    sink_state::SinkStates,
};
use crate::{
    clock,
    delivery::{
        Outgoing,
        machine::{Config, Effect, Input, Machine, Now},
        notices::Notices,
        outcome::Order,
        patience::Patience,
        progress::{Detached, Progress, Settlement},
        slowness::Slowness,
    },
    domain::{
        outbound::{EditError, edit},
        record::{EventRecord, RecordError},
        routes::RouteTable,
    },
    metrics::Histogram,
    sinks::Sink,
    space::Step,
    trace::Tracer,
};

/// Messages that may wait for a delivery: a wake-up that finds it full is not needed.
pub const MAILBOX_MESSAGES: usize = 16;

/// Log records that one pull, or one read of a replay, looks at, matching or not, before others on this thread have
/// their turn.
pub(super) const MAX_SCANNED_RECORDS: usize = 1_000;

/// Log bytes that it looks at.
pub(super) const MAX_SCANNED_BYTES: usize = 4 << 20;

/// When to try again after the log could not be read.
const STALLED_RETRY: Duration = Duration::from_secs(30);

/// Delivers to one sink.
pub struct DeliveryActor {
    name: Arc<str>,
    sink: Arc<dyn Sink>,
    machine: Machine,
    log: LogReader,
    routes: Arc<RouteTable>,
    states: SinkStates,
    board: SinkBoard,
    disk: DiskBoard,
    is_required: bool,
    tracer: Tracer,
    last_detached: Option<Detached>,
    letters_were_full: bool,
    notices: Notices,
    slowness: Slowness,
    seconds: Histogram,
    patience: Patience,
    /// What waits for space beside the log. Until it is written nothing is sent.
    unwritten: Option<Settlement>,
    started: Instant,
    timer: Option<SpawnHandle>,
    borrowers: Borrowers,
    stopping: Option<oneshot::Sender<()>>,
    retiring: Option<oneshot::Sender<Progress>>,
}

/// What a delivery works with.
#[derive(Debug)]
pub struct DeliveryParts {
    /// The sink's name.
    pub name: String,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// Where it goes on.
    pub progress: Progress,
    /// What it keeps in order, if not what is usual for its sink.
    pub order: Option<Order>,
    /// Records per second at most.
    pub rate_limit: Option<std::num::NonZeroU32>,
    /// Where events come from.
    pub log: LogReader,
    /// Which of them are for this sink.
    pub routes: Arc<RouteTable>,
    /// Where progress and dead letters go.
    pub states: SinkStates,
    /// Who wants to know.
    pub board: SinkBoard,
    /// How the disk is.
    pub disk: DiskBoard,
    /// Whether the sink is never let go of.
    pub is_required: bool,
    /// Who records what is sent,
    pub tracer: Tracer,
    /// and counts how long that takes.
    pub seconds: Histogram,
}

/// The disk is nearly full: a sink that has held back for long what the log could drop, and is not required, lets go
/// of what it has not delivered. Once a second.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct DetachIfBehind {
    /// The last sequence that the router has counted.
    pub to: u64,
    /// What it has counted for this sink, up to there.
    pub accepted: u64,
}

#[derive(Debug, Error)]
enum PullError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("sequence {sequence}: {source}")]
    Record { sequence: u64, source: RecordError },
    #[error("sequence {sequence}: {source}")]
    Edit { sequence: u64, source: EditError },
}

impl DeliveryActor {
    /// Goes on where `parts.progress` ends.
    #[must_use]
    pub fn new(parts: DeliveryParts) -> Self {
        let DeliveryParts {
            name,
            sink,
            progress,
            order,
            rate_limit,
            log,
            routes,
            states,
            board,
            disk,
            is_required,
            tracer,
            seconds,
        } = parts;
        let limits = sink.limits().with_order(order);
        let config = Config { rate_per_second: rate_limit, ..Config::for_batches(&limits) };
        let machine = Machine::new(limits, &progress, config);
        board.set(&name, machine.status()); // true from the first look
        sink.settled(progress.cursor);
        Self {
            name: name.into(),
            sink,
            machine,
            log,
            routes,
            states,
            board,
            disk,
            is_required,
            tracer,
            last_detached: progress.detached.last().copied(),
            letters_were_full: false,
            notices: Notices::default(),
            slowness: Slowness::default(),
            seconds,
            patience: Patience::default(),
            unwritten: None,
            started: Instant::now(),
            timer: None,
            borrowers: Borrowers::default(),
            stopping: None,
            retiring: None,
        }
    }

    fn feed(&mut self, input: Input, ctx: &mut Context<Self>) {
        let unix_ms = u64::try_from(clock::wall().as_millis()).unwrap_or(0);
        let now = Now { elapsed: self.started.elapsed(), unix_ms };
        for effect in self.machine.handle(input, now, &mut random) {
            match effect {
                Effect::Pull { after, max_records, max_bytes } => {
                    self.pull(after, max_records, max_bytes, ctx)
                }
                Effect::Send { batch, records } => {
                    let sent = self.send_traced(Arc::clone(&self.sink), records).into_actor(self);
                    ctx.spawn(sent.map(move |sent, actor, ctx| {
                        let outcomes = actor.note_pace(sent);
                        actor.feed(Input::Finished { batch, outcomes }, ctx);
                    }));
                }
                Effect::WakeAt(at) => self.wake_at(at, ctx),
                Effect::Settle(settlement) => self.settle(settlement),
                Effect::PullLetters { after, max_letters } => self.pull_letters(after, max_letters, ctx),
            }
        }
        let status = self.machine.status();
        self.report(&status);
        self.board.set(&self.name, status);
        self.lend(ctx);
        self.end_if_idle(ctx);
    }

    fn wake_at(&mut self, at: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let wait = at.saturating_sub(self.started.elapsed());
        self.timer = Some(ctx.run_later(wait, |actor, ctx| {
            actor.timer = None;
            actor.feed(Input::Tick, ctx);
        }));
    }

    /// An event that cannot be read is not passed over: the sink stalls, is shown as open, and tries again.
    fn pull(&mut self, after: u64, max_records: usize, max_bytes: usize, ctx: &mut Context<Self>) {
        match self.read(after, max_records, max_bytes) {
            Ok(pulled) => {
                if self.unwritten.is_none() {
                    self.board.set_stalled(&self.name, None);
                }
                // Others on this thread have their turn first, their I/O and timers too.
                ctx.spawn(yield_now().into_actor(self).map(|(), actor, ctx| actor.feed(pulled, ctx)));
            }
            Err(error) => {
                tracing::error!(sink = %self.name, %error, "the log cannot be read for this sink; run `turnstiled wal verify`");
                self.stalled("log_unreadable", error.to_string());
                ctx.run_later(STALLED_RETRY, move |actor, ctx| {
                    if actor.machine.status().scanned_to == after {
                        actor.pull(after, max_records, max_bytes, ctx);
                    } else {
                        // what it could not read was given up meanwhile: it is to pull what comes after that
                        actor.feed(Input::Pulled { records: Vec::new(), scanned_to: after }, ctx);
                    }
                });
            }
        }
    }

    fn read(&self, after: u64, max_records: usize, max_bytes: usize) -> Result<Input, PullError> {
        let (mut records, mut scanned_to, mut bytes) = (Vec::new(), after, 0_usize);
        for found in self.log.read(after, MAX_SCANNED_RECORDS, MAX_SCANNED_BYTES)? {
            let sequence = found.sequence;
            let record =
                EventRecord::parse(found.payload).map_err(|source| PullError::Record { sequence, source })?;
            if let Some(form) = self.routes.form_for(record.event_type(), &self.name) {
                let body = edit(&record.json(), &form, &found.previous_hash)
                    .map_err(|source| PullError::Edit { sequence, source })?;
                let is_full = records.len() >= max_records || bytes.saturating_add(body.len()) > max_bytes;
                if is_full && !records.is_empty() {
                    break;
                }
                bytes += body.len();
                records.push(Outgoing { sequence, record, body, trace: None });
            }
            scanned_to = sequence;
        }
        Ok(Input::Pulled { records, scanned_to })
    }

    fn stalled(&self, code: &str, text: String) {
        let why = LastError { at: clock::wall(), code: code.to_owned(), text };
        self.board.set_stalled(&self.name, Some(why));
    }

    /// Writes it, or what waits for space together with it. A write that fails costs the process, so none is tried
    /// on a full disk: the sink rests until there is space. What is not written is sent again after a restart.
    fn settle(&mut self, settlement: Settlement) {
        self.report_dead(&settlement);
        let is_waiting = self.unwritten.is_some();
        let settlement = match self.unwritten.take() {
            Some(before) => before.then(settlement),
            None => settlement,
        };
        if !self.disk.has_room_for_state(settlement.bytes()) {
            if !is_waiting {
                tracing::error!(sink = %self.name, "the disk is full: this sink rests until its progress can be written; free some space");
            }
            self.stalled(
                "disk_full",
                "the disk is full: progress cannot be written, deliveries rest".to_owned(),
            );
            self.machine.drain();
            self.unwritten = Some(settlement);
            return;
        }
        if is_waiting {
            tracing::info!(sink = %self.name, "the disk has space again: this sink goes on");
            self.board.set_stalled(&self.name, None);
            if !self.is_ending() {
                self.machine.resume();
            }
        }
        if let Err(error) = self.states.settle(&self.name, &settlement) {
            tracing::error!(sink = %self.name, %error, "progress cannot be written; the server stops and goes on from disk at its next start");
            std::process::exit(1);
        }
        self.sink.settled(settlement.progress.cursor);
    }

    fn is_ending(&self) -> bool {
        self.stopping.is_some() || self.retiring.is_some()
    }

    fn end_if_idle(&mut self, ctx: &mut Context<Self>) {
        if self.machine.status().in_flight > 0 || self.borrowers.is_lent() {
            return;
        }
        if self.stopping.is_some() {
            self.stop();
        } else if self.retiring.is_some() {
            self.retire(ctx);
        }
    }
}

/// Uniform in `0.0..1.0`. Without randomness retries are not spread, which costs nothing but politeness.
pub(super) fn random() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}

impl Actor for DeliveryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
        self.feed(Input::Tick, ctx);
        self.letters_go_on(ctx);
    }
}

impl Handler<LogGrew> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, _: LogGrew, ctx: &mut Self::Context) {
        if !self.disk.has_reached(Step::Detach) {
            self.patience.renew();
        }
        if self.unwritten.is_some() {
            let more = self.machine.flush();
            self.settle(more);
            if self.unwritten.is_none() {
                self.letters_go_on(ctx);
            }
        }
        self.feed(Input::LogGrew, ctx);
    }
}

impl Handler<DetachIfBehind> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, DetachIfBehind { to, accepted }: DetachIfBehind, ctx: &mut Self::Context) {
        if self.is_required || self.unwritten.is_some() {
            return self.patience.renew();
        }
        if self.patience.is_over(self.machine.status().cursor, self.disk.trimmable_below()) {
            self.feed(Input::Detach { to, accepted }, ctx);
        }
    }
}
