//! The next segment, prepared ahead on a thread of its own, so that a commit that needs it only has to name it.
//!
//! The thread is never on the way of a commit: nobody waits for it. If the spare is not ready, the commit prepares
//! a segment itself, and the spare is for the time after.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::segment_names;
use crate::store::SegmentStore;
use crate::store_kind::StoreKind;

const THREAD_NAME: &str = "wal-next-segment";

/// The spare and its thread.
#[derive(Debug)]
pub(crate) struct Spare {
    shared: Arc<Shared>,
    /// None only while this is dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ready: Mutex<Option<PathBuf>>,
    is_requested: AtomicBool,
    is_cancelled: AtomicBool,
}

#[derive(Debug)]
enum Job {
    Prepare,
    GiveBack(Arc<dyn SegmentStore>),
    /// Closing a sled database takes its time.
    Close(Arc<dyn SegmentStore>),
}

impl Spare {
    /// Starts the thread for the log in `dir`.
    pub(crate) fn start(dir: &Path, kind: StoreKind, segment_bytes: u64) -> io::Result<Spare> {
        let shared = Arc::new(Shared::default());
        let dir = dir.to_owned();
        let (jobs, received) = mpsc::channel();
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || {
            let mut number = 0_u64;
            while let Ok(job) = received.recv() {
                match job {
                    Job::Prepare => {
                        // never a name used before: the log may be about to rename the one it took
                        number += 1;
                        let path = segment_names::preparing(&dir, &format!("next-{number}"), kind);
                        of_thread.prepare(kind, &path, segment_bytes);
                    }
                    Job::GiveBack(segment) => segment.give_back(),
                    Job::Close(segment) => drop(segment),
                }
            }
        })?;
        Ok(Spare { shared, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has a spare prepared, once for each segment: a disk that is full is not filled again and again.
    pub(crate) fn request(&self) {
        if !self.shared.is_requested.swap(true, Ordering::Relaxed) {
            self.send(Job::Prepare);
        }
    }

    /// The spare, if it is ready.
    pub(crate) fn take(&self) -> Option<PathBuf> {
        self.shared.ready.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A segment was begun: the next one may be requested.
    pub(crate) fn segment_begun(&self) {
        self.shared.is_requested.store(false, Ordering::Relaxed);
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
        while self.shared.ready.lock().expect("no panic").is_none() {
            thread::yield_now();
        }
    }
}

impl Shared {
    fn prepare(&self, kind: StoreKind, path: &Path, segment_bytes: u64) {
        let ready = || self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        // requested before the last segment was begun, and not ready then
        if ready().is_some() {
            return;
        }
        // if it fails, on a full disk, say, the commit that needs the segment tries again and answers with the reason
        if kind.prepare(path, segment_bytes, &self.is_cancelled).is_ok() {
            *ready() = Some(path.to_owned());
        }
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
