//! `[[buildings]]` and their gates.

use std::{num::NonZeroU32, time::Duration};

use jiff::tz::TimeZone;

use super::{
    duration::format_duration,
    hint::nearest_hint,
    limits::{
        DEFAULT_PRESENCE_TIMEOUT, MAX_BUILDINGS, MAX_GATES_PER_BUILDING, MAX_NAME_CHARS, OCCUPANCY_PEOPLE,
        PRESENCE_TIMEOUT,
    },
    reader::TableReader,
    unique::Unique,
    value::{Value, quote},
};

/// Events of the whole server are archived under this name in place of a building's.
const RESERVED_ID: &str = "_server";

/// One building.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildingConfig {
    /// Unique within the file; part of every event and of the API's paths.
    pub id: String,
    /// For people; the id unless it is given.
    pub name: String,
    /// What happens to a holder who enters twice.
    pub anti_passback: AntiPassback,
    /// Someone inside for longer is taken to have left; `None`: never.
    pub presence_timeout: Option<Duration>,
    /// Entries beyond this many people are denied; `None`: no limit.
    pub max_occupancy: Option<NonZeroU32>,
    /// The building's time zone, UTC unless it is given.
    pub time_zone: TimeZone,
    /// At least one, ids unique within the building.
    pub gates: Vec<GateConfig>,
}

/// One gate of a building.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateConfig {
    /// Unique within the building.
    pub id: String,
}

/// What happens to a holder who enters twice without an exit between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AntiPassback {
    /// The second entry is denied.
    Hard,
    /// It is granted and flagged.
    Soft,
    /// It is granted.
    Off,
}

pub(super) fn read(buildings: &Value<'_>) -> Option<Vec<BuildingConfig>> {
    let list = buildings.list(MAX_BUILDINGS)?;
    if list.is_empty() {
        buildings.error("is empty, one building is required", None);
    }
    let mut ids = Unique::new("building");
    Some(list.iter().filter_map(|entry| read_building(entry.table("buildings")?, &mut ids)).collect())
}

fn read_building(mut table: TableReader<'_>, ids: &mut Unique) -> Option<BuildingConfig> {
    let id = table.required("id").and_then(|value| ids.take(&value, not_reserved(&value)?));
    let name = table.optional("name").and_then(|value| value.parsed(parse_name, ""));
    let choices = [("hard", AntiPassback::Hard), ("soft", AntiPassback::Soft), ("off", AntiPassback::Off)];
    let anti_passback = table.optional("anti_passback").and_then(|value| value.choice(&choices));
    let presence_timeout = match table.optional("presence_timeout") {
        Some(value) => read_timeout(&value),
        None => Some(DEFAULT_PRESENCE_TIMEOUT),
    };
    if let Some(value) = table.optional("regrant_window")
        && value.duration(Duration::ZERO..=Duration::MAX).is_some_and(|window| !window.is_zero())
    {
        value.not_yet::<()>("regrant_window");
    }
    let people = table.optional("max_occupancy").and_then(|value| value.integer(OCCUPANCY_PEOPLE));
    let max_occupancy = people.and_then(|people| NonZeroU32::new(u32::try_from(people).ok()?));
    let time_zone = table.optional("time_zone").and_then(|value| read_time_zone(&value));
    let gates = table.required("gates").and_then(|value| read_gates(&value));
    table.finish();
    let id = id?;
    Some(BuildingConfig {
        name: name.unwrap_or_else(|| id.clone()),
        id,
        anti_passback: anti_passback.unwrap_or(AntiPassback::Hard),
        presence_timeout,
        max_occupancy,
        time_zone: time_zone.unwrap_or(TimeZone::UTC),
        gates: gates?,
    })
}

fn read_gates(gates: &Value<'_>) -> Option<Vec<GateConfig>> {
    let list = gates.list(MAX_GATES_PER_BUILDING)?;
    if list.is_empty() {
        gates.error("is empty, a building needs a gate", None);
    }
    let mut ids = Unique::new("gate");
    Some(list.iter().filter_map(|entry| read_gate(entry.table("buildings.gates")?, &mut ids)).collect())
}

fn read_gate(mut table: TableReader<'_>, ids: &mut Unique) -> Option<GateConfig> {
    let id = table.required("id").and_then(|value| ids.take(&value, value.id()?));
    table.optional("passage").and_then(|value| value.choice(&[("assume", ())]));
    table.finish();
    Some(GateConfig { id: id? })
}

fn not_reserved(value: &Value<'_>) -> Option<String> {
    let id = value.id()?;
    if id == RESERVED_ID {
        value.error(format!("{RESERVED_ID:?} is the server's own name in archives"), None);
        return None;
    }
    Some(id)
}

fn parse_name(text: &str) -> Result<String, String> {
    let chars = text.chars().count();
    if chars == 0 || chars > MAX_NAME_CHARS || text.chars().any(char::is_control) {
        return Err(format!("is no name: a name is 1 to {MAX_NAME_CHARS} printable characters"));
    }
    Ok(text.to_owned())
}

fn read_timeout(value: &Value<'_>) -> Option<Duration> {
    let never_to_longest = Duration::ZERO..=*PRESENCE_TIMEOUT.end();
    let timeout = value.duration(never_to_longest).filter(|timeout| !timeout.is_zero())?;
    if timeout < *PRESENCE_TIMEOUT.start() {
        let problem = format!("{} is shorter than a second", format_duration(timeout));
        value.error(problem, Some("\"0s\" means never".to_owned()));
    }
    Some(timeout)
}

fn read_time_zone(value: &Value<'_>) -> Option<TimeZone> {
    let name = value.string()?;
    if let Ok(zone) = TimeZone::get(&name) {
        return Some(zone);
    }
    let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
    let hint = if known.is_empty() {
        Some("this machine has no time zone database: install tzdata".to_owned())
    } else {
        nearest_hint(&name, known.iter().map(String::as_str))
    };
    value.error(format!("{} is no IANA time zone", quote(&name)), hint);
    None
}
