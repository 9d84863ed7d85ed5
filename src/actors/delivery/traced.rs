//! The spans of what is sent to a sink at once: one for each event whose trace is kept, and one for the call if it is for
//! several. Of events whose traces are not kept those show that the service calls invalid, or that fail or are slow alone;
//! that a batch failed or was slow shows in the span of its call.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{DeliveryActor, pace::Sent};
use crate::{
    delivery::{Outgoing, outcome::Outcome, slowness::Sending},
    domain::{record::EventRecord, trace::TraceContext},
    sinks::Sink,
    trace::{
        Annotations, Tracer, current, ids,
        record::{Attempt, Times, batch, delivered},
    },
};

impl DeliveryActor {
    /// Sends a batch, and records what came of it.
    pub(super) fn send_traced(
        &self,
        sink: Arc<dyn Sink>,
        mut records: Vec<Outgoing>,
    ) -> impl Future<Output = Sent> + use<> {
        let attempts = Attempts::begin(&self.tracer, &self.name, &mut records);
        let call = attempts.as_ref().and_then(Attempts::call);
        let bytes = records.iter().fold(0_u64, |sum, record| sum.saturating_add(record.body.len() as u64));
        let first = records.first().map(|first| first.record.clone());
        let from = Instant::now();
        // at once, as its order among other effects is
        let sent = current::within(call, sink.send(records));
        async move {
            let outcomes = sent.await;
            let is_taken = outcomes.contains(&Outcome::Delivered);
            let send = Sending { took: from.elapsed(), bytes, is_taken };
            if let Some(attempts) = attempts {
                attempts.end(&outcomes, send.is_slow());
            }
            let event = || TraceContext::of_event(&first?.json());
            Sent { outcomes, send, trace: call.or_else(event) }
        }
    }
}

/// Events that are being sent together.
#[derive(Debug)]
struct Attempts {
    tracer: Tracer,
    sink: Arc<str>,
    from: SystemTime,
    events: Vec<Option<TracedEvent>>,
    batch: Option<TraceContext>,
}

#[derive(Debug)]
struct TracedEvent {
    record: EventRecord,
    sequence: u64,
    event: TraceContext,
    context: TraceContext,
}

impl Attempts {
    /// Gives each record its span; `None` without a collector.
    fn begin(tracer: &Tracer, sink: &Arc<str>, records: &mut [Outgoing]) -> Option<Self> {
        if !tracer.is_on() {
            return None;
        }
        let events: Vec<_> = records.iter_mut().map(TracedEvent::begin).collect();
        let is_alone = matches!(events.as_slice(), [Some(_)]);
        let is_sampled = events.iter().flatten().any(|event| event.context.is_sampled);
        let batch = (!is_alone).then(|| ids::new_trace(is_sampled));
        let (tracer, sink, from) = (tracer.clone(), Arc::clone(sink), SystemTime::now());
        Some(Self { tracer, sink, from, events, batch })
    }

    /// The span of the call.
    fn call(&self) -> Option<TraceContext> {
        self.batch.or_else(|| self.events.iter().flatten().next().map(|event| event.context))
    }

    /// Records what came of it.
    fn end(self, outcomes: &[Outcome], is_slow: bool) {
        let Self { tracer, sink, from, events, batch: call } = self;
        let times = Times { from, to: SystemTime::now() };
        let (count, mut kept) = (events.len(), Vec::new());
        for (event, outcome) in events.into_iter().zip(outcomes) {
            let Some(event) = event.filter(|event| event.is_kept(outcome, call.is_none(), is_slow)) else {
                continue;
            };
            let annotations = Annotations::of_event(&event.record, tracer.annotates_ids());
            let TracedEvent { sequence, event, context, .. } = event;
            let (sink, error) = (&*sink, code(outcome));
            kept.push(context);
            let attempt = Attempt { context, event, annotations, sink, sequence, error, batch: call };
            tracer.record(delivered(attempt, times));
        }
        let error = outcomes.iter().find_map(code);
        if let Some(call) = call.filter(|call| call.is_sampled || error.is_some() || is_slow) {
            tracer.record(batch(call, &sink, count, kept.into_iter(), error, times));
        }
    }
}

impl TracedEvent {
    fn begin(outgoing: &mut Outgoing) -> Option<Self> {
        let event = TraceContext::of_event(&outgoing.record.json())?;
        let context = TraceContext { span_id: ids::new_span_id(), ..event };
        outgoing.trace = Some(context);
        Some(Self { record: outgoing.record.clone(), sequence: outgoing.sequence, event, context })
    }

    fn is_kept(&self, outcome: &Outcome, is_alone: bool, is_slow: bool) -> bool {
        match outcome {
            Outcome::Later(_) => false,
            Outcome::Rejected(_) => true,
            Outcome::Delivered => self.context.is_sampled || is_alone && is_slow,
            Outcome::Retry(_) | Outcome::BatchRefused(_) => self.context.is_sampled || is_alone,
        }
    }
}

fn code(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Delivered | Outcome::Later(_) => None,
        Outcome::Retry(trouble) | Outcome::BatchRefused(trouble) | Outcome::Rejected(trouble) => {
            Some(&trouble.code)
        }
    }
}
