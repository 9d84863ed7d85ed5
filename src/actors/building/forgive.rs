//! The security desk takes one person out, or everyone.

use actix::{Handler, Message};
use thiserror::Error;
use tokio::sync::oneshot;

use super::BuildingActor;
use crate::{
    actors::{places::NoPlace, recorder::Origin},
    domain::{
        event::{Body, PresenceForgiven},
        ids::{BuildingId, EmployeeId},
        swipes::Answer,
    },
    space::Need,
};

/// Take someone out.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Forgive {
    /// Who.
    pub employee: EmployeeId,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub origin: Origin,
    /// What was, once it is durable that it is over.
    pub reply: oneshot::Sender<Result<(PresenceForgiven, Answer), ForgiveError>>,
}

/// Why nobody was taken out.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ForgiveError {
    /// There is nothing to forgive.
    #[error("employee {employee} is not inside {building}: nothing to forgive, and nothing was recorded")]
    NotInside {
        /// Who.
        employee: EmployeeId,
        /// Where.
        building: BuildingId,
    },
    /// The log takes nothing; safe to try again.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

/// Take everyone out.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ResetPresence {
    /// Why.
    pub reason: String,
    /// Who says so.
    pub origin: Origin,
    /// How many were inside, and the event, once it is durable.
    pub reply: oneshot::Sender<Result<(u64, Answer), NoPlace>>,
}

impl Handler<Forgive> for BuildingActor {
    type Result = ();

    fn handle(&mut self, message: Forgive, ctx: &mut Self::Context) {
        let Forgive { employee, reason, origin, reply } = message;
        let recorder = self.recorder.clone();
        match recorder.place(Need::DESK) {
            Err(error) => drop(reply.send(Err(error.into()))),
            Ok(mut group) => match self.building.forgive(&employee, reason, group.now()) {
                Some(forgiven) => {
                    let body = Body::PresenceForgiven(Box::new(forgiven.clone()));
                    let answer = self.record(body, &origin, &mut group);
                    group.send(move || drop(reply.send(Ok((forgiven, answer)))));
                }
                None => {
                    // not before it is durable that they have left
                    let building = self.building.rules().building.clone();
                    group.send(move || drop(reply.send(Err(ForgiveError::NotInside { employee, building }))));
                }
            },
        }
        self.record_batches(ctx);
    }
}

impl Handler<ResetPresence> for BuildingActor {
    type Result = ();

    fn handle(&mut self, ResetPresence { reason, origin, reply }: ResetPresence, ctx: &mut Self::Context) {
        let recorder = self.recorder.clone();
        match recorder.place(Need::DESK) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(mut group) => {
                let reset = self.building.reset(reason);
                let people = reset.people;
                let answer = self.record(Body::PresenceReset(reset), &origin, &mut group);
                group.send(move || drop(reply.send(Ok((people, answer)))));
            }
        }
        self.record_batches(ctx);
    }
}
