//! The request's place in a trace: W3C Trace Context, taken from the caller or begun here.

use actix_web::{HttpMessage, HttpRequest, dev::ServiceRequest};

use crate::{domain::hex::push_hex, random};

/// A W3C `traceparent`, version 00.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext(String);

impl TraceContext {
    /// The caller's context if its header is well formed, else a new one.
    #[must_use]
    pub fn of(request: &ServiceRequest) -> Self {
        let header = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
        header.filter(|value| is_well_formed(value)).map_or_else(Self::begin, |value| Self(value.to_owned()))
    }

    /// The context that the middleware found for this request.
    #[must_use]
    pub fn of_request(request: &HttpRequest) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(Self::begin)
    }

    /// A new trace. Without randomness the ids are zero, which W3C calls invalid and receivers ignore.
    fn begin() -> Self {
        let random = random::bytes::<24>().unwrap_or_else(|error| {
            tracing::warn!(%error, "no random bytes for a trace id");
            [0; 24]
        });
        let (trace_id, span_id) = random.split_at(16);
        let mut context = String::with_capacity(55);
        context.push_str("00-");
        push_hex(&mut context, trace_id);
        context.push('-');
        push_hex(&mut context, span_id);
        context.push_str("-01");
        Self(context)
    }

    /// The whole `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.0
    }

    /// The 32 hex digits that name the trace.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, lower case, neither id all zeros (W3C Trace Context, section 3.2).
fn is_well_formed(header: &str) -> bool {
    let parts: Vec<&str> = header.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    match parts.as_slice() {
        ["00", trace, span, flags] => {
            let some = |part: &str| part.bytes().any(|byte| byte != b'0');
            hex(trace, 32) && hex(span, 16) && hex(flags, 2) && some(trace) && some(span)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_context_is_continued() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_well_formed(good));
        for bad in [
            "",
            "00",
            &good[..54],
            &good.to_uppercase(),
            &good.replace("00-", "ff-"),
            &format!("{good}-x"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert!(!is_well_formed(bad), "{bad}");
        }
        let begun = TraceContext::begin();
        assert!(is_well_formed(begun.traceparent()) && begun.trace_id().len() == 32);
    }
}
