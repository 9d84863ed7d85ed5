//! What devices were answered, so that a retried request gets its first answer again.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::{
    device_event::{DeviceEvent, Fingerprint},
    event::{Body, Event},
    ids::BuildingId,
    swipes::{Answer, is_over},
    time::Timestamp,
};

/// The most answers remembered. Past it the oldest is forgotten early: its retry would be recorded anew.
pub const MAX_REMEMBERED_EVENTS: usize = 262_144;

/// A device's name for an event, within a building.
pub type DeviceKey = (BuildingId, Uuid);

/// The first answer to an event that has a name, with what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedEvent {
    /// The answer; it has no decision.
    pub answer: Answer,
    /// What was said.
    pub fingerprint: Fingerprint,
}

/// What becomes of an event of a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// New: record it.
    New,
    /// A retry: the first answer again.
    Again(Answer),
    /// Its `swipe_id` was used for something else.
    Reused,
    /// New, and not as declared.
    NotDeclared,
}

impl RememberedEvent {
    /// What is remembered of an event, if it is one of a device and has a name.
    #[must_use]
    pub fn of(event: &Event) -> Option<(DeviceKey, Self)> {
        let Body::Device(device) = &event.body else { return None };
        let key = (device.building.clone(), device.swipe_id?);
        Some((key, Self { answer: Answer::of(event), fingerprint: device.fingerprint() }))
    }

    /// Whether it is no longer remembered at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        is_over(self.answer.decided_at, now)
    }
}

/// The answers of the last [`REMEMBERED_HOURS`](super::swipes::REMEMBERED_HOURS): the newest [`MAX_REMEMBERED_EVENTS`] of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceAnswers {
    answers: HashMap<DeviceKey, RememberedEvent>,
    oldest_first: VecDeque<(Timestamp, DeviceKey)>,
}

impl DeviceAnswers {
    /// With these answers, in any order.
    #[must_use]
    pub fn of(mut remembered: Vec<(DeviceKey, RememberedEvent)>) -> Self {
        remembered.sort_unstable_by_key(|(_, first)| first.answer.sequence);
        let mut answers = Self::default();
        remembered.into_iter().for_each(|(key, first)| answers.keep(key, first));
        answers
    }

    /// What becomes of an event. Whether it is as declared counts for a new one only: a retry gets its first answer, whatever a
    /// reload has changed since.
    #[must_use]
    pub fn decide(&self, event: &DeviceEvent, is_declared: bool, now: Timestamp) -> Said {
        let key = event.swipe_id.map(|name| (event.building.clone(), name));
        let first = key.and_then(|key| self.answers.get(&key)).filter(|first| !first.is_over(now));
        match first {
            None if is_declared => Said::New,
            None => Said::NotDeclared,
            Some(first) if first.fingerprint == event.fingerprint() => Said::Again(first.answer.clone()),
            Some(_) => Said::Reused,
        }
    }

    /// Takes an event into the state.
    pub fn apply(&mut self, event: &Event) {
        if let Some((key, first)) = RememberedEvent::of(event) {
            self.forget_over(event.time);
            self.keep(key, first);
        }
    }

    /// Forgets what is over at `now`.
    pub fn forget_over(&mut self, now: Timestamp) {
        while self.oldest_first.front().is_some_and(|(decided_at, _)| is_over(*decided_at, now)) {
            self.forget_oldest();
        }
    }

    fn keep(&mut self, key: DeviceKey, first: RememberedEvent) {
        let decided_at = first.answer.decided_at;
        if self.answers.insert(key.clone(), first).is_some() {
            // never by our own decisions, which repeat the first answer
            self.oldest_first.retain(|(_, other)| *other != key);
        } else if self.oldest_first.len() >= MAX_REMEMBERED_EVENTS {
            self.forget_oldest();
        }
        self.oldest_first.push_back((decided_at, key));
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.oldest_first.pop_front() {
            self.answers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn event(sequence: u64, at: i64, name: u128, data: &str) -> Event {
        let device = DeviceEvent {
            event_type: "device.x".to_owned(),
            building: BuildingId::parse("hq").unwrap(),
            gate: None,
            card_id: None,
            employee_id: None,
            swipe_id: (name > 0).then(|| Uuid::from_u128(name)),
            occurred_at: None,
            data: data.to_owned(),
        };
        Event {
            id: Uuid::from_u128(u128::from(sequence)),
            sequence,
            time: Timestamp::from_millis(at),
            by: "device/k".to_owned(),
            traceparent: None,
            body: Body::Device(Box::new(device)),
        }
    }

    fn said(answers: &DeviceAnswers, event: &Event) -> Said {
        said_of(answers, event, true)
    }

    fn said_of(answers: &DeviceAnswers, event: &Event, is_declared: bool) -> Said {
        let Body::Device(device) = &event.body else { panic!("of a device") };
        answers.decide(device, is_declared, event.time)
    }

    #[test]
    fn what_is_declared_no_more_is_still_answered_again() {
        let mut answers = DeviceAnswers::default();
        let first = event(1, 0, 7, "{}");
        assert_eq!(said_of(&answers, &first, false), Said::NotDeclared);
        answers.apply(&first);
        assert_eq!(said_of(&answers, &event(2, 5, 7, "{}"), false), Said::Again(Answer::of(&first)));
        assert_eq!(said_of(&answers, &event(2, 5, 7, "{\"a\":1}"), false), Said::Reused);
        assert_eq!(said_of(&answers, &event(2, 5, 8, "{}"), false), Said::NotDeclared);
        assert_eq!(said_of(&answers, &event(2, 5, 0, "{}"), false), Said::NotDeclared);
        assert_eq!(said_of(&answers, &event(2, 24 * HOUR, 7, "{}"), false), Said::NotDeclared);
    }

    #[test]
    fn the_same_name_gets_the_first_answer_for_a_day() {
        let mut answers = DeviceAnswers::default();
        let first = event(1, 0, 7, "{}");
        assert_eq!(said(&answers, &first), Said::New);
        answers.apply(&first);
        assert_eq!(said(&answers, &event(2, 5, 7, "{}")), Said::Again(Answer::of(&first)));
        assert_eq!(said(&answers, &event(2, 5, 7, "{\"a\":1}")), Said::Reused);
        assert_eq!(said(&answers, &event(2, 5, 8, "{}")), Said::New);
        assert_eq!(said(&answers, &event(2, 24 * HOUR, 7, "{}")), Said::New);
        answers.apply(&event(3, 5, 0, "{}"));
        assert_eq!(answers.answers.len(), 1, "without a name nothing is remembered");
        answers.apply(&event(4, 24 * HOUR, 9, "{}"));
        assert_eq!(answers.answers.len(), 1, "the first one is over");
        assert_eq!(
            answers,
            DeviceAnswers::of(vec![RememberedEvent::of(&event(4, 24 * HOUR, 9, "{}")).unwrap()])
        );
    }
}
