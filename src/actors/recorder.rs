//! The way of a decision into the log, shared by the actors of the log arbiter: a place and space are taken
//! before anything is decided, events get id, sequence and time in the order they are applied, and the answer
//! travels with them and leaves when they are durable.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

use actix::Addr;
use uuid::Builder;

use super::{
    group_trace::GroupTrace,
    log::{Append, LogActor},
    places::{NoPlace, Places, log_bytes},
};
use crate::{
    clock,
    domain::{
        event::{Body, Event},
        event_json::encode,
        ids::LogName,
        record::EventRecord,
        time::Timestamp,
        trace::TraceContext,
    },
    random,
    space::Need,
    trace::Tracer,
};

/// What leaves when the events before it are durable: usually an answer to a request.
pub type OnCommit = Box<dyn FnOnce() + Send>;

/// Who acts, and in which trace, if in one.
#[derive(Clone, Debug)]
pub struct Origin {
    /// `device/<key id>`, `person/<subject>` or `server`.
    pub by: String,
    /// The span of the request.
    pub trace: Option<TraceContext>,
}

impl Origin {
    /// The daemon itself.
    #[must_use]
    pub fn server() -> Self {
        Self { by: "server".to_owned(), trace: None }
    }
}

/// Where the log ends: at the start as it was recovered, then kept up to date for whoever shares it.
#[derive(Clone, Debug)]
pub struct LogEnd {
    /// The name of the sequence.
    pub name: LogName,
    /// The first place after what was recovered.
    pub next_sequence: u64,
    /// The time of the last event in milliseconds since 1970.
    pub last_event_millis: Arc<AtomicI64>,
    /// Whether a commit has failed: nothing more is recorded, the process is about to end.
    pub is_stopped: Arc<AtomicBool>,
}

/// The log arbiter's shared side. Cheap to clone; stays on its thread.
#[derive(Clone, Debug)]
pub struct Recorder(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    log: Addr<LogActor>,
    places: Rc<Places>,
    tracer: Tracer,
    name: LogName,
    next_sequence: Cell<u64>,
    last_event_millis: Arc<AtomicI64>,
}

/// A place in the log's mailbox and space on its disk, taken before deciding, and the events that go there as one group. Given
/// back when dropped empty.
#[derive(Debug)]
pub struct Group<'a> {
    recorder: &'a Inner,
    need: Need,
    now: Timestamp,
    first_sequence: u64,
    records: Vec<EventRecord>,
    trace: GroupTrace,
    sent: bool,
}

impl Recorder {
    /// Records after `end`.
    #[must_use]
    pub fn new(log: Addr<LogActor>, places: Rc<Places>, end: LogEnd, tracer: Tracer) -> Self {
        let LogEnd { name, next_sequence, last_event_millis, .. } = end;
        let next_sequence = Cell::new(next_sequence);
        Self(Rc::new(Inner { log, places, tracer, name, next_sequence, last_event_millis }))
    }

    /// Takes a place in the log's mailbox, and the space that may be needed.
    ///
    /// # Errors
    /// [`NoPlace`] if there is none; then nothing may be decided.
    pub fn place(&self, need: Need) -> Result<Group<'_>, NoPlace> {
        self.0.places.take(need)?;
        Ok(Group {
            recorder: &self.0,
            need,
            now: self.now(),
            first_sequence: self.0.next_sequence.get(),
            records: Vec::new(),
            trace: GroupTrace::begin(&self.0.tracer),
            sent: false,
        })
    }

    /// The name of the log.
    #[must_use]
    pub fn log_name(&self) -> &LogName {
        &self.0.name
    }

    /// The sequence of the last event that was stamped. The state of whoever asks, on this thread, is as of it.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.0.next_sequence.get().saturating_sub(1)
    }

    /// The server's time: never before that of the last event.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        clock::wall().max(Timestamp::from_millis(self.0.last_event_millis.load(Relaxed)))
    }
}

impl Group<'_> {
    /// The time that everything in this group is decided at.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Stamps an event as the next of the log. The caller takes it into the state at once, before the log
    /// has it; should the log refuse, memory would be ahead of the disk, so the process ends and recovers
    /// (invariant 3).
    pub fn add(&mut self, body: Body, origin: &Origin) -> Event {
        let sequence = self.recorder.next_sequence.get();
        let Some(next) = sequence.checked_add(1) else {
            stop_before_memory_is_ahead("no sequences are left")
        };
        self.recorder.next_sequence.set(next);
        self.recorder.last_event_millis.store(self.now.as_millis(), Relaxed);
        let unix_millis = u64::try_from(self.now.as_millis()).unwrap_or(0);
        let random = random::bytes().unwrap_or_else(|error| {
            stop_before_memory_is_ahead(&format!("the kernel gave no random bytes: {error}"))
        });
        let trace = self.trace.context_of(&body, origin.trace);
        let event = Event {
            id: Builder::from_unix_timestamp_millis(unix_millis, &random).into_uuid(),
            sequence,
            time: self.now,
            by: origin.by.clone(),
            traceparent: trace,
            body,
        };
        match encode(&event, &self.recorder.name) {
            Ok(record) => {
                self.trace.add(&record, trace);
                self.records.push(record);
            }
            Err(error) => stop_before_memory_is_ahead(&error.to_string()),
        }
        event
    }

    /// What it takes of the log so far.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        log_bytes(&self.records)
    }

    /// Sends the group to the log. `on_commit` runs when its events are durable; of an empty group, when
    /// everything before it is.
    pub fn send(mut self, on_commit: impl FnOnce() + Send + 'static) {
        self.sent = true;
        let records = std::mem::take(&mut self.records);
        self.recorder.places.exchange(self.need, &records);
        let on_commit: OnCommit = match std::mem::take(&mut self.trace).sent() {
            None => Box::new(on_commit),
            Some(trace) => Box::new(move || {
                on_commit();
                trace.committed();
            }),
        };
        let append = Append { first_sequence: self.first_sequence, records, on_commit };
        if let Err(error) = self.recorder.log.try_send(append) {
            stop_before_memory_is_ahead(&error.to_string());
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        match (self.sent, self.records.is_empty()) {
            (true, _) => {}
            (false, true) => self.recorder.places.release(1, self.need.bytes()),
            (false, false) => stop_before_memory_is_ahead("a group of events was dropped"),
        }
    }
}

/// Cannot happen while ids are limited and places are counted; if it does, only a restart is honest.
fn stop_before_memory_is_ahead(error: &str) -> ! {
    tracing::error!(error, "an event could not be handed to the log; stopping, the log tells the rest");
    std::process::exit(1)
}
