//! `[[groups]]`: where and when cards that name a group open, by building.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    buildings::BuildingConfig,
    hint::did_you_mean,
    limits::{MAX_GATES_PER_BUILDING, MAX_GROUPS, MAX_RULES_PER_GROUP},
    reader::TableReader,
    schedules::Schedules,
    unique::Unique,
    value::{Value, quote},
};
use crate::domain::{
    groups::{GateRule, Gates, Group, Groups},
    ids::{BuildingId, GateId, GroupId},
    schedule::Schedule,
};

/// In a list of gates: all of them.
const ALL_GATES: &str = "*";

/// What the rules of groups name.
pub(super) struct Named<'a> {
    pub(super) buildings: &'a [BuildingConfig],
    /// A building with errors is left out of the list: then one that is not in it may be right.
    pub(super) all_buildings_right: bool,
    pub(super) schedules: &'a Schedules,
}

/// What was read, also of groups with errors.
#[derive(Default)]
pub(super) struct Read {
    ids: BTreeSet<GroupId>,
    by_building: HashMap<BuildingId, HashMap<GroupId, Group>>,
    schedules_used: BTreeSet<String>,
}

/// A rule and where it is for.
struct PlacedRule {
    building: BuildingId,
    rule: GateRule,
}

pub(super) fn read(groups: &Value<'_>, named: &Named<'_>) -> Read {
    let list = groups.list(MAX_GROUPS).unwrap_or_default();
    let (mut read, mut ids) = (Read::default(), Unique::new("group"));
    for entry in list {
        if let Some(table) = entry.table() {
            read.take(table, &mut ids, named);
        }
    }
    read
}

impl Read {
    fn take(&mut self, mut table: TableReader<'_>, ids: &mut Unique, named: &Named<'_>) {
        let id = table.required("id").and_then(|value| ids.take(&value, value.id()?));
        let mut rules = |key| match table.optional(key) {
            Some(value) => self.read_rules(&value, named),
            None => Vec::new(),
        };
        let (allow, deny) = (rules("allow"), rules("deny"));
        if allow.is_empty() && deny.is_empty() {
            let problem = "allows and denies nothing: cards that name it open nothing by it";
            table.document.warn(table.place(), problem, None);
        }
        table.finish();
        let Some(id) = id.and_then(|id| GroupId::parse(&id).ok()) else { return };
        for PlacedRule { building, rule } in allow {
            self.group(building, &id).allow.push(rule);
        }
        for PlacedRule { building, rule } in deny {
            self.group(building, &id).deny.push(rule);
        }
        self.ids.insert(id);
    }

    fn group(&mut self, building: BuildingId, id: &GroupId) -> &mut Group {
        self.by_building.entry(building).or_default().entry(id.clone()).or_default()
    }

    fn read_rules(&mut self, rules: &Value<'_>, named: &Named<'_>) -> Vec<PlacedRule> {
        let list = rules.list(MAX_RULES_PER_GROUP).unwrap_or_default();
        list.iter().filter_map(|entry| self.read_rule(entry.table()?, named)).collect()
    }

    fn read_rule(&mut self, mut table: TableReader<'_>, named: &Named<'_>) -> Option<PlacedRule> {
        let building = table.required("building").and_then(|value| find_building(&value, named));
        let gates = table.required("gates").and_then(|value| read_gates(&value, building));
        let schedule = match table.optional("schedule") {
            Some(value) => self.find_schedule(&value, named).map(Some),
            None => Some(None),
        };
        table.finish();
        let rule = GateRule { gates: gates?, schedule: schedule? };
        Some(PlacedRule { building: building?.rules.building.clone(), rule })
    }

    fn find_schedule(&mut self, value: &Value<'_>, named: &Named<'_>) -> Option<Arc<Schedule>> {
        let id = value.string()?;
        match named.schedules.get(&id) {
            Some(schedule) => {
                self.schedules_used.insert(id);
                schedule.clone()
            }
            None => {
                let known: Vec<&str> = named.schedules.keys().map(String::as_str).collect();
                let hint = did_you_mean(&id, &known);
                value.error(format!("{} is no id in [[schedules]]", quote(&id)), hint);
                None
            }
        }
    }

    /// Warns of schedules that no rule names.
    pub(super) fn warn_of_unused(&self, value: &Value<'_>, schedules: &Schedules) {
        for id in schedules.keys().filter(|id| !self.schedules_used.contains(*id)) {
            value.document.warn(&value.at, format!("no rule of a group names {id:?}"), None);
        }
    }

    /// Gives each building what the groups say of it; all groups that there are.
    pub(super) fn assign(mut self, buildings: &mut [BuildingConfig]) -> BTreeSet<GroupId> {
        for building in buildings {
            let groups = self.by_building.remove(&building.rules.building).unwrap_or_default();
            building.rules.groups = Groups::new(building.time_zone.clone(), groups);
        }
        self.ids
    }
}

fn find_building<'a>(value: &Value<'_>, named: &Named<'a>) -> Option<&'a BuildingConfig> {
    let id = value.string()?;
    let found = named.buildings.iter().find(|building| building.rules.building.as_str() == id);
    if found.is_none() && named.all_buildings_right {
        let known: Vec<&str> =
            named.buildings.iter().map(|building| building.rules.building.as_str()).collect();
        value.error(format!("{} is no id in [[buildings]]", quote(&id)), did_you_mean(&id, &known));
    }
    found
}

fn read_gates(value: &Value<'_>, building: Option<&BuildingConfig>) -> Option<Gates> {
    let list = value.list(MAX_GATES_PER_BUILDING)?;
    if list.is_empty() {
        let hint = "leave the rule out, or name gates; [\"*\"] is all of them";
        value.error("names no gate", Some(hint.to_owned()));
        return None;
    }
    let mut gates = HashSet::new();
    let (mut has_all, mut are_right) = (false, true);
    for entry in &list {
        match entry.string() {
            Some(id) if id == ALL_GATES => has_all = true,
            Some(id) => match find_gate(entry, &id, building) {
                Some(gate) => drop(gates.insert(gate)),
                None => are_right = false,
            },
            None => are_right = false,
        }
    }
    if has_all && list.len() > 1 {
        value.error("names \"*\" and other gates", Some("\"*\" is all of them".to_owned()));
        return None;
    }
    are_right.then_some(if has_all { Gates::All } else { Gates::These(gates) })
}

fn find_gate(entry: &Value<'_>, id: &str, building: Option<&BuildingConfig>) -> Option<GateId> {
    let rules = &building?.rules;
    let found = rules.gates.iter().find(|gate| gate.as_str() == id);
    if found.is_none() {
        let known: Vec<&str> = rules.gates.iter().map(GateId::as_str).collect();
        let problem = format!("{} is no gate of building {}", quote(id), rules.building);
        entry.error(problem, did_you_mean(id, &known));
    }
    found.cloned()
}
