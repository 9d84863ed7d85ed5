//! Cards and presence, rebuilt from events in whatever order they come, and held against the live state. Pure.
//!
//! Each event sets or removes one entry ([`fold`](super::fold)), and of one entry the last event counts: by the epoch of
//! its log and its sequence, not by when it was read. So an archive may be read object by object. The end of a roster
//! counts for everyone whose last event comes before the roster's mark.

use std::{collections::BTreeMap, ops::Bound};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    entry::{self, Line},
    fold::changes,
    wide::Wide,
};
use crate::domain::{
    event::Event,
    ids::{BuildingId, CardId},
};

/// Differences that are listed; of more there is the count.
pub const MAX_LISTED_DIFFERENCES: usize = 1_000;
/// What an entry takes beside its texts, about.
const ENTRY_BYTES: usize = 96;

/// What of the state is looked at; nothing set: all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Who is inside here, and no cards.
    pub building: Option<BuildingId>,
    /// This card, and who is inside by it.
    pub card: Option<CardId>,
}

/// The state that events come to.
#[derive(Debug)]
pub struct Rebuilt {
    scope: Scope,
    /// Nothing is missing before the first event.
    is_whole: bool,
    entries: BTreeMap<Box<str>, Last>,
    /// By building the events that took people out. Of each kind the last one is enough.
    cleared: BTreeMap<BuildingId, Vec<Cleared>>,
    bytes: usize,
}

/// People were taken out, all those who had come in before some place in the log.
#[derive(Clone, Copy, Debug)]
struct Cleared {
    /// The epoch and the sequence of the event.
    at: (u64, u64),
    /// Those of the place.
    before: (u64, u64),
}

#[derive(Debug)]
struct Last {
    /// The epoch and the sequence.
    at: (u64, u64),
    value: Option<Box<str>>,
}

/// A part of the live state as it was at one moment.
#[derive(Clone, Debug)]
pub struct Part {
    /// What its keys begin with.
    pub prefix: String,
    /// It is what follows this key.
    pub after: Option<String>,
    /// It ends with this key; `None`: with the last of the prefix.
    pub to: Option<String>,
    /// Its entries, in any order.
    pub lines: Vec<Line>,
}

/// What a comparison has found. It evolves by addition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Differences {
    /// Entries that were compared.
    pub compared: u64,
    /// Those that differ.
    pub total: u64,
    /// Those of the live state that may be older than the source's first event.
    pub not_judged: u64,
    /// The first ones that differ.
    pub listed: Vec<Difference>,
}

/// One entry that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// `card/<card>` or `inside/<building>/<employee>`.
    pub entry: String,
    /// What the live state says; null if it has no such entry.
    pub live: Value,
    /// What the events of the source come to.
    pub source: Value,
    /// The sequence of the last of them, if there is one.
    pub sequence: Option<String>,
}

impl Rebuilt {
    /// Nothing yet. With `is_whole` the source has everything from the first event on.
    #[must_use]
    pub fn new(scope: Scope, is_whole: bool) -> Self {
        Self { scope, is_whole, entries: BTreeMap::new(), cleared: BTreeMap::new(), bytes: 0 }
    }

    /// Takes an event of the log's `epoch`.
    ///
    /// # Errors
    /// None that events can have.
    pub fn apply(&mut self, epoch: u64, event: &Event) -> Result<(), serde_json::Error> {
        let at = (epoch, event.sequence);
        if let Some(wide) = Wide::of(event)
            && let Some((building, before)) = wide.cleared(epoch)
        {
            let all = self.cleared.entry(building.clone()).or_default();
            all.retain(|one| one.at > at || one.before > before);
            all.push(Cleared { at, before });
        }
        for (key, value) in changes(event)?.into_iter().flatten() {
            if !self.scope.is_of_key(&key) || self.entries.get(key.as_str()).is_some_and(|last| last.at >= at)
            {
                continue;
            }
            let length = |last: &Last| last.value.as_ref().map_or(0, |value| value.len());
            let last = Last { at, value: value.map(String::into_boxed_str) };
            let added = length(&last);
            self.bytes = self.bytes.saturating_add(added);
            let key_bytes = key.len().saturating_add(ENTRY_BYTES);
            match self.entries.insert(key.into_boxed_str(), last) {
                Some(before) => self.bytes = self.bytes.saturating_sub(length(&before)),
                None => self.bytes = self.bytes.saturating_add(key_bytes),
            }
        }
        Ok(())
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds a part of the live state against this.
    pub fn compare(&self, part: Part, found: &mut Differences) {
        let Part { prefix, after, to, lines } = part;
        let mut live: BTreeMap<String, String> =
            lines.into_iter().map(|Line { key, value }| (key, value)).collect();
        let begin = after.as_deref().unwrap_or(&prefix);
        let range = (Bound::Excluded(begin), Bound::Unbounded);
        let rebuilt = self.entries.range::<str, _>(range);
        let is_in = |key: &str| key.starts_with(&prefix) && to.as_deref().is_none_or(|to| key <= to);
        for (key, last) in rebuilt.take_while(|(key, _)| is_in(key)) {
            let here = live.remove(&**key);
            self.judge(key, here.as_deref(), Some(last), found);
        }
        for (key, value) in &live {
            self.judge(key, Some(value), None, found);
        }
    }

    /// The last event that took out whoever this is: someone who came in by the entry `entered_at`, and of whom the last
    /// event is the one `at`.
    fn taken_out(&self, key: &str, at: Option<(u64, u64)>, inside: &str) -> Option<(u64, u64)> {
        let cleared = entry::inside_of(key).and_then(|building| self.cleared.get(building))?;
        let entered_at = entered_at(inside);
        let applies = |one: &&Cleared| match at {
            Some(at) => at < one.at && (at.0 < one.before.0 || entered_at < one.before.1),
            None => entered_at < one.before.1,
        };
        cleared.iter().filter(applies).map(|one| one.at).max()
    }

    fn judge(&self, key: &str, live: Option<&str>, last: Option<&Last>, found: &mut Differences) {
        let value = last.and_then(|last| last.value.as_deref());
        let out_at = match (last, value, live) {
            (Some(last), Some(value), _) => self.taken_out(key, Some(last.at), value),
            // what came in after the people that were taken out may still be older than the source's first event
            (None, _, Some(live)) => self.taken_out(key, None, live),
            _ => None,
        };
        let last_at = last.map(|last| last.at).max(out_at);
        let there = value.filter(|_| out_at.is_none());
        let is_meant = |value: Option<&str>| value.is_some_and(|value| self.scope.is_of_value(key, value));
        if !self.scope.is_of_key(key) || !(is_meant(live) || is_meant(there)) {
            return;
        }
        if last_at.is_none() && !self.is_whole {
            found.not_judged += 1;
            return;
        }
        found.compared += 1;
        if live == there {
            return;
        }
        let (live, source) = (parsed(live), parsed(there));
        if without_unknown_name(live.clone(), &source) == without_unknown_sequence(source.clone(), &live) {
            return;
        }
        found.total += 1;
        if found.listed.len() < MAX_LISTED_DIFFERENCES {
            let sequence = last_at.map(|(_, sequence)| format!("{sequence:020}"));
            found.listed.push(Difference { entry: key.to_owned(), live, source, sequence });
        }
    }
}

impl Scope {
    fn is_of_key(&self, key: &str) -> bool {
        let (inside, card) = (entry::inside_of(key), entry::card_of(key));
        if inside.is_none() && card.is_none() {
            return false;
        }
        let is_of_building = self.building.as_ref().is_none_or(|building| inside == Some(building.as_str()));
        is_of_building
            && self.card.as_ref().is_none_or(|wanted| inside.is_some() || card == Some(wanted.as_str()))
    }

    fn is_of_value(&self, key: &str, value: &str) -> bool {
        let Some(card) = self.card.as_ref().filter(|_| entry::inside_of(key).is_some()) else { return true };
        parsed(Some(value)).get("card_id").and_then(Value::as_str) == Some(card.as_str())
    }
}

/// The sequence of the event by which someone came in; 0 if it is not known.
fn entered_at(inside: &str) -> u64 {
    let value = parsed(Some(inside));
    value.get("sequence").and_then(Value::as_str).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn parsed(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Archives lack the holder's name unless their route is personal: it is compared only where the source has one.
fn without_unknown_name(mut live: Value, source: &Value) -> Value {
    if let Some(card) = live.as_object_mut()
        && source.get("holder_name").is_none()
        && source.is_object()
    {
        card.shift_remove("holder_name");
    }
    live
}

/// A presence from a snapshot of an earlier version does not say by which event it came.
fn without_unknown_sequence(mut source: Value, live: &Value) -> Value {
    if let Some(presence) = source.as_object_mut()
        && live.get("sequence").is_none()
        && live.is_object()
    {
        presence.shift_remove("sequence");
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{event_json::decode, record::EventRecord},
        projections::{
            entry::{card_key, inside_key, inside_prefix},
            entry_inside::write_inside,
            tests::{fold_all, log_name, push, steps},
        },
    };
    use proptest::prelude::*;
    use serde_json::json;

    fn event(event_type: &str, sequence: u64, data: Value) -> Event {
        let json = json!({ "id": "0190a0a0-0000-7000-8000-000000000001", "type": event_type,
            "time": "2026-11-20T08:00:00Z", "sequence": format!("{sequence:020}"), "data": data });
        decode(&EventRecord::encode(event_type, "", "", json.to_string().as_bytes()).unwrap()).unwrap()
    }

    fn card(id: &str, sequence: u64, version: u64) -> Event {
        let data = json!({ "card_id": id, "employee_id": "E1", "holder_name": "Ada", "status": "active", "version": version });
        event("card.updated", sequence, data)
    }

    fn passage(event_type: &str, sequence: u64, employee: &str) -> Event {
        let data = json!({ "building": "hq", "gate": "g", "card_id": format!("C-{employee}"), "employee_id": employee });
        event(event_type, sequence, data)
    }

    fn whole(prefix: &str, lines: Vec<Line>) -> Part {
        Part { prefix: prefix.to_owned(), after: None, to: None, lines }
    }

    fn lines_of(rebuilt: &Rebuilt, prefix: &str) -> Vec<Line> {
        let entries = rebuilt.entries.iter().filter(|(key, _)| key.starts_with(prefix));
        let line = |key: &str, value: &str| Line { key: key.to_owned(), value: value.to_owned() };
        entries.filter_map(|(key, last)| Some(line(key, last.value.as_deref()?))).collect()
    }

    fn rebuilt(scope: Scope, is_whole: bool, events: &[Event]) -> Rebuilt {
        let mut rebuilt = Rebuilt::new(scope, is_whole);
        events.iter().for_each(|event| rebuilt.apply(1, event).unwrap());
        rebuilt
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let live = [card("C1", 1, 1), card("C2", 2, 1), card("C3", 3, 1)];
        let lines = lines_of(&rebuilt(Scope::default(), true, &live), "card/");
        let source = rebuilt(Scope::default(), true, &[card("C1", 1, 1), card("C2", 9, 2), card("C4", 4, 1)]);
        let mut found = Differences::default();
        source.compare(whole("card/", lines.clone()), &mut found);
        assert_eq!((found.compared, found.total, found.not_judged), (4, 3, 0));
        let entries: Vec<_> =
            found.listed.iter().map(|it| (it.entry.as_str(), it.sequence.clone())).collect();
        let digits = |sequence: u64| Some(format!("{sequence:020}"));
        assert_eq!(entries, [("card/C2", digits(9)), ("card/C4", digits(4)), ("card/C3", None)]);
        assert_eq!(
            (&found.listed[0].live["version"], &found.listed[0].source["version"]),
            (&json!(1), &json!(2))
        );
        assert_eq!((&found.listed[1].live, &found.listed[2].source), (&Value::Null, &Value::Null));

        let mut found = Differences::default();
        let cut = rebuilt(Scope::default(), false, &[card("C1", 1, 1), card("C2", 2, 1)]);
        cut.compare(whole("card/", lines), &mut found);
        assert_eq!(
            (found.compared, found.total, found.not_judged),
            (2, 0, 1),
            "C3 may be older than the source"
        );
    }

    #[test]
    fn a_part_ends_where_it_says() {
        let source = rebuilt(Scope::default(), true, &[card("C1", 1, 1), card("C2", 2, 1), card("C3", 3, 1)]);
        let part = Part {
            prefix: "card/".to_owned(),
            after: Some("card/C1".to_owned()),
            to: Some("card/C2".to_owned()),
            lines: Vec::new(),
        };
        let mut found = Differences::default();
        source.compare(part, &mut found);
        assert_eq!(found.listed.iter().map(|it| it.entry.as_str()).collect::<Vec<_>>(), ["card/C2"]);
    }

    #[test]
    fn what_is_older_than_the_last_reset_is_not_inside() {
        let reset = event("presence.reset", 3, json!({ "building": "hq", "people": 1, "reason": "drill" }));
        let entered = [passage("access.entry.granted", 1, "E1"), passage("access.entry.granted", 4, "E2")];
        let live = rebuilt(Scope::default(), true, &entered);
        let lines = lines_of(&live, "inside/hq/");
        for is_whole in [true, false] {
            // in any order, and also where the entry itself is older than the source
            for source in [vec![reset.clone(), entered[0].clone()], vec![reset.clone()]] {
                let source = [source, vec![entered[1].clone()]].concat();
                let mut found = Differences::default();
                let source = rebuilt(Scope::default(), is_whole, &source);
                source.compare(whole("inside/hq/", lines.clone()), &mut found);
                source.compare(whole("inside/annex/", vec![]), &mut found);
                assert_eq!((found.compared, found.total, found.not_judged), (2, 1, 0));
                assert_eq!(
                    (found.listed[0].entry.as_str(), &found.listed[0].source),
                    ("inside/hq/E1", &Value::Null)
                );
                assert_eq!(found.listed[0].sequence, Some(format!("{:020}", 3)));
            }
        }
        let mut found = Differences::default();
        let source = rebuilt(Scope::default(), true, &[&entered[..], &[reset]].concat());
        source.compare(whole("inside/hq/", lines[1..].to_vec()), &mut found);
        assert_eq!((found.compared, found.total), (1, 0), "{found:?}");
    }

    #[test]
    fn a_name_that_the_archive_lacks_is_no_difference() {
        let mut unnamed = card("C1", 1, 1);
        if let crate::domain::event::Body::Card(changed) = &mut unnamed.body {
            changed.card.details.holder_name = None;
        }
        let lines = lines_of(&rebuilt(Scope::default(), true, &[card("C1", 1, 1)]), "card/");
        let mut found = Differences::default();
        rebuilt(Scope::default(), true, &[unnamed]).compare(whole("card/", lines), &mut found);
        assert_eq!((found.compared, found.total), (1, 0));
    }

    #[test]
    fn a_scope_narrows() {
        let events = [
            card("C-E1", 1, 1),
            card("C2", 2, 1),
            passage("access.entry.granted", 3, "E1"),
            passage("access.entry.granted", 4, "E2"),
        ];
        let everything = rebuilt(Scope::default(), true, &events);
        let count = |scope: Scope| {
            let (source, mut found) = (rebuilt(scope, true, &[]), Differences::default());
            for prefix in ["card/", "inside/hq/"] {
                source.compare(whole(prefix, lines_of(&everything, prefix)), &mut found);
            }
            found.listed.into_iter().map(|it| it.entry).collect::<Vec<_>>()
        };
        assert_eq!(count(Scope::default()).len(), 4);
        let building = Some(BuildingId::parse("hq").unwrap());
        assert_eq!(count(Scope { building, card: None }), ["inside/hq/E1", "inside/hq/E2"]);
        let card = Some(CardId::parse("C-E1").unwrap());
        assert_eq!(
            count(Scope { building: None, card }),
            [card_key(&CardId::parse("C-E1").unwrap()), "inside/hq/E1".to_owned()]
        );
    }

    proptest! {
        /// Grants, words of gates, entries that they decided alone, resets and all: whoever is inside by the live state
        /// is by the events, in whatever order they are read.
        #[test]
        fn what_events_come_to_is_the_live_state(steps in steps(80), seed in any::<u64>()) {
            let mut events = Vec::new();
            push(&mut events, &steps);
            let (buildings, _) = fold_all(&events);
            events.sort_by_key(|event| event.sequence.wrapping_mul(seed | 1));
            let (mut source, mut found) = (Rebuilt::new(Scope::default(), true), Differences::default());
            events.iter().for_each(|event| source.apply(log_name().epoch, event).unwrap());
            for building in &buildings {
                let id = &building.rules().building;
                let line = |(employee, inside)| Line {
                    key: inside_key(id, employee),
                    value: write_inside(inside).unwrap(),
                };
                source.compare(whole(&inside_prefix(id), building.inside().map(line).collect()), &mut found);
            }
            prop_assert_eq!(found.total, 0, "{:?}", found.listed);
        }

        #[test]
        fn the_order_of_reading_does_not_matter(kinds in proptest::collection::vec((0_u8..3, 0_u8..3), 0..40), seed in any::<u64>()) {
            let events: Vec<Event> = kinds.iter().enumerate().map(|(index, (kind, who))| {
                let (sequence, who) = (index as u64 + 1, format!("E{who}"));
                match kind {
                    0 => passage("access.entry.granted", sequence, &who),
                    1 => passage("access.exit.recorded", sequence, &who),
                    _ => card(&who, sequence, sequence),
                }
            }).collect();
            let mut shuffled = events.clone();
            shuffled.sort_by_key(|event| event.sequence.wrapping_mul(seed | 1));
            let (one, other) = (rebuilt(Scope::default(), true, &events), rebuilt(Scope::default(), true, &shuffled));
            prop_assert_eq!(lines_of(&one, ""), lines_of(&other, ""));
            prop_assert_eq!(one.bytes(), other.bytes());
        }
    }
}
