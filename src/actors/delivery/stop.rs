//! The end of a delivery with the server's.

use std::time::Duration;

use actix::{AsyncContext, Handler, Message};
use tokio::sync::oneshot;

use super::DeliveryActor;

/// How long a clean stop waits for what was sent already.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Send nothing more; the reply comes when what was sent is answered and everything is written down.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopDelivery {
    /// The reply.
    pub reply: oneshot::Sender<()>,
}

impl DeliveryActor {
    pub(super) fn stop(&mut self) {
        if let Some(reply) = self.stopping.take() {
            let rest = self.machine.flush();
            self.settle(rest);
            let _ = reply.send(());
        }
    }
}

impl Handler<StopDelivery> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, stop: StopDelivery, ctx: &mut Self::Context) {
        self.machine.drain();
        self.borrowers.send_away();
        self.stopping = Some(stop.reply);
        ctx.run_later(STOP_TIMEOUT, |actor, _| actor.stop());
        self.end_if_idle(ctx);
    }
}
