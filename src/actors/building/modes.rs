//! The mode of a building, and who of a roster is accounted for.

use actix::{Handler, Message};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{BuildingActor, batches::need_of};
use crate::{
    actors::{places::NoPlace, recorder::Origin},
    domain::{
        building::{Swipe, modes::AccountRefusal, muster::RosterLine},
        card::Card,
        ids::EmployeeId,
        mode::{Mode, RosterMark},
        swipes::{Answer, Direction},
        time::Timestamp,
    },
    space::{MAX_SWIPE_BYTES, Need},
    trace::current,
};

/// Put the building into a mode.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChangeMode {
    /// Which one.
    pub mode: Mode,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub origin: Origin,
    /// How it stands, once that is durable.
    pub reply: oneshot::Sender<Result<ChangedMode, NoPlace>>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct ChangedMode {
    /// What the building is in,
    pub mode: Mode,
    /// since when,
    pub since: Option<Timestamp>,
    /// and what it was in.
    pub previous: Mode,
    /// The event; `None` if nothing changed.
    pub answer: Option<Answer>,
}

/// Ask how a building stands.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LookAtBuilding {
    /// How, once it is durable.
    pub reply: oneshot::Sender<Result<BuildingNow, NoPlace>>,
}

/// How a building stands.
#[derive(Clone, Debug)]
pub struct BuildingNow {
    /// What it is in,
    pub mode: Mode,
    /// and since when.
    pub since: Option<Timestamp>,
    /// How many are known inside.
    pub inside: usize,
    /// How many may be.
    pub max_occupancy: Option<usize>,
    /// How many of the roster nobody has seen outside; `None`: there is no roster.
    pub missing: Option<usize>,
}

/// Someone was seen at the assembly point.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Account {
    /// Who.
    pub employee: EmployeeId,
    /// What else there is to say.
    pub note: Option<String>,
    /// Who says so.
    pub origin: Origin,
    /// Their line, once it is durable.
    pub reply: oneshot::Sender<Result<RosterLine, AccountError>>,
}

/// Why nobody was accounted for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AccountError {
    /// There is nobody to account for.
    #[error(transparent)]
    Refused(#[from] AccountRefusal),
    /// The log takes nothing; safe to try again.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

impl BuildingActor {
    fn change_mode(&mut self, message: ChangeMode) {
        let ChangeMode { mode, reason, origin, reply } = message;
        let recorder = self.recorder.clone();
        let mut group = match recorder.place(Need::DESK) {
            Ok(group) => group,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let previous = self.building.mode().mode;
        let here = RosterMark {
            log: recorder.log_name().clone(),
            sequence: recorder.last_sequence().saturating_add(1),
            taken_at: group.now(),
        };
        let answer = (self.building.decide_mode(mode, reason, here)).map(|body| {
            let building = &self.building.rules().building;
            let _entered = current::enter(origin.trace);
            tracing::warn!(%building, mode = mode.as_str(), previous = previous.as_str(), "the mode is changed");
            self.record(body, &origin, &mut group)
        });
        let now = self.building.mode();
        let changed = ChangedMode { mode: now.mode, since: now.since, previous, answer };
        group.send(move || drop(reply.send(Ok(changed))));
    }

    fn account(&mut self, message: Account) {
        let Account { employee, note, origin, reply } = message;
        let recorder = self.recorder.clone();
        let mut group = match recorder.place(Need::DESK) {
            Ok(group) => group,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        let decided = self.building.decide_account(&employee, note);
        let line = decided.map(|body| {
            if let Some(body) = body {
                self.record(body, &origin, &mut group);
            }
            self.building.mode().muster.as_ref().and_then(|muster| muster.find(&employee)).cloned()
        });
        // a refusal, too, not before what it rests on is durable
        group.send(move || match line {
            Ok(Some(line)) => drop(reply.send(Ok(line))),
            Ok(None) => drop(reply.send(Err(AccountRefusal::NotOnRoster(employee).into()))),
            Err(refusal) => drop(reply.send(Err(refusal.into()))),
        });
    }

    fn look(&self, reply: oneshot::Sender<Result<BuildingNow, NoPlace>>) {
        let group = match self.recorder.place(Need::Nothing) {
            Ok(group) => group,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let state = self.building.mode();
        let now = BuildingNow {
            mode: state.mode,
            since: state.since,
            inside: self.building.inside().len(),
            max_occupancy: self.building.rules().max_occupancy,
            missing: state.muster.as_ref().map(|muster| muster.missing()),
        };
        group.send(move || drop(reply.send(Ok(now))));
    }

    /// What one swipe needs: on a full disk responders enter all the same, when they are called for.
    pub(super) fn need_of_swipe(&self, swipe: &Swipe, now: Timestamp) -> Need {
        let calls_for = |card: Option<&Card>| card.is_some_and(|card| self.building.calls_for(card));
        match swipe.direction {
            // its first answer leaves again, also when the disk is full
            _ if self.building.has_answered(swipe, now) => Need::Nothing,
            Direction::Entry if self.cards.with_card(&swipe.card_id, calls_for) => {
                Need::Essential { bytes: MAX_SWIPE_BYTES }
            }
            direction => need_of(direction, 1),
        }
    }

    /// What `/metrics` shows of the mode.
    pub(super) fn show_mode(&self) {
        let (building, state) = (self.building.rules().building.as_str(), self.building.mode());
        self.metrics.set_mode(building, state.mode);
        self.show_missing();
    }

    /// What `/metrics` shows of the roster.
    pub(super) fn show_missing(&self) {
        let missing = self.building.mode().muster.as_ref().map_or(0, |muster| muster.missing());
        self.metrics.set_missing(self.building.rules().building.as_str(), missing);
    }
}

impl Handler<ChangeMode> for BuildingActor {
    type Result = ();

    fn handle(&mut self, message: ChangeMode, ctx: &mut Self::Context) {
        self.change_mode(message);
        self.record_batches(ctx);
    }
}

impl Handler<Account> for BuildingActor {
    type Result = ();

    fn handle(&mut self, message: Account, ctx: &mut Self::Context) {
        self.account(message);
        self.record_batches(ctx);
    }
}

impl Handler<LookAtBuilding> for BuildingActor {
    type Result = ();

    fn handle(&mut self, LookAtBuilding { reply }: LookAtBuilding, ctx: &mut Self::Context) {
        self.look(reply);
        self.record_batches(ctx);
    }
}
