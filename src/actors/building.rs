//! One building's shell: takes a place in the log, asks the rules, applies what they say, sends it to the
//! log with the answer. Decides nothing itself.

pub mod forgive;
pub mod look;
pub mod modes;
pub mod muster;
pub mod passages;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, Message};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{
    directory::DirectoryView,
    log::MAX_COMMIT_RECORDS,
    places::NoPlace,
    recorder::{Group, Origin, Recorder},
};
use crate::{
    domain::{
        building::{Building, Decided, Inside, Rules, Swipe},
        event::{AuditRead, Body},
        ids::EmployeeId,
        mode::Mode,
        swipes::{Answer, Direction},
        time::Timestamp,
    },
    metrics::Metrics,
    space::Need,
};

/// Requests that may wait for a building; at the limit they are answered 503.
pub const MAILBOX_MESSAGES: usize = 4_096;

/// How many swipes of batches go into one commit, of all batches of a building together: exits, and entries that gates
/// decided alone. What is over waits for that
/// commit, and the entries that came meanwhile go before it: an evacuation's flood keeps no entry waiting for longer
/// than one commit, of which it leaves half to them.
pub const MAX_EXITS_IN_FLIGHT: usize = MAX_COMMIT_RECORDS / 2;

/// How many batches may be under way in one building; at the limit the next one is answered 503.
pub const MAX_WAITING_BATCHES: usize = 64;

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
        Self { building, cards, recorder, metrics, batches, exits_in_flight }
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

    /// Records of the batches that wait as much as may be on its way. Batches that get no place are answered: while
    /// any waits, a piece is on its way whose end calls this again.
    fn record_batches(&mut self, ctx: &mut Context<Self>) {
        loop {
            let possible = MAX_EXITS_IN_FLIGHT.saturating_sub(self.exits_in_flight.load(Relaxed));
            if possible == 0 {
                return;
            }
            let Some(batch) = self.batches.pop_front() else { return };
            let recorder = self.recorder.clone();
            let exits = batch.swipes.len().min(possible);
            let direction = batch.swipes.as_slice().first().map_or(Direction::Exit, |swipe| swipe.direction);
            match recorder.place(need_of(direction, exits)) {
                Ok(group) => self.send_piece(batch, exits, group, ctx),
                Err(error) => batch.refuse_rest(error),
            }
        }
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

/// What swipes need. Exits may use what a full disk keeps for them; a gate that let someone in can say so later.
fn need_of(direction: Direction, swipes: usize) -> Need {
    match direction {
        Direction::Exit => Need::exits(swipes),
        Direction::Entry | Direction::Recorded(_) => Need::entries(swipes),
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
