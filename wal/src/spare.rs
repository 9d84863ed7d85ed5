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
use crate::space::{LogSpace, MIN_SEGMENT_BYTES, disk_bytes, next_segment_bytes};
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
    /// Requested, or on its way, in the place of a smaller one that is still there or was.
    Making {
        new: Prepared,
        smaller: Option<Prepared>,
        free_bytes: u64,
    },
    /// Or a smaller one than there was room for, see `Failed`.
    Ready {
        spare: Prepared,
        failed_free_bytes: Option<u64>,
    },
    /// There seemed to be so much room, and there was not: a quota, or someone else was faster. Not tried again
    /// before that changes, so that a full disk is not filled with zeros again and again.
    Failed {
        free_bytes: u64,
    },
}

/// A spare: the number in its name, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prepared {
    number: u64,
    bytes: u64,
}

#[derive(Debug)]
enum Job {
    Prepare {
        new: Prepared,
        smaller: Option<Prepared>,
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
                    Job::Prepare { new, smaller } => of_thread.prepare(new, smaller),
                    Job::GiveBack(segment) => segment.give_back(),
                    Job::Close(segment) => drop(segment),
                }
            }
            of_thread.end_if(|_| true);
        })?;
        Ok(Spare { wanted_bytes, shared, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has a spare prepared if there is room, so much of the disk may be taken: the first, or a larger one in the
    /// place of one that was made when there was less.
    pub(crate) fn request(&self, free_bytes: u64) {
        let mut state = self.shared.state();
        if let Some(bytes) = self.possible_bytes(*state, free_bytes) {
            let smaller = match *state {
                State::Ready { spare, .. } => Some(spare),
                _ => None,
            };
            let number = self.shared.last_number.fetch_add(1, Ordering::Relaxed) + 1;
            let new = Prepared { number, bytes };
            *state = State::Making { new, smaller, free_bytes };
            self.send(Job::Prepare { new, smaller });
        }
    }

    /// The size of the next segment: of the one there is or will be, or the one that would be made now; 0 if none
    /// would.
    pub(crate) fn next_bytes(&self, free_bytes: u64) -> u64 {
        match *self.shared.state() {
            State::Making { new: Prepared { bytes, .. }, .. }
            | State::Ready { spare: Prepared { bytes, .. }, .. } => bytes,
            state => self.possible_bytes(state, free_bytes).unwrap_or(0),
        }
    }

    /// The size of the spare to be made now; `None`: there is one, or no room for one.
    fn possible_bytes(&self, state: State, free_bytes: u64) -> Option<u64> {
        let (ready_bytes, failed_free_bytes) = match state {
            State::Making { .. } => return None,
            State::Absent => (0, None),
            State::Ready { spare, failed_free_bytes } => (spare.bytes, failed_free_bytes),
            State::Failed { free_bytes } => (0, Some(free_bytes)),
        };
        if failed_free_bytes.is_some_and(|before| before.abs_diff(free_bytes) < MIN_SEGMENT_BYTES) {
            return None;
        }
        let free_without_it = free_bytes.saturating_add(ready_bytes);
        let bytes = next_segment_bytes(self.shared.kind, self.wanted_bytes, free_without_it)?;
        (bytes > ready_bytes).then_some(bytes)
    }

    /// The spare, if it is ready and is as large as a segment is to be, or at least brings more than what `remains`.
    pub(crate) fn take(&self, remains: u64) -> Option<PathBuf> {
        let mut state = self.shared.state();
        let State::Ready { spare: Prepared { number, bytes }, .. } = *state else { return None };
        if bytes < self.wanted_bytes && bytes <= remains {
            return None;
        }
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
        let State::Ready { spare: Prepared { number, bytes: ready }, .. } = *state else { return Ok(None) };
        *state = State::Absent;
        let path = shared.path(number);
        if ready < bytes {
            durable_fs::remove(&path)?;
            return Ok(None);
        }
        Ok(Some(path))
    }

    /// What it takes on the disk, also while it is being made, and how much of that takes frames.
    pub(crate) fn space(&self) -> LogSpace {
        let on_disk = |spare: Prepared| disk_bytes(&self.shared.path(spare.number));
        match *self.shared.state() {
            State::Ready { spare, .. } => {
                LogSpace { allocated_bytes: on_disk(spare), unwritten_bytes: spare.bytes, set_aside_bytes: 0 }
            }
            State::Making { new, smaller, .. } => {
                let bytes = on_disk(new).saturating_add(smaller.map_or(0, on_disk));
                LogSpace { allocated_bytes: bytes, unwritten_bytes: bytes, set_aside_bytes: 0 }
            }
            State::Absent | State::Failed { .. } => LogSpace::default(),
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

    fn prepare(&self, new: Prepared, smaller: Option<Prepared>) {
        // also if it should panic, so that nobody waits for it in vain
        let _end = EndOfMaking { shared: self, new };
        let prepared = self.replace(new, smaller);
        let mut state = self.state();
        if let State::Making { free_bytes, .. } = *state {
            // why it failed shows when a commit needs the segment, and in the room there is until then
            *state = match prepared {
                Some(spare) => {
                    State::Ready { spare, failed_free_bytes: (spare != new).then_some(free_bytes) }
                }
                None => State::Failed { free_bytes },
            };
        }
    }

    /// The new spare; or one as small as before, if it turns out that there is no room for more.
    fn replace(&self, new: Prepared, smaller: Option<Prepared>) -> Option<Prepared> {
        let made = |spare: Prepared| {
            let made = self.kind.prepare(&self.path(spare.number), spare.bytes, &self.is_cancelled);
            made.is_ok().then_some(spare)
        };
        if let Some(smaller) = smaller {
            durable_fs::remove(&self.path(smaller.number)).ok()?;
        }
        made(new).or_else(|| smaller.and_then(made))
    }

    fn end_if(&self, is_over: impl FnOnce(Prepared) -> bool) {
        let mut state = self.state();
        match *state {
            State::Making { new, free_bytes, .. } if is_over(new) => *state = State::Failed { free_bytes },
            _ => {}
        }
        drop(state);
        self.changed.notify_all();
    }
}

struct EndOfMaking<'a> {
    shared: &'a Shared,
    new: Prepared,
}

impl Drop for EndOfMaking<'_> {
    /// Of this one: the next may have been requested already.
    fn drop(&mut self) {
        self.shared.end_if(|new| new == self.new);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_one_is_not_the_end_of_the_next() {
        let (one, next) = (Prepared { number: 1, bytes: 10 }, Prepared { number: 2, bytes: 20 });
        let making = State::Making { new: next, smaller: Some(one), free_bytes: 100 };
        let shared = Shared {
            dir: PathBuf::new(),
            kind: StoreKind::Files,
            state: Mutex::new(making),
            changed: Condvar::new(),
            last_number: AtomicU64::new(2),
            is_cancelled: AtomicBool::new(false),
        };
        drop(EndOfMaking { shared: &shared, new: one });
        assert_eq!(*shared.state(), making);
        drop(EndOfMaking { shared: &shared, new: next });
        assert_eq!(*shared.state(), State::Failed { free_bytes: 100 });
    }
}
