//! `[[routes]]`: which events go where, and in which form.

use std::sync::Arc;

use super::{
    hint::{did_you_mean, nearest_hint},
    json::to_json,
    limits::{MAX_ADDED_BYTES, MAX_EDITED_FIELDS, MAX_PATTERNS_PER_ROUTE, MAX_ROUTES, MAX_SINKS},
    reader::TableReader,
    unique::Unique,
    value::{Value, quote},
};
use crate::domain::{
    device_event::is_device_type, event_types::DATA_FIELDS, outbound::Form, pattern::Pattern, routes::Route,
};

const PATTERN_HINT: &str =
    "\"*\" is one word, \"**\" any number, such as \"access.*.recorded\" or \"card.**\"";

/// The routes of a file as far as they could be read, for the checks that need all of them.
pub(super) struct Routes<'a> {
    /// A part that is wrong is empty here, so that it does not make other routes look wrong.
    pub(super) routes: Vec<(Route, Value<'a>)>,
    /// Whether every pattern is right: only then it can be said which types go nowhere.
    pub(super) all_patterns_right: bool,
}

pub(super) fn read<'a>(value: &Value<'a>, sinks: &[String], known: &[&str]) -> Option<Routes<'a>> {
    let list = value.list(MAX_ROUTES)?;
    if list.is_empty() {
        value.error("is empty, one route is required", None);
    }
    let mut names = Unique::new("route");
    let mut found = Routes { routes: Vec::new(), all_patterns_right: true };
    for entry in list {
        let Some(table) = entry.table() else { continue };
        let route = read_route(table, sinks, known, &mut names);
        found.all_patterns_right &= !route.types.is_empty();
        found.routes.push((route, entry));
    }
    Some(found)
}

fn read_route(mut table: TableReader<'_>, sinks: &[String], known: &[&str], names: &mut Unique) -> Route {
    let name = table.required("name").and_then(|value| names.take(&value, value.id()?));
    let types = table.required("types").and_then(|value| read_types(&value, known));
    let to = table.required("to").and_then(|value| sink_names(&value, sinks));
    let personal = table.optional("personal").and_then(|value| value.boolean());
    let drop = table.optional("drop").and_then(|value| read_drop(&value, known));
    let add = table.optional("add").and_then(|value| read_add(&value));
    table.finish();
    let form = Form {
        personal: personal.unwrap_or(false),
        drop: drop.unwrap_or_default(),
        add: add.unwrap_or_default(),
    };
    Route {
        name: name.unwrap_or_default(),
        types: types.unwrap_or_default(),
        to: to.unwrap_or_default(),
        form: Arc::new(form),
    }
}

/// All patterns, or none if one is wrong.
fn read_types(value: &Value<'_>, known: &[&str]) -> Option<Vec<Pattern>> {
    let list = value.list(MAX_PATTERNS_PER_ROUTE)?;
    if list.is_empty() {
        value.error("is empty: no event takes this route", Some(PATTERN_HINT.to_owned()));
    }
    let patterns: Vec<_> = list.iter().map(|value| read_pattern(value, known)).collect();
    patterns.into_iter().collect()
}

fn read_pattern(value: &Value<'_>, known: &[&str]) -> Option<Pattern> {
    let pattern: Pattern = value.parsed(str::parse, PATTERN_HINT)?;
    if !known.iter().any(|known| pattern.matches(known)) {
        let text = pattern.to_string();
        let problem = format!("unreachable: {} matches no event type", quote(&text));
        value.error(problem, pattern_hint(&text, known));
        return None;
    }
    Some(pattern)
}

fn pattern_hint(text: &str, known: &[&str]) -> Option<String> {
    if is_device_type(text) {
        return Some("declare the types of devices in [[event_types]]".to_owned());
    }
    if let Some(group) = known.iter().find(|known| known.starts_with(text.trim_end_matches('*'))) {
        return Some(format!("\"*\" is exactly one word; there is {group:?}"));
    }
    nearest_type(text, known)
}

/// A hint at the type, or the group of types, that was perhaps meant.
pub(super) fn nearest_type(text: &str, known: &[&str]) -> Option<String> {
    let groups = known.iter().filter_map(|known| known.rsplit_once('.'));
    let groups: Vec<String> = groups.map(|(group, _)| format!("{group}.*")).collect();
    let candidates = known.iter().copied().chain(groups.iter().map(String::as_str));
    nearest_hint(text, candidates)
}

/// A list of sinks that exist, each named once.
pub(super) fn sink_names(value: &Value<'_>, sinks: &[String]) -> Option<Vec<Arc<str>>> {
    let known: Vec<&str> = sinks.iter().map(String::as_str).collect();
    let mut once = Unique::new("sink");
    let list = value.list(MAX_SINKS)?;
    let read = |entry: &Value<'_>| {
        let name = entry.string()?;
        if !known.contains(&name.as_str()) {
            entry.error(format!("there is no sink {}", quote(&name)), did_you_mean(&name, &known));
            return None;
        }
        once.take(entry, name).map(Arc::from)
    };
    Some(list.iter().filter_map(read).collect())
}

fn read_drop(value: &Value<'_>, known: &[&str]) -> Option<Vec<String>> {
    // what devices say has members of its own
    let has_device_types = known.iter().any(|name| is_device_type(name));
    let mut once = Unique::new("field");
    let list = value.list(MAX_EDITED_FIELDS)?;
    let read = |entry: &Value<'_>| {
        let field = entry.string()?;
        if !has_device_types && !DATA_FIELDS.contains(&field.as_str()) {
            let problem = format!("no event has a field {} in its data", quote(&field));
            let hint = nearest_hint(&field, DATA_FIELDS.iter().copied());
            entry.document.warn(&entry.at, problem, hint);
        }
        once.take(entry, field)
    };
    Some(list.iter().filter_map(read).collect())
}

fn read_add(value: &Value<'_>) -> Option<serde_json::Map<String, serde_json::Value>> {
    let fields = value.table()?.named();
    if fields.len() > MAX_EDITED_FIELDS {
        value.error(format!("adds {} fields, at most {MAX_EDITED_FIELDS} are possible", fields.len()), None);
        return None;
    }
    let read = |(name, field): &(String, Value<'_>)| Some((name.clone(), to_json(field)?));
    let added: serde_json::Map<_, _> = fields.iter().filter_map(read).collect();
    let bytes = serde_json::to_string(&added).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_ADDED_BYTES {
        value.error(format!("adds {bytes} bytes, at most {MAX_ADDED_BYTES} are possible"), None);
    }
    Some(added)
}
