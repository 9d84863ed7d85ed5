//! Devices' keys, as the log tells of them: which there are, never what they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::{BuildingId, GateId};

/// The most keys that one event names; more are told of by several.
pub const MAX_KEYS_PER_EVENT: usize = 500;

/// Which key it is, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFact {
    /// The key's name, such as `k_7f3a12cd`; not secret.
    pub id: String,
    /// The building it is for.
    pub building: BuildingId,
    /// The gate it is for; absent: every gate of the building.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateId>,
    /// What it may do, such as `gate`. A text, because other versions have other kinds.
    pub kind: String,
}

/// Keys that came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysChanged {
    /// Keys that count from now on.
    pub added: Vec<KeyFact>,
    /// Keys that count no longer.
    pub removed: Vec<KeyFact>,
}

/// Keys by their id.
pub type Keys = BTreeMap<String, KeyFact>;

/// What leads from one set of keys to another, as events tell it. A key that is for something else now is one that went
/// and one that came.
#[must_use]
pub fn changes(before: &Keys, now: &Keys) -> Vec<KeysChanged> {
    let missing = |these: &Keys, those: &Keys| -> Vec<KeyFact> {
        these.values().filter(|fact| those.get(&fact.id) != Some(fact)).cloned().collect()
    };
    let (removed, added) = (missing(before, now), missing(now, before));
    let chunks =
        |facts: &[KeyFact]| facts.chunks(MAX_KEYS_PER_EVENT).map(<[KeyFact]>::to_vec).collect::<Vec<_>>();
    let mut told: Vec<KeysChanged> =
        chunks(&removed).into_iter().map(|removed| KeysChanged { added: vec![], removed }).collect();
    let mut rest = chunks(&added).into_iter();
    // what fits into one event is one change
    if let [only] = told.as_mut_slice()
        && only.removed.len() + added.len() <= MAX_KEYS_PER_EVENT
    {
        only.added = rest.next().unwrap_or_default();
    }
    told.extend(rest.map(|added| KeysChanged { added, removed: vec![] }));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(ids: std::ops::Range<usize>, kind: &str) -> Keys {
        let fact = |id| KeyFact {
            id,
            building: BuildingId::parse("hq").unwrap(),
            gate: None,
            kind: kind.to_owned(),
        };
        ids.map(|id| format!("k_{id:08}")).map(|id| (id.clone(), fact(id))).collect()
    }

    /// What the events say, one after the other, of what was there before.
    fn told(mut keys: Keys, events: &[KeysChanged]) -> Keys {
        for event in events {
            assert!(!event.added.is_empty() || !event.removed.is_empty());
            assert!(event.added.len() + event.removed.len() <= MAX_KEYS_PER_EVENT);
            for fact in &event.removed {
                assert_eq!(keys.remove(&fact.id).as_ref(), Some(fact));
            }
            for fact in &event.added {
                assert_eq!(keys.insert(fact.id.clone(), fact.clone()), None);
            }
        }
        keys
    }

    #[test]
    fn events_lead_from_one_set_to_the_other() {
        let (gates, panels) = ("gate", "panel");
        for (before, now, events) in [
            (keys(0..0, gates), keys(0..0, gates), 0),
            (keys(0..3, gates), keys(0..3, gates), 0),
            (keys(0..0, gates), keys(0..1, gates), 1),
            (keys(0..4, gates), keys(2..6, gates), 1),
            (keys(0..2, gates), keys(0..2, panels), 1),
            (keys(0..0, gates), keys(0..10_000, gates), 20),
            (keys(0..400, gates), keys(400..800, gates), 2),
            (keys(0..1_001, gates), keys(5_000..5_001, gates), 4),
        ] {
            let changed = changes(&before, &now);
            assert_eq!(changed.len(), events);
            assert_eq!(told(before, &changed), now);
        }
    }

    #[test]
    fn a_key_is_told_without_its_name_and_its_hash() {
        let changed = KeysChanged { added: keys(7..8, "panel").into_values().collect(), removed: vec![] };
        let json = serde_json::to_string(&changed).unwrap();
        assert_eq!(json, r#"{"added":[{"id":"k_00000007","building":"hq","kind":"panel"}],"removed":[]}"#);
    }
}
