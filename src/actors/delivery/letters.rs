//! Dead letters of one sink: those that go back to it, and those that are thrown away.

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use thiserror::Error;
use tokio::{sync::oneshot, task::yield_now};

use super::DeliveryActor;
use crate::{
    actors::{dead_letters::MARK_BYTES, sink_state::SinkStateError},
    delivery::{machine::Input, progress::Letter},
};

/// Dead letters of this sink are marked: send them.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Redrive;

/// Throw a dead letter away. The reply comes when that is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DiscardLetter {
    /// The place of its event in the log.
    pub sequence: u64,
    /// What became of it.
    pub reply: oneshot::Sender<Result<(), DiscardError>>,
}

/// Why a dead letter was not thrown away.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DiscardError {
    /// It never was, or was delivered or discarded meanwhile.
    #[error("there is no such dead letter (any more)")]
    NotThere,
    /// Nobody could say whether it was delivered.
    #[error(
        "the dead letter is on its way back to its sink: it is gone when it is delivered, and can be discarded if it is \
         refused again"
    )]
    OnItsWay,
    /// A write that fails would cost the server.
    #[error("the server's disk is full: nothing is done; free some space where data_dir is, then try again")]
    DiskFull,
    /// The disk filled up meanwhile.
    #[error(
        "the server's disk is full: it is discarded as soon as there is space where data_dir is; look again then"
    )]
    Waits,
    /// The log has the reason.
    #[error("dead letters cannot be read; the server's log says why")]
    Unreadable,
}

impl DeliveryActor {
    /// While something is unwritten what is kept is behind what has happened, so nothing is read; see
    /// [`DeliveryActor::letters_go_on`].
    pub(super) fn pull_letters(&mut self, after: u64, max_letters: usize, ctx: &mut Context<Self>) {
        let letters =
            if self.unwritten.is_some() { Ok(Vec::new()) } else { self.read_letters(after, max_letters) };
        let letters = letters.unwrap_or_else(|error| {
            tracing::error!(sink = %self.name, %error, "dead letters cannot be read; they stay, and are redriven at the next start");
            Vec::new()
        });
        // Others on this thread have their turn first, their I/O and timers too.
        ctx.spawn(
            yield_now().into_actor(self).map(|(), actor, ctx| actor.feed(Input::Letters(letters), ctx)),
        );
    }

    fn read_letters(&self, after: u64, max_letters: usize) -> Result<Vec<Letter>, SinkStateError> {
        let (mut letters, mut after) = (Vec::new(), after);
        // until there are some: no letters means that no marks are left
        while letters.is_empty() {
            let marked = self.states.marked(&self.name, after, max_letters)?;
            let Some(last) = marked.last() else { break };
            after = *last;
            let mut not_to_send = Vec::new();
            for sequence in marked {
                match self.states.dead_letter(&self.name, sequence)? {
                    Some(letter) => {
                        match letter.to_send(|event_type| self.routes.form_for(event_type, &self.name)) {
                            Ok(letter) => letters.push(letter),
                            Err(error) => {
                                tracing::error!(sink = %self.name, sequence, %error, "this dead letter cannot be sent again; it stays");
                                not_to_send.push(sequence);
                            }
                        }
                    }
                    None => not_to_send.push(sequence),
                }
            }
            let bytes = MARK_BYTES.saturating_mul(not_to_send.len() as u64);
            if bytes > 0 && self.disk.has_room_for_state(bytes) {
                self.states.unmark(&self.name, &not_to_send)?;
            }
        }
        Ok(letters)
    }

    /// What was marked goes on after a start, and when the disk has space again.
    pub(super) fn letters_go_on(&mut self, ctx: &mut Context<Self>) {
        self.feed(Input::Redrive, ctx);
    }

    fn discard(&mut self, sequence: u64) -> Result<(), DiscardError> {
        let unreadable = |error: SinkStateError| {
            tracing::error!(%error, "a dead letter cannot be discarded");
            DiscardError::Unreadable
        };
        if self.states.dead_letter(&self.name, sequence).map_err(unreadable)?.is_none() {
            return Err(DiscardError::NotThere);
        }
        if self.states.is_marked(&self.name, sequence).map_err(unreadable)? {
            return Err(DiscardError::OnItsWay);
        }
        if self.unwritten.is_some() {
            return Err(DiscardError::DiskFull);
        }
        let settlement = self.machine.discard(sequence).ok_or(DiscardError::OnItsWay)?;
        self.settle(settlement);
        if self.unwritten.is_some() {
            return Err(DiscardError::Waits);
        }
        self.board.set(&self.name, self.machine.status());
        Ok(())
    }
}

impl Handler<Redrive> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, _: Redrive, ctx: &mut Self::Context) {
        self.letters_go_on(ctx);
    }
}

impl Handler<DiscardLetter> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, DiscardLetter { sequence, reply }: DiscardLetter, _: &mut Self::Context) {
        let _ = reply.send(self.discard(sequence));
    }
}
