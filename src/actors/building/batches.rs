//! Batches of swipes: recorded piece by piece, in turns, so that a flood of them keeps no entry waiting for long.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use actix::{AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;

use super::{BuildingActor, SwipeError};
use crate::{
    actors::{
        log::MAX_COMMIT_RECORDS,
        places::NoPlace,
        recorder::{Group, Origin},
    },
    domain::{
        building::Swipe,
        swipes::{Answer, Direction},
    },
    space::Need,
};

/// How many swipes of batches go into one commit, of all batches of a building together: exits, and entries that gates
/// decided alone. What is over waits for that
/// commit, and the entries that came meanwhile go before it: an evacuation's flood keeps no entry waiting for longer
/// than one commit, of which it leaves half to them.
pub const MAX_EXITS_IN_FLIGHT: usize = MAX_COMMIT_RECORDS / 2;

/// How many batches may be under way in one building; at the limit the next one is answered 503
/// (`turnstiled_building_queue_batches`).
pub const MAX_WAITING_BATCHES: usize = 64;

/// Record a batch of exits, or of entries that gates decided alone, each by itself, in order, at most
/// [`MAX_EXITS_IN_FLIGHT`] to a commit.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RecordBatch {
    /// What is left of the batch.
    pub swipes: std::vec::IntoIter<Swipe>,
    /// Who asks.
    pub origin: Origin,
    /// The answers so far.
    pub answers: Vec<Result<Answer, SwipeError>>,
    /// All answers, once durable.
    pub reply: oneshot::Sender<Vec<Result<Answer, SwipeError>>>,
}

impl BuildingActor {
    /// Records of the batches that wait as much as may be on its way. Batches that get no place are answered: while
    /// any waits, a piece is on its way whose end calls this again.
    pub(super) fn record_batches(&mut self, ctx: &mut Context<Self>) {
        while let possible @ 1.. = MAX_EXITS_IN_FLIGHT.saturating_sub(self.exits_in_flight.load(Relaxed))
            && let Some(batch) = self.batches.pop_front()
        {
            let recorder = self.recorder.clone();
            let exits = batch.swipes.len().min(possible);
            let direction = batch.swipes.as_slice().first().map_or(Direction::Exit, |swipe| swipe.direction);
            match recorder.place(need_of(direction, exits)) {
                Ok(group) => self.send_piece(batch, exits, group, ctx),
                Err(error) => batch.refuse_rest(error),
            }
        }
        self.waiting_batches.set(self.batches.len());
    }

    fn send_piece(
        &mut self,
        mut batch: RecordBatch,
        exits: usize,
        mut group: Group<'_>,
        ctx: &mut Context<Self>,
    ) {
        for swipe in batch.swipes.by_ref().take(exits) {
            batch.answers.push(self.decide(&swipe, &batch.origin, &mut group));
        }
        self.exits_in_flight.fetch_add(exits, Relaxed);
        let (address, in_flight) = (ctx.address(), Arc::clone(&self.exits_in_flight));
        group.send(move || {
            in_flight.fetch_sub(exits, Relaxed);
            // refused by a full mailbox only: what is in there calls `record_batches` for the other batches
            if let Err(refused) = address.try_send(PieceDone(batch)) {
                refused.into_inner().0.refuse_rest(NoPlace::Overloaded);
            }
        });
    }
}

/// What swipes need. Exits may use what a full disk keeps for them; a gate that let someone in can say so later.
pub(super) fn need_of(direction: Direction, swipes: usize) -> Need {
    match direction {
        Direction::Exit => Need::exits(swipes),
        Direction::Entry | Direction::Recorded(_) => Need::entries(swipes),
    }
}

impl Handler<RecordBatch> for BuildingActor {
    type Result = ();

    fn handle(&mut self, batch: RecordBatch, ctx: &mut Self::Context) {
        if self.batches.len() >= MAX_WAITING_BATCHES {
            return batch.refuse_rest(NoPlace::Overloaded);
        }
        self.batches.push_back(batch);
        self.record_batches(ctx);
    }
}

/// A piece of a batch is durable.
#[derive(Message)]
#[rtype(result = "()")]
struct PieceDone(RecordBatch);

impl Handler<PieceDone> for BuildingActor {
    type Result = ();

    fn handle(&mut self, PieceDone(batch): PieceDone, ctx: &mut Self::Context) {
        if batch.swipes.len() == 0 {
            let _ = batch.reply.send(batch.answers);
        } else {
            self.batches.push_back(batch); // behind the others: all of them get on
        }
        self.record_batches(ctx);
    }
}

impl RecordBatch {
    /// What is durable stays so and is answered; the rest is for the device to send again.
    fn refuse_rest(mut self, error: NoPlace) {
        self.answers.extend(self.swipes.map(|_| Err(error.into())));
        let _ = self.reply.send(self.answers);
    }
}
