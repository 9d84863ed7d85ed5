//! Traces: finished spans, made of values and their times, on their way to a collector.
//!
//! No span is open while anything happens: whether a trace is kept is known at the end only (denied entries and errors
//! always are), and a delivery continues a trace hours later, in another process. So each part notes when it began, and
//! [`record`], plain functions, makes the finished spans of what came of it. What is not kept costs its ids and a look at
//! the clock. `tracing` is for log lines.
//!
//! - [`Tracer`]: whether to record, and the bounded queue that spans leave by; nothing waits for it
//! - [`record`]: from what happened to spans; [`Annotations`]: what they say of an event
//! - [`current`]: the trace that this thread works for, for log lines and for headers of calls to services
//! - [`ids`]: new ids
//! - [`Exporter`]: sends spans to a collector by OTLP, on a thread of its own

mod annotations;
pub mod current;
mod export;
pub mod ids;
pub mod record;

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};

pub use self::annotations::Annotations;
pub use self::export::{Exporter, Protocol};
use crate::{
    domain::trace::{TraceId, is_in_ratio},
    metrics::Metrics,
    rate::RateCap,
};

/// Spans that may wait for the collector. At the limit a new span is dropped and counted
/// (`turnstiled_trace_spans_dropped_total`), and nobody waits. A span takes about a kilobyte.
pub const MAX_QUEUED_SPANS: usize = 8_192;

/// Refused requests (4xx) a second that are traced though neither caller nor ratio say so; those of ten seconds may be saved
/// up. What is beyond is traced by the ratio: anyone on the LAN can make refused requests, and X-Ray bills each.
const MAX_KEPT_REFUSALS_PER_SECOND: Option<NonZeroU32> = NonZeroU32::new(20);
const REFUSAL_BURST: Duration = Duration::from_secs(10);

/// Where spans go, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The collector.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// How much of the traces that no caller decided about is recorded, 0 to 1.
    pub sample_ratio: f64,
    /// Whether spans name cards and employees.
    pub annotate_ids: bool,
    /// This server's id.
    pub server: String,
}

/// Records spans, or does nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Recording>>);

#[derive(Debug)]
struct Recording {
    queue: mpsc::Sender<SpanData>,
    sample_ratio: f64,
    annotate_ids: bool,
    begun: Instant,
    refusals: Mutex<RateCap>,
    metrics: Metrics,
}

/// Who records, who exports, and what makes the exporter end.
#[must_use]
pub fn start(settings: Settings, metrics: &Metrics) -> (Tracer, Exporter, watch::Sender<bool>) {
    let (queue, spans) = mpsc::channel(MAX_QUEUED_SPANS);
    let (stop, stopped) = watch::channel(false);
    let Settings { sample_ratio, annotate_ids, .. } = settings;
    let refusals = Mutex::new(RateCap::new(MAX_KEPT_REFUSALS_PER_SECOND, REFUSAL_BURST));
    let begun = Instant::now();
    let recording =
        Recording { queue, sample_ratio, annotate_ids, begun, refusals, metrics: metrics.clone() };
    let exporter = Exporter { settings, spans, stop: stopped, metrics: metrics.clone(), is_failing: false };
    (Tracer(Some(Arc::new(recording))), exporter, stop)
}

impl Tracer {
    /// Records nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Whether there is a collector.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether spans name cards and employees.
    #[must_use]
    pub fn annotates_ids(&self) -> bool {
        self.0.as_ref().is_some_and(|recording| recording.annotate_ids)
    }

    /// Whether a trace is recorded: as the caller does it, else by the ratio.
    #[must_use]
    pub fn samples(&self, trace_id: &TraceId, caller: Option<bool>) -> bool {
        self.0
            .as_ref()
            .is_some_and(|recording| caller.unwrap_or_else(|| is_in_ratio(trace_id, recording.sample_ratio)))
    }

    /// Whether this refused request is traced, beyond what caller and ratio say.
    #[must_use]
    pub fn keeps_refusal(&self) -> bool {
        let Some(recording) = &self.0 else { return false };
        let now = recording.begun.elapsed();
        let mut refusals = recording.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let is_kept = refusals.admits_from() <= now;
        if is_kept {
            refusals.take(now, 1);
        }
        is_kept
    }

    /// Says in the metrics how many spans wait for the exporter.
    pub fn show_queue(&self) {
        let Some(Recording { queue, metrics, .. }) = self.0.as_deref() else { return };
        let waiting = queue.max_capacity().saturating_sub(queue.capacity());
        metrics.traces.queued.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Hands a span to the exporter, unless its queue is full.
    pub fn record(&self, span: SpanData) {
        let Some(recording) = &self.0 else { return };
        match recording.queue.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => recording.metrics.traces.dropped_by_queue(1),
            Err(TrySendError::Closed(_)) => recording.metrics.traces.not_exported(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::domain::trace::TraceContext;

    fn settings(sample_ratio: f64) -> Settings {
        let endpoint = "http://127.0.0.1:9".to_owned();
        let server = "hq-1".to_owned();
        Settings { endpoint, protocol: Protocol::Grpc, sample_ratio, annotate_ids: false, server }
    }

    #[test]
    fn what_the_queue_has_no_place_for_is_dropped_and_counted() {
        let metrics = Metrics::new();
        let (tracer, exporter, _stop) = start(settings(1.0), &metrics);
        let now = SystemTime::now();
        let event = TraceContext { trace_id: [1; 16], span_id: [1; 8], is_sampled: true };
        let times = record::Times { from: now, to: now };
        let more = 7;
        for _ in 0..MAX_QUEUED_SPANS + more {
            tracer.record(record::routed(event, Annotations::default(), &["exits"], times));
        }
        let shown = |reason: &str, count: usize| {
            let line = format!("turnstiled_trace_spans_dropped_total{{reason=\"{reason}\"}} {count}\n");
            String::from_utf8(metrics.render()).unwrap().contains(&line)
        };
        assert!(shown("queue_full", more) && shown("not_exported", 0));
        tracer.show_queue();
        assert_eq!(metrics.traces.queued.get(), MAX_QUEUED_SPANS as i64);
        // an exporter that has ended
        drop(exporter);
        tracer.record(record::routed(event, Annotations::default(), &[], times));
        assert!(shown("queue_full", more) && shown("not_exported", 1));
    }

    #[test]
    fn a_flood_of_refused_requests_is_traced_in_part() {
        let (tracer, _exporter, _stop) = start(settings(0.0), &Metrics::new());
        let most = u64::from(MAX_KEPT_REFUSALS_PER_SECOND.unwrap().get()) * (REFUSAL_BURST.as_secs() + 60);
        let kept = (0..100 * most).filter(|_| tracer.keeps_refusal()).count() as u64;
        assert!((1..most).contains(&kept), "{kept}");
        assert!(!Tracer::off().keeps_refusal());
    }

    #[test]
    fn the_callers_word_counts_before_the_ratio() {
        let (never, _exporter, _stop) = start(settings(0.0), &Metrics::new());
        let (always, _exporter, _stop) = start(settings(1.0), &Metrics::new());
        let trace = [1; 16];
        assert_eq!(
            [None, Some(true), Some(false)].map(|caller| never.samples(&trace, caller)),
            [false, true, false]
        );
        assert_eq!(
            [None, Some(true), Some(false)].map(|caller| always.samples(&trace, caller)),
            [true, true, false]
        );
        assert!(!Tracer::off().samples(&trace, Some(true)));
    }
}
