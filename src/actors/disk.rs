//! Watches the log's disk: says what is left, raises alarms, gives the ballast away and makes it again.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use turnstiled_wal::{Ballast, Log, StoreError, file_system_space};

use super::places::Places;
use crate::{
    metrics::Metrics,
    space::{
        BallastStep, Gauge, Measured, Standing, Step,
        filling::{Filling, Look},
        has_room_for_file,
    },
};

/// After so much was committed, or so much of the disk has come or gone, it is looked at as a whole; else every
/// second.
const LOOK_AGAIN_BYTES: u64 = 1 << 20;

/// A write beside the log needs about so many times its size, because sled rewrites what is around it.
const STATE_BYTES_PER_BYTE: u64 = 4;

/// How the disk is, for other threads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DiskBoard {
    shown: Arc<Mutex<Shown>>,
    trimmable_below: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    standing: Option<Standing>,
    available_bytes: u64,
    keep_free_bytes: u64,
    kept_bytes: u64,
}

impl DiskBoard {
    /// Where the log stands; `None` before the first look.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        self.shown().standing
    }

    /// Whether the disk is at this step, or beyond it.
    #[must_use]
    pub fn has_reached(&self, step: Step) -> bool {
        self.standing().is_some_and(|standing| standing.step >= step)
    }

    /// Whether a file of so many bytes beside the log has room: half of what is kept free is left then.
    #[must_use]
    pub fn has_room_for(&self, bytes: u64) -> bool {
        let shown = self.shown();
        shown.standing.is_none() || shown.available_bytes >= (shown.keep_free_bytes / 2).saturating_add(bytes)
    }

    /// Whether a file of so many bytes beside the log leaves the log what it needs, if this is what the disk has now.
    #[must_use]
    pub fn has_room_for_file(&self, bytes: u64, available_bytes: u64) -> bool {
        let Shown { standing, keep_free_bytes, kept_bytes, .. } = self.shown();
        standing.is_none() || has_room_for_file(bytes, available_bytes, kept_bytes, keep_free_bytes)
    }

    /// [`Self::has_room_for`] for a write of cursors and dead letters.
    #[must_use]
    pub fn has_room_for_state(&self, bytes: u64) -> bool {
        self.has_room_for(bytes.saturating_mul(STATE_BYTES_PER_BYTE))
    }

    /// Everything below this sequence could go if no sink held it: a segment begins there. 0: nothing could, or nobody
    /// has looked yet.
    #[must_use]
    pub fn trimmable_below(&self) -> u64 {
        self.trimmable_below.load(Relaxed)
    }

    /// Says what could go if no sink held it.
    pub fn set_trimmable_below(&self, sequence: u64) {
        self.trimmable_below.store(sequence, Relaxed);
    }

    /// One of a disk at this step.
    #[cfg(test)]
    pub(crate) fn at(step: Step) -> Self {
        let board = Self::default();
        let standing = Some(Standing { step, used_bytes: 0, limit_bytes: 0 });
        board.show(Shown { standing, available_bytes: u64::MAX, ..Shown::default() });
        board
    }

    fn show(&self, shown: Shown) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    fn shown(&self) -> Shown {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a watch works with.
#[derive(Debug)]
pub struct DiskParts {
    /// The directory of the log, on the file system that is watched.
    pub dir: PathBuf,
    /// When to do what.
    pub gauge: Gauge,
    /// What can be given away.
    pub ballast: Ballast,
    /// Who wants to know.
    pub board: DiskBoard,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

/// The watch, on the log's thread.
#[derive(Debug)]
pub(super) struct DiskWatch {
    parts: DiskParts,
    filling: Filling,
    step: Step,
    looked_at_available_bytes: u64,
    committed_bytes: u64,
    is_making_ballast: Arc<AtomicBool>,
    has_failed: bool,
}

impl DiskWatch {
    pub(super) fn new(parts: DiskParts) -> Self {
        Self {
            parts,
            filling: Filling::default(),
            step: Step::Normal,
            looked_at_available_bytes: 0,
            committed_bytes: 0,
            is_making_ballast: Arc::default(),
            has_failed: false,
        }
    }

    /// So much was committed: a short look.
    pub(super) fn committed(&mut self, bytes: u64, log: &Log, places: &Places) {
        self.committed_bytes = self.committed_bytes.saturating_add(bytes);
        let found = log.room_bytes().and_then(|room| Ok((room, self.available_bytes()?)));
        let Ok((room, available)) = found else { return self.look(log, places) };
        let sizes = self.parts.gauge.sizes;
        let is_short = room < sizes.reserve_bytes.saturating_mul(2);
        let has_changed = available.abs_diff(self.looked_at_available_bytes) >= LOOK_AGAIN_BYTES;
        if is_short || has_changed || self.committed_bytes >= LOOK_AGAIN_BYTES {
            self.look(log, places);
        } else {
            places.set_disk(self.step, room, sizes.reserve_bytes);
        }
    }

    /// A look at the whole. Should the file system not answer, what was seen last counts.
    pub(super) fn look(&mut self, log: &Log, places: &Places) {
        if let Err(error) = self.try_look(log, places) {
            if !std::mem::replace(&mut self.has_failed, true) {
                tracing::error!(%error, "the disk cannot be watched; what was seen last counts");
            }
            return;
        }
        self.has_failed = false;
    }

    fn try_look(&mut self, log: &Log, places: &Places) -> Result<(), StoreError> {
        let mut measured = self.measure(log, places)?;
        let mut released = Ok(());
        match self.parts.gauge.ballast_step(&measured, places.in_flight_bytes()) {
            BallastStep::Leave => {}
            BallastStep::Make => self.make_ballast(),
            BallastStep::Release => {
                // also if it cannot be removed the look goes on
                released = self.parts.ballast.release().map(drop);
                measured = self.measure(log, places)?;
                if released.is_ok() {
                    tracing::error!(
                        ballast_bytes = self.parts.ballast.bytes(),
                        room_bytes = measured.room_bytes,
                        "exits had no room left: the ballast is gone for them; free some space"
                    );
                }
            }
        }
        let Measured { available_bytes, room_bytes, .. } = measured;
        let standing = self.parts.gauge.look(&measured);
        self.looked_at_available_bytes = available_bytes;
        places.set_disk(standing.step, room_bytes, self.parts.gauge.sizes.reserve_bytes);
        self.show(standing, available_bytes, room_bytes);
        released
    }

    /// The room counts as soon as it is known, whatever fails after that.
    fn measure(&mut self, log: &Log, places: &Places) -> Result<Measured, StoreError> {
        self.committed_bytes = 0;
        let space = log.space();
        let set_aside = i64::try_from(space.set_aside_bytes).unwrap_or(i64::MAX);
        self.parts.metrics.log_set_aside_bytes.set(set_aside);
        let room_bytes = log.room_bytes()?;
        places.set_disk(self.step, room_bytes, self.parts.gauge.sizes.reserve_bytes);
        let available_bytes = self.available_bytes()?;
        let ballast = &self.parts.ballast;
        let is_whole = !self.is_making_ballast.load(Relaxed) && ballast.is_there();
        Ok(Measured {
            allocated_bytes: space.allocated_bytes,
            unwritten_bytes: space.unwritten_bytes,
            available_bytes,
            room_bytes,
            ballast_bytes: if is_whole { ballast.bytes() } else { ballast.bytes_on_disk() },
        })
    }

    fn available_bytes(&self) -> Result<u64, StoreError> {
        Ok(file_system_space(&self.parts.dir)?.available_bytes)
    }

    fn show(&mut self, standing: Standing, available_bytes: u64, room_bytes: u64) {
        let gauge = &self.parts.gauge;
        let (keep_free_bytes, kept_bytes) = (gauge.sizes.keep_free_bytes, gauge.kept_bytes());
        self.parts.board.show(Shown {
            standing: Some(standing),
            available_bytes,
            keep_free_bytes,
            kept_bytes,
        });
        let metrics = &self.parts.metrics;
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.log_bytes.set(gauge(standing.used_bytes));
        metrics.log_limit_bytes.set(gauge(standing.limit_bytes));
        metrics.disk_step.set(standing.step as i64);
        let left_bytes = standing.limit_bytes.saturating_sub(standing.used_bytes);
        let seconds = self.filling.look(Look { at: Instant::now(), left_bytes });
        // the reserve may begin before the limit does
        metrics.log_full_seconds.set(if standing.step == Step::Full { 0.0 } else { seconds });
        let Standing { step, used_bytes, limit_bytes } = standing;
        let before = std::mem::replace(&mut self.step, step);
        match step {
            _ if step == before => {}
            Step::Normal => {
                tracing::info!(
                    used_bytes,
                    limit_bytes,
                    available_bytes,
                    room_bytes,
                    "the disk has space again"
                );
            }
            Step::Alarm => {
                tracing::warn!(
                    used_bytes,
                    limit_bytes,
                    available_bytes,
                    room_bytes,
                    "the disk fills up: free some space, or raise [wal] max_bytes"
                );
            }
            Step::Detach => {
                tracing::error!(
                    used_bytes,
                    limit_bytes,
                    available_bytes,
                    room_bytes,
                    "the disk is nearly full: sinks that are behind and not required are let go"
                );
            }
            Step::Full => {
                tracing::error!(
                    used_bytes,
                    limit_bytes,
                    available_bytes,
                    room_bytes,
                    "the disk is full: entries are refused, exits use the reserve; free some space, or raise [wal] max_bytes"
                );
            }
        }
    }

    /// On a thread of its own: some file systems want every byte of it written.
    fn make_ballast(&self) {
        if self.is_making_ballast.swap(true, Relaxed) {
            return;
        }
        let (ballast, is_making) = (self.parts.ballast.clone(), Arc::clone(&self.is_making_ballast));
        let made = thread::Builder::new().name("ballast".to_owned()).spawn(move || {
            match ballast.make() {
                Ok(()) => tracing::info!(bytes = ballast.bytes(), "the ballast is in place"),
                Err(error) => tracing::warn!(%error, "the ballast cannot be made; trying again"),
            }
            is_making.store(false, Relaxed);
        });
        if let Err(error) = made {
            tracing::warn!(%error, "no thread for the ballast; trying again");
            self.is_making_ballast.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use turnstiled_wal::MemoryStore;

    use super::*;
    use crate::space::{Need, Sizes};

    #[test]
    fn room_that_was_measured_counts_also_if_the_ballast_cannot_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        // a directory is no ballast that could be removed, and seems to be one of its length
        let in_the_way = dir.path().join("ballast");
        std::fs::create_dir(&in_the_way).unwrap();
        let ballast_bytes = std::fs::metadata(&in_the_way).unwrap().len();
        let (store, reserve_bytes) = (Arc::new(MemoryStore::new()), 1 << 30);
        // no disk has what is kept free here, so the ballast does not fit a second time
        let sizes = Sizes { segment_bytes: 1 << 30, reserve_bytes, ballast_bytes, keep_free_bytes: 1 << 60 };
        let parts = DiskParts {
            dir: dir.path().to_owned(),
            gauge: Gauge::new(sizes, u64::MAX, 1),
            ballast: Ballast::new(&in_the_way, ballast_bytes),
            board: DiskBoard::default(),
            metrics: Metrics::new(),
        };
        let places = Places::new(Arc::default(), parts.metrics.queues.log_records.clone());
        let board = parts.board.clone();
        let mut watch = DiskWatch::new(parts);
        let log = Log::with_store(store.clone()).unwrap();
        watch.look(&log, &places);
        places.take(Need::Essential { bytes: 1 << 20 }).unwrap();
        places.release(1, 1 << 20);
        store.limit_room(100_000);
        watch.look(&log, &places);
        assert!(watch.has_failed, "it is said that the ballast is still there");
        places.take(Need::Essential { bytes: 1 << 20 }).unwrap_err();
        places.take(Need::Essential { bytes: 50_000 }).unwrap();
        assert!(board.has_reached(Step::Full));
    }
}
