//! `[[buildings]]` and their gates.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::{civil::Time, tz::TimeZone};

use super::{
    duration::format_duration,
    hint::nearest_hint,
    limits::{
        DEFAULT_PASSAGE_TIMEOUT, DEFAULT_PRESENCE_TIMEOUT, MAX_BUILDINGS, MAX_GATES_PER_BUILDING,
        MAX_NAME_CHARS, OCCUPANCY_PEOPLE, PASSAGE_TIMEOUT, PRESENCE_TIMEOUT, REGRANT_WINDOW,
    },
    reader::TableReader,
    unique::Unique,
    value::{Value, quote},
};
use crate::domain::{
    building::{AntiPassback, Rules, daily_reset::DailyReset},
    ids::{BuildingId, GateId},
};

/// Events of the whole server are archived under this name in place of a building's.
const RESERVED_ID: &str = "_server";

/// One building.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildingConfig {
    /// What is decided by; its id is unique within the file and it has a gate at least.
    pub rules: Rules,
    /// For people; the id unless it is given.
    pub name: String,
    /// The building's time zone, UTC unless it is given.
    pub time_zone: TimeZone,
}

pub(super) fn read(buildings: &Value<'_>) -> Option<Vec<BuildingConfig>> {
    let list = buildings.list(MAX_BUILDINGS)?;
    if list.is_empty() {
        buildings.error("is empty, one building is required", None);
    }
    let mut ids = Unique::new("building");
    Some(list.iter().filter_map(|entry| read_building(entry.table()?, &mut ids)).collect())
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
    let daily_reset = table.optional("daily_reset").and_then(|value| {
        value.parsed(parse_time_of_day, "write the hour and the minute, such as \"04:00\"")
    });
    let regrant_window =
        table.optional("regrant_window").and_then(|value| value.duration(REGRANT_WINDOW.clone()));
    let people = table.optional("max_occupancy").and_then(|value| value.integer(OCCUPANCY_PEOPLE));
    let max_occupancy = people.and_then(|people| usize::try_from(people).ok());
    let time_zone = table.optional("time_zone").and_then(|value| read_time_zone(&value));
    let gates = table.required("gates").and_then(|value| read_gates(&value));
    table.finish();
    let (id, Gates { gates, confirming }) = (id?, gates?);
    let time_zone = time_zone.unwrap_or(TimeZone::UTC);
    Some(BuildingConfig {
        name: name.unwrap_or_else(|| id.clone()),
        time_zone: time_zone.clone(),
        rules: Rules {
            anti_passback: anti_passback.unwrap_or_default(),
            presence_timeout,
            daily_reset: daily_reset.map(|at| DailyReset { at, zone: time_zone }),
            regrant_window: regrant_window.unwrap_or_default(),
            confirming,
            max_occupancy,
            ..Rules::of(BuildingId::parse(&id).ok()?, gates)
        },
    })
}

#[derive(Default)]
struct Gates {
    gates: HashSet<GateId>,
    /// Those that say what came of a grant, with the time that they have for it.
    confirming: HashMap<GateId, Duration>,
}

fn read_gates(gates: &Value<'_>) -> Option<Gates> {
    let list = gates.list(MAX_GATES_PER_BUILDING)?;
    if list.is_empty() {
        gates.error("is empty, a building needs a gate", None);
    }
    let (mut ids, mut read) = (Unique::new("gate"), Gates::default());
    for entry in &list {
        let gate = entry.table().and_then(|table| read_gate(table, &mut ids));
        if let Some((gate, passage_timeout)) = gate {
            read.confirming.extend(passage_timeout.map(|timeout| (gate.clone(), timeout)));
            read.gates.insert(gate);
        }
    }
    Some(read)
}

/// A gate and, if it says what came of a grant, how long it has for it.
fn read_gate(mut table: TableReader<'_>, ids: &mut Unique) -> Option<(GateId, Option<Duration>)> {
    let id = table.required("id").and_then(|value| ids.take(&value, value.id()?));
    let choices = [("assume", false), ("confirm", true)];
    let confirms = table.optional("passage").and_then(|value| value.choice(&choices)).unwrap_or_default();
    let timeout = table.optional("passage_timeout").and_then(|value| {
        if !confirms {
            value.error("is the time limit of a gate with passage = \"confirm\"; this gate has none", None);
        }
        value.duration(PASSAGE_TIMEOUT.clone())
    });
    table.finish();
    Some((GateId::parse(&id?).ok()?, confirms.then(|| timeout.unwrap_or(DEFAULT_PASSAGE_TIMEOUT))))
}

/// `04:00`: two digits each, so that there is one way to write it.
fn parse_time_of_day(text: &str) -> Result<Time, &'static str> {
    let number = |digits: &str| {
        let is_pair = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<i8>().ok().filter(|_| is_pair)
    };
    let (hour, minute) = text.split_once(':').ok_or("is no time of day")?;
    let (hour, minute) = number(hour).zip(number(minute)).ok_or("is no time of day")?;
    Time::new(hour, minute, 0, 0).map_err(|_| "is no time of day")
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
