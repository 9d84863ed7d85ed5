//! Records what devices say that are no turnstiles. Shares the log's thread, like everyone who records.

use actix::{Actor, Context, Handler, Message};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{
    directory::DirectoryView,
    places::NoPlace,
    recorder::{Origin, Recorder},
};
use crate::{
    domain::{
        device_answers::{DeviceAnswers, Said},
        device_event::DeviceEvent,
        event::Body,
        swipes::Answer,
    },
    metrics::Metrics,
    space::Need,
};

/// Requests that may wait to be recorded; at the limit they are answered 503.
pub const MAILBOX_MESSAGES: usize = 1_024;

/// Records what devices say, of all buildings.
pub struct DeviceEventsActor {
    answers: DeviceAnswers,
    cards: DirectoryView,
    recorder: Recorder,
    metrics: Metrics,
}

/// Why an event was not recorded.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DeviceEventError {
    /// The `swipe_id` was used for something else.
    #[error("this swipe_id was used for another event in this building; make a new one for each event")]
    Reused,
    /// The log takes nothing; safe to try again.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

/// Record what a device says. The reply leaves when it is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RecordDeviceEvent {
    /// What it says. Whose card it is, is found here.
    pub event: DeviceEvent,
    /// Whether its type is declared now, and it is as that has it. What was answered before does not depend on it.
    pub is_declared: bool,
    /// Who asks.
    pub origin: Origin,
    /// The answer; `None`: it is not as declared, and was not recorded.
    pub reply: oneshot::Sender<Result<Option<Answer>, DeviceEventError>>,
}

impl DeviceEventsActor {
    /// Goes on from these answers.
    #[must_use]
    pub fn new(answers: DeviceAnswers, cards: DirectoryView, recorder: Recorder, metrics: Metrics) -> Self {
        Self { answers, cards, recorder, metrics }
    }
}

impl Actor for DeviceEventsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
    }
}

impl Handler<RecordDeviceEvent> for DeviceEventsActor {
    type Result = ();

    fn handle(&mut self, record: RecordDeviceEvent, _: &mut Self::Context) {
        let RecordDeviceEvent { mut event, is_declared, origin, reply } = record;
        let said = self.answers.decide(&event, is_declared, self.recorder.now());
        let need = if said == Said::New { Need::DEVICE_EVENT } else { Need::Nothing };
        let mut group = match self.recorder.place(need) {
            Ok(group) => group,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        let answer = match said {
            Said::New => {
                if let Some(card_id) = &event.card_id {
                    event.employee_id = self
                        .cards
                        .with_card(card_id, |card| card.map(|card| card.details.employee_id.clone()));
                }
                let event = group.add(Body::Device(Box::new(event)), &origin);
                self.answers.apply(&event);
                self.metrics.count_event(&event);
                Ok(Some(Answer::of(&event)))
            }
            // neither leaves before the first event is durable
            Said::Again(first) => Ok(Some(first)),
            Said::NotDeclared => Ok(None),
            Said::Reused => Err(DeviceEventError::Reused),
        };
        group.send(move || drop(reply.send(answer)));
    }
}
