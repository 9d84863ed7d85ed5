//! A replay: which events are sent again, from where, and where to.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    hex::push_hex,
    ids::{BuildingId, CardId, ReplayName},
    pattern::Pattern,
    record::EventRecord,
    time::Timestamp,
};

/// The source that is the live log.
pub const WAL: &str = "wal";
/// The target that is no sink: the state is rebuilt and compared with the live one.
pub const STATE: &str = "state";

/// What the name of a replay begins with that nobody has named.
const NAME_PREFIX: &str = "replay-";
/// Bytes of the hash in such a name.
const NAME_HASH_BYTES: usize = 6;

/// What one part of an archive holds.
const HOUR_MS: i64 = 3_600_000;

/// What an operator asks for. It is kept with the replay and recorded, so it evolves by addition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayOrder {
    /// [`WAL`], `s3://bucket/prefix`, or a directory.
    pub from: String,
    /// A sink's name, or [`STATE`].
    pub to: String,
    /// Events of this moment and later ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Events before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Events of this building.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building: Option<BuildingId>,
    /// Events of these types.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub types: Option<Pattern>,
    /// Events of this card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<CardId>,
    /// Events a second at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// Nothing is sent: what would be is counted.
    pub dry_run: bool,
}

/// The members of an event that a replay is filtered by beside its record's header.
#[derive(Deserialize)]
struct Filtered {
    time: Timestamp,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    data: FilteredData,
}

#[derive(Default, Deserialize)]
struct FilteredData {
    #[serde(default)]
    card_id: Option<String>,
}

impl ReplayOrder {
    /// The name of a replay that nobody has named: of the same order always the same, so that asking again finds it.
    ///
    /// # Errors
    /// None that these types can have.
    pub fn default_name(&self) -> Result<ReplayName, serde_json::Error> {
        let hash = Sha256::digest(serde_json::to_vec(self)?);
        let mut name = NAME_PREFIX.to_owned();
        push_hex(&mut name, hash.get(..NAME_HASH_BYTES).unwrap_or_default());
        ReplayName::parse(&name).map_err(serde::ser::Error::custom)
    }

    /// Whether an event is to be sent again.
    ///
    /// # Errors
    /// Its time or card is asked for, and its JSON is not that of an event.
    pub fn wants(&self, event: &EventRecord) -> Result<bool, serde_json::Error> {
        let is_of_type = self.types.as_ref().is_none_or(|types| types.matches(event.event_type()));
        let building = self.building.as_ref().map(BuildingId::as_str);
        let is_of_building = building.is_none_or(|building| event.building() == Some(building));
        if !is_of_type || !is_of_building {
            return Ok(false);
        }
        if self.since.is_none() && self.until.is_none() && self.card.is_none() {
            return Ok(true);
        }
        let Filtered { time, subject, data } = serde_json::from_slice(&event.json())?;
        Ok(self.wants_time(time) && self.card.as_ref().is_none_or(|card| is_of_card(card, subject, data)))
    }

    /// Whether an object of an archive may hold such events, by its name in the form of the `s3` sink. Others may.
    #[must_use]
    pub fn wants_object(&self, name: &str) -> bool {
        let part = |name_of: &str| name.split('/').find_map(|part| part.strip_prefix(name_of));
        let building = part("building=").zip(self.building.as_ref());
        if building.is_some_and(|(there, wanted)| there != wanted.as_str()) {
            return false;
        }
        let hour = part("dt=").zip(part("hour=")).map(|(date, hour)| format!("{date}T{hour}:00:00Z"));
        let Some(begins) = hour.and_then(|hour| hour.parse::<Timestamp>().ok()) else { return true };
        let ends = Timestamp::from_millis(begins.as_millis().saturating_add(HOUR_MS));
        self.since.is_none_or(|since| since < ends) && self.until.is_none_or(|until| until > begins)
    }

    fn wants_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// The subject stays when a route drops fields of `data`, but not every event of a card has the card as its subject.
fn is_of_card(card: &CardId, subject: Option<String>, data: FilteredData) -> bool {
    let subject = subject.as_deref().and_then(|subject| subject.strip_prefix("card/"));
    subject == Some(card.as_str()) || data.card_id.as_deref() == Some(card.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(event_type: &str, building: &str, json: serde_json::Value) -> EventRecord {
        EventRecord::encode(event_type, building, "E1", json.to_string().as_bytes()).unwrap()
    }

    fn order(fields: serde_json::Value) -> ReplayOrder {
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn every_filter_must_agree() {
        let exit = event(
            "access.exit.recorded",
            "hq",
            json!({ "time": "2026-11-20T08:00:00Z", "subject": "card/C1", "data": {} }),
        );
        let wants = |fields| order(fields).wants(&exit).unwrap();
        assert!(wants(json!({})));
        assert!(wants(json!({ "type": "access.*.recorded", "building": "hq", "card": "C1",
            "since": "2026-11-20T08:00:00Z", "until": "2026-11-20T08:00:00.001Z" })));
        for not_it in [
            json!({ "type": "card.*" }),
            json!({ "building": "annex" }),
            json!({ "card": "C2" }),
            json!({ "since": "2026-11-20T08:00:00.001Z" }),
            json!({ "until": "2026-11-20T08:00:00Z" }),
        ] {
            assert!(!wants(not_it.clone()), "{not_it}");
        }
    }

    #[test]
    fn an_event_of_a_card_may_be_about_its_holder() {
        let expired = event(
            "presence.expired",
            "hq",
            json!({ "time": "2026-11-20T08:00:00Z", "subject": "employee/E1", "data": { "card_id": "C1" } }),
        );
        assert!(order(json!({ "card": "C1" })).wants(&expired).unwrap());
        assert!(!order(json!({ "card": "C2" })).wants(&expired).unwrap());
        let repaired = event("log.repaired", "", json!({ "time": "2026-11-20T08:00:00Z" }));
        assert!(!order(json!({ "card": "C1" })).wants(&repaired).unwrap());
        assert!(!order(json!({ "building": "hq" })).wants(&repaired).unwrap());
    }

    #[test]
    fn what_is_no_event_is_said_only_if_it_matters() {
        let broken = EventRecord::encode("card.lost", "", "E1", b"{").unwrap();
        assert!(order(json!({ "type": "card.*" })).wants(&broken).unwrap());
        assert!(order(json!({ "card": "C1" })).wants(&broken).is_err());
    }

    #[test]
    fn objects_of_other_buildings_and_hours_are_not_read() {
        let order = order(
            json!({ "building": "hq", "since": "2026-11-20T08:30:00Z", "until": "2026-11-20T10:00:00Z" }),
        );
        let key = |building: &str, hour: &str| {
            format!(
                "events/building={building}/dt=2026-11-20/hour={hour}/hq-1.1-00000000000000000001.parquet"
            )
        };
        let wants = |building, hour| order.wants_object(&key(building, hour));
        assert!(wants("hq", "08") && wants("hq", "09"));
        assert!(!wants("hq", "07") && !wants("hq", "10") && !wants("annex", "08"));
        assert!(order.wants_object("hq-1.1-00000000000000000001.ndjson") && wants("hq", "x"));
        assert!(ReplayOrder::default().wants_object(&key("annex", "07")));
    }

    #[test]
    fn the_same_order_has_the_same_name() {
        let one = order(json!({ "from": "wal", "to": "exits" }));
        let other = order(json!({ "from": "wal", "to": "exits", "card": "C1" }));
        assert_eq!(one.default_name().unwrap(), one.clone().default_name().unwrap());
        assert_ne!(one.default_name().unwrap(), other.default_name().unwrap());
        assert!(one.default_name().unwrap().as_str().starts_with("replay-"));
    }
}
