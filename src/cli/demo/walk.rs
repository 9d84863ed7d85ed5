//! One person's way through the days: waits for the time, queues up at the gate, does as told.

use std::{sync::Arc, time::Instant};

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::{
    clock::DayClock,
    day::{Act, Step, When, plan},
    model::{Answer, Observed, Swipe},
    office::Office,
    people::Employee,
    setting::Place,
    takings::Seen,
    turnstile::{FloodExit, Passage, Turnstile},
};
use crate::domain::reason::Reason;

/// A gate: a turnstile, and an open way out in the evening.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) turnstile: Arc<Turnstile>,
    pub(super) open: mpsc::Sender<FloodExit>,
}

/// What everyone shares.
pub(super) struct World {
    pub(super) places: Vec<Place>,
    /// As in `places`.
    pub(super) gates: Vec<Vec<Gate>>,
    pub(super) office: Office,
    pub(super) clock: DayClock,
    pub(super) started: Instant,
    pub(super) seed: u64,
}

/// Someone on the way.
pub(super) struct Walker {
    pub(super) person: Employee,
    pub(super) world: Arc<World>,
    pub(super) seen: mpsc::Sender<Seen>,
    /// True ends all ways, but never in the middle of a request.
    pub(super) stop: watch::Receiver<bool>,
    /// By building; what the person thinks.
    pub(super) is_inside: Vec<bool>,
}

/// Waits for the end.
pub(super) async fn ended(stop: &mut watch::Receiver<bool>) {
    // an error is a dropped sender: nobody could end this any more, so it has ended
    drop(stop.wait_for(|stopped| *stopped).await);
}

impl Walker {
    /// Goes on, day after day, until the end.
    pub(super) async fn walk(mut self) {
        for day in 0.. {
            for step in plan(&self.person, day, &self.world.places, self.world.seed) {
                let due = self.world.started + self.world.clock.elapsed_at(day, step.at);
                tokio::select! {
                    biased;
                    () = ended(&mut self.stop) => return,
                    () = tokio::time::sleep_until(due.into()) => {}
                }
                if self.is_up_to(&step) && self.take(&step).await.is_none() {
                    return;
                }
            }
        }
    }

    fn is_up_to(&self, step: &Step) -> bool {
        let is_inside = self.is_inside.get(step.building).copied().unwrap_or_default();
        match step.when {
            When::Always => true,
            When::Inside => is_inside,
            When::Outside => !is_inside,
        }
    }

    /// Takes a step; `None` if the end came first.
    async fn take(&mut self, step: &Step) -> Option<()> {
        let world = Arc::clone(&self.world);
        let gate = world.gates.get(step.building)?.get(step.gate)?;
        let card = self.person.cards.get(step.card)?.clone();
        let done = match step.act {
            Act::Enter { refusal, is_retried } => {
                let passage = self.queue_up(&gate.turnstile).await?;
                self.enter(passage, &card, step.building, refusal, is_retried).await
            }
            Act::Leave => {
                let passage = self.queue_up(&gate.turnstile).await?;
                self.leave(passage, &card, step.building).await
            }
            Act::LeaveInFlood => self.leave_in_flood(&gate.open, card, step.building).await,
            Act::ReportLost => match world.office.act(&card, "report-lost").await {
                Ok(()) => self.see(Seen::CardChanged).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = done {
            self.seen.send(Seen::Failed(error)).await.ok()?;
        }
        Some(())
    }

    /// Waits for the turnstile; `None` if the end came first.
    async fn queue_up<'t>(&mut self, turnstile: &'t Turnstile) -> Option<Passage<'t>> {
        let passage = tokio::select! {
            biased;
            () = ended(&mut self.stop) => None,
            passage = turnstile.wait() => Some(passage),
        };
        if passage.is_none() {
            self.see(Seen::LeftStanding).await.ok()?;
        }
        passage
    }

    async fn enter(
        &mut self,
        passage: Passage<'_>,
        card: &str,
        building: usize,
        refusal: Option<Reason>,
        is_retried: bool,
    ) -> Result<(), String> {
        let swipe_id = Uuid::now_v7();
        let first = passage.enter(card, swipe_id).await?;
        let again = if is_retried { Some(passage.enter(card, swipe_id).await) } else { None };
        drop(passage);
        let (answer, sequence) = (first.answer.answer()?, first.answer.sequence()?);
        if matches!(answer, Answer::Granted { .. }) {
            self.set_inside(building, true);
        }
        let observed = self.observed(sequence, building, Swipe::Entry { refusal, answer });
        self.see(Seen::Swiped { observed, took: Some(first.took) }).await?;
        let Some(again) = again else { return Ok(()) };
        let again = again?;
        let is_same = again.answer == first.answer;
        self.see(Seen::Retried { is_same, took: again.took }).await
    }

    async fn leave(&mut self, passage: Passage<'_>, card: &str, building: usize) -> Result<(), String> {
        let left = passage.leave(card).await?;
        drop(passage);
        let sequence = left.answer.sequence()?;
        self.set_inside(building, false);
        let observed = self.observed(sequence, building, Swipe::Exit);
        self.see(Seen::Swiped { observed, took: Some(left.took) }).await
    }

    async fn leave_in_flood(
        &mut self,
        open: &mpsc::Sender<FloodExit>,
        card: String,
        building: usize,
    ) -> Result<(), String> {
        let (reply, sequence) = oneshot::channel();
        open.send(FloodExit { card, reply }).await.map_err(|_| "a gate closed too early".to_owned())?;
        let sequence = sequence.await.map_err(|_| "a gate closed too early".to_owned())??;
        self.set_inside(building, false);
        let observed = self.observed(sequence, building, Swipe::Exit);
        self.see(Seen::Swiped { observed, took: None }).await
    }

    fn observed(&self, sequence: u64, building: usize, swipe: Swipe) -> Observed {
        let employee = self.person.is_registered().then_some(self.person.number);
        Observed { sequence, building, employee, swipe }
    }

    fn set_inside(&mut self, building: usize, is_inside: bool) {
        if let Some(known) = self.is_inside.get_mut(building) {
            *known = is_inside;
        }
    }

    async fn see(&self, seen: Seen) -> Result<(), String> {
        self.seen.send(seen).await.map_err(|_| "nobody counts any more".to_owned())
    }
}
