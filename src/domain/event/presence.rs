//! Facts about who is inside other than swipes.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Decision;
use crate::domain::{
    building::Inside,
    ids::{BuildingId, CardId, EmployeeId, GateId},
    reason::Reason,
    time::Timestamp,
};

/// Someone is taken to have left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceExpired {
    /// Where.
    pub building: BuildingId,
    /// The gate they had entered by.
    pub gate: GateId,
    /// The card they had entered with.
    pub card_id: CardId,
    /// Who.
    pub employee_id: EmployeeId,
    /// When they had entered.
    pub since: Timestamp,
    /// Why. Events of versions without a daily reset do not say it.
    #[serde(default)]
    pub cause: ExpiryCause,
}

/// Why someone is taken to have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryCause {
    /// Inside for longer than the building's `presence_timeout`.
    #[default]
    Timeout,
    /// Inside since before the building's last `daily_reset`.
    DailyReset,
}

/// The security desk says that someone is not inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceForgiven {
    /// Where.
    pub building: BuildingId,
    /// The gate they had entered by.
    pub gate: GateId,
    /// The card they had entered with.
    pub card_id: CardId,
    /// Who.
    pub employee_id: EmployeeId,
    /// When they had entered.
    pub since: Timestamp,
    /// Why, in the words of whoever did it.
    pub reason: String,
}

/// The security desk says that nobody is inside. One event, so that all of it is true at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceReset {
    /// Where.
    pub building: BuildingId,
    /// How many were inside until then.
    pub people: u64,
    /// Why, in the words of whoever did it.
    pub reason: String,
}

/// Where an event leaves someone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PresenceText", into = "PresenceText")]
pub enum Presence {
    /// Where they were.
    #[default]
    Unchanged,
    /// Not inside.
    Outside,
    /// Inside.
    Inside(Inside),
}

impl Presence {
    /// Then events say nothing of it.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        *self == Self::Unchanged
    }
}

#[derive(Serialize, Deserialize)]
struct PresenceText {
    inside: bool,
    #[serde(flatten)]
    place: Option<Inside>,
}

impl From<Presence> for PresenceText {
    fn from(presence: Presence) -> Self {
        match presence {
            Presence::Unchanged | Presence::Outside => Self { inside: false, place: None },
            Presence::Inside(inside) => Self { inside: true, place: Some(inside) },
        }
    }
}

impl TryFrom<PresenceText> for Presence {
    type Error = &'static str;
    fn try_from(text: PresenceText) -> Result<Self, Self::Error> {
        match text {
            PresenceText { inside: false, .. } => Ok(Self::Outside),
            PresenceText { inside: true, place: Some(inside) } => Ok(Self::Inside(inside)),
            PresenceText { inside: true, place: None } => Err("someone inside needs since, gate and card_id"),
        }
    }
}

/// What comes with a grant at a gate that will say what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassageDue {
    /// Until when the gate may say that nobody entered.
    pub until: Timestamp,
    /// Where the holder was until then, if inside: there again if nobody enters.
    pub before: Option<Inside>,
}

/// What a gate says of a passage that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The holder went through.
    Entered,
    /// Nobody did.
    NoEntry,
}

impl Outcome {
    /// What the passage is afterwards.
    #[must_use]
    pub fn ended(self) -> &'static str {
        match self {
            Self::Entered => "confirmed",
            Self::NoEntry => "abandoned",
        }
    }
}

/// A gate has said what came of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassageEnded {
    /// What came of it.
    pub outcome: Outcome,
    /// Where.
    pub building: BuildingId,
    /// The gate.
    pub gate: GateId,
    /// The card.
    pub card_id: CardId,
    /// Its holder.
    pub employee_id: EmployeeId,
    /// The event of the grant.
    pub granted_event_id: Uuid,
    /// Its place in the log.
    #[serde(with = "digits")]
    pub granted_sequence: u64,
    /// Its time.
    pub granted_at: Timestamp,
    /// Until when the gate could say that nobody entered.
    pub until: Timestamp,
    /// Where the holder was before the grant, if inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Inside>,
    /// Where the holder is now. Absent if they have left or entered again since the grant: then that counts.
    #[serde(default, skip_serializing_if = "Presence::is_unchanged")]
    pub presence: Presence,
}

/// What a gate decided alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateDecision {
    /// It opened.
    #[default]
    Granted,
    /// It stayed closed.
    Denied,
}

impl GateDecision {
    /// The name in events and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Denied => "denied",
        }
    }

    /// Whether the server has decided so, too.
    #[must_use]
    pub fn is(self, decision: Decision) -> bool {
        matches!(decision, Decision::Granted { .. }) == (self == Self::Granted)
    }
}

/// An entry that a gate decided alone while the server was away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecorded {
    /// Where.
    pub building: BuildingId,
    /// The gate.
    pub gate: GateId,
    /// The card as the reader sent it.
    pub card_id: CardId,
    /// Whose card it is; `None` for an unknown card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub employee_id: Option<EmployeeId>,
    /// What the gate decided.
    pub decision: GateDecision,
    /// Of one that was let in: why the server would not have, or, with soft anti-passback, what it would have flagged. Of
    /// an unknown card always that.
    pub anomaly: Option<Reason>,
    /// BACnet's number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bacnet_code: Option<u16>,
    /// More is known of the holder than this: it is history, and changes nobody's presence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// The device's name for this swipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swipe_id: Option<Uuid>,
    /// When, by the gate's clock.
    pub occurred_at: Timestamp,
}

/// A sequence as events have it.
mod digits {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(sequence: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{sequence:020}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
