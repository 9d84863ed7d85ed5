//! The end of a delivery while the server goes on: another one takes its place, or none.

use actix::{ActorContext, Context, Handler, Message};
use tokio::sync::oneshot;

use super::DeliveryActor;
use crate::delivery::progress::Progress;

/// Send nothing more, and end when what was sent is answered and everything is written down. The reply is where another
/// delivery goes on. There is no time limit: each sink has one for its requests, and a full disk has to have space again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RetireDelivery {
    /// The reply.
    pub reply: oneshot::Sender<Progress>,
}

impl DeliveryActor {
    pub(super) fn retire(&mut self, ctx: &mut Context<Self>) {
        let rest = self.machine.flush();
        let progress = rest.progress.clone();
        self.settle(rest);
        if self.unwritten.is_some() {
            return; // tried again with the next wake-up
        }
        if let Some(reply) = self.retiring.take() {
            // An error: the server stops.
            let _ = reply.send(progress);
            ctx.stop();
        }
    }
}

impl Handler<RetireDelivery> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, RetireDelivery { reply }: RetireDelivery, ctx: &mut Self::Context) {
        self.machine.drain();
        self.borrowers.send_away();
        self.retiring = Some(reply);
        self.end_if_idle(ctx);
    }
}
