//! Who is inside, as the state has it: for a comparison with what the events come to.

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::BuildingActor;
use crate::{
    actors::places::NoPlace,
    domain::{building::Inside, ids::EmployeeId},
    space::Need,
};

/// Read who is inside. For operators, who recorded before why they ask. The reply leaves when all it shows is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LookInside {
    /// Everyone inside.
    pub reply: oneshot::Sender<Result<InsideNow, NoPlace>>,
}

/// Everyone inside at one place of the log.
#[derive(Clone, Debug)]
pub struct InsideNow {
    /// In no order.
    pub people: Vec<(EmployeeId, Inside)>,
    /// After this sequence, and before the next.
    pub as_of: u64,
}

impl Handler<LookInside> for BuildingActor {
    type Result = ();

    fn handle(&mut self, LookInside { reply }: LookInside, _: &mut Self::Context) {
        let group = match self.recorder.place(Need::Nothing) {
            Ok(group) => group,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let people = self.building.inside();
        let people = people.map(|(employee, inside)| (employee.clone(), inside.clone())).collect();
        let now = InsideNow { people, as_of: self.recorder.last_sequence() };
        group.send(move || drop(reply.send(Ok(now))));
    }
}
