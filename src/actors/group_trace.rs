//! The spans of a group of events: how it was decided, and its commit. Of a group of several events, such as a batch of
//! exits, there is one of each.

use std::time::SystemTime;

use crate::{
    domain::{
        event::Body,
        record::EventRecord,
        trace::{TraceContext, is_always_kept},
    },
    trace::{
        Annotations, Tracer,
        record::{Times, recorded},
    },
};

/// What becomes of a group, as far as its trace is kept. Without a collector it holds nothing.
#[derive(Debug, Default)]
pub(super) struct GroupTrace {
    tracer: Tracer,
    begun: Option<SystemTime>,
    kept: Option<Kept>,
}

/// The first event whose trace is kept, and how many there are.
#[derive(Debug)]
struct Kept {
    request: TraceContext,
    annotations: Annotations,
    events: usize,
}

/// A group on its way into the log.
#[derive(Debug)]
pub(super) struct Sent {
    tracer: Tracer,
    kept: Kept,
    decided: Times,
}

impl GroupTrace {
    /// It begins to be decided.
    pub(super) fn begin(tracer: &Tracer) -> Self {
        let begun = tracer.is_on().then(SystemTime::now);
        Self { tracer: tracer.clone(), begun, kept: None }
    }

    /// What an event says of its trace, for those who continue it.
    pub(super) fn context_of(&self, body: &Body, request: Option<TraceContext>) -> Option<TraceContext> {
        let is_kept = self.begun.is_some() && is_always_kept(body);
        request.map(|context| TraceContext { is_sampled: context.is_sampled || is_kept, ..context })
    }

    /// An event is in the group.
    pub(super) fn add(&mut self, record: &EventRecord, context: Option<TraceContext>) {
        let Some(request) = context.filter(|context| context.is_sampled && self.begun.is_some()) else {
            return;
        };
        match &mut self.kept {
            Some(kept) => kept.events = kept.events.saturating_add(1),
            None => {
                let annotations = Annotations::of_event(record, self.tracer.annotates_ids());
                self.kept = Some(Kept { request, annotations, events: 1 });
            }
        }
    }

    /// It is decided.
    pub(super) fn sent(self) -> Option<Sent> {
        let Self { tracer, begun, kept } = self;
        let decided = Times { from: begun?, to: SystemTime::now() };
        Some(Sent { tracer, kept: kept?, decided })
    }
}

impl Sent {
    /// It is durable.
    pub(super) fn committed(self) {
        let Self { tracer, kept: Kept { request, annotations, events }, decided } = self;
        let committed = Times { from: decided.to, to: SystemTime::now() };
        for span in recorded(request, &annotations, events, decided, committed) {
            tracer.record(span);
        }
    }
}
