//! Records what operators do: `admin.*`. Shares the log's thread, like everyone who records.

use actix::{Actor, Context, Handler, Message};
use tokio::sync::oneshot;

use super::{
    places::NoPlace,
    recorder::{Origin, Recorder},
};
use crate::{domain::event::Body, space::Need};

/// Requests that may wait to be recorded; at the limit they are answered 503.
pub const MAILBOX_MESSAGES: usize = 64;

/// Records what operators do.
#[derive(Debug)]
pub struct AdminActor(Recorder);

/// Record what an operator is about to do. The reply leaves when it is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RecordAdmin {
    /// What.
    pub body: Body,
    /// Who.
    pub origin: Origin,
    /// Whether it is recorded.
    pub reply: oneshot::Sender<Result<(), NoPlace>>,
}

impl AdminActor {
    /// Records by way of `recorder`.
    #[must_use]
    pub fn new(recorder: Recorder) -> Self {
        Self(recorder)
    }
}

impl Actor for AdminActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
    }
}

impl Handler<RecordAdmin> for AdminActor {
    type Result = ();

    fn handle(&mut self, RecordAdmin { body, origin, reply }: RecordAdmin, _: &mut Self::Context) {
        let mut group = match self.0.place(Need::READ) {
            Ok(group) => group,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        // of no weight for any state
        group.add(body, &origin);
        group.send(move || {
            let _ = reply.send(Ok(()));
        });
    }
}
