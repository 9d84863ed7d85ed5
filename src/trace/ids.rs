//! New ids, such as X-Ray takes them: a trace's begins with the second it began in.

use crate::{
    clock,
    domain::trace::{SpanId, TraceContext, TraceId},
    random,
};

/// A trace that begins now.
#[must_use]
pub fn new_trace(is_sampled: bool) -> TraceContext {
    TraceContext { trace_id: new_trace_id(), span_id: new_span_id(), is_sampled }
}

/// A trace that begins now.
#[must_use]
pub fn new_trace_id() -> TraceId {
    let seconds = u32::try_from(clock::wall().as_millis() / 1_000).unwrap_or(u32::MAX).to_be_bytes();
    let random: [u8; 12] = random_bytes();
    let mut id = [0; 16];
    id.iter_mut().zip(seconds.into_iter().chain(random)).for_each(|(to, from)| *to = from);
    id
}

/// A span of any trace.
#[must_use]
pub fn new_span_id() -> SpanId {
    random_bytes()
}

/// Without randomness an id is zero, which W3C calls invalid and receivers ignore.
fn random_bytes<const N: usize>() -> [u8; N] {
    random::bytes().unwrap_or_else(|error| {
        tracing::warn!(%error, "no random bytes for the id of a trace");
        [0; N]
    })
}
