//! Honest devices among hostile clients: how long their entries and exits take alone, beside hostile clients at a stated
//! rate, and beside as many requests as those can send. Writes `benches/HOSTILE.md`.
//!
//! The map: `honest.rs` the devices that are measured · `requests.rs` what hostile clients send · `attack.rs` how ·
//! `report.rs` the page · `../support` the daemon, its clients, the machine

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark stops at the first surprise"
)]

mod attack;
mod honest;
mod report;
mod requests;
#[path = "../support/mod.rs"]
mod support;

use std::{path::PathBuf, process, thread, time::Instant};

use clap::Parser;

use crate::{
    attack::{Answers, Pace},
    honest::Devices,
    requests::Kind,
    support::{
        daemon::{Daemon, Setup},
        measure::{Measured, Window},
        processor::{TICKS_PER_SECOND, stolen_ticks, ticks},
    },
};

/// Hostile requests a second of the case that has an aim. Each comes by a connection of its own. It is some hundred times
/// what a building's own devices ask, and leaves the two cores of a small machine, which the clients share, room to answer
/// everyone: beyond that it is the queue for the cores that is measured, which is the other case.
const PACE_PER_SECOND: f64 = 2_000.0;

const STORES: [&str; 2] = ["segments", "sled"];

#[derive(Debug, Parser)]
struct Options {
    /// How often every case is run, one after the other.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How long a case is measured in each round; a warm-up comes before it.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Where the results go; the notes at the end of the file that is there are kept.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/HOSTILE.md"))]
    out: PathBuf,
    /// Set by `cargo bench`; without it nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Who else is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Nobody,
    Paced,
    /// As many as the attackers can send, one after the other each.
    Unbounded,
}

impl Others {
    const ALL: [Self; 3] = [Self::Nobody, Self::Paced, Self::Unbounded];

    fn pace(self) -> Option<Pace> {
        match self {
            Self::Nobody => None,
            Self::Paced => Some(Pace::PerSecond(PACE_PER_SECOND)),
            Self::Unbounded => Some(Pace::Unbounded),
        }
    }
}

/// What one case of one round came to.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    honest: Measured,
    hostile_per_second: f64,
    /// Sent by hostile clients.
    bytes_per_second: f64,
    daemon_cores: f64,
    load_cores: f64,
    /// Given to other virtual machines.
    stolen_cores: f64,
}

/// A store's daemon, and all that is known of it.
struct Site {
    store: &'static str,
    daemon: Daemon,
    devices: Devices,
    kinds: Vec<Kind>,
    /// By [`Others::ALL`].
    outcomes: [Vec<Outcome>; 3],
    answers: [Answers; 3],
    /// Its largest resident set, in bytes, before the first hostile client came.
    peak_before: Option<u64>,
}

fn main() {
    let options = Options::parse();
    if !options.bench {
        eprintln!("hostile: nothing is measured here; use `make bench-hostile`");
        return;
    }
    let machine = support::machine::describe();
    let mut sites = STORES.map(Site::start);
    for round in 1..=options.rounds {
        for (site, others) in (0..STORES.len()).flat_map(|site| Others::ALL.map(|others| (site, others))) {
            let site = &mut sites[site];
            let outcome = site.run(others, options.seconds);
            eprintln!("hostile: round {round}, {}, {others:?}: {outcome:.1?}", site.store);
        }
    }
    report::write(&options, &machine, &sites);
    eprintln!("hostile: {} is written", options.out.display());
}

impl Site {
    fn start(store: &'static str) -> Self {
        let daemon =
            Daemon::launch(&Setup { store, sink: "", telemetry: "", anti_passback: "hard", data_dir: None });
        let devices = Devices::of(&daemon);
        let kinds = requests::kinds(&daemon.device_header());
        let (outcomes, answers) = Default::default();
        Self { store, daemon, devices, kinds, outcomes, answers, peak_before: None }
    }

    fn run(&mut self, others: Others, seconds: f64) -> Outcome {
        let pace = others.pace();
        if pace.is_some() {
            self.peak_before.get_or_insert_with(|| self.daemon.memory_bytes("VmHWM"));
        }
        let pid = self.daemon.pid();
        let ticks_now = || [ticks(pid).unwrap(), ticks(process::id()).unwrap(), stolen_ticks()];
        let ticks_before = ticks_now();
        let begun = Instant::now();
        let window = Window::from_now(seconds);
        let (address, key_line, kinds) = (self.daemon.address, self.daemon.device_header(), &self.kinds);
        let (honest, came) = thread::scope(|scope| {
            let attack = |pace| scope.spawn(move || attack::run(address, &key_line, kinds, pace, window));
            let attack = pace.map(attack);
            let honest = self.devices.run(&self.daemon, window);
            let came = attack.map(|attack| attack.join().expect("no answer is worse than 503"));
            (honest, came.unwrap_or_default())
        });
        let took = begun.elapsed().as_secs_f64();
        let ticks_after = ticks_now();
        let cores =
            |index: usize| (ticks_after[index] - ticks_before[index]) as f64 / TICKS_PER_SECOND / took;
        let outcome = Outcome {
            honest,
            hostile_per_second: came.per_second(came.requests()),
            bytes_per_second: came.per_second(came.bytes),
            daemon_cores: cores(0),
            load_cores: cores(1),
            stolen_cores: cores(2),
        };
        self.outcomes[others as usize].push(outcome);
        self.answers[others as usize].add(came);
        outcome
    }
}
