//! A replay: a source and a named, durable cursor on a delivery machine of its own. It sends through its sink's
//! delivery, which lends it a place when the live stream has no use for it.
//!
//! [`record`] is what is kept of it, [`board`] what is seen of it, [`prepare`] what may be asked for, [`manager`] who
//! begins and ends them; `source` reads, from [`wal`] or an [`archive`];
//! [`state_check`] sends nothing and compares with the live state instead.

pub mod archive;
pub mod board;
pub mod manager;
pub mod prepare;
pub mod record;
pub mod reload;
mod source;
pub mod state_check;
pub mod wal;

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture,
};
use tokio::{sync::oneshot, task::spawn_blocking};

use self::{
    board::{ReplayBoard, ReplayReport},
    record::{RECORD_BYTES, ReplayRecord, ReplayState},
    source::{Objects, Read, Source, SourceError},
};
use super::{
    deliveries::Delivering,
    delivery::{random, spare::SendSpare},
    disk::DiskBoard,
    sink_board::LastError,
    sink_state::SinkStates,
};
use crate::{
    clock,
    delivery::{
        Outgoing,
        machine::{BatchId, Config, Effect, Input, Machine, Now},
        outcome::{BatchLimits, Order, Outcome},
        progress::Settlement,
    },
    metrics::Metrics,
    sinks::Sink,
};

/// Messages that may wait for a replay.
const MAILBOX_MESSAGES: usize = 16;
/// When to try again after the source could not be read.
const STALLED_RETRY: Duration = Duration::from_secs(30);
/// When to try again after the delivery did not send a batch.
const NOT_SENT_RETRY: Duration = Duration::from_secs(1);
/// When to look again whether there is space to write the cursor.
const DISK_RETRY: Duration = Duration::from_secs(1);
/// How long a clean stop waits for what was sent already.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a batch waits for company: the source is at hand, unlike turnstiles.
const MAX_LINGER: Duration = Duration::from_secs(1);
/// What a dry run takes at once.
const DRY_RUN_LIMITS: BatchLimits = BatchLimits {
    max_records: 4_096,
    max_bytes: 4 << 20,
    record_overhead_bytes: 0,
    linger: Duration::ZERO,
    max_in_flight: 1,
    order: Order::None,
};

/// Sends the events of one replay.
struct ReplayActor {
    record: ReplayRecord,
    source: Source,
    /// `None`: a dry run.
    target: Option<Delivering>,
    /// A sink for this replay alone, if the target needs that.
    own_sink: Option<Arc<dyn Sink>>,
    machine: Machine,
    shared: Shared,
    /// Where the source ends, once that is read.
    end: Option<u64>,
    objects: Option<Objects>,
    /// The record is not written as it is: there was no space.
    is_unwritten: bool,
    stalled: Option<LastError>,
    started: Instant,
    timer: Option<SpawnHandle>,
    stopping: Option<oneshot::Sender<()>>,
    /// It is deleted: nothing of it is shown or written any more.
    is_cancelled: bool,
}

/// What every replay works with.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) states: SinkStates,
    pub(super) board: ReplayBoard,
    pub(super) disk: DiskBoard,
    pub(super) metrics: Metrics,
}

/// Sends nothing more; the reply comes when what was sent is answered and written down.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StopReplay {
    /// Waits for what was sent however long it takes.
    pub(super) is_patient: bool,
    pub(super) reply: oneshot::Sender<()>,
}

/// Ends at once and writes nothing more.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct CancelReplay;

impl ReplayActor {
    /// Goes on where `record` ends. Without a target it is a dry run.
    pub(super) fn new(
        record: ReplayRecord,
        source: Source,
        target: Option<Delivering>,
        shared: Shared,
    ) -> Self {
        let limits = target.as_ref().map_or(DRY_RUN_LIMITS, |target| {
            let limits = target.sink.limits().with_order(target.order);
            BatchLimits {
                max_in_flight: 1,
                linger: limits.linger.min(MAX_LINGER),
                max_records: limits.max_records.min(batch_records([record.order.rate, target.rate_limit])),
                ..limits
            }
        });
        let rate_per_second = record.order.rate.filter(|_| target.is_some());
        // what is refused is counted, and stays in the source: there are no letters that could be too many
        let config = Config { rate_per_second, max_dead_letters: u64::MAX, ..Config::for_batches(&limits) };
        let machine = Machine::new(limits, &record.progress, config);
        let own_sink = target.as_ref().and_then(|target| target.sink.for_replay(record.name.as_str()));
        Self {
            record,
            source,
            target,
            own_sink,
            machine,
            shared,
            end: None,
            objects: None,
            is_unwritten: false,
            stalled: None,
            started: Instant::now(),
            timer: None,
            stopping: None,
            is_cancelled: false,
        }
    }

    fn feed(&mut self, input: Input, ctx: &mut Context<Self>) {
        if self.is_cancelled {
            return;
        }
        let unix_ms = u64::try_from(clock::wall().as_millis()).unwrap_or(0);
        let now = Now { elapsed: self.started.elapsed(), unix_ms };
        for effect in self.machine.handle(input, now, &mut random) {
            match effect {
                Effect::Pull { after, max_records, max_bytes } => {
                    self.pull(after, max_records, max_bytes, ctx)
                }
                Effect::Send { batch, records } => self.send(batch, records, ctx),
                Effect::WakeAt(at) => self.wake_at(at, ctx),
                Effect::Settle(settlement) => self.settle(settlement, ctx),
                // it has none
                Effect::PullLetters { .. } => {}
            }
        }
        self.finish_if_over(ctx);
        self.show();
        self.stop_if_idle(ctx);
    }

    fn show(&self) {
        let status = self.machine.status();
        let status = (self.record.state == ReplayState::Running).then_some(&status);
        let report = ReplayReport::of(&self.record, status, self.stalled.as_ref());
        self.shared.board.set(ReplayReport { objects: self.objects, ..report });
    }

    fn pull(&mut self, after: u64, max_records: usize, max_bytes: usize, ctx: &mut Context<Self>) {
        // there is no more, and what is under way will end it
        if self.end.is_some_and(|end| after >= end) {
            return;
        }
        let source = self.source.clone();
        let read = async move {
            let read = spawn_blocking(move || source.read(after, max_records, max_bytes));
            read.await.unwrap_or_else(|error| Err(SourceError::Thread(error.to_string())))
        };
        ctx.spawn(read.into_actor(self).map(move |read, actor, ctx| match read {
            Ok(read) => actor.take_in(read, ctx),
            Err(error) => {
                tracing::error!(replay = %actor.record.name, %error, "the source of this replay cannot be read; it is tried again");
                actor.stall("source_unreadable", error.to_string());
                actor.show();
                ctx.run_later(STALLED_RETRY, move |actor, ctx| actor.pull(after, max_records, max_bytes, ctx));
            }
        }));
    }

    fn take_in(&mut self, read: Read, ctx: &mut Context<Self>) {
        let Read { records, scanned_to, is_end, trimmed, found, objects, nothing_there } = read;
        self.record.found(found);
        self.objects = objects;
        if let Some(range) = trimmed {
            tracing::error!(replay = %self.record.name, first = range.first, last = range.last, "events that this replay had still to send are no longer in the log; the archive has them");
            self.record.trimmed(range);
        }
        if is_end {
            self.end = Some(scanned_to);
        }
        if let Some(nothing) = nothing_there {
            tracing::error!(replay = %self.record.name, from = self.record.order.from, "the source {nothing}");
            self.record.error = Some(format!("{} {nothing}", self.record.order.from));
        }
        if !self.is_unwritten {
            self.stalled = None;
        }
        self.feed(Input::Pulled { records, scanned_to }, ctx);
    }

    fn send(&self, batch: BatchId, records: Vec<Outgoing>, ctx: &mut Context<Self>) {
        let delivery = self.target.as_ref().map(|target| target.actor.clone());
        let (by, count) = (self.own_sink.clone(), records.len());
        let sent = async move {
            let Some(delivery) = delivery else {
                tokio::task::yield_now().await;
                return Some(vec![Outcome::Delivered; count]);
            };
            let (reply, outcomes) = oneshot::channel();
            delivery.send(SendSpare { records, by, reply }).await.ok()?;
            outcomes.await.ok()
        };
        ctx.spawn(sent.into_actor(self).map(move |outcomes, actor, ctx| {
            // the delivery ends, and so does this, or another one takes its place: it was not sent
            let outcomes = outcomes.unwrap_or_else(|| vec![Outcome::Later(NOT_SENT_RETRY); count]);
            actor.feed(Input::Finished { batch, outcomes }, ctx);
        }));
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

    fn settle(&mut self, settlement: Settlement, ctx: &mut Context<Self>) {
        for dead in &settlement.dead {
            let code = &dead.trouble.code;
            tracing::warn!(replay = %self.record.name, code, "the service calls a replayed event invalid; it stays where it was read from");
            self.record.refused(dead);
        }
        if !self.record.order.dry_run {
            let (before, now) = (self.record.progress.totals, settlement.progress.totals);
            let label = &[self.record.order.to.as_str()];
            let metrics = &self.shared.metrics;
            let delivered = now.delivered.saturating_sub(before.delivered);
            metrics.replayed.with_label_values(label).inc_by(delivered);
            let refused = now.dead.saturating_sub(before.dead);
            metrics.replay_refused.with_label_values(label).inc_by(refused);
        }
        self.record.at = self.source.place_of(settlement.progress.cursor);
        self.record.progress = settlement.progress;
        self.write(ctx);
    }

    /// A write that fails costs the process, so none is tried on a full disk: the replay rests until there is space.
    fn write(&mut self, ctx: &mut Context<Self>) {
        if !self.shared.disk.has_room_for_state(RECORD_BYTES) {
            if !std::mem::replace(&mut self.is_unwritten, true) {
                let text = "the disk is full: the cursor cannot be written, the replay rests";
                self.stall("disk_full", text.to_owned());
                self.machine.drain();
                self.write_later(ctx);
            }
            return;
        }
        if let Err(error) = self.shared.states.put_replay(&self.record) {
            tracing::error!(replay = %self.record.name, %error, "progress cannot be written; the server stops and goes on from disk at its next start");
            std::process::exit(1);
        }
        if let Some(own) = &self.own_sink {
            own.settled(self.record.progress.cursor);
        }
        if std::mem::take(&mut self.is_unwritten) {
            self.stalled = None;
            if self.stopping.is_none() {
                self.machine.resume();
                self.feed(Input::Tick, ctx);
            }
        }
        if self.record.state != ReplayState::Running {
            ctx.stop();
        }
    }

    fn write_later(&self, ctx: &mut Context<Self>) {
        ctx.run_later(DISK_RETRY, |actor, ctx| {
            if actor.is_cancelled {
                return;
            }
            let more = actor.machine.flush();
            actor.settle(more, ctx);
            if actor.is_unwritten {
                actor.write_later(ctx);
            }
        });
    }

    fn stall(&mut self, code: &str, text: String) {
        self.stalled = Some(LastError { at: clock::wall(), code: code.to_owned(), text });
    }

    fn finish_if_over(&mut self, ctx: &mut Context<Self>) {
        let status = self.machine.status();
        let is_over = self.end.is_some_and(|end| status.scanned_to >= end) && status.pending == 0;
        if !is_over || self.record.state != ReplayState::Running {
            return;
        }
        let is_failed = self.record.error.is_some();
        self.record.state = if is_failed { ReplayState::Failed } else { ReplayState::Done };
        self.record.finished_at = Some(clock::wall());
        let rest = self.machine.flush();
        self.settle(rest, ctx);
        let (totals, name) = (self.record.progress.totals, &self.record.name);
        if !is_failed {
            tracing::info!(replay = %name, delivered = totals.delivered, refused = totals.dead, "the replay is done");
        }
    }

    fn stop_if_idle(&mut self, ctx: &mut Context<Self>) {
        if self.stopping.is_some() && self.machine.status().in_flight == 0 {
            self.stop(ctx);
        }
    }

    fn stop(&mut self, ctx: &mut Context<Self>) {
        if let Some(reply) = self.stopping.take().filter(|_| !self.is_cancelled) {
            let rest = self.machine.flush();
            self.settle(rest, ctx);
            let _ = reply.send(());
            ctx.stop();
        }
    }
}

impl Actor for ReplayActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
        tracing::info!(replay = %self.record.name, from = self.record.order.from, to = self.record.order.to, after = self.record.progress.cursor, "the replay goes on");
        self.feed(Input::Tick, ctx);
    }
}

impl Handler<StopReplay> for ReplayActor {
    type Result = ();

    fn handle(&mut self, StopReplay { is_patient, reply }: StopReplay, ctx: &mut Self::Context) {
        self.machine.drain();
        self.stopping = Some(reply);
        if !is_patient {
            ctx.run_later(STOP_TIMEOUT, |actor, ctx| actor.stop(ctx));
        }
        self.stop_if_idle(ctx);
    }
}

impl Handler<CancelReplay> for ReplayActor {
    type Result = ();

    fn handle(&mut self, _: CancelReplay, ctx: &mut Self::Context) {
        self.is_cancelled = true;
        ctx.stop();
    }
}

/// With a rate, the replay's own or the sink's, a batch holds no more than goes in a second: so the replay's is kept from
/// second to second, and a live event does not wait for longer until what a replay took of the sink's is made up for.
fn batch_records(rates: [Option<NonZeroU32>; 2]) -> usize {
    let lowest = rates.into_iter().flatten().min();
    lowest.map_or(usize::MAX, |rate| usize::try_from(rate.get()).unwrap_or(usize::MAX))
}
