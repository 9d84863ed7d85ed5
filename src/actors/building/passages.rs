//! Gates say what came of the entries that they were granted.

use actix::{Handler, Message};
use thiserror::Error;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::BuildingActor;
use crate::{
    actors::{places::NoPlace, recorder::Origin},
    domain::{
        building::passages::{PassageDecided, PassageRefusal},
        event::{Body, Outcome},
        ids::GateId,
        swipes::Answer,
    },
    space::Need,
};

/// Record what came of a grant.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct EndPassage {
    /// The event of the grant.
    pub granted: Uuid,
    /// What came of it.
    pub outcome: Outcome,
    /// The gate that the device speaks for; `None`: all of the building.
    pub device_gate: Option<GateId>,
    /// Who says so.
    pub origin: Origin,
    /// The event, once it is durable; of a repeat the first one.
    pub reply: oneshot::Sender<Result<Answer, PassageError>>,
}

/// Why a gate's word was not recorded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PassageError {
    /// It cannot be true.
    #[error(transparent)]
    Refused(#[from] PassageRefusal),
    /// The log takes nothing; safe to try again.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

impl Handler<EndPassage> for BuildingActor {
    type Result = ();

    fn handle(&mut self, message: EndPassage, ctx: &mut Self::Context) {
        let EndPassage { granted, outcome, device_gate, origin, reply } = message;
        let recorder = self.recorder.clone();
        match recorder.place(Need::exits(1)) {
            Err(error) => drop(reply.send(Err(error.into()))),
            Ok(mut group) => {
                let answer =
                    match self.building.end_passage(granted, outcome, device_gate.as_ref(), group.now()) {
                        Ok(PassageDecided::Record(ended)) => {
                            Ok(self.record(Body::Passage(ended), &origin, &mut group))
                        }
                        Ok(PassageDecided::Repeat(first)) => Ok(first),
                        Err(refusal) => Err(refusal.into()),
                    };
                // a repeat and a refusal, too, only when what they rest on is durable
                group.send(move || drop(reply.send(answer)));
            }
        }
        self.record_batches(ctx);
    }
}
