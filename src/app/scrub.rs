//! Scrubbing: a thread of its own looks through the sealed segments of the log for damage, slowly and again and again,
//! so that damage is known before the records are needed.

use std::{
    io,
    sync::mpsc::{self, Receiver, Sender},
    thread::JoinHandle,
    time::Duration,
};

use turnstiled_wal::{Damage, Scrubber};

use super::background::{self, ends_within};
use crate::metrics::Metrics;

/// How fast it reads. The largest log, 20 GiB, is through in less than an hour, or two in sled.
const SCRUB_BYTES_PER_SECOND: u64 = 16 << 20;
/// How long after the start the first pass begins: a start has other things to read.
const FIRST_DELAY: Duration = Duration::from_secs(60);
/// How long after a pass the next one begins: with the passes themselves each segment is read at least once a day.
const NEXT_DELAY: Duration = Duration::from_secs(12 * 3_600);
/// Bytes read between two pauses.
const PAUSE_BYTES: u64 = 1 << 20;

/// When and how fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    first_delay: Duration,
    next_delay: Duration,
    bytes_per_second: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { first_delay: FIRST_DELAY, next_delay: NEXT_DELAY, bytes_per_second: SCRUB_BYTES_PER_SECOND }
    }
}

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Scrub {
    /// Hung up to stop it.
    running: Sender<()>,
    thread: JoinHandle<()>,
}

impl Scrub {
    pub(super) fn start(scrubber: Scrubber, metrics: Metrics, schedule: Schedule) -> io::Result<Self> {
        let (running, stopped) = mpsc::channel();
        let run = move || scrub(&scrubber, &metrics, schedule, &stopped);
        let thread = background::spawn("scrub", run)?;
        Ok(Self { running, thread })
    }

    /// Ends the thread, within a read and a check of one segment.
    pub(super) fn stop(self) {
        drop(self.running);
        if self.thread.join().is_err() {
            tracing::error!("the thread that looks for damage did not end as it should");
        }
    }
}

fn scrub(scrubber: &Scrubber, metrics: &Metrics, schedule: Schedule, stopped: &Receiver<()>) {
    let mut delay = schedule.first_delay;
    while !ends_within(stopped, delay) {
        delay = schedule.next_delay;
        let mut unpaused = 0_u64;
        let mut pace = |bytes: usize| {
            metrics.scrubbed_bytes.inc_by(bytes as u64);
            unpaused += bytes as u64;
            if unpaused < PAUSE_BYTES {
                return Ok(());
            }
            let pause = Duration::from_secs(1) * u32::try_from(unpaused >> 10).unwrap_or(u32::MAX)
                / u32::try_from((schedule.bytes_per_second >> 10).max(1)).unwrap_or(u32::MAX);
            unpaused = 0;
            if ends_within(stopped, pause) { Err(io::Error::other("stopped")) } else { Ok(()) }
        };
        let looked = scrubber.pass(&mut pace, &mut report);
        metrics.log_damaged_segments.set(i64::try_from(scrubber.damaged()).unwrap_or(i64::MAX));
        if let Err(error) = looked
            && !ends_within(stopped, Duration::ZERO)
        {
            tracing::error!(%error, "the log cannot be looked through for damage; trying again later");
        }
    }
}

fn report(damage: &Damage) {
    let Damage { path, first, last, what } = damage;
    tracing::error!(
        path = %path.display(),
        first,
        last,
        what,
        "a sealed segment of the log is damaged: its damaged records are not served; stop the daemon, copy the data \
         directory, run `turnstiled wal verify`, then `turnstiled wal repair`"
    );
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use std::{fs, path::Path};
    use turnstiled_wal::{Append, Log, LogOptions, StoreKind, segment_paths};

    fn commit_some(dir: &Path) -> Log {
        let options =
            LogOptions { store: StoreKind::Files, segment_bytes: 16 << 10, ..LogOptions::default() };
        let mut log = Log::open(dir, options).unwrap();
        for _ in 0..40 {
            log.commit(&[Append { payload: vec![b'x'; 1_000].into(), ends_group: true }]).unwrap();
        }
        log
    }

    #[test]
    fn damage_shows_in_the_metrics_and_goes_when_it_is_healed() {
        let dir = tempfile::tempdir().unwrap();
        let log = commit_some(dir.path());
        let metrics = Metrics::new();
        let schedule =
            Schedule { first_delay: Duration::ZERO, next_delay: Duration::ZERO, bytes_per_second: 1 << 40 };
        let path = segment_paths(dir.path()).unwrap().remove(0);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let middle = whole.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&path, damaged).unwrap();
        let scrub = Scrub::start(log.scrubber(), metrics.clone(), schedule).unwrap();
        while metrics.log_damaged_segments.get() != 1 {
            thread::yield_now();
        }
        assert!(metrics.scrubbed_bytes.get() > 0);
        fs::write(&path, whole).unwrap();
        while metrics.log_damaged_segments.get() != 0 {
            thread::yield_now();
        }
        scrub.stop();
        let slow = Schedule { first_delay: Duration::ZERO, next_delay: Duration::ZERO, bytes_per_second: 1 };
        // a pause of years ends at once
        Scrub::start(log.scrubber(), metrics, slow).unwrap().stop();
    }
}
