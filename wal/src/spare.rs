//! The next segment, prepared ahead on a thread of its own, so that a commit that needs it only has to name it.
//!
//! The thread is not on the way of a commit, unless the commit needs the segment while it is being made: then it
//! waits, because a second one beside it would take longer, and may not fit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::durable_fs;
use crate::segment_names;
use crate::space::{MIN_SEGMENT_BYTES, disk_bytes, next_segment_bytes};
use crate::store::{SegmentStore, StoreError};
use crate::store_kind::StoreKind;

const THREAD_NAME: &str = "wal-next-segment";

/// The spare and its thread.
#[derive(Debug)]
pub(crate) struct Spare {
    wanted_bytes: u64,
    shared: Arc<Shared>,
    /// None only while this is dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    kind: StoreKind,
    state: Mutex<State>,
    changed: Condvar,
    /// A name is never used again: the log may be about to rename the one it took.
    last_number: AtomicU64,
    is_cancelled: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    /// Requested, or on its way.
    Making {
        bytes: u64,
        free_bytes: u64,
    },
    Ready {
        number: u64,
        bytes: u64,
    },
    /// There seemed to be so much room, and there was not: a quota, or someone else was faster. Not tried again
    /// before that changes, so that a full disk is not filled with zeros again and again.
    Failed {
        free_bytes: u64,
    },
}

#[derive(Debug)]
enum Job {
    Prepare {
        number: u64,
        bytes: u64,
    },
    GiveBack(Arc<dyn SegmentStore>),
    /// Closing a sled database takes its time.
    Close(Arc<dyn SegmentStore>),
}

impl Spare {
    /// Starts the thread for the log in `dir`. `wanted_bytes` is the size of a segment where there is room for it.
    pub(crate) fn start(dir: &Path, kind: StoreKind, wanted_bytes: u64) -> io::Result<Spare> {
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            kind,
            state: Mutex::new(State::Absent),
            changed: Condvar::new(),
            last_number: AtomicU64::new(0),
            is_cancelled: AtomicBool::new(false),
        });
        let (jobs, received) = mpsc::channel();
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || {
            while let Ok(job) = received.recv() {
                match job {
                    Job::Prepare { number, bytes } => of_thread.prepare(number, bytes),
                    Job::GiveBack(segment) => segment.give_back(),
                    Job::Close(segment) => drop(segment),
                }
            }
            of_thread.end();
        })?;
        Ok(Spare { wanted_bytes, shared, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has a spare prepared, if there is none and there is room: so much of the disk may be taken.
    pub(crate) fn request(&self, free_bytes: u64) {
        let mut state = self.shared.state();
        if matches!(*state, State::Making { .. } | State::Ready { .. }) {
            return;
        }
        if let Some(bytes) = self.possible_bytes(*state, free_bytes) {
            *state = State::Making { bytes, free_bytes };
            let number = self.shared.last_number.fetch_add(1, Ordering::Relaxed) + 1;
            self.send(Job::Prepare { number, bytes });
        }
    }

    /// The size of the next segment: of the one there is or will be, or the one that would be made now; 0 if none
    /// would.
    pub(crate) fn next_bytes(&self, free_bytes: u64) -> u64 {
        match *self.shared.state() {
            State::Making { bytes, .. } | State::Ready { bytes, .. } => bytes,
            state => self.possible_bytes(state, free_bytes).unwrap_or(0),
        }
    }

    fn possible_bytes(&self, state: State, free_bytes: u64) -> Option<u64> {
        if let State::Failed { free_bytes: before } = state
            && before.abs_diff(free_bytes) < MIN_SEGMENT_BYTES
        {
            return None;
        }
        next_segment_bytes(self.shared.kind, self.wanted_bytes, free_bytes)
    }

    /// The spare, if it is ready.
    pub(crate) fn take(&self) -> Option<PathBuf> {
        let mut state = self.shared.state();
        let State::Ready { number, .. } = *state else { return None };
        *state = State::Absent;
        Some(self.shared.path(number))
    }

    /// The spare, once it is ready if it is being made, and if it has at least so many bytes. One that is smaller
    /// makes room for a larger one.
    pub(crate) fn take_at_least(&self, bytes: u64) -> Result<Option<PathBuf>, StoreError> {
        let shared = &self.shared;
        let is_making = |state: &mut State| matches!(state, State::Making { .. });
        let waited = shared.changed.wait_while(shared.state(), is_making);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let State::Ready { number, bytes: ready } = *state else { return Ok(None) };
        *state = State::Absent;
        let path = shared.path(number);
        if ready < bytes {
            durable_fs::remove(&path)?;
            return Ok(None);
        }
        Ok(Some(path))
    }

    /// What it takes on the disk, and its size, if it is ready.
    pub(crate) fn ready_bytes(&self) -> (u64, u64) {
        match *self.shared.state() {
            State::Ready { number, bytes } => (disk_bytes(&self.shared.path(number)), bytes),
            _ => (0, 0),
        }
    }

    /// Has a segment that takes no more appends give back what it does not need.
    pub(crate) fn give_back(&self, sealed: Arc<dyn SegmentStore>) {
        self.send(Job::GiveBack(sealed));
    }

    /// Closes a segment where nobody waits for it.
    pub(crate) fn close(&self, segment: Arc<dyn SegmentStore>) {
        self.send(Job::Close(segment));
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // fails only if the thread has panicked: then each commit that needs a segment prepares it itself
            drop(jobs.send(job));
        }
    }

    #[cfg(test)]
    pub(crate) fn wait_until_ready(&self) {
        while !matches!(*self.shared.state(), State::Ready { .. }) {
            thread::yield_now();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, number: u64) -> PathBuf {
        segment_names::preparing(&self.dir, &format!("next-{number}"), self.kind)
    }

    fn prepare(&self, number: u64, bytes: u64) {
        // also if it should panic, so that nobody waits for it in vain
        let _end = EndOfMaking(self);
        let prepared = self.kind.prepare(&self.path(number), bytes, &self.is_cancelled);
        let mut state = self.state();
        if let State::Making { free_bytes, .. } = *state {
            // why it failed shows when a commit needs the segment, and in the room there is until then
            *state =
                if prepared.is_ok() { State::Ready { number, bytes } } else { State::Failed { free_bytes } };
        }
    }

    fn end(&self) {
        let mut state = self.state();
        if let State::Making { free_bytes, .. } = *state {
            *state = State::Failed { free_bytes };
        }
        drop(state);
        self.changed.notify_all();
    }
}

struct EndOfMaking<'a>(&'a Shared);

impl Drop for EndOfMaking<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Drop for Spare {
    /// Waits for the thread, so that nothing happens in the directory once the log is closed.
    fn drop(&mut self) {
        self.shared.is_cancelled.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // a panic of it has been printed, and nothing depends on it
            drop(thread.join());
        }
    }
}
