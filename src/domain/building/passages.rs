//! Passages: what came of the grants of gates that say so.
//!
//! A grant at such a gate makes its holder inside at once. The gate's word makes that sure, or takes it back.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{Building, Inside, inside::Entered};
use crate::domain::{
    event::{Body, Decision, Entry, Event, Outcome, PassageEnded, Presence},
    ids::{CardId, EmployeeId, GateId},
    swipes::{Answer, REMEMBERED_HOURS},
    time::Timestamp,
};

/// The most grants of one building that a gate can still say something of, or has in the last 24 hours. Past it the
/// oldest is forgotten early: nothing more can be said of it.
pub const MAX_REMEMBERED_PASSAGES: usize = 65_536;

/// A grant at a gate that says what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The event of the grant.
    pub event_id: Uuid,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// Until when the gate may say that nobody entered.
    pub until: Timestamp,
    /// The gate.
    pub gate: GateId,
    /// The card.
    pub card_id: CardId,
    /// Its holder,
    pub employee_id: EmployeeId,
    /// and where they were until then.
    pub before: Option<Box<Inside>>,
    /// What the gate has said, and the event that has it.
    pub said: Option<(Outcome, Answer)>,
}

/// What becomes of a gate's word.
#[derive(Clone, Debug, PartialEq)]
pub enum PassageDecided {
    /// New: record this.
    Record(Box<PassageEnded>),
    /// A repeat: the first answer again.
    Repeat(Answer),
}

/// Why a gate's word is not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassageRefusal {
    /// No such grant.
    #[error(
        "no entry that this building granted at a gate with passage = \"confirm\" in the last {REMEMBERED_HOURS} hours has the event_id {0}"
    )]
    Unknown(Uuid),
    /// The grant was another gate's.
    #[error("this key is for gate {device}, and that entry was granted at gate {gate}")]
    OtherGate {
        /// The caller's.
        device: GateId,
        /// The grant's.
        gate: GateId,
    },
    /// It contradicts what was said.
    #[error("this passage is {0} already: what a gate has said once stays said")]
    OtherOutcome(&'static str),
    /// Too late to take the grant back.
    #[error(
        "the time limit of this passage was over at {0}: it stands as assumed. An exit takes the holder out"
    )]
    TooLate(Timestamp),
}

/// The grants of the last 24 hours, of them the newest [`MAX_REMEMBERED_PASSAGES`], by their places in the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passages {
    by_sequence: BTreeMap<u64, Passage>,
    sequences: HashMap<Uuid, u64>,
}

impl Passages {
    /// With these, in any order.
    #[must_use]
    pub fn of(passages: Vec<(u64, Passage)>) -> Self {
        let mut all = Self::default();
        passages.into_iter().for_each(|(sequence, passage)| all.put(sequence, passage));
        while all.by_sequence.len() > MAX_REMEMBERED_PASSAGES {
            all.forget_oldest();
        }
        all
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_sequence.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_sequence.is_empty()
    }

    /// Takes an event into the state.
    pub(super) fn apply(&mut self, event: &Event) {
        self.forget_over(event.time);
        if let Some((sequence, passage)) = Passage::of_grant(event).or_else(|| Passage::of_end(event)) {
            self.put(sequence, passage);
            if self.by_sequence.len() > MAX_REMEMBERED_PASSAGES {
                self.forget_oldest();
            }
        }
    }

    /// Forgets what is over at `now`.
    pub(super) fn forget_over(&mut self, now: Timestamp) {
        while self.by_sequence.first_key_value().is_some_and(|(_, oldest)| oldest.is_over(now)) {
            self.forget_oldest();
        }
    }

    fn put(&mut self, sequence: u64, passage: Passage) {
        self.sequences.insert(passage.event_id, sequence);
        self.by_sequence.insert(sequence, passage);
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.by_sequence.pop_first() {
            self.sequences.remove(&oldest.event_id);
        }
    }

    fn find(&self, event_id: Uuid, now: Timestamp) -> Option<(u64, &Passage)> {
        let sequence = *self.sequences.get(&event_id)?;
        let passage = self.by_sequence.get(&sequence).filter(|passage| !passage.is_over(now))?;
        Some((sequence, passage))
    }

    /// Where someone was before a passage that nobody went through, by what is known of it now.
    fn before(&self, passage: &Passage) -> Option<Inside> {
        let mut before = passage.before.as_deref()?;
        loop {
            let Entered::Pending { passage: sequence, .. } = before.entered else {
                return Some(before.clone());
            };
            let said =
                self.by_sequence.get(&sequence).and_then(|earlier| Some((earlier, earlier.said.as_ref()?)));
            match said {
                Some((_, (Outcome::Entered, _))) => {
                    return Some(Inside { entered: Entered::Confirmed, ..before.clone() });
                }
                // each comes before the one it is the past of, so this ends
                Some((earlier, (Outcome::NoEntry, _))) => before = earlier.before.as_deref()?,
                None => return Some(before.clone()),
            }
        }
    }
}

impl Passage {
    /// The passage that a granted entry begins, if its gate will say what comes of it.
    #[must_use]
    pub fn of_grant(event: &Event) -> Option<(u64, Self)> {
        let Body::Entry(Entry { swipe, decision: Decision::Granted { .. }, passage: Some(due), .. }) =
            &event.body
        else {
            return None;
        };
        let passage = Self {
            event_id: event.id,
            granted_at: event.time,
            until: due.until,
            gate: swipe.gate.clone(),
            card_id: swipe.card_id.clone(),
            employee_id: swipe.employee_id.clone()?,
            before: due.before.clone().map(Box::new),
            said: None,
        };
        Some((event.sequence, passage))
    }

    /// The same once the gate has said what came of it.
    #[must_use]
    pub fn of_end(event: &Event) -> Option<(u64, Self)> {
        let Body::Passage(ended) = &event.body else { return None };
        let passage = Self {
            event_id: ended.granted_event_id,
            granted_at: ended.granted_at,
            until: ended.until,
            gate: ended.gate.clone(),
            card_id: ended.card_id.clone(),
            employee_id: ended.employee_id.clone(),
            before: ended.before.clone().map(Box::new),
            said: Some((ended.outcome, Answer::of(event))),
        };
        Some((ended.granted_sequence, passage))
    }

    /// Whether it is no longer remembered at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.granted_at).as_secs() >= REMEMBERED_HOURS * 3_600
    }
}

impl Building {
    /// What becomes of a gate's word on the grant that the event `granted` is. `device` is the one gate that the caller
    /// speaks for; `None`: all of them.
    ///
    /// # Errors
    /// [`PassageRefusal`]; then nothing is to be recorded.
    pub fn end_passage(
        &self,
        granted: Uuid,
        outcome: Outcome,
        device: Option<&GateId>,
        now: Timestamp,
    ) -> Result<PassageDecided, PassageRefusal> {
        let (sequence, passage) = self.passages.find(granted, now).ok_or(PassageRefusal::Unknown(granted))?;
        if let Some(device) = device.filter(|device| **device != passage.gate) {
            let (device, gate) = (device.clone(), passage.gate.clone());
            return Err(PassageRefusal::OtherGate { device, gate });
        }
        match &passage.said {
            Some((said, answer)) if *said == outcome => return Ok(PassageDecided::Repeat(answer.clone())),
            Some((said, _)) => return Err(PassageRefusal::OtherOutcome(said.ended())),
            None if outcome == Outcome::NoEntry && now > passage.until => {
                return Err(PassageRefusal::TooLate(passage.until));
            }
            None => {}
        }
        let still = self.inside.get(&passage.employee_id).filter(|inside| inside.is_of_passage(sequence));
        let presence = match (still, outcome) {
            // they have left or entered again since
            (None, _) => Presence::Unchanged,
            (Some(inside), Outcome::Entered) => {
                Presence::Inside(Inside { entered: Entered::Confirmed, ..inside.clone() })
            }
            (Some(_), Outcome::NoEntry) => {
                self.passages.before(passage).map_or(Presence::Outside, Presence::Inside)
            }
        };
        Ok(PassageDecided::Record(Box::new(PassageEnded {
            outcome,
            building: self.rules.building.clone(),
            gate: passage.gate.clone(),
            card_id: passage.card_id.clone(),
            employee_id: passage.employee_id.clone(),
            granted_event_id: granted,
            granted_sequence: sequence,
            granted_at: passage.granted_at,
            until: passage.until,
            before: passage.before.as_deref().cloned(),
            presence,
        })))
    }
}
