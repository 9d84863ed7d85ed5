//! From what happened, and when, to finished spans. Plain functions over values.
//!
//! One entry comes to: the request (the span that its event names, so every other one is its child), what was decided, the
//! commit, the routing, and each attempt of each sink. A batch of several events is a trace of its own that links to the
//! attempts of its events, which link back.

use std::{borrow::Cow, time::SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{annotations::Annotations, ids};
use crate::domain::trace::{self, TraceContext};

/// What traces call this program.
pub(super) const SERVICE: &str = "turnstiled";
/// Links of one span, as in OpenTelemetry; more are left out and counted in the span.
const MAX_LINKS: usize = 128;

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The beginning.
    pub from: SystemTime,
    /// The end.
    pub to: SystemTime,
}

/// An answered request.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its span.
    pub context: TraceContext,
    /// The caller's.
    pub parent: Option<trace::SpanId>,
    /// `POST`.
    pub method: &'a str,
    /// The path as the table of routes has it: the path itself may name people.
    pub route: &'a str,
    /// The building of the path, if the route has one.
    pub building: Option<&'a str>,
    /// The answer.
    pub status: u16,
    /// The kind of its problem, if it was not done.
    pub problem: Option<&'a str>,
    /// From its arrival to its answer.
    pub times: Times,
}

/// An attempt to deliver an event.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Its span.
    pub context: TraceContext,
    /// The event's own.
    pub event: TraceContext,
    /// What the event says.
    pub annotations: Annotations,
    /// The sink.
    pub sink: &'a str,
    /// The event's place in the log.
    pub sequence: u64,
    /// The error's code, if it failed.
    pub error: Option<&'a str>,
    /// The batch, if it was one.
    pub batch: Option<TraceContext>,
}

/// A request.
#[must_use]
pub fn request(request: &Request<'_>) -> SpanData {
    let Request { context, parent, method, route, building, status, problem, times } = *request;
    let annotations = Annotations::default().with_some("building", building.map(str::to_owned));
    let mut attributes = annotations.into_attributes_with_error(problem);
    attributes.extend([
        KeyValue::new("http.request.method", method.to_owned()),
        KeyValue::new("http.route", route.to_owned()),
        KeyValue::new("http.response.status_code", i64::from(status)),
    ]);
    SpanData {
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: parent.is_some(),
        span_kind: SpanKind::Server,
        status: if status >= 500 { Status::error(status.to_string()) } else { Status::Unset },
        ..span(format!("{method} {route}").into(), context, times, attributes)
    }
}

/// What was decided and committed in a request: one or several events, of which `annotations` are the first's.
#[must_use]
pub fn recorded(
    parent: TraceContext,
    annotations: &Annotations,
    events: usize,
    decided: Times,
    committed: Times,
) -> [SpanData; 2] {
    let step = |name, times| {
        let mut attributes = annotations.clone().into_attributes();
        attributes.push(KeyValue::new("events", i64::try_from(events).unwrap_or(i64::MAX)));
        child_of(parent, Cow::Borrowed(name), times, attributes)
    };
    [step("decide", decided), step("commit", committed)]
}

/// Where an event was led to.
#[must_use]
pub fn routed(event: TraceContext, annotations: Annotations, sinks: &[&str], times: Times) -> SpanData {
    let mut attributes = annotations.into_attributes();
    attributes.push(KeyValue::new("sinks", sinks.join(" ")));
    child_of(event, Cow::Borrowed("route"), times, attributes)
}

/// An attempt to deliver.
#[must_use]
pub fn delivered(attempt: Attempt<'_>, times: Times) -> SpanData {
    let Attempt { context, event, annotations, sink, sequence, error, batch } = attempt;
    let mut attributes = annotations.with("sink", sink.to_owned()).into_attributes_with_error(error);
    attributes.push(KeyValue::new("event_sequence", i64::try_from(sequence).unwrap_or(i64::MAX)));
    SpanData {
        parent_span_id: SpanId::from_bytes(event.span_id),
        // the event may come from before a restart
        parent_span_is_remote: true,
        span_kind: SpanKind::Producer,
        status: status(error),
        links: links(batch.into_iter()),
        ..span(format!("deliver {sink}").into(), context, times, attributes)
    }
}

/// One request to a service for several events.
#[must_use]
pub fn batch(
    context: TraceContext,
    sink: &str,
    events: usize,
    attempts: impl Iterator<Item = TraceContext>,
    error: Option<&str>,
    times: Times,
) -> SpanData {
    let annotations = Annotations::default().with("sink", sink.to_owned());
    let mut attributes = annotations.into_attributes_with_error(error);
    let events = i64::try_from(events).unwrap_or(i64::MAX);
    attributes.push(KeyValue::new("messaging.batch.message_count", events));
    // Without these X-Ray's exporter takes a client's span without a parent for a service of its own, named like the span.
    attributes.push(KeyValue::new("aws.span.kind", "LOCAL_ROOT"));
    attributes.push(KeyValue::new("aws.local.service", SERVICE));
    attributes.push(KeyValue::new("aws.remote.service", sink.to_owned()));
    SpanData {
        span_kind: SpanKind::Client,
        status: status(error),
        links: links(attempts),
        ..span(format!("send {sink}").into(), context, times, attributes)
    }
}

fn status(error: Option<&str>) -> Status {
    error.map_or(Status::Unset, |code| Status::error(code.to_owned()))
}

fn links(to: impl Iterator<Item = TraceContext>) -> SpanLinks {
    let mut to: Vec<Link> = to.map(|context| Link::with_context(span_context(context))).collect();
    let mut links = SpanLinks::default();
    links.dropped_count = u32::try_from(to.len().saturating_sub(MAX_LINKS)).unwrap_or(u32::MAX);
    to.truncate(MAX_LINKS);
    links.links = to;
    links
}

fn child_of(
    parent: TraceContext,
    name: Cow<'static, str>,
    times: Times,
    attributes: Vec<KeyValue>,
) -> SpanData {
    let context = TraceContext { span_id: ids::new_span_id(), ..parent };
    let parent_span_id = SpanId::from_bytes(parent.span_id);
    SpanData { parent_span_id, ..span(name, context, times, attributes) }
}

fn span(name: Cow<'static, str>, context: TraceContext, times: Times, attributes: Vec<KeyValue>) -> SpanData {
    SpanData {
        // only what is kept is made a span of
        span_context: span_context(TraceContext { is_sampled: true, ..context }),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name,
        start_time: times.from,
        // the wall clock may have been set back meanwhile
        end_time: times.to.max(times.from),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder(SERVICE)
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn span_context(context: TraceContext) -> SpanContext {
    let flags = if context.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from_bytes(context.trace_id), SpanId::from_bytes(context.span_id));
    SpanContext::new(trace, span, flags, false, TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn context(id: u8, is_sampled: bool) -> TraceContext {
        TraceContext { trace_id: [7; 16], span_id: [id; 8], is_sampled }
    }

    fn times() -> Times {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        Times { from, to: from + Duration::from_millis(3) }
    }

    #[test]
    fn a_request_is_the_root_or_its_callers_child_and_the_rest_are_its_children() {
        let asked = |parent, status| {
            let (method, route, building) = ("POST", "/v1/x/{building}", Some("hq"));
            request(&Request {
                context: context(1, true),
                parent,
                method,
                route,
                building,
                status,
                problem: (status >= 400).then_some("not_found"),
                times: times(),
            })
        };
        let root = asked(None, 200);
        assert_eq!((root.parent_span_id, &*root.name), (SpanId::INVALID, "POST /v1/x/{building}"));
        assert_eq!(asked(Some([9; 8]), 404).parent_span_id, SpanId::from_bytes([9; 8]));
        assert_eq!((asked(None, 404).status, asked(None, 503).status), (Status::Unset, Status::error("503")));
        let error = |span: SpanData| span.attributes.into_iter().find(|one| one.key.as_str() == "error.type");
        assert_eq!(error(asked(None, 404)), Some(KeyValue::new("error.type", "not_found")));
        assert_eq!(error(asked(None, 200)), None);
        let [decide, commit] = recorded(context(1, true), &Annotations::default(), 1, times(), times());
        for child in [&decide, &commit] {
            assert_eq!(child.parent_span_id, root.span_context.span_id());
            assert_eq!(child.span_context.trace_id(), root.span_context.trace_id());
        }
        assert_ne!(decide.span_context.span_id(), commit.span_context.span_id());
    }

    #[test]
    fn a_failed_attempt_is_an_error_and_its_batch_links_to_it() {
        let (own, call) = (context(2, false), context(3, false));
        let error = Some("Throttling");
        let annotations = Annotations::default();
        let event = context(1, false);
        let attempt = Attempt {
            context: own,
            event,
            annotations,
            sink: "exits",
            sequence: 5,
            error,
            batch: Some(call),
        };
        let attempt = delivered(attempt, times());
        assert_eq!(attempt.parent_span_id, SpanId::from_bytes([1; 8]));
        assert_eq!(attempt.status, Status::error("Throttling"));
        // made a span of, so it is kept
        assert!(attempt.span_context.is_sampled());
        let many = (0..MAX_LINKS + 2).map(|_| own);
        let sent = batch(call, "exits", MAX_LINKS + 2, many, error, times());
        assert_eq!((sent.links.len(), sent.links.dropped_count), (MAX_LINKS, 2));
        assert_eq!(sent.links[0].span_context.span_id(), attempt.span_context.span_id());
        assert_eq!(attempt.links[0].span_context.span_id(), sent.span_context.span_id());
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_negative_span() {
        let Times { from, to } = times();
        let span = routed(context(1, true), Annotations::default(), &[], Times { from: to, to: from });
        assert_eq!(span.start_time, span.end_time);
    }
}
