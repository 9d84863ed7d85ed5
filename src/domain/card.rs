//! A card: who holds it, where it opens, and whether it still does.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{
    groups::Groups,
    ids::{BuildingId, CardId, EmployeeId, GateId, GroupId},
    reason::Reason,
    time::Timestamp,
};

/// The longest `holder_name`, in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// The most buildings or gates that one card names.
pub const MAX_RIGHTS: usize = 256;
/// The most groups that one card names.
pub const MAX_GROUPS: usize = 32;

/// Whether a card opens anything. Ordered from the least to the most restrictive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In use.
    #[default]
    Active,
    /// Out of use for a while.
    Suspended,
    /// Reported lost; may be found again.
    Lost,
    /// Out of use for good.
    Revoked,
}

impl Status {
    /// The name in answers and queries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Lost => "lost",
            Self::Revoked => "revoked",
        }
    }

    fn denies(self) -> Option<Reason> {
        match self {
            Self::Active => None,
            Self::Suspended => Some(Reason::Suspended),
            Self::Lost => Some(Reason::Lost),
            Self::Revoked => Some(Reason::Revoked),
        }
    }
}

/// What the card office says of a card. Everything but `status` and `version` of [`Card`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardDetails {
    /// Whose card it is; never changes for a card.
    pub employee_id: EmployeeId,
    /// The holder's name. Personal data: leaves the server only by a route with `personal = true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder_name: Option<SmolStr>,
    /// Where the card opens. Absent: everywhere; empty: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildings: Option<Box<[BuildingId]>>,
    /// Which gates it opens: `gate` in any building or `building/gate`. Absent: all; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<Box<[GateRight]>>,
    /// The access groups that it belongs to. Absent: none are asked; empty: it opens nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Box<[GroupId]>>,
    /// From this moment on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Timestamp>,
    /// Until just before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// May enter again without having left.
    #[serde(default)]
    pub anti_passback_exempt: bool,
    /// May enter during lockdown and evacuation.
    #[serde(default)]
    pub responder: bool,
}

/// A right to a gate, written `gate` (in any building) or `building/gate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GateRight {
    /// The building, if the right is for one only.
    pub building: Option<BuildingId>,
    /// The gate.
    pub gate: GateId,
}

/// What a change is based on: the number alone does not say it where several servers make versions. Written `3`, or
/// `3-hq-1` of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardVersion {
    /// As [`Card::version`]; 0: not registered.
    pub number: u64,
    /// As [`Card::version_by`].
    pub by: Option<String>,
}

/// A card as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The number the reader sends.
    pub card_id: CardId,
    /// What the card office says of it.
    #[serde(flatten)]
    pub details: CardDetails,
    /// Whether it opens anything.
    pub status: Status,
    /// Counts the changes of this card, from 1.
    pub version: u64,
    /// The server that made this version; absent: the one whose log this is. See [`super::card_sync`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_by: Option<SmolStr>,
}

impl Card {
    /// The version, and who made it.
    #[must_use]
    pub fn made_version(&self) -> CardVersion {
        CardVersion { number: self.version, by: self.version_by.as_ref().map(ToString::to_string) }
    }

    /// Why this card opens nothing at `now`, whatever the gate; `None` if it does.
    ///
    /// Status comes before validity: the desk wants to hear *lost*, not *expired*.
    #[must_use]
    pub fn refusal(&self, now: Timestamp) -> Option<Reason> {
        let details = &self.details;
        self.status
            .denies()
            .or_else(|| details.valid_from.filter(|&from| now < from).map(|_| Reason::NotYetValid))
            .or_else(|| details.valid_until.filter(|&until| now >= until).map(|_| Reason::Expired))
    }

    /// Why the card has no right to this gate at `now`; `None` if it has. `buildings`, `gates` and `groups` each narrow:
    /// all that are given must allow it.
    #[must_use]
    pub fn refusal_at(
        &self,
        building: &BuildingId,
        gate: &GateId,
        building_groups: &Groups,
        now: Timestamp,
    ) -> Option<Reason> {
        let CardDetails { buildings, gates, groups, .. } = &self.details;
        let opens = buildings.as_ref().is_none_or(|list| list.contains(building))
            && gates.as_ref().is_none_or(|list| list.iter().any(|right| right.covers(building, gate)));
        if !opens {
            return Some(Reason::GateNotAllowed);
        }
        groups.as_ref().and_then(|named| building_groups.refusal(named, gate, now))
    }
}

impl fmt::Display for CardVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            Some(by) => write!(f, "{}-{by}", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

impl FromStr for CardVersion {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let (number, by) = match text.split_once('-') {
            Some((number, by)) => (number, Some(by.to_owned())),
            None => (text, None),
        };
        Ok(Self { number: number.parse()?, by })
    }
}

impl GateRight {
    fn covers(&self, building: &BuildingId, gate: &GateId) -> bool {
        self.gate == *gate && self.building.as_ref().is_none_or(|only| only == building)
    }
}

impl TryFrom<String> for GateRight {
    type Error = super::ids::InvalidId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once('/') {
            Some((building, gate)) => {
                Ok(Self { building: Some(BuildingId::parse(building)?), gate: GateId::parse(gate)? })
            }
            None => Ok(Self { building: None, gate: GateId::parse(&text)? }),
        }
    }
}

impl From<GateRight> for String {
    fn from(right: GateRight) -> Self {
        match right.building {
            Some(building) => format!("{building}/{}", right.gate),
            None => right.gate.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        serde_json::from_value(serde_json::json!({
            "card_id": "C1", "employee_id": "E1", "status": "active", "version": 1
        }))
        .unwrap()
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_version_says_who_made_it() {
        let mut card = card();
        assert_eq!(card.made_version().to_string(), "1");
        card.version_by = Some("hq-1".into());
        assert_eq!(card.made_version().to_string(), "1-hq-1");
        for text in ["3", "3-hq-1", "0"] {
            assert_eq!(text.parse::<CardVersion>().unwrap().to_string(), text);
        }
        for text in ["", "-", "-hq", "hq-1", "latest", "3 4"] {
            text.parse::<CardVersion>().unwrap_err();
        }
    }

    #[test]
    fn validity_begins_at_from_and_ends_before_until() {
        let mut card = card();
        card.details.valid_from = Some(at(100));
        card.details.valid_until = Some(at(200));
        assert_eq!(card.refusal(at(99)), Some(Reason::NotYetValid));
        assert_eq!(card.refusal(at(100)), None);
        assert_eq!(card.refusal(at(199)), None);
        assert_eq!(card.refusal(at(200)), Some(Reason::Expired));
        card.status = Status::Lost;
        assert_eq!(card.refusal(at(200)), Some(Reason::Lost));
    }

    #[test]
    fn an_absent_list_is_everywhere_and_an_empty_one_nowhere() {
        let (hq, annex) = (BuildingId::parse("hq").unwrap(), BuildingId::parse("annex").unwrap());
        let (north, vault) = (GateId::parse("north").unwrap(), GateId::parse("vault").unwrap());
        let mut card = card();
        let opens = |card: &Card, building, gate| {
            card.refusal_at(building, gate, &Groups::default(), at(0)).is_none()
        };
        assert!(opens(&card, &hq, &north));
        card.details.buildings = Some([].into());
        assert!(!opens(&card, &hq, &north));
        card.details.buildings = Some([hq.clone()].into());
        assert!(opens(&card, &hq, &north) && !opens(&card, &annex, &north));
        card.details.gates = Some([GateRight::try_from("hq/north".to_owned()).unwrap()].into());
        assert!(opens(&card, &hq, &north) && !opens(&card, &hq, &vault));
        card.details.buildings = None;
        assert!(!opens(&card, &annex, &north), "the right names the building hq");
        card.details.gates = Some([GateRight::try_from("north".to_owned()).unwrap()].into());
        assert!(opens(&card, &annex, &north));
        card.details.groups = Some([].into());
        assert!(!opens(&card, &annex, &north), "a member of nothing");
    }
}
