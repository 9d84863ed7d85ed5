//! A thread beside the actors that takes snapshots and lets the log drop what nothing needs. Whatever fails here is
//! said and tried again later; the gates never wait for it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant, UNIX_EPOCH},
};

use turnstiled_wal::{LogReader, Trimmer};

use super::{background, event_times::EventTimes};
use crate::{
    actors::{disk::DiskBoard, sink_state::SinkStates},
    clock,
    delivery::progress::Progress,
    metrics::Metrics,
    projections::{
        store::{SnapshotError, Snapshots},
        take::{TakeLimits, take},
        trim_point::Holds,
    },
    space::Step,
};

/// A snapshot is taken after so many events, or after `[wal] snapshot_every` if there is anything new.
pub const SNAPSHOT_EVERY_RECORDS: u64 = 250_000;
/// Not sooner after the last one, or after one that failed, however many events there are.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(5);
/// How often to look whether one is due: the shortest `snapshot_every`.
const TICK: Duration = Duration::from_secs(1);
/// How often to look for what the log may drop, beside after each snapshot.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// Snapshots come at least so often while the disk fills up,
const HURRIED_SNAPSHOT_EVERY: Duration = Duration::from_secs(30);
/// and looks for what the log may drop so often: what can go is to go soon.
const HURRIED_TRIM_EVERY: Duration = Duration::from_secs(5);

/// What it works with.
#[derive(Debug)]
pub struct Parts {
    /// Where events come from.
    pub log: LogReader,
    /// Drops old segments.
    pub trimmer: Trimmer,
    /// Where snapshots go.
    pub snapshots: Snapshots,
    /// How far each sink is.
    pub states: SinkStates,
    /// `[wal] retention`.
    pub retention: Duration,
    /// `[wal] snapshot_every`.
    pub snapshot_every: Duration,
    /// How full the disk is; hears what could go if no sink held it.
    pub disk: DiskBoard,
    /// Where it is shown.
    pub metrics: Metrics,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Housekeeping {
    is_stopping: Arc<AtomicBool>,
    /// Dropped to wake it.
    wake: Sender<()>,
    thread: JoinHandle<()>,
}

impl Housekeeping {
    pub(super) fn start(parts: Parts) -> std::io::Result<Self> {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (wake, woken) = mpsc::channel();
        let stop = Arc::clone(&is_stopping);
        let run = move || {
            let mut keeper = Keeper::new(parts, stop);
            while woken.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                keeper.tick(Instant::now());
            }
        };
        let thread = background::spawn("housekeeping", run)?;
        Ok(Self { is_stopping, wake, thread })
    }

    /// Gives up what it is doing. No snapshot is taken at a stop: the next start folds what is left instead.
    pub(super) async fn stop(self) {
        self.is_stopping.store(true, Relaxed);
        drop(self.wake);
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the housekeeping thread did not end as it should");
        }
    }
}

/// What the thread does, one look at a time.
#[derive(Debug)]
pub struct Keeper {
    parts: Parts,
    stop: Arc<AtomicBool>,
    /// The sequence of the last snapshot, and when it was taken or tried.
    last: (u64, Instant),
    trimmed: Instant,
    times: EventTimes,
    /// Sinks that the configuration does not name and that hold the log no more, as long as the disk is nearly full.
    let_go: BTreeSet<String>,
}

impl Keeper {
    /// Nothing is due at once but a snapshot after [`SNAPSHOT_EVERY_RECORDS`].
    #[must_use]
    pub fn new(parts: Parts, stop: Arc<AtomicBool>) -> Self {
        let last = parts.snapshots.list().ok().and_then(|mut all| all.pop());
        if let Some(unix_seconds) = last.as_ref().and_then(|(_, path)| written_at(path)) {
            parts.metrics.snapshot_timestamp_seconds.set(unix_seconds);
        }
        let sequence = last.map_or(0, |(sequence, _)| sequence);
        parts.metrics.snapshot_sequence.set(i64::try_from(sequence).unwrap_or(i64::MAX));
        let now = Instant::now();
        Self {
            parts,
            stop,
            last: (sequence, now),
            trimmed: now,
            times: EventTimes::default(),
            let_go: BTreeSet::new(),
        }
    }

    fn tick(&mut self, now: Instant) {
        let (sequence, at) = self.last;
        let new_records = self.parts.log.committed().saturating_sub(sequence);
        let is_short = self.parts.disk.has_reached(Step::Alarm);
        let snapshot_every = self.parts.snapshot_every;
        let (snapshot_every, trim_every) = if is_short {
            (snapshot_every.min(HURRIED_SNAPSHOT_EVERY), HURRIED_TRIM_EVERY)
        } else {
            (snapshot_every, TRIM_EVERY)
        };
        if is_snapshot_due(new_records, now.duration_since(at), snapshot_every) {
            self.snapshot(now);
            self.trim(now);
        } else if now.duration_since(self.trimmed) >= trim_every {
            self.trim(now);
        }
    }

    #[cfg(test)]
    pub(super) fn disk(&self) -> &DiskBoard {
        &self.parts.disk
    }

    #[cfg(test)]
    pub(super) fn set_retention(&mut self, retention: Duration) {
        self.parts.retention = retention;
    }

    /// Takes a snapshot of everything committed.
    pub fn snapshot(&mut self, now: Instant) {
        self.last.1 = now;
        if !self.has_room_for_snapshot() {
            tracing::warn!(
                "the disk has no room for a snapshot; it is tried again, and until then the log is not trimmed further"
            );
            return;
        }
        let Parts { snapshots, log, metrics, .. } = &self.parts;
        match take(snapshots, log, TakeLimits::default(), &self.stop) {
            Ok(None) | Err(SnapshotError::Stopped) => {}
            Ok(Some(header)) => {
                self.last.0 = header.sequence;
                metrics.snapshot_sequence.set(i64::try_from(header.sequence).unwrap_or(i64::MAX));
                metrics.snapshot_timestamp_seconds.set(clock::wall().as_millis() / 1_000);
                let seconds = now.elapsed().as_secs_f32();
                tracing::info!(sequence = header.sequence, seconds, "a snapshot of the state is taken");
            }
            Err(error) => {
                tracing::error!(%error, "no snapshot was taken; it is tried again, and until then a start takes longer and the log is not trimmed");
            }
        }
    }

    /// About as much as the last one took, and half of that again. One that fills the disk would harm the log.
    fn has_room_for_snapshot(&self) -> bool {
        let last = self.parts.snapshots.list().ok().and_then(|mut all| all.pop());
        let bytes = last.and_then(|(_, path)| fs::metadata(path).ok()).map_or(0, |found| found.len());
        self.parts.disk.has_room_for(bytes.saturating_add(bytes / 2))
    }

    /// Drops from the log what nothing needs.
    pub fn trim(&mut self, now: Instant) {
        self.trimmed = now;
        let states = self.parts.states.clone();
        // a sink that comes meanwhile finds its place in the log, or begins after it
        let claimed = states.claimed();
        match self.trim_point(&claimed) {
            Err(error) => tracing::error!(error, "the log is not trimmed; it is tried again"),
            Ok(None) => {}
            Ok(Some(below)) => match self.parts.trimmer.trim(below) {
                Ok(first) => tracing::info!(first, "the log is trimmed: it begins with this event now"),
                Err(error) => tracing::error!(%error, "the log is not trimmed; it is tried again"),
            },
        }
    }

    fn trim_point(&mut self, claimed: &BTreeSet<String>) -> Result<Option<u64>, String> {
        let Self { parts, times, let_go, .. } = self;
        let Parts { log, snapshots, states, retention, trimmer, disk, .. } = &*parts;
        let all = snapshots.list().map_err(|error| error.to_string())?;
        let mut progress = states.all().map_err(|error| error.to_string())?;
        let without_sinks = Holds {
            older_snapshot: all.iter().rev().nth(1).map(|(sequence, _)| *sequence),
            slowest_cursor: None,
            retention: *retention,
        };
        let (firsts, now) = (log.segment_firsts(), clock::wall());
        let mut look = times.look(log);
        let trimmable =
            without_sinks.trim_below(&firsts, now, |sequence| look.time_of(sequence)).unwrap_or(0);
        disk.set_trimmable_below(trimmable);
        let_go_of_unconfigured(parts, claimed, trimmable, let_go, &mut progress);
        let slowest_cursor = Holds::slowest(progress.iter().map(|(_, progress)| progress));
        let holds = Holds { slowest_cursor, ..without_sinks };
        let below = holds.trim_below(&firsts, now, |sequence| look.time_of(sequence));
        // what cannot be read is evidence: it is set aside, not deleted
        look.unreadable().filter(|sequence| Some(*sequence) < below).for_each(|sequence| {
            trimmer.note_damage(sequence);
        });
        Ok(below)
    }
}

/// Nobody delivers to a sink that the configuration does not name, so none of these can be let go of in its place:
/// from [`Step::Detach`] on they hold nothing of what else could be trimmed. Each is said once until the disk has space
/// again.
fn let_go_of_unconfigured(
    parts: &Parts,
    claimed: &BTreeSet<String>,
    trimmable_below: u64,
    let_go: &mut BTreeSet<String>,
    progress: &mut Vec<(String, Progress)>,
) {
    if !parts.disk.has_reached(Step::Detach) {
        let_go.clear();
        return;
    }
    progress.retain(|(sink, Progress { cursor, .. })| {
        let holds = claimed.contains(sink) || cursor.saturating_add(1) >= trimmable_below;
        if !holds && let_go.insert(sink.clone()) {
            tracing::error!(
                sink,
                cursor,
                "the disk is nearly full: the log no longer keeps events for this sink, which the configuration does \
                 not name; should it come back, replay them from an archive; if it will not, \
                 DELETE /v1/sinks/{sink}/cursor"
            );
        }
        holds
    });
}

/// When a file was written, in seconds since 1970.
fn written_at(path: &Path) -> Option<i64> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

fn is_snapshot_due(new_records: u64, since_last: Duration, every: Duration) -> bool {
    new_records >= SNAPSHOT_EVERY_RECORDS && since_last >= SNAPSHOT_PAUSE
        || new_records > 0 && since_last >= every
}

#[cfg(test)]
#[path = "trim_tests.rs"]
mod trim_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_by_events_or_by_time() {
        let long = Duration::from_secs(600);
        let is_snapshot_due = |records, since| is_snapshot_due(records, since, long);
        assert!(!is_snapshot_due(0, long) && is_snapshot_due(1, long) && !is_snapshot_due(1, long - TICK));
        assert!(is_snapshot_due(SNAPSHOT_EVERY_RECORDS, SNAPSHOT_PAUSE));
        assert!(!is_snapshot_due(SNAPSHOT_EVERY_RECORDS - 1, SNAPSHOT_PAUSE));
        assert!(
            !is_snapshot_due(SNAPSHOT_EVERY_RECORDS, Duration::ZERO),
            "not again and again after a failure"
        );
    }
}
