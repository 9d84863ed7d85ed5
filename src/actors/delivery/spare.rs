//! Replays borrow a place at the sink while the live stream has no use for it.

use std::{collections::VecDeque, sync::Arc};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use tokio::sync::oneshot;

use super::DeliveryActor;
use crate::{
    delivery::{
        Outgoing,
        machine::{Input, Spare},
        outcome::Outcome,
    },
    sinks::Sink,
};

/// Send these when the sink has a place to spare: nothing of the live stream is due. The reply is dropped if that does
/// not happen before the stop.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SendSpare {
    /// A batch within the sink's limits.
    pub records: Vec<Outgoing>,
    /// What they are sent by, if it is not the delivery's own: to the same service all the same.
    pub by: Option<Arc<dyn Sink>>,
    /// One outcome a record.
    pub reply: oneshot::Sender<Vec<Outcome>>,
}

/// Who waits for a place. Each replay waits with one batch, so they are few.
#[derive(Debug, Default)]
pub(super) struct Borrowers {
    waiting: VecDeque<SendSpare>,
    is_lent: bool,
    timer: Option<SpawnHandle>,
}

impl Borrowers {
    pub(super) fn is_lent(&self) -> bool {
        self.is_lent
    }

    pub(super) fn send_away(&mut self) {
        self.waiting.clear();
    }
}

impl DeliveryActor {
    /// Lends a place to whoever waits for the longest time, if there is one.
    pub(super) fn lend(&mut self, ctx: &mut Context<Self>) {
        self.borrowers.waiting.retain(|borrower| !borrower.reply.is_closed());
        let Some(records) = self.borrowers.waiting.front().map(|first| first.records.len()) else { return };
        if self.unwritten.is_some() || self.is_ending() {
            return;
        }
        match self.machine.lend(self.started.elapsed(), records) {
            Spare::NotNow => {}
            Spare::From(at) => {
                if let Some(timer) = self.borrowers.timer.take() {
                    ctx.cancel_future(timer);
                }
                let wait = at.saturating_sub(self.started.elapsed());
                self.borrowers.timer = Some(ctx.run_later(wait, |actor, ctx| {
                    actor.borrowers.timer = None;
                    actor.lend(ctx);
                }));
            }
            Spare::Lent => self.send_lent(ctx),
        }
    }

    fn send_lent(&mut self, ctx: &mut Context<Self>) {
        let Some(SendSpare { records, by, reply }) = self.borrowers.waiting.pop_front() else {
            return self.machine.give_back(&[]);
        };
        self.borrowers.is_lent = true;
        let sink = by.unwrap_or_else(|| Arc::clone(&self.sink));
        let sent = self.send_traced(sink, records).into_actor(self);
        ctx.spawn(sent.map(move |sent, actor, ctx| {
            let outcomes = actor.note_pace(sent);
            actor.machine.give_back(&outcomes);
            actor.borrowers.is_lent = false;
            let _ = reply.send(outcomes);
            // what became due meanwhile goes before the next borrower
            actor.feed(Input::Tick, ctx);
        }));
    }
}

impl Handler<SendSpare> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, borrower: SendSpare, ctx: &mut Self::Context) {
        if !self.is_ending() {
            self.borrowers.waiting.push_back(borrower);
            self.lend(ctx);
        }
    }
}
