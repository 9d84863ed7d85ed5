//! Where something stands in a trace: W3C Trace Context's `traceparent`, and the same ids in X-Ray's words.
//!
//! An event carries the context of the request that caused it, so that a delivery continues the trace hours later and
//! after a restart.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    event::{Body, Decision, Entry, GateDecision},
    hex::{hex, read_hex, write_hex},
};

/// The id of a trace. X-Ray reads its first four bytes as the seconds since 1970 when it began.
pub type TraceId = [u8; 16];
/// The id of a span.
pub type SpanId = [u8; 8];

/// The bytes of a `traceparent`.
pub const TRACEPARENT_BYTES: usize = 55;
/// The bytes of an `X-Amzn-Trace-Id` with all three members.
pub const XRAY_BYTES: usize = 74;

/// Whose headers a trace is passed on by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagator {
    /// `X-Amzn-Trace-Id`.
    XRay,
    /// `traceparent`.
    TraceContext,
}

impl Propagator {
    /// The header's name, in lower case.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::XRay => "x-amzn-trace-id",
            Self::TraceContext => "traceparent",
        }
    }
}

/// A span that others are children of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether it is recorded.
    pub is_sampled: bool,
}

/// What a caller said of the trace that it asks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The trace.
    pub trace_id: TraceId,
    /// Its own span; a load balancer names none.
    pub span_id: Option<SpanId>,
    /// Whether it records; `None`: that is left to whoever it asks.
    pub is_sampled: Option<bool>,
}

impl TraceContext {
    /// Reads a `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`, lower case, neither id all zeros (W3C Trace Context,
    /// section 3.2). A later version is read as this one, whatever follows (section 4.3); there is no version `ff`.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let [version] = read_hex::<1>(parts.next()?)?;
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let [flags] = read_hex::<1>(flags)?;
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        Some(Self { trace_id: some_id(trace)?, span_id: some_id(span)?, is_sampled: flags & 1 == 1 })
    }

    /// The context of an event, found in its JSON without parsing the rest: its members before `data` are the
    /// envelope's. In a string the quotes would be escaped, so that only members are found.
    #[must_use]
    pub fn of_event(json: &[u8]) -> Option<Self> {
        let (before, traceparent) = find_traceparent(json)?;
        if memmem::find(before, b"\"data\":").is_some() {
            return None;
        }
        Self::parse(std::str::from_utf8(traceparent).ok()?)
    }

    /// The same of an event whose trace is recorded. That most are not is seen by the last digit of their flags, before anything
    /// else is looked at.
    #[must_use]
    pub fn of_recorded_event(json: &[u8]) -> Option<Self> {
        let (_, traceparent) = find_traceparent(json)?;
        if traceparent.ends_with(b"0") {
            return None;
        }
        Self::of_event(json).filter(|context| context.is_sampled)
    }

    /// The 32 hex digits that name the trace.
    #[must_use]
    pub fn trace_id_hex(&self) -> String {
        hex(&self.trace_id)
    }

    /// The `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        String::from_utf8_lossy(&self.traceparent_bytes()).into_owned()
    }

    /// The same as bytes, which are ASCII: once an answer.
    #[must_use]
    pub fn traceparent_bytes(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace_id);
        write_hex(&mut text[36..52], &self.span_id);
        text[54] += u8::from(self.is_sampled);
        text
    }

    /// The value of `X-Amzn-Trace-Id`, and of `AWSTraceHeader` beside a message.
    #[must_use]
    pub fn xray(&self) -> String {
        String::from_utf8_lossy(&self.xray_bytes()).into_owned()
    }

    /// The same as bytes, which are ASCII: once an answer.
    #[must_use]
    pub fn xray_bytes(&self) -> [u8; XRAY_BYTES] {
        let mut text = *b"Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0";
        let (began, rest) = self.trace_id.split_at(4);
        write_hex(&mut text[7..15], began);
        write_hex(&mut text[16..40], rest);
        write_hex(&mut text[48..64], &self.span_id);
        text[73] += u8::from(self.is_sampled);
        text
    }
}

impl Caller {
    /// Reads a `traceparent`.
    #[must_use]
    pub fn from_traceparent(header: &str) -> Option<Self> {
        let TraceContext { trace_id, span_id, is_sampled } = TraceContext::parse(header)?;
        Some(Self { trace_id, span_id: Some(span_id), is_sampled: Some(is_sampled) })
    }

    /// Reads an `X-Amzn-Trace-Id`: `Root=1-<8 hex>-<24 hex>`, with `Parent=<16 hex>` and `Sampled=0`, `1` or `?` or
    /// without, in any order. A load balancer sends `Root` alone, or `Self` beside it, which is its own affair.
    #[must_use]
    pub fn from_xray(header: &str) -> Option<Self> {
        let fields = || header.split(';').filter_map(|field| field.trim().split_once('='));
        let value =
            |name: &str| fields().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let (began, rest) = value("Root")?.strip_prefix("1-")?.split_once('-')?;
        if began.len() != 8 {
            return None;
        }
        Some(Self {
            trace_id: some_id(&format!("{began}{rest}"))?,
            span_id: value("Parent").and_then(some_id),
            is_sampled: match value("Sampled") {
                Some("1") => Some(true),
                Some("0") => Some(false),
                _ => None,
            },
        })
    }
}

/// What comes before a `traceparent`, and what stands where its value does.
fn find_traceparent(json: &[u8]) -> Option<(&[u8], &[u8])> {
    // to make one takes as long as to look for it
    static MEMBER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"traceparent\":\""));
    let at = MEMBER.find(json)?;
    let start = at.checked_add(MEMBER.needle().len())?;
    Some((json.get(..at)?, json.get(start..start.checked_add(TRACEPARENT_BYTES)?)?))
}

/// An id that is not all zeros.
fn some_id<const N: usize>(text: &str) -> Option<[u8; N]> {
    read_hex(text).filter(|id| id.iter().any(|byte| *byte != 0))
}

/// Whether a trace without a caller's word is recorded: those whose last eight bytes are below the ratio's share of all
/// numbers, as OpenTelemetry's `TraceIdRatioBased` does it, so that servers with the same ratio choose the same.
#[must_use]
pub fn is_in_ratio(trace_id: &TraceId, ratio: f64) -> bool {
    if ratio >= 1.0 {
        return true;
    }
    let [_, _, _, _, _, _, _, _, random @ ..] = *trace_id;
    // a fraction of 2^63, which no f64 below 1 takes past it
    ((u64::from_be_bytes(random) >> 1) as f64) < ratio * (1_u64 << 63) as f64
}

/// Whether an event's trace is recorded whatever the ratio says.
#[must_use]
pub fn is_always_kept(body: &Body) -> bool {
    match body {
        Body::Entry(Entry { decision, .. }) => matches!(decision, Decision::Denied(_)),
        Body::EntryRecorded(recorded) => recorded.decision == GateDecision::Denied,
        _ => false,
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.traceparent())
    }
}

/// A context of an event in the log; `None` for one that cannot be read, which is no reason to lose the event.
///
/// # Errors
/// The deserializer's own.
pub fn read_if_well_formed<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TraceContext>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.and_then(|text| TraceContext::parse(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn only_a_well_formed_traceparent_is_read() {
        let read = TraceContext::parse(PARENT).unwrap();
        assert_eq!((read.traceparent().as_str(), read.is_sampled), (PARENT, true));
        // flags that are not known yet are not passed on
        let other = TraceContext::parse(&PARENT.replace("-01", "-fe")).unwrap();
        assert_eq!(other.traceparent(), PARENT.replace("-01", "-00"));
        // a version to come
        let later = TraceContext::parse(&format!("{}-more", PARENT.replace("00-", "cc-"))).unwrap();
        assert_eq!(later.traceparent(), PARENT);
        for bad in [
            "",
            "00",
            &PARENT[..54],
            &PARENT.to_uppercase(),
            &PARENT.replace("00-", "ff-"),
            &format!("{PARENT}-x"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn x_rays_header_is_read_with_root_alone_too() {
        let root = "Root=1-5759e988-bd862e3fe1be46a994272793";
        let alone = Caller::from_xray(root).unwrap();
        assert_eq!((alone.span_id, alone.is_sampled), (None, None));
        let whole =
            Caller::from_xray(&format!("Self=1-a-b; {root};Parent=53995c3f42cd8ad8;Sampled=0")).unwrap();
        assert_eq!((whole.trace_id, whole.is_sampled), (alone.trace_id, Some(false)));
        let own =
            TraceContext { trace_id: whole.trace_id, span_id: whole.span_id.unwrap(), is_sampled: true };
        assert_eq!(own.xray(), format!("{root};Parent=53995c3f42cd8ad8;Sampled=1"));
        assert!(own.traceparent().starts_with("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8"));
        assert_eq!(Caller::from_xray(&format!("{root};Sampled=?")).unwrap().is_sampled, None);
        for bad in [
            "",
            "Parent=53995c3f42cd8ad8",
            "Root=1-5759e988",
            "Root=1-5759e98-8bd862e3fe1be46a994272793",
            "Root=2-x-y",
        ] {
            assert_eq!(Caller::from_xray(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_context_of_an_event_is_the_envelopes() {
        let event =
            format!(r#"{{"id":"1","partitionkey":"a\"data\":b","traceparent":"{PARENT}","data":{{}}}}"#);
        assert_eq!(TraceContext::of_event(event.as_bytes()).unwrap().traceparent(), PARENT);
        let within = format!(r#"{{"id":"1","data":{{"traceparent":"{PARENT}"}}}}"#);
        assert_eq!(TraceContext::of_event(within.as_bytes()), None);
        assert_eq!(TraceContext::of_event(br#"{"traceparent":"00"#), None);
        assert_eq!(TraceContext::of_recorded_event(event.as_bytes()).unwrap().traceparent(), PARENT);
        for flags in ["-00", "-02"] {
            let other = event.replace("-01\"", &format!("{flags}\""));
            assert_eq!(TraceContext::of_recorded_event(other.as_bytes()), None, "{other}");
            assert!(TraceContext::of_event(other.as_bytes()).is_some());
        }
    }

    #[test]
    fn the_ratio_is_kept_and_its_ends_are_sharp() {
        let id = |random: u64| {
            let mut id = [1; 16];
            id[8..].copy_from_slice(&random.to_be_bytes());
            id
        };
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(is_in_ratio(&id(random), 1.0) && !is_in_ratio(&id(random), 0.0), "{random}");
        }
        let step = u64::MAX / 10_000;
        let kept = (0..10_000).filter(|n| is_in_ratio(&id(n * step), 0.01)).count();
        assert!((99..=101).contains(&kept), "{kept}");
    }
}
