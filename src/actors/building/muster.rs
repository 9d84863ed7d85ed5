//! Reads the roster of an evacuation. Each look is recorded.

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::BuildingActor;
use crate::{
    actors::{places::NoPlace, recorder::Origin},
    domain::{
        building::{Inside, muster::RosterLine},
        card::Status,
        event::{AuditRead, Body},
        ids::{CardId, EmployeeId},
        mode::Mode,
        time::Timestamp,
    },
    space::Need,
};

/// Read the roster.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ReadMuster {
    /// Who asks.
    pub origin: Origin,
    /// The roster, once all of it is durable.
    pub reply: oneshot::Sender<Result<MusterNow, NoPlace>>,
}

/// A roster at one moment.
#[derive(Clone, Debug)]
pub struct MusterNow {
    /// What the building is in.
    pub mode: Mode,
    /// When the roster was taken; `None`: there is none.
    pub taken_at: Option<Timestamp>,
    /// The moment.
    pub as_of: Timestamp,
    /// Everyone on it, in no order.
    pub people: Vec<OnRoster>,
    /// Those inside who are not on it, because they came in since, in no order.
    pub entered_since: Vec<EnteredSince>,
}

/// Someone of a roster.
#[derive(Clone, Debug)]
pub struct OnRoster {
    /// Who.
    pub employee: EmployeeId,
    /// What is known.
    pub line: RosterLine,
    /// Their presence now, if they came in again since.
    pub entered_again: Option<Inside>,
    /// The card that they had entered with.
    pub card: Holder,
}

/// Someone who came in after the roster was taken.
#[derive(Clone, Debug)]
pub struct EnteredSince {
    /// Who.
    pub employee: EmployeeId,
    /// How.
    pub inside: Inside,
    /// The card that they entered with.
    pub card: Holder,
}

/// What a card says of its holder now; nothing is known of a card that is no longer there.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    /// The name.
    pub name: Option<String>,
    /// Whether the card is in use.
    pub status: Option<Status>,
}

impl BuildingActor {
    fn muster_now(&self, now: Timestamp) -> MusterNow {
        let state = self.building.mode();
        let mut read = MusterNow {
            mode: state.mode,
            taken_at: state.muster.as_ref().map(|muster| muster.mark().taken_at),
            as_of: now,
            people: Vec::new(),
            entered_since: Vec::new(),
        };
        let Some(muster) = &state.muster else { return read };
        let since = muster.mark().sequence;
        let entered_again = |employee: &EmployeeId| {
            self.building.find(employee).filter(|inside| inside.sequence >= since).cloned()
        };
        read.people = (muster.lines())
            .map(|(employee, line)| OnRoster {
                employee: employee.clone(),
                line: line.clone(),
                entered_again: entered_again(employee),
                card: self.holder(&line.inside.card_id),
            })
            .collect();
        read.entered_since = (self.building.inside())
            .filter(|(employee, _)| muster.find(employee).is_none())
            .map(|(employee, inside)| EnteredSince {
                employee: employee.clone(),
                inside: inside.clone(),
                card: self.holder(&inside.card_id),
            })
            .collect();
        read
    }

    fn holder(&self, card_id: &CardId) -> Holder {
        self.cards.with_card(card_id, |card| match card {
            Some(card) => {
                Holder { name: card.details.holder_name.clone().map(String::from), status: Some(card.status) }
            }
            None => Holder::default(),
        })
    }
}

impl Handler<ReadMuster> for BuildingActor {
    type Result = ();

    fn handle(&mut self, ReadMuster { origin, reply }: ReadMuster, ctx: &mut Self::Context) {
        let recorder = self.recorder.clone();
        match recorder.place(Need::READ) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(mut group) => {
                let read = self.muster_now(group.now());
                let building = Some(self.building.rules().building.clone());
                let audit = Body::AuditRead(AuditRead {
                    building,
                    what: "muster".to_owned(),
                    ..AuditRead::default()
                });
                self.record(audit, &origin, &mut group);
                group.send(move || drop(reply.send(Ok(read))));
            }
        }
        self.record_batches(ctx);
    }
}
