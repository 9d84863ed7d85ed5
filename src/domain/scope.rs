//! Whose events someone may see: those of the whole server, or of some buildings.

use std::collections::BTreeSet;

use super::ids::BuildingId;

/// What a person's roles let them see. Events of no building (cards, operators, the log itself) are the whole server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All events.
    Everywhere,
    /// Those of these buildings.
    Buildings(BTreeSet<BuildingId>),
}

impl Scope {
    /// One building's events.
    #[must_use]
    pub fn building(building: BuildingId) -> Self {
        Self::Buildings(BTreeSet::from([building]))
    }

    /// Whether an event of this building, or of none, may be seen.
    #[must_use]
    pub fn covers(&self, building: Option<&str>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Buildings(some) => building.is_some_and(|building| some.contains(building)),
        }
    }

    /// The building, if it is just one.
    #[must_use]
    pub fn only(&self) -> Option<&BuildingId> {
        match self {
            Self::Buildings(some) if some.len() == 1 => some.first(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_building_sees_its_own_events_and_not_those_of_the_server() {
        let hq = Scope::building(BuildingId::parse("hq").unwrap());
        assert!(hq.covers(Some("hq")) && !hq.covers(Some("annex")) && !hq.covers(None));
        assert!(Scope::Everywhere.covers(None) && Scope::Everywhere.covers(Some("annex")));
        assert_eq!(hq.only().map(BuildingId::as_str), Some("hq"));
        assert_eq!(Scope::Everywhere.only(), None);
    }
}
