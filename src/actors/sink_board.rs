//! How every sink is doing, for `/v1/sinks` and `/metrics`: written by router and deliveries, read by HTTP.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use serde::Serialize;
use turnstiled_wal::LogReader;

use super::oldest_pending::OldestPending;
use crate::{
    delivery::{
        progress::{Detached, Totals},
        status::{SinkState, Status},
    },
    domain::{event_json, record::EventRecord, time::Timestamp},
    metrics::{Metrics, SINK_STATES},
};

/// Every sink by name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SinkBoard {
    /// Replaced when a sink comes or goes: who looks at one waits for nobody.
    sinks: Arc<RwLock<Arc<Sinks>>>,
    /// Those that the metrics have.
    published: Arc<Mutex<BTreeSet<String>>>,
    /// The last sequence that the router has led to sinks.
    routed: Arc<AtomicU64>,
    log: LogReader,
}

type Sinks = BTreeMap<String, Arc<SinkEntry>>;

#[derive(Debug, Default)]
struct SinkEntry {
    accepted: AtomicU64,
    status: Mutex<Option<Status>>,
    stalled: Mutex<Option<LastError>>,
    oldest: OldestPending,
}

/// A sink's totals at one moment.
#[derive(Clone, Copy, Debug)]
struct Counts {
    totals: Totals,
    accepted: u64,
    pending: u64,
}

impl SinkEntry {
    fn status(&self) -> Option<Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counts(&self, status: Option<&Status>) -> Counts {
        let totals = status.map(|status| status.totals).unwrap_or_default();
        let settled = totals.settled();
        // The router may be a moment behind a delivery; it never stays behind.
        let accepted = self.accepted.load(Relaxed).max(settled);
        Counts { totals, accepted, pending: accepted - settled }
    }
}

/// One sink, as people see it. `accepted = delivered + pending + dead + discarded`, always.
#[derive(Clone, Debug, Serialize)]
pub struct SinkReport {
    /// Its name in the configuration.
    pub name: String,
    /// `healthy`, `retrying` or `open`.
    pub state: &'static str,
    /// An operator has to mend something before it goes on: `last_error` says what. Without it what fails passes by itself.
    pub held: bool,
    /// Pending events.
    pub lag_events: u64,
    /// Age of the oldest of them, in seconds; 0 also if it cannot be read. Up to five seconds late.
    pub lag_seconds: u64,
    /// Events that its routes have led to it.
    pub accepted: u64,
    /// Events its service has.
    pub delivered: u64,
    /// Events it has still to take.
    pub pending: u64,
    /// Dead letters that are there still, and what was given up.
    pub dead: u64,
    /// Dead letters that are there still.
    pub dead_letters: u64,
    /// Dead letters that were thrown away.
    pub discarded: u64,
    /// Sends that had to be done again.
    pub retried: u64,
    /// What was given up because the disk was nearly full, oldest first.
    pub detached: Vec<DetachedRange>,
    /// The last failure, if any since the start.
    pub last_error: Option<LastError>,
}

/// Undelivered events that count as dead, to be replayed from an archive.
#[derive(Clone, Debug, Serialize)]
pub struct DetachedRange {
    /// The first sequence of the range, 20 digits.
    pub first: String,
    /// The last one.
    pub last: String,
    /// How many events.
    pub events: u64,
    /// When they were given up.
    pub at: Timestamp,
}

/// A failure.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// The service's code.
    pub code: String,
    /// The service's text.
    pub text: String,
}

impl LastError {
    /// The last failure of a delivery machine.
    pub(super) fn of(status: &Status) -> Option<Self> {
        let (unix_ms, trouble) = status.last_trouble.as_ref()?;
        Some(Self { at: moment(*unix_ms), code: trouble.code.clone(), text: trouble.text.clone() })
    }
}

impl DetachedRange {
    fn of(range: &Detached) -> Self {
        let digits = |sequence: u64| format!("{sequence:020}");
        let (first, last) = (digits(range.first), digits(range.last));
        Self { first, last, events: range.events, at: moment(range.unix_ms) }
    }
}

fn moment(unix_ms: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(unix_ms).unwrap_or(i64::MAX))
}

impl SinkBoard {
    /// A board for these sinks; `log` is asked for the age of what is pending.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>, log: LogReader) -> Self {
        let sinks: Sinks = names.into_iter().map(|name| (name, Arc::default())).collect();
        let routed = Arc::new(AtomicU64::new(log.committed()));
        Self { sinks: Arc::new(RwLock::new(Arc::new(sinks))), published: Arc::default(), routed, log }
    }

    fn sinks(&self) -> Arc<Sinks> {
        Arc::clone(&self.sinks.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Sinks)) {
        change(Arc::make_mut(&mut self.sinks.write().unwrap_or_else(PoisonError::into_inner)));
    }

    /// A sink that was not there before.
    pub fn add(&self, name: &str) {
        self.change(|sinks| drop(sinks.insert(name.to_owned(), Arc::default())));
    }

    /// Nobody delivers to it any more.
    pub fn remove(&self, name: &str) {
        self.change(|sinks| drop(sinks.remove(name)));
    }

    /// Whether there is such a sink.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.sinks().contains_key(name)
    }

    /// Counts events that were led to a sink.
    pub fn accept(&self, name: &str, events: u64) {
        if let Some(sink) = self.sinks().get(name) {
            sink.accepted.fetch_add(events, Relaxed);
        }
    }

    /// Everything up to here is led to sinks.
    pub(super) fn set_routed(&self, sequence: u64) {
        self.routed.store(sequence, Relaxed);
    }

    /// Replaces what was counted: other routes lead there now.
    pub(super) fn set_accepted(&self, name: &str, events: u64) {
        if let Some(sink) = self.sinks().get(name) {
            sink.accepted.store(events, Relaxed);
        }
    }

    /// Takes the state of a sink's delivery.
    pub(super) fn set(&self, name: &str, status: Status) {
        if let Some(sink) = self.sinks().get(name) {
            *sink.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        }
    }

    /// What was led to a sink so far.
    pub(super) fn accepted(&self, name: &str) -> u64 {
        self.sinks().get(name).map_or(0, |sink| sink.accepted.load(Relaxed))
    }

    /// Notes why a sink cannot go on for now, or that it can again.
    pub(super) fn set_stalled(&self, name: &str, stalled: Option<LastError>) {
        if let Some(sink) = self.sinks().get(name) {
            *sink.stalled.lock().unwrap_or_else(PoisonError::into_inner) = stalled;
        }
    }

    /// Finds out how old the oldest pending events are, where that is due. May read the log, and so wait for a disk: for
    /// threads that may block. [`SinkBoard::reports`] shows what was found last.
    pub fn refresh(&self, now: Instant) {
        for sink in self.sinks().values() {
            let status = sink.status();
            let cursor = status.as_ref().map_or(0, |status| status.cursor);
            let is_pending = sink.counts(status.as_ref()).pending > 0;
            sink.oldest.refresh(is_pending.then_some(cursor), now, |cursor| self.time_after(cursor));
        }
    }

    /// Every sink, by name. Reads nothing.
    #[must_use]
    pub fn reports(&self, now: Timestamp) -> Vec<SinkReport> {
        self.sinks().iter().map(|(name, sink)| self.report(name, sink, now)).collect()
    }

    fn report(&self, name: &str, sink: &SinkEntry, now: Timestamp) -> SinkReport {
        let status = sink.status();
        let stalled = sink.stalled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Counts { totals, accepted, pending } = sink.counts(status.as_ref());
        let dead_letters = status.as_ref().map_or(0, |status| status.letters);
        let oldest = sink.oldest.time().filter(|_| pending > 0);
        let detached = status.as_ref().map(|status| status.detached.as_slice()).unwrap_or_default();
        let detached = detached.iter().map(DetachedRange::of).collect();
        let last_error = stalled.clone().or_else(|| status.as_ref().and_then(LastError::of));
        let held = stalled.is_some() || status.as_ref().is_some_and(|status| status.held.is_some());
        let state = match (stalled, status.map(|status| status.state)) {
            (Some(_), _) | (_, Some(SinkState::Open)) => "open",
            (_, Some(SinkState::Retrying)) => "retrying",
            (_, Some(SinkState::Healthy) | None) => "healthy",
        };
        SinkReport {
            name: name.to_owned(),
            state,
            held,
            lag_events: pending,
            lag_seconds: oldest.map_or(0, |oldest| now.since(oldest).as_secs()),
            accepted,
            delivered: totals.delivered,
            pending,
            dead: totals.dead,
            dead_letters,
            discarded: totals.discarded,
            retried: totals.retried,
            detached,
            last_error,
        }
    }

    /// When the first event past a cursor was decided.
    fn time_after(&self, cursor: u64) -> Option<Timestamp> {
        let record = self.log.read(cursor, 1, 1).ok()?.pop()?;
        let record = EventRecord::parse(record.payload).ok()?;
        event_json::decode(&record).ok().map(|event| event.time)
    }

    /// Writes the board into the metrics.
    pub fn publish(&self, metrics: &Metrics, now: Timestamp) {
        let to_route = self.log.committed().saturating_sub(self.routed.load(Relaxed));
        metrics.queues.router_records.set(i64::try_from(to_route).unwrap_or(i64::MAX));
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let reports = self.reports(now);
        let names = reports.iter().map(|report| report.name.clone()).collect();
        published.difference(&names).for_each(|gone| metrics.forget_sink(gone));
        *published = names;
        for report in reports {
            let label = &[report.name.as_str()];
            let counters = [
                (&metrics.sink_accepted, report.accepted),
                (&metrics.sink_delivered, report.delivered),
                (&metrics.sink_retried, report.retried),
                (&metrics.sink_discarded, report.discarded),
            ];
            for (family, value) in counters {
                let counter = family.with_label_values(label);
                if value < counter.get() {
                    // other routes lead there now: as after a restart
                    counter.reset();
                }
                counter.inc_by(value.saturating_sub(counter.get()));
            }
            let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            metrics.sink_dead.with_label_values(label).set(gauge(report.dead));
            metrics.sink_dead_letters.with_label_values(label).set(gauge(report.dead_letters));
            metrics.sink_pending.with_label_values(label).set(gauge(report.pending));
            metrics.sink_oldest_seconds.with_label_values(label).set(gauge(report.lag_seconds));
            metrics.sink_held.with_label_values(label).set(i64::from(report.held));
            for state in SINK_STATES {
                let is = i64::from(report.state == state);
                metrics.sink_state.with_label_values(&[report.name.as_str(), state]).set(is);
            }
        }
    }
}
