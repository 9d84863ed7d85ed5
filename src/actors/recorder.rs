//! The way of a decision into the log, shared by the actors of the log arbiter: a place is taken before
//! anything is decided, events get id, time and sequence in the order they are applied, and the answer
//! travels with them and leaves when they are durable.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::SystemTime,
};

use actix::Addr;
use thiserror::Error;
use uuid::{Builder, Uuid};

use super::log::{Append, LogActor};
use crate::domain::{
    event::{Body, Event},
    event_json::encode,
    ids::LogName,
    record::EventRecord,
    time::Timestamp,
};

/// The most messages on their way into the log at once. At the limit requests are answered 503.
/// At one commit for every 512 records and a millisecond each, the last one waits for 16 ms.
pub const MAX_IN_FLIGHT_APPENDS: usize = 8_192;

/// What leaves when the events before it are durable: usually an answer to a request.
pub type OnCommit = Box<dyn FnOnce() + Send>;

/// The log takes no more at the moment; nothing was decided or changed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NoPlace {
    /// [`MAX_IN_FLIGHT_APPENDS`] are waiting.
    #[error("{MAX_IN_FLIGHT_APPENDS} requests are waiting for the log; try again in a second")]
    Overloaded,
    /// A commit failed; the process is about to stop.
    #[error("the log cannot commit and the server is restarting; try again in a few seconds")]
    Stopping,
}

/// Who acts, and in which trace.
#[derive(Clone, Debug)]
pub struct Origin {
    /// `device/<key id>`, `person/<subject>` or `server`.
    pub by: String,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
}

impl Origin {
    /// The daemon itself.
    #[must_use]
    pub fn server() -> Self {
        Self { by: "server".to_owned(), traceparent: None }
    }
}

/// The log arbiter's shared side. Cheap to clone; stays on its thread.
#[derive(Clone, Debug)]
pub struct Recorder {
    log: Addr<LogActor>,
    name: Rc<LogName>,
    places: Rc<Places>,
    stamps: Rc<Stamps>,
}

/// Counts what is on its way into the log.
#[derive(Debug, Default)]
pub struct Places {
    in_flight: Cell<usize>,
    stopping: Cell<bool>,
}

impl Places {
    /// Gives places back after a commit.
    pub(super) fn release(&self, appends: usize) {
        self.in_flight.set(self.in_flight.get().saturating_sub(appends));
    }

    /// From now on nothing gets a place.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
    }
}

/// A place in the log's mailbox, taken before deciding, and the events that go there as one group. Given
/// back when dropped empty.
#[derive(Debug)]
pub struct Group<'a> {
    recorder: &'a Recorder,
    records: Vec<EventRecord>,
    sent: bool,
}

impl Recorder {
    /// A recorder whose next event has the sequence `next`, after a last event at `last_time`.
    #[must_use]
    pub fn new(
        log: Addr<LogActor>,
        places: Rc<Places>,
        name: LogName,
        next: u64,
        last_time: Timestamp,
    ) -> Self {
        Self { log, name: Rc::new(name), places, stamps: Rc::new(Stamps::new(next, last_time)) }
    }

    /// Takes a place in the log's mailbox.
    ///
    /// # Errors
    /// [`NoPlace`] if there is none; then nothing may be decided.
    pub fn place(&self) -> Result<Group<'_>, NoPlace> {
        let in_flight = self.places.in_flight.get();
        if self.places.stopping.get() {
            return Err(NoPlace::Stopping);
        }
        if in_flight >= MAX_IN_FLIGHT_APPENDS {
            return Err(NoPlace::Overloaded);
        }
        self.places.in_flight.set(in_flight + 1);
        Ok(Group { recorder: self, records: Vec::new(), sent: false })
    }

    /// The server's time: never before that of the last event.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.stamps.now()
    }
}

impl Group<'_> {
    /// Stamps an event as the next of the log. The caller takes it into the state at once, before the log
    /// has it; should the log refuse, memory would be ahead of the disk, so the process ends and recovers
    /// (invariant 3).
    pub fn add(&mut self, body: Body, origin: &Origin, now: Timestamp) -> Event {
        let event = self.recorder.stamps.stamp(body, origin, now);
        match encode(&event, &self.recorder.name) {
            Ok(record) => self.records.push(record),
            Err(error) => stop_before_memory_is_ahead(&error.to_string()),
        }
        event
    }

    /// Sends the group to the log. `on_commit` runs when its events are durable; of an empty group, when
    /// everything before it is.
    pub fn send(mut self, on_commit: impl FnOnce() + Send + 'static) {
        self.sent = true;
        let append = Append { records: std::mem::take(&mut self.records), on_commit: Box::new(on_commit) };
        if let Err(error) = self.recorder.log.try_send(append) {
            stop_before_memory_is_ahead(&error.to_string());
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        match (self.sent, self.records.is_empty()) {
            (true, _) => {}
            (false, true) => self.recorder.places.release(1),
            (false, false) => stop_before_memory_is_ahead("a group of events was dropped"),
        }
    }
}

/// Cannot happen while ids are limited and places are counted; if it does, only a restart is honest.
fn stop_before_memory_is_ahead(error: &str) -> ! {
    tracing::error!(error, "an event could not be handed to the log; stopping, the log tells the rest");
    std::process::exit(1)
}

/// Ids, sequences and times, in the order events are applied.
#[derive(Debug)]
struct Stamps {
    next_sequence: Cell<u64>,
    last_millis: Cell<i64>,
    random: RefCell<RandomBytes>,
}

impl Stamps {
    fn new(next: u64, last_time: Timestamp) -> Self {
        Self {
            next_sequence: Cell::new(next),
            last_millis: Cell::new(last_time.as_millis()),
            random: RefCell::new(RandomBytes::default()),
        }
    }

    fn now(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX).max(self.last_millis.get());
        self.last_millis.set(millis);
        Timestamp::from_millis(millis)
    }

    fn stamp(&self, body: Body, origin: &Origin, now: Timestamp) -> Event {
        let sequence = self.next_sequence.get();
        self.next_sequence.set(sequence + 1);
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        let id: Uuid =
            Builder::from_unix_timestamp_millis(millis, &self.random.borrow_mut().next()).into_uuid();
        Event {
            id,
            sequence,
            time: now,
            by: origin.by.clone(),
            traceparent: origin.traceparent.clone(),
            body,
        }
    }
}

/// The kernel's random bytes, fetched many at a time.
#[derive(Debug, Default)]
struct RandomBytes {
    bytes: Vec<u8>,
}

impl RandomBytes {
    const FETCH_BYTES: usize = 4_000;

    fn next(&mut self) -> [u8; 10] {
        if self.bytes.len() < 10 {
            self.bytes.resize(Self::FETCH_BYTES, 0);
            if let Err(error) = getrandom::fill(&mut self.bytes) {
                stop_before_memory_is_ahead(&format!("the kernel gave no random bytes: {error}"));
            }
        }
        let rest = self.bytes.len().saturating_sub(10);
        let mut taken = [0; 10];
        taken.iter_mut().zip(self.bytes.drain(rest..)).for_each(|(to, from)| *to = from);
        taken
    }
}
