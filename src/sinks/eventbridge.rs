//! EventBridge: the event is the detail, its `source` the source, its type the detail type.
//!
//! PutEvents answers HTTP 200 with a result an entry. EventBridge keeps no order, and rules see the whole event
//! under `detail`.

use std::{borrow::Cow, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_eventbridge::{
    Client,
    primitives::{DateTime, DateTimeFormat},
    types::{PutEventsRequestEntry, PutEventsResultEntry},
};
use futures_util::future::BoxFuture;
use serde::Deserialize;

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome},
    },
    sinks::{
        Sink,
        aws::Target,
        envelope::{reject, reject_too_large},
        failure,
        outcomes::entries,
    },
};

/// Entries in one request.
const MAX_BATCH_ENTRIES: usize = 10;
/// Bytes of all entries of a request, and so of one.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// What EventBridge counts for an entry's time.
const TIME_BYTES: usize = 14;
/// Bytes of an entry's source and of its detail type each: longer ones are refused by the service.
const MAX_NAME_BYTES: usize = 256;
/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 4;

/// Which bus, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBridgeSettings {
    /// The bus, by name or ARN.
    pub bus: Target,
    /// The detail type of every event instead of the event's own type.
    pub detail_type: Option<String>,
}

/// Puts events on a bus.
#[derive(Clone, Debug)]
pub struct EventBridgeSink {
    client: Client,
    bus: String,
    detail_type: Option<String>,
}

impl EventBridgeSink {
    /// A sink on a bus.
    #[must_use]
    pub fn new(settings: EventBridgeSettings, sdk_config: &SdkConfig) -> Self {
        let EventBridgeSettings { bus, detail_type } = settings;
        Self { client: Client::new(sdk_config), bus: bus.name, detail_type }
    }

    async fn put(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let (entries, request) =
            entries(batch, |_, event| entry(event, &self.bus, self.detail_type.as_deref()));
        if entries.is_empty() {
            return request.not_sent();
        }
        match self.client.put_events().set_entries(Some(entries)).send().await {
            Ok(answer) => request.answered(answer.entries().iter().map(outcome_of_result)),
            Err(error) => request.failed(&error),
        }
    }
}

impl Sink for EventBridgeSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: MAX_BATCH_ENTRIES,
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: 2 * MAX_NAME_BYTES + TIME_BYTES,
            linger: Duration::ZERO,
            max_in_flight: MAX_IN_FLIGHT,
            order: Order::None,
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let sink = self.clone();
        Box::pin(async move { sink.put(&batch).await })
    }
}

/// What an entry takes from its event beside the event itself.
#[derive(Deserialize)]
struct Origin<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn entry(event: &Outgoing, bus: &str, detail_type: Option<&str>) -> Result<PutEventsRequestEntry, Outcome> {
    let not_an_event = |problem: &str| reject("NotAnEvent", problem);
    let detail = str::from_utf8(&event.body).map_err(|error| not_an_event(&error.to_string()))?;
    let origin: Origin<'_> =
        serde_json::from_str(detail).map_err(|error| not_an_event(&error.to_string()))?;
    let time = DateTime::from_str(&origin.time, DateTimeFormat::DateTime)
        .map_err(|error| not_an_event(&error.to_string()))?;
    let detail_type = detail_type.unwrap_or(event.record.event_type());
    let bytes = TIME_BYTES + origin.source.len() + detail_type.len() + detail.len();
    if bytes > MAX_BATCH_BYTES {
        return Err(reject_too_large(bytes, MAX_BATCH_BYTES));
    }
    let entry = PutEventsRequestEntry::builder().event_bus_name(bus).source(origin.source).time(time);
    let entry = entry.set_trace_header(event.trace.map(|trace| trace.xray()));
    Ok(entry.detail_type(detail_type).detail(detail).build())
}

/// An entry's own result. What is neither throttling nor internal nor malformed is about rights and targets.
fn outcome_of_result(result: &PutEventsResultEntry) -> Outcome {
    failure::outcome_of_result(result.error_code(), result.error_message(), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::outcome::{Trouble, TroubleKind},
        sinks::test_events::event,
    };

    #[test]
    fn an_entry_has_the_events_source_type_and_time() {
        let event = event("access.entry.granted", "hq", "E1", 1);
        let made = entry(&event, "turnstiles", None).unwrap();
        assert_eq!(made.event_bus_name(), Some("turnstiles"));
        assert_eq!(
            (made.source(), made.detail_type()),
            (Some("/buildings/hq"), Some("access.entry.granted"))
        );
        assert_eq!(made.detail().map(str::as_bytes), Some(&event.body[..]));
        assert_eq!(made.time().unwrap().to_millis().unwrap(), 1_795_161_662_345);
        assert_eq!(entry(&event, "b", Some("turnstiled")).unwrap().detail_type(), Some("turnstiled"));
    }

    #[test]
    fn what_is_too_large_or_no_event_is_rejected() {
        let mut event = event("access.entry.granted", "hq", "E1", 1);
        let room = MAX_BATCH_BYTES - TIME_BYTES - "/buildings/hq".len() - "access.entry.granted".len();
        let padding = room - event.body.len();
        event.body = [event.body.to_vec(), vec![b' '; padding]].concat().into();
        assert!(entry(&event, "b", None).is_ok());
        event.body = [event.body.to_vec(), vec![b' ']].concat().into();
        assert!(
            matches!(entry(&event, "b", None), Err(Outcome::Rejected(trouble)) if trouble.code == "RecordTooLarge")
        );
        event.body = b"{}".to_vec().into();
        assert!(
            matches!(entry(&event, "b", None), Err(Outcome::Rejected(trouble)) if trouble.code == "NotAnEvent")
        );
    }

    #[test]
    fn each_result_has_its_kind() {
        let outcome = |code: &str, text: &str| {
            outcome_of_result(&PutEventsResultEntry::builder().error_code(code).error_message(text).build())
        };
        let kind = |outcome| match outcome {
            Outcome::Retry(Trouble { kind, .. }) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(outcome("ThrottlingException", "slow")), TroubleKind::Throttled);
        assert_eq!(kind(outcome("InternalFailure", "oops")), TroubleKind::Transient);
        assert_eq!(kind(outcome("InternalException", "oops")), TroubleKind::Transient);
        assert_eq!(kind(outcome("NotAuthorizedForDetailType", "no")), TroubleKind::Hold);
        let bad_bus = "Parameter EventBusName is not valid. Reason: Provided Arn is not in correct format.";
        assert_eq!(kind(outcome("InvalidArgument", bad_bus)), TroubleKind::Hold);
        assert!(matches!(outcome("MalformedDetail", "Detail is malformed."), Outcome::Rejected(_)));
        let put = PutEventsResultEntry::builder().event_id("1").build();
        assert_eq!(outcome_of_result(&put), Outcome::Delivered);
    }
}
