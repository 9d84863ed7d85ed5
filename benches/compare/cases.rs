//! What is run, and in which order: every case once in each round, so that a slow minute of the disk hits all.

use std::{collections::BTreeMap, path::Path, time::Instant};

use tempfile::TempDir;

use crate::{
    bare,
    figures::{Load, Peer, Samples},
    history,
    large::{self, Large, Start},
    options::Options,
    postgres::Postgres,
    redis::Redis,
    support::{
        BareFile,
        daemon::{CARDS, Daemon, FILE_SINK, Setup},
        load::Crew,
        measure::Measured,
        rest, scratch, swipes,
        turnstiled::{self, batch_crew, behind, let_sink_catch_up},
    },
};

/// A file system in memory: the daemon on it is the daemon without a disk.
const MEMORY_DIR: &str = "/dev/shm";

/// Connections that send batches.
const BATCH_CONNECTIONS: usize = 8;

/// Everything a run came to.
pub(crate) struct Run {
    pub(crate) samples: Samples,
    pub(crate) event_bytes: usize,
    /// Programs that were asked, with their versions.
    pub(crate) versions: Vec<String>,
    /// What was not there, and why.
    pub(crate) missing: Vec<String>,
    pub(crate) large: large::Memory,
    pub(crate) starts: Vec<Start>,
    pub(crate) seconds: f64,
}

struct Case<'a> {
    load: Load,
    peer: Peer,
    /// The process that is asked; it rests while others are. None: the case is its own.
    server: Option<u32>,
    run: Box<dyn FnMut(f64) -> Measured + 'a>,
}

/// What is there to be asked; all of it stays up for the whole run, stopped while another is asked.
struct Contestants {
    daemons: Vec<(Peer, Daemon)>,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    /// Before these go, the daemons and servers above have ended.
    _dirs: Vec<TempDir>,
}

pub(crate) fn run(options: &Options) -> Run {
    let begun = Instant::now();
    let mut missing = Vec::new();
    let contestants = Contestants::start(&mut missing);
    eprintln!("compare: making a building with {} cards", options.cards);
    let large = Large::start(options.cards);
    let event_bytes = history::entry_bytes();
    let bare_dirs = [scratch(), scratch()];
    let mut cases = bare_cases([bare_dirs[0].path(), bare_dirs[1].path()], event_bytes);
    contestants.cases(&mut cases);
    let mut crew = large.crew();
    cases.push(case(Load::One, Peer::Large, Some(large.pid()), move |seconds| crew.run(seconds)));
    cases.sort_by_key(|case| (case.load, case.peer));

    let servers = || cases.iter().filter_map(|case| case.server);
    servers().for_each(rest::stop);
    let mut samples: Samples = BTreeMap::new();
    for round in 1..=options.rounds {
        for case in &mut cases {
            let measured = case.measure(options.seconds);
            eprintln!("compare: round {round}, {:?}, {:?}: {measured:.0?}", case.load, case.peer);
            samples.entry((case.load, case.peer)).or_default().push(measured);
        }
    }
    cases.iter().filter_map(|case| case.server).for_each(rest::go_on);
    drop(cases);
    let versions = contestants.versions();
    drop(contestants);
    let memory = large.end();
    let starts = large::starts(options.events);
    let seconds = begun.elapsed().as_secs_f64();
    Run { samples, event_bytes, versions, missing, large: memory, starts, seconds }
}

impl Case<'_> {
    /// While everyone else rests.
    fn measure(&mut self, seconds: f64) -> Measured {
        rest::write_back();
        self.server.into_iter().for_each(rest::wake);
        let measured = (self.run)(seconds);
        self.server.into_iter().for_each(rest::stop);
        measured
    }
}

fn case<'a>(load: Load, peer: Peer, server: Option<u32>, run: impl FnMut(f64) -> Measured + 'a) -> Case<'a> {
    Case { load, peer, server, run: Box::new(run) }
}

fn bare_cases<'a>(dirs: [&Path; 2], event_bytes: usize) -> Vec<Case<'a>> {
    let bytes = vec![b'x'; event_bytes];
    (dirs.into_iter().zip([Peer::BareGrowing, Peer::BarePreallocated]))
        .map(|(dir, peer)| {
            let (mut file, bytes) = (BareFile::create(dir, peer == Peer::BarePreallocated), bytes.clone());
            case(Load::One, peer, None, move |seconds| bare::run(&mut file, &bytes, seconds))
        })
        .collect()
}

impl Contestants {
    fn start(missing: &mut Vec<String>) -> Self {
        eprintln!("compare: starting everything");
        let mut dirs = Vec::new();
        let mut daemons = Vec::new();
        for peer in [Peer::Segments, Peer::SegmentsSink, Peer::Sled, Peer::SledSink] {
            daemons.push((peer, daemon(peer, None)));
        }
        if Path::new(MEMORY_DIR).is_dir() {
            for peer in [Peer::Memory, Peer::MemorySink] {
                let dir = tempfile::tempdir_in(MEMORY_DIR).unwrap();
                daemons.push((peer, daemon(peer, Some(dir.path()))));
                dirs.push(dir);
            }
        } else {
            missing.push(format!("the daemon without a disk: there is no {MEMORY_DIR}"));
        }
        let dir = scratch();
        open_to_all(dir.path());
        let mut or_missing = |name: &str, why: String| missing.push(format!("{name}: {why}"));
        let redis = Redis::start(dir.path(), CARDS);
        let redis = redis.map_err(|why| or_missing("Redis (Debian: redis-server)", why)).ok();
        let postgres = Postgres::start(dir.path(), CARDS);
        let postgres = postgres.map_err(|why| or_missing("PostgreSQL (Debian: postgresql)", why)).ok();
        dirs.push(dir);
        missing.iter().for_each(|what| eprintln!("compare: not there: {what}"));
        Self { daemons, redis, postgres, _dirs: dirs }
    }

    fn cases<'a>(&'a self, cases: &mut Vec<Case<'a>>) {
        for (peer, daemon) in &self.daemons {
            let (has_sink, server) = (peer.has_sink(), Some(daemon.pid()));
            if !has_sink && *peer != Peer::Memory {
                let mut crew = turnstiled::crew(daemon, swipes::alone);
                cases.push(case(Load::One, *peer, server, move |seconds| crew.run(seconds)));
                let mut crew = batch_crew(daemon, CARDS, BATCH_CONNECTIONS);
                cases.push(case(Load::Batches, *peer, server, move |seconds| crew.run(seconds)));
            }
            let mut crew = turnstiled::crew(daemon, |make| swipes::crowd(CARDS, make));
            cases.push(case(Load::Many, *peer, server, move |seconds| {
                let mut measured = crew.run(seconds);
                if has_sink {
                    measured.behind = Some(behind(daemon));
                    let_sink_catch_up(daemon);
                }
                measured
            }));
        }
        if let Some(redis) = &self.redis {
            let crews = [redis.crew(swipes::alone), redis.crew(crowd)];
            add_peer(cases, Peer::Redis, redis.pid(), crews, || {});
        }
        if let Some(postgres) = &self.postgres {
            // What it would write later is written at once, and not while another is measured.
            let settle = || postgres.execute("checkpoint").unwrap();
            let crews = [postgres.crew(swipes::alone), postgres.crew(crowd)];
            add_peer(cases, Peer::Postgres, postgres.pid(), crews, settle);
        }
    }

    fn versions(&self) -> Vec<String> {
        let redis = self.redis.iter().map(|redis| redis.version.clone());
        redis.chain(self.postgres.iter().map(|postgres| postgres.version.clone())).collect()
    }
}

fn crowd(make: swipes::MakeRequest<'_>) -> Vec<crate::support::load::Script> {
    swipes::crowd(CARDS, make)
}

fn add_peer<'a>(
    cases: &mut Vec<Case<'a>>,
    peer: Peer,
    server: u32,
    crews: [Crew; 2],
    settle: impl Fn() + Copy + 'a,
) {
    for (load, mut crew) in [Load::One, Load::Many].into_iter().zip(crews) {
        cases.push(case(load, peer, Some(server), move |seconds| {
            let measured = crew.run(seconds);
            settle();
            measured
        }));
    }
}

fn daemon(peer: Peer, data_dir: Option<&Path>) -> Daemon {
    let store = if matches!(peer, Peer::Sled | Peer::SledSink) { "sled" } else { "segments" };
    let data_dir = data_dir.map(|dir| dir.join("data"));
    let sink = if peer.has_sink() { FILE_SINK } else { "" };
    let daemon = Daemon::launch(&Setup { store, sink, telemetry: "", anti_passback: "hard", data_dir });
    daemon.register(CARDS);
    daemon
}

/// PostgreSQL may run as another user, who has to get through to its own directory.
fn open_to_all(dir: &Path) {
    use std::{fs, os::unix::fs::PermissionsExt};
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}
