//! A building with a million cards, and the time of a start on a long log.

use tempfile::TempDir;

use crate::{
    history::History,
    load::Crew,
    support::{
        daemon::{CARDS, Daemon, Setup},
        scratch,
    },
    swipes, turnstiled,
};

/// One holder of this many is inside.
const INSIDE_ONE_OF: usize = 10;

/// Of the others, this many swipe, spread over all cards so that no cache holds them.
const SWIPING: usize = 10_000;

/// A daemon with many cards.
pub(crate) struct Large {
    daemon: Daemon,
    cards: usize,
    after_start_bytes: u64,
    _dir: TempDir,
}

/// What it took.
pub(crate) struct Memory {
    pub(crate) cards: usize,
    pub(crate) inside: usize,
    /// Resident memory once the state was rebuilt from the log, and after all rounds.
    pub(crate) after_start_bytes: u64,
    pub(crate) after_load_bytes: u64,
    pub(crate) peak_bytes: u64,
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
        Self { daemon, cards, after_start_bytes, _dir: dir }
    }

    /// One connection, people from all over the company who are outside.
    pub(crate) fn crew(&self) -> Crew {
        let outside = (0..self.cards).filter(|card| card % INSIDE_ONE_OF != 0);
        let swiping = outside.step_by((self.cards / SWIPING).max(1));
        turnstiled::crew(&self.daemon, |make| swipes::alone_with(swiping, make))
    }

    pub(crate) fn end(self) -> Memory {
        Memory {
            cards: self.cards,
            inside: self.cards.div_ceil(INSIDE_ONE_OF),
            after_start_bytes: self.after_start_bytes,
            after_load_bytes: self.daemon.memory_bytes("VmRSS"),
            peak_bytes: self.daemon.memory_bytes("VmHWM"),
        }
    }
}

/// One start on a long log.
pub(crate) struct Start {
    pub(crate) events: usize,
    pub(crate) with_snapshot: bool,
    pub(crate) seconds: f64,
}

/// Starts on a log of `events` events, without and with a snapshot.
pub(crate) fn starts(events: usize, missing: &mut Vec<String>) -> Vec<Start> {
    eprintln!("compare: making a log of {events} events");
    let dir = scratch();
    let data_dir = dir.path().join("data");
    let mut history = History::begin(&data_dir);
    (0..CARDS).for_each(|card| history.register(card));
    (0..events.saturating_sub(CARDS)).for_each(|swipe| history.swipe(swipe % 2 == 0, swipe / 2 % CARDS));
    history.end();
    eprintln!("compare: starting on it");
    let folded = launch(&data_dir).starting.as_secs_f64();
    missing.push("a start with a snapshot: this version makes none".to_owned());
    vec![Start { events, with_snapshot: false, seconds: folded }]
}

fn launch(data_dir: &std::path::Path) -> Daemon {
    let data_dir = Some(data_dir.to_owned());
    Daemon::launch(&Setup { store: "segments", with_sink: false, anti_passback: "hard", data_dir })
}
