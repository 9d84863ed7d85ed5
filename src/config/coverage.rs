//! What only all routes together show: types that go nowhere, routes and sinks that get nothing.

use super::{
    routes::Routes,
    sinks::{SinkKind, Sinks},
    value::Value,
};
use crate::domain::{event_types::EVENT_TYPES, routes::Route};

/// The fields of `data` that say which item of a DynamoDB table an event changes, and whether it may.
const ITEM_FIELDS: [&str; 9] = [
    "building",
    "card_id",
    "employee_id",
    "version",
    "since",
    "occurred_at",
    "decision",
    "stale",
    "presence",
];

/// Reports types without a route, routes that earlier ones make void, and sinks without a route.
pub(super) fn check(all: &Value<'_>, read: &Routes<'_>, sinks: &Sinks) {
    let routes = read.routes.as_slice();
    if read.all_patterns_right {
        report_lost_types(all, routes);
    }
    for (index, (route, at)) in routes.iter().enumerate() {
        report_shadowed(route, at, routes.get(..index).unwrap_or_default());
        report_needed_fields(route, at, sinks);
    }
    for (sink, at) in &sinks.valid {
        if !routes.iter().any(|(route, _)| route.to.iter().any(|to| **to == *sink.name)) {
            all.document.warn(at, "no route leads to this sink", None);
        }
    }
}

fn report_lost_types(all: &Value<'_>, routes: &[(Route, Value<'_>)]) {
    let lost = EVENT_TYPES.iter().filter(|name| !routes.iter().any(|(route, _)| route.matches(name)));
    let lost: Vec<&str> = lost.copied().collect();
    if !lost.is_empty() {
        let problem = format!("no route for {}", lost.join(", "));
        let hint = "add them to a route, or to one with `to = []` if they shall go nowhere";
        all.error(problem, Some(hint.to_owned()));
    }
}

/// Without these fields every event would be a dead letter, or change nothing.
fn report_needed_fields(route: &Route, at: &Value<'_>, sinks: &Sinks) {
    let is_table = |name: &str| {
        let mut kinds = sinks.valid.iter().filter(|(sink, _)| sink.name == name).map(|(sink, _)| &sink.kind);
        kinds.any(|kind| matches!(kind, SinkKind::DynamoDb { .. }))
    };
    let form = &route.form;
    let is_edited =
        |field: &&str| form.drop.iter().any(|dropped| dropped == field) || form.add.contains_key(*field);
    let edited: Vec<&str> = ITEM_FIELDS.into_iter().filter(is_edited).collect();
    let Some(table) = route.to.iter().find(|name| is_table(name)).filter(|_| !edited.is_empty()) else {
        return;
    };
    let problem = format!("drops or adds {}, which the items of {table} are made of", edited.join(", "));
    at.error(problem, Some(format!("lead these events to {table} by a route of its own")));
}

/// A sink gets an event once, by the first route: a route that always comes second is a mistake, as its
/// `drop`, `add` and `personal` never apply.
fn report_shadowed(route: &Route, at: &Value<'_>, earlier: &[(Route, Value<'_>)]) {
    let types: Vec<&str> = EVENT_TYPES.iter().copied().filter(|name| route.matches(name)).collect();
    if types.is_empty() || route.to.is_empty() {
        return;
    }
    let leads = |sink: &str, name: &&str| {
        earlier.iter().any(|(route, _)| route.matches(name) && route.to.iter().any(|to| **to == *sink))
    };
    let (shadowed, live): (Vec<&str>, Vec<&str>) =
        route.to.iter().map(|sink| &**sink).partition(|sink| types.iter().all(|name| leads(sink, name)));
    let hint = Some("the first route decides: put the narrower one first, or delete it".to_owned());
    if live.is_empty() {
        let problem = "unreachable: earlier routes lead all its events to the same sinks";
        at.error(problem, hint);
    } else if !shadowed.is_empty() {
        let problem = format!("earlier routes lead all its events to {} already", shadowed.join(", "));
        at.document.warn(&at.at, problem, hint);
    }
}
