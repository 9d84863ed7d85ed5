//! What a building is in, and the events that say so.

use serde::{Deserialize, Serialize};

use super::{
    card::Card,
    ids::{BuildingId, CardId, EmployeeId, InvalidLogName, LogName},
    reason::Reason,
    time::Timestamp,
};

/// What a building is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Cards enter by their rights.
    #[default]
    Normal,
    /// Only responders enter.
    Lockdown,
    /// Only responders enter, everyone else is to get out, and a roster says who has.
    Evacuation,
}

/// `building.mode.changed`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChanged {
    /// Which building.
    pub building: BuildingId,
    /// What it is in from now on.
    pub mode: Mode,
    /// What it was in.
    pub previous: Mode,
    /// Why, in the words of whoever did it.
    pub reason: String,
    /// The roster that is taken by this event (its sequence is this event's), goes on, or ends with it: at the mode
    /// `normal` nobody is inside any more whose last entry comes before [`RosterMark::sequence`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster: Option<RosterMark>,
}

/// Where in the log a roster was taken. Entries before it are of people on the roster, those after it are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RosterMarkText", into = "RosterMarkText")]
pub struct RosterMark {
    /// The log.
    pub log: LogName,
    /// The sequence of the event that took it.
    pub sequence: u64,
    /// The time of that event.
    pub taken_at: Timestamp,
}

/// `muster.accounted`: someone was seen at the assembly point. Who says so is the event's `by`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounted {
    /// Which building's roster.
    pub building: BuildingId,
    /// Who was seen.
    pub employee_id: EmployeeId,
    /// The card they had entered with.
    pub card_id: CardId,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RosterMarkText {
    log: String,
    sequence: String,
    taken_at: Timestamp,
}

/// Why a text is no mode.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be normal, lockdown or evacuation")]
pub struct InvalidMode;

/// Why a roster's mark cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRosterMark {
    /// Its log.
    #[error(transparent)]
    Log(#[from] InvalidLogName),
    /// Its sequence.
    #[error("{0:?} is not a sequence")]
    Sequence(String),
}

impl Mode {
    /// Every mode, for metrics and documentation.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Lockdown, Self::Evacuation];

    /// The name in requests, answers, events and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Lockdown => "lockdown",
            Self::Evacuation => "evacuation",
        }
    }

    /// Why a card that is in order may not enter now.
    #[must_use]
    pub fn refusal(self, card: &Card) -> Option<Reason> {
        match self {
            _ if card.details.responder => None,
            Self::Normal => None,
            Self::Lockdown => Some(Reason::Lockdown),
            Self::Evacuation => Some(Reason::Evacuation),
        }
    }
}

impl TryFrom<String> for Mode {
    type Error = InvalidMode;
    fn try_from(text: String) -> Result<Self, InvalidMode> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or(InvalidMode)
    }
}

impl TryFrom<RosterMarkText> for RosterMark {
    type Error = InvalidRosterMark;
    fn try_from(text: RosterMarkText) -> Result<Self, InvalidRosterMark> {
        let RosterMarkText { log, sequence, taken_at } = text;
        let sequence = sequence.parse().map_err(|_| InvalidRosterMark::Sequence(sequence))?;
        Ok(Self { log: log.parse()?, sequence, taken_at })
    }
}

impl From<RosterMark> for RosterMarkText {
    fn from(mark: RosterMark) -> Self {
        let RosterMark { log, sequence, taken_at } = mark;
        Self { log: log.to_string(), sequence: format!("{sequence:020}"), taken_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_its_way_through_json() {
        let log = LogName { server: "hq-1".to_owned(), epoch: 3 };
        let mark = RosterMark { log, sequence: 42, taken_at: Timestamp::from_millis(1) };
        let json = serde_json::to_value(&mark).unwrap();
        assert_eq!((&json["log"], &json["sequence"]), (&"hq-1.3".into(), &"00000000000000000042".into()));
        assert_eq!(serde_json::from_value::<RosterMark>(json).unwrap(), mark);
        let bad = serde_json::json!({ "log": "hq", "sequence": "1", "taken_at": "2026-11-20T08:00:00Z" });
        assert!(serde_json::from_value::<RosterMark>(bad).is_err());
    }

    #[test]
    fn a_mode_is_named_the_same_everywhere() {
        for mode in Mode::ALL {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
            assert_eq!(Mode::try_from(mode.as_str().to_owned()), Ok(mode));
        }
        assert_eq!(Mode::try_from("Normal".to_owned()), Err(InvalidMode));
    }
}
