//! One building's shell: takes a place in the log, asks the rules, applies what they say, sends it to the
//! log with the answer. Decides nothing itself.

mod batches;
pub mod forgive;
pub mod look;
pub mod modes;
pub mod muster;
pub mod passages;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, Message};
use thiserror::Error;
use tokio::sync::oneshot;

pub use self::batches::{MAX_EXITS_IN_FLIGHT, MAX_WAITING_BATCHES, RecordBatch};
use super::{
    directory::DirectoryView,
    places::NoPlace,
    recorder::{Group, Origin, Recorder},
};
use crate::{
    domain::{
        building::{Building, Decided, Inside, Rules, Swipe},
        event::{AuditRead, Body},
        ids::EmployeeId,
        mode::Mode,
        swipes::Answer,
        time::Timestamp,
    },
    metrics::{Depth, Metrics},
    space::Need,
};

/// Requests that may wait for a building; at the limit they are answered 503.
pub const MAILBOX_MESSAGES: usize = 4_096;

/// How often to look for people who have been inside for longer than possible.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// How many of them to record at once,
const MAX_EXPIRED_AT_ONCE: usize = 256;

/// and when to go on with the rest.
const EXPIRE_MORE_AFTER: Duration = Duration::from_millis(100);

/// One building.
pub struct BuildingActor {
    building: Building,
    cards: DirectoryView,
    recorder: Recorder,
    metrics: Metrics,
    batches: VecDeque<RecordBatch>,
    exits_in_flight: Arc<AtomicUsize>,
    waiting_batches: Depth,
}

/// Why a swipe got no answer. Nothing was recorded.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SwipeError {
    /// The `swipe_id` was used for something else.
    #[error("this swipe_id was used for another swipe at this gate; make a new one for each swipe")]
    SwipeReused,
    /// The log takes nothing; safe to try again.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

/// Decide or record one swipe.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DecideSwipe {
    /// The swipe; its gate is one of the building's.
    pub swipe: Swipe,
    /// Who asks.
    pub origin: Origin,
    /// The answer, once durable.
    pub reply: oneshot::Sender<Result<Answer, SwipeError>>,
}

/// Read who is inside. The read itself is recorded.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReadPresence {
    /// Who asks.
    pub origin: Origin,
    /// Everyone inside, once all of it is durable, and the moment it is true of.
    pub reply: oneshot::Sender<Result<Presence, NoPlace>>,
}

/// Who is inside at one moment.
#[derive(Clone, Debug)]
pub struct Presence {
    /// The moment.
    pub as_of: Timestamp,
    /// What the building is in.
    pub mode: Mode,
    /// Everyone inside with the holder's name as the card has it, in no order.
    pub people: Vec<(EmployeeId, Inside, Option<String>)>,
}

/// Ask whether some people are inside.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FindPeople {
    /// Who; at most a page of cards.
    pub employees: Vec<EmployeeId>,
    /// Since when they are inside, one each, once durable.
    pub reply: oneshot::Sender<Result<Vec<Option<Inside>>, NoPlace>>,
}

/// Decide by other rules of this building from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChangeRules(pub Rules);

impl BuildingActor {
    /// The owner of `building`.
    #[must_use]
    pub fn new(building: Building, cards: DirectoryView, recorder: Recorder, metrics: Metrics) -> Self {
        let (batches, exits_in_flight) = (VecDeque::new(), Arc::default());
        let waiting_batches = metrics.queues.batches_of(building.rules().building.as_str());
        Self { building, cards, recorder, metrics, batches, exits_in_flight, waiting_batches }
    }

    /// Decides one swipe and takes its events into the state and the group.
    fn decide(
        &mut self,
        swipe: &Swipe,
        origin: &Origin,
        group: &mut Group<'_>,
    ) -> Result<Answer, SwipeError> {
        let now = group.now();
        let decided = self.cards.with_card(&swipe.card_id, |card| self.building.decide(swipe, card, now));
        match decided {
            Decided::Record { before, answer } => {
                if let Some(before) = before {
                    self.record(*before, origin, group);
                }
                Ok(self.record(answer, origin, group))
            }
            Decided::Repeat(first) => Ok(first),
            Decided::SwipeReused => Err(SwipeError::SwipeReused),
        }
    }

    fn record(&mut self, body: Body, origin: &Origin, group: &mut Group<'_>) -> Answer {
        let event = group.add(body, origin);
        self.building.apply(&event);
        self.metrics.count_event(&event);
        self.metrics.set_inside(self.building.rules().building.as_str(), self.building.inside().len());
        match &event.body {
            Body::ModeChanged(_) => self.show_mode(),
            _ if self.building.mode().muster.is_some() => self.show_missing(),
            _ => {}
        }
        Answer::of(&event)
    }

    fn expire(&mut self, ctx: &mut Context<Self>) {
        let recorder = self.recorder.clone();
        // No place: the next look finds them again.
        let Ok(mut group) = recorder.place(Need::exits(MAX_EXPIRED_AT_ONCE)) else { return };
        let over = self.building.expire(group.now(), MAX_EXPIRED_AT_ONCE);
        if over.is_empty() {
            return;
        }
        if over.len() == MAX_EXPIRED_AT_ONCE {
            ctx.run_later(EXPIRE_MORE_AFTER, Self::expire);
        }
        tracing::info!(
            building = %self.building.rules().building,
            people = over.len(),
            "taken to have left: inside for longer than presence_timeout, or since before daily_reset"
        );
        for body in over {
            self.record(body, &Origin::server(), &mut group);
        }
        group.send(|| {});
    }

    fn answer(&mut self, message: DecideSwipe) {
        let DecideSwipe { swipe, origin, reply } = message;
        let recorder = self.recorder.clone();
        let mut group = match recorder.place(self.need_of_swipe(&swipe, recorder.now())) {
            Ok(group) => group,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        match self.decide(&swipe, &origin, &mut group) {
            Ok(answer) => group.send(move || drop(reply.send(Ok(answer)))),
            // Not before the swipe that it contradicts is durable.
            Err(error) => group.send(move || drop(reply.send(Err(error)))),
        }
    }

    fn read_presence(&mut self, read: ReadPresence) {
        let recorder = self.recorder.clone();
        let mut group = match recorder.place(Need::READ) {
            Ok(group) => group,
            Err(error) => return drop(read.reply.send(Err(error))),
        };
        let (now, mode) = (group.now(), self.building.mode().mode);
        let name_of = |inside: &Inside| {
            self.cards.with_card(&inside.card_id, |card| {
                card.and_then(|card| card.details.holder_name.clone()).map(String::from)
            })
        };
        let people: Vec<_> = (self.building.inside())
            .map(|(employee, inside)| (employee.clone(), inside.clone(), name_of(inside)))
            .collect();
        let audit = Body::AuditRead(AuditRead {
            building: Some(self.building.rules().building.clone()),
            what: "presence".to_owned(),
            ..AuditRead::default()
        });
        self.record(audit, &read.origin, &mut group);
        group.send(move || drop(read.reply.send(Ok(Presence { as_of: now, mode, people }))));
    }

    fn find_people(&self, find: FindPeople) {
        let group = match self.recorder.place(Need::Nothing) {
            Ok(group) => group,
            Err(error) => return drop(find.reply.send(Err(error))),
        };
        let found = find.employees.iter().map(|employee| self.building.find(employee).cloned()).collect();
        group.send(move || drop(find.reply.send(Ok(found))));
    }
}

impl Actor for BuildingActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
        self.metrics.set_inside(self.building.rules().building.as_str(), self.building.inside().len());
        self.show_mode();
        // what was over while the server was down, at once
        ctx.run_later(EXPIRE_MORE_AFTER, Self::expire);
        ctx.run_interval(EXPIRE_EVERY, Self::expire);
    }
}

impl Handler<ChangeRules> for BuildingActor {
    type Result = ();

    fn handle(&mut self, ChangeRules(rules): ChangeRules, _: &mut Self::Context) {
        self.building.set_rules(rules);
    }
}

impl Handler<DecideSwipe> for BuildingActor {
    type Result = ();

    fn handle(&mut self, message: DecideSwipe, ctx: &mut Self::Context) {
        self.answer(message);
        self.record_batches(ctx);
    }
}

impl Handler<ReadPresence> for BuildingActor {
    type Result = ();

    fn handle(&mut self, read: ReadPresence, ctx: &mut Self::Context) {
        self.read_presence(read);
        self.record_batches(ctx);
    }
}

impl Handler<FindPeople> for BuildingActor {
    type Result = ();

    fn handle(&mut self, find: FindPeople, ctx: &mut Self::Context) {
        self.find_people(find);
        self.record_batches(ctx);
    }
}

#[cfg(test)]
#[path = "building_tests.rs"]
mod tests;
