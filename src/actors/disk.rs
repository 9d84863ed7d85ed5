//! Watches the log's disk: says what is left, raises alarms, gives the ballast away and makes it again.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use turnstiled_wal::{Ballast, Log, LogSpace, StoreError, file_system_space};

use super::places::Places;
use crate::{
    metrics::Metrics,
    space::{Gauge, Measured, Standing, Step},
};

/// After so much was committed, or so much of the disk has come or gone, it is looked at as a whole; else every
/// second.
const LOOK_AGAIN_BYTES: u64 = 1 << 20;

/// A write beside the log needs about so many times its size, because sled rewrites what is around it.
const STATE_BYTES_PER_BYTE: u64 = 4;

/// How the disk is, for other threads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DiskBoard(Arc<Mutex<Shown>>);

#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    standing: Option<Standing>,
    available_bytes: u64,
    keep_free_bytes: u64,
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

    /// The same for a write of cursors and dead letters.
    #[must_use]
    pub fn has_room_for_state(&self, bytes: u64) -> bool {
        self.has_room_for(bytes.saturating_mul(STATE_BYTES_PER_BYTE))
    }

    /// One of a disk at this step.
    #[cfg(test)]
    pub(crate) fn at(step: Step) -> Self {
        let board = Self::default();
        let standing = Some(Standing { step, used_bytes: 0, limit_bytes: 0 });
        board.show(Shown { standing, available_bytes: u64::MAX, keep_free_bytes: 0 });
        board
    }

    fn show(&self, shown: Shown) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    fn shown(&self) -> Shown {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    step: Step,
    looked_at_available_bytes: u64,
    space: LogSpace,
    committed_bytes: u64,
    has_ballast: bool,
    is_making_ballast: Arc<AtomicBool>,
    has_failed: bool,
}

impl DiskWatch {
    pub(super) fn new(parts: DiskParts) -> Self {
        let has_ballast = parts.ballast.is_there();
        Self {
            parts,
            step: Step::Normal,
            looked_at_available_bytes: 0,
            space: LogSpace::default(),
            committed_bytes: 0,
            has_ballast,
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
        (self.space, self.committed_bytes) = (log.space(), 0);
        let mut room_bytes = log.room_bytes()?;
        self.has_ballast = !self.is_making_ballast.load(Relaxed) && self.parts.ballast.is_there();
        let mut available_bytes = self.available_bytes()?;
        // where it would fit a second time, it is not what is missing
        let would_help = self.has_ballast && !self.parts.gauge.has_room_for_ballast(available_bytes);
        if would_help && self.parts.gauge.needs_ballast(room_bytes, places.in_flight_bytes()) {
            self.has_ballast = !self.parts.ballast.release()?;
            (room_bytes, available_bytes) = (log.room_bytes()?, self.available_bytes()?);
            tracing::error!(
                ballast_bytes = self.parts.ballast.bytes(),
                room_bytes,
                "exits had no room left: the ballast is gone for them; free some space"
            );
        }
        if !self.has_ballast && self.parts.gauge.has_room_for_ballast(available_bytes) {
            self.make_ballast();
        }
        let measured = Measured {
            allocated_bytes: self.space.allocated_bytes,
            unwritten_bytes: self.space.unwritten_bytes,
            available_bytes,
            room_bytes,
            ballast_bytes: if self.has_ballast { self.parts.ballast.bytes() } else { 0 },
        };
        let standing = self.parts.gauge.look(&measured);
        self.looked_at_available_bytes = available_bytes;
        places.set_disk(standing.step, room_bytes, self.parts.gauge.sizes.reserve_bytes);
        self.show(standing, available_bytes, room_bytes);
        Ok(())
    }

    fn available_bytes(&self) -> Result<u64, StoreError> {
        Ok(file_system_space(&self.parts.dir)?.available_bytes)
    }

    fn show(&mut self, standing: Standing, available_bytes: u64, room_bytes: u64) {
        let keep_free_bytes = self.parts.gauge.sizes.keep_free_bytes;
        self.parts.board.show(Shown { standing: Some(standing), available_bytes, keep_free_bytes });
        let metrics = &self.parts.metrics;
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.log_bytes.set(gauge(standing.used_bytes));
        metrics.log_limit_bytes.set(gauge(standing.limit_bytes));
        metrics.disk_step.set(standing.step as i64);
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
