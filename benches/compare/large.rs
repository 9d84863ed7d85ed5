//! A building with a million cards, and the time of a start on a long log.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ::turnstiled::{app::housekeeping::SNAPSHOT_EVERY_RECORDS, data_dir::snapshots_dir};
use tempfile::TempDir;

use crate::{
    history::History,
    support::{
        daemon::{CARDS, Daemon, Setup},
        load::Crew,
        scratch, swipes, turnstiled,
    },
};

/// One holder of this many is inside.
const INSIDE_ONE_OF: usize = 10;

/// Of the others, this many swipe, spread over all cards so that no cache holds them.
const SWIPING: usize = 10_000;

/// The last event in the newest snapshot.
const SNAPSHOT_METRIC: &str = "turnstiled_snapshot_sequence";

/// How long the first snapshot of the large building may take.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon with many cards.
pub(crate) struct Large {
    daemon: Daemon,
    cards: usize,
    after_start_bytes: u64,
    dir: TempDir,
}

/// What it took.
pub(crate) struct Memory {
    pub(crate) cards: usize,
    pub(crate) inside: usize,
    /// Resident memory once the state was rebuilt from the log, and after all rounds.
    pub(crate) after_start_bytes: u64,
    pub(crate) after_load_bytes: u64,
    pub(crate) peak_bytes: u64,
    /// The same of one that was started on the newest snapshot.
    pub(crate) from_snapshot_bytes: u64,
    pub(crate) from_snapshot_peak_bytes: u64,
}

impl Large {
    /// Makes the log of its cards and of who is inside, and starts the daemon on it.
    pub(crate) fn start(cards: usize) -> Self {
        let dir = scratch();
        let data_dir = dir.path().join("data");
        let mut history = History::begin(&data_dir);
        (0..cards).for_each(|card| history.register(card));
        (0..cards).step_by(INSIDE_ONE_OF).for_each(|card| history.swipe(true, card));
        history.end();
        let daemon = launch(&data_dir);
        let after_start_bytes = daemon.memory_bytes("VmRSS");
        Self { daemon, cards, after_start_bytes, dir }
    }

    /// One connection, people from all over the company who are outside.
    pub(crate) fn crew(&self) -> Crew {
        let outside = (0..self.cards).filter(|card| card % INSIDE_ONE_OF != 0);
        let swiping = outside.step_by((self.cards / SWIPING).max(1));
        turnstiled::crew(&self.daemon, |make| swipes::alone_with(swiping, make))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Waits for the first snapshot if there was no time for it, and starts once more on what there is.
    pub(crate) fn end(self) -> Memory {
        let Self { daemon, cards, after_start_bytes, dir } = self;
        let begun = Instant::now();
        let is_due = cards as u64 >= SNAPSHOT_EVERY_RECORDS;
        while is_due && daemon.metric(SNAPSHOT_METRIC).unwrap_or(0.0) < cards as f64 {
            assert!(begun.elapsed() < SNAPSHOT_TIMEOUT, "no snapshot of the large building");
            thread::sleep(Duration::from_millis(100));
        }
        let (after_load_bytes, peak_bytes) = (daemon.memory_bytes("VmRSS"), daemon.memory_bytes("VmHWM"));
        drop(daemon);
        let again = launch(&dir.path().join("data"));
        Memory {
            cards,
            inside: cards.div_ceil(INSIDE_ONE_OF),
            after_start_bytes,
            after_load_bytes,
            peak_bytes,
            from_snapshot_bytes: again.memory_bytes("VmRSS"),
            from_snapshot_peak_bytes: again.memory_bytes("VmHWM"),
        }
    }
}

/// One start on a long log.
pub(crate) struct Start {
    pub(crate) events: usize,
    pub(crate) with_snapshot: bool,
    pub(crate) seconds: f64,
}

/// Starts on a log of `events` events: with a snapshot as old as the daemon lets it become, then without one.
pub(crate) fn starts(events: usize) -> Vec<Start> {
    eprintln!("compare: making a log of {events} events");
    let dir = scratch();
    let data_dir = dir.path().join("data");
    let mut history = History::begin(&data_dir);
    (0..CARDS).for_each(|card| history.register(card));
    let swipes = events.saturating_sub(CARDS);
    let after_snapshot = usize::try_from(SNAPSHOT_EVERY_RECORDS).unwrap();
    for swipe in 0..swipes {
        if swipe + after_snapshot == swipes {
            history.snapshot();
        }
        history.swipe(swipe % 2 == 0, swipe / 2 % CARDS);
    }
    history.end();
    eprintln!("compare: starting on it");
    let start = |with_snapshot| {
        let seconds = launch(&data_dir).starting.as_secs_f64();
        Start { events, with_snapshot, seconds }
    };
    let with_snapshot = (events > after_snapshot + CARDS).then(|| start(true));
    let _ = fs::remove_dir_all(snapshots_dir(&data_dir));
    with_snapshot.into_iter().chain([start(false)]).collect()
}

fn launch(data_dir: &Path) -> Daemon {
    let data_dir = Some(data_dir.to_owned());
    Daemon::launch(&Setup { store: "segments", sink: "", telemetry: "", anti_passback: "hard", data_dir })
}
