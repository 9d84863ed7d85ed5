//! An event as a message of SNS or SQS: text, attributes for filter policies, and the FIFO identities.
//!
//! Every message has the attributes `type`, `building` and `server`, a traced one `traceparent` and its trace in
//! X-Ray's words, too. An event of no building has
//! `building = _server`, as in S3: a filter policy selects it by value like any other.

use std::str;

use sha2::{Digest, Sha256};

use crate::{
    delivery::{Outgoing, outcome::Outcome},
    domain::hex::hex,
    sinks::envelope::{
        Envelope, building_or_server, key_or_server, reject, reject_too_large, reject_unreadable,
    },
};

/// Messages in one request of SNS and SQS.
pub const MAX_BATCH_MESSAGES: usize = 10;
/// What the delivery machine counts for a message's attributes: names, types and values of the three, of
/// which each value has at most 255 bytes, and the two of a trace, which take 170 bytes together.
pub const ATTRIBUTES_BYTES: usize = 1_024;
/// The longest group id that SNS and SQS take.
const MAX_GROUP_ID_CHARS: usize = 128;
/// The ending by which AWS itself knows FIFO topics and queues.
const FIFO_ENDING: &str = ".fifo";
/// The attribute that names the trace where a service has no place of its own for it: no prefix that AWS keeps for itself.
pub const XRAY_ATTRIBUTE: &str = "X-Amzn-Trace-Id";
/// Each attribute's data type.
pub const ATTRIBUTE_TYPE: &str = "String";

/// A message, before it is put into the one service's or the other's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The event's JSON.
    pub text: String,
    /// Name and value of each attribute.
    pub attributes: Vec<(&'static str, String)>,
    /// The trace in X-Ray's words, if it is traced.
    pub xray: Option<String>,
    /// What a FIFO topic or queue needs; `None` for the others.
    pub fifo: Option<Fifo>,
}

/// The identities of a FIFO message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fifo {
    /// Messages of one group keep their order: one group a partition key.
    pub group_id: String,
    /// The event's id: a repeat within five minutes is dropped by the service.
    pub deduplication_id: String,
}

/// Whether a topic's ARN or a queue's URL is FIFO.
#[must_use]
pub fn is_fifo(target: &str) -> bool {
    target.ends_with(FIFO_ENDING)
}

/// An event as a message.
///
/// # Errors
/// The outcome `Rejected` if it cannot be one, or is larger than `max_bytes` on its own.
pub fn message(event: &Outgoing, fifo: bool, max_bytes: usize) -> Result<Message, Outcome> {
    let envelope = Envelope::parse(&event.body).map_err(|error| reject_unreadable(&error))?;
    let text = str::from_utf8(&event.body).map_err(|error| reject("NotAnEvent", &error.to_string()))?;
    let message = Message {
        text: text.to_owned(),
        attributes: [
            ("type", event.record.event_type().to_owned()),
            ("building", building_or_server(event).to_owned()),
            ("server", envelope.log.server.clone()),
        ]
        .into_iter()
        .chain(event.trace.map(|trace| ("traceparent", trace.traceparent())))
        .collect(),
        xray: event.trace.map(|trace| trace.xray()),
        fifo: fifo.then(|| Fifo { group_id: group_id(key_or_server(event)), deduplication_id: envelope.id }),
    };
    match message.bytes() {
        bytes if bytes > max_bytes => Err(reject_too_large(bytes, max_bytes)),
        _ => Ok(message),
    }
}

impl Message {
    /// The size both services count: the text, and name, type and value of each attribute.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let attributes =
            self.attributes.iter().map(|(name, value)| name.len() + ATTRIBUTE_TYPE.len() + value.len());
        let trace = self.xray.as_ref();
        let trace = trace.map_or(0, |value| XRAY_ATTRIBUTE.len() + ATTRIBUTE_TYPE.len() + value.len());
        self.text.len() + attributes.sum::<usize>() + trace
    }
}

/// A group id for a partition key: the key itself where the services allow it (1 to 128 of ASCII letters,
/// digits and punctuation), else its hash.
#[must_use]
pub fn group_id(key: &str) -> String {
    let allowed = key.bytes().all(|byte| byte.is_ascii_graphic());
    if allowed && !key.is_empty() && key.len() <= MAX_GROUP_ID_CHARS {
        return key.to_owned();
    }
    hex(&Sha256::digest(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::trace::TraceContext, sinks::test_events::event};

    #[test]
    fn attributes_say_type_building_and_server() {
        let message = message(&event("access.entry.granted", "hq", "E1", 1), false, 10_000).unwrap();
        let expected = [("type", "access.entry.granted"), ("building", "hq"), ("server", "hq-1")];
        assert_eq!(message.attributes, expected.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(message.xray, None);
        assert_eq!(message.fifo, None);
        let sizes = "typebuildingserver".len() + 3 * "String".len() + "access.entry.grantedhqhq-1".len();
        assert_eq!(message.bytes(), message.text.len() + sizes);
    }

    #[test]
    fn a_traced_message_names_its_span() {
        let mut event = event("access.entry.granted", "hq", "E1", 1);
        event.trace = TraceContext::parse("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01");
        let message = message(&event, false, 10_000).unwrap();
        let xray = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        assert_eq!(message.xray.as_deref(), Some(xray));
        assert_eq!(message.attributes[3], ("traceparent", event.trace.unwrap().traceparent()));
        // each of the three values as long as it can be
        assert!(message.bytes() - message.text.len() + 3 * 255 <= ATTRIBUTES_BYTES + 30);
    }

    #[test]
    fn an_event_of_no_building_is_the_servers() {
        let message = message(&event("admin.reload", "", "", 1), true, 10_000).unwrap();
        assert_eq!(message.attributes[1].1, "_server");
        let fifo = message.fifo.clone().unwrap();
        assert_eq!((fifo.group_id.as_str(), fifo.deduplication_id.as_str()), ("_server", "id-hq-1.1-1"));
    }

    #[test]
    fn a_group_id_is_the_key_or_its_hash() {
        assert_eq!(group_id("E1001"), "E1001");
        for odd in ["ü", "a b", "", &"x".repeat(129)] {
            let hashed = group_id(odd);
            assert_eq!(hashed.len(), 64);
            assert!(hashed.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        assert_ne!(group_id("ü"), group_id("ö"));
    }

    #[test]
    fn a_message_may_be_as_large_as_a_request() {
        let mut event = event("card.lost", "", "E1", 1);
        let bytes = message(&event, false, 10_000).unwrap().bytes();
        assert!(message(&event, false, bytes).is_ok());
        event.body = [event.body.to_vec(), vec![b' ']].concat().into();
        assert!(
            matches!(message(&event, false, bytes), Err(Outcome::Rejected(trouble)) if trouble.code == "RecordTooLarge")
        );
    }
}
