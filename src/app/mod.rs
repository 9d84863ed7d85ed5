//! The composition root: what starts when, what stops when. Nothing else wires things.
//!
//! Start: address, data directory, log and state (recovered by folding), sinks, router and deliveries, log
//! arbiter, HTTP. Stop: HTTP, then what is on its way into the log, then deliveries and their cursors.

mod archive_sink;
mod auth;
mod background;
mod delivery_side;
mod device_watch;
mod disk;
mod error;
mod event_times;
pub mod housekeeping;
mod http_side;
mod indexing;
mod listen;
mod log_side;
mod offline;
mod pending;
pub mod recover;
mod reload;
mod replay_side;
mod run;
mod scrub;
mod service_manager;
mod sinks;
mod snapshot_check;
mod traces;
mod unknown_groups;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64},
    },
};

use actix::{Addr, Arbiter};
use actix_web::web::Data;
use turnstiled_wal::{Log, LogReader, StateStore};

pub use self::{
    archive_sink::{ArchiveSink, open_archive, sink_of},
    disk::{disk_is_smaller, log_options},
    error::StartError,
    http_side::check_certificates,
    offline::{highest_settled, highest_snapshot},
    reload::{ReloadError, Reloader},
    run::{block_on, run},
    snapshot_check::SnapshotCheck,
};
use self::{
    delivery_side::{Around, DeliverySide, OpenedSink, progress_of_all, warn_of_forgotten_sinks},
    device_watch::DeviceWatch,
    disk::Disk,
    housekeeping::{Housekeeping, Parts},
    http_side::{HttpSide, Listeners},
    indexing::Indexing,
    log_side::LogSide,
    recover::{Recovered, recover},
    replay_side::{Beside, ReplaySide},
    scrub::{Schedule, Scrub},
    traces::TraceSide,
    unknown_groups::report_cards_of_unknown_groups,
};
use crate::{
    actors::{
        building::BuildingActor,
        busy_poll::BusyPoll,
        card_sync::CardSyncParts,
        feeds::Feeds,
        mirror::MirrorParts,
        recorder::LogEnd,
        replay::{manager::ReplaysActor, state_check::LiveState},
        sink_state::SinkStates,
    },
    clock,
    config::Config,
    data_dir::{self, DataDir},
    delivery::progress::Progress,
    http::{
        BuildingServices, DeviceEventServices, KnownGroups, ReplayServices, Services,
        access::{Access, AccessRules},
        card_import::ImportPlaces,
        history::HistoryServices,
        tls::Tls,
    },
    index::Index,
    metrics::Metrics,
    projections::store::Snapshots,
};

/// A running server.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    http: HttpSide,
    devices: DeviceWatch,
    feeds: Feeds,
    log: LogSide,
    delivery: DeliverySide,
    replays: Addr<ReplaysActor>,
    housekeeping: Housekeeping,
    scrub: Scrub,
    indexing: Indexing,
    traces: TraceSide,
    data_dir: DataDir,
}

impl App {
    /// Starts everything, and what can change it while it runs. Needs an actix system around it.
    ///
    /// # Errors
    /// [`StartError`]; threads may have been started by then, so the process is to end.
    pub async fn start(config: Config) -> Result<(Self, Reloader), StartError> {
        let listeners = Listeners::bind(&config.server)?;
        let (address, admin_address) = (listeners.address, listeners.admin_address);
        let data_dir = DataDir::take(&config.server.data_dir, &config.server.id, config.wal.store.as_str())?;
        let tls = http_side::tls_files(&config.server).map(Tls::open).transpose()?.map(Arc::new);
        let auth = auth::open(&config)?;
        let (path, settings) = (data_dir.path.clone(), config.clone());
        let snapshots = Snapshots::open(&data_dir::snapshots_dir(&path), data_dir.log_name.clone())?;
        let kept = snapshots.clone();
        // Apart, so that a signal is heard meanwhile.
        let Opened { log, disk, states, progress, recovered } =
            tokio::task::spawn_blocking(move || Opened::open(&path, &settings, &kept)).await??;
        let metrics = Metrics::new();
        metrics.reloaded(true, clock::wall().as_millis() / 1_000);
        let traces = TraceSide::start(&config, &metrics).map_err(StartError::Thread)?;
        let auth = auth.start(data_dir.path.clone(), metrics.clone());
        metrics.log_sequence.set(i64::try_from(log.reader().committed()).unwrap_or(i64::MAX));

        sinks::remove_forgotten_spools(&config.sinks, &data_dir.path, &states)?;
        let room = sinks::room(&data_dir.path, &disk.board);
        let sinks = sinks::open(&config.sinks, &data_dir.path, &room).await?;
        let sinks = sinks.into_iter().zip(progress).zip(recovered.pending.iter().copied());
        let sinks = sinks.map(|((sink, (_, progress)), pending)| OpenedSink { sink, progress, pending });
        let sinks = sinks.collect();
        let letter_queue = sinks::open_letter_queue(&config).await?;
        let card_queue = sinks::open_card_queue(&config).await?;
        let feeds = Feeds::new(log.reader(), data_dir.log_name.clone(), metrics.clone());
        let around = Around {
            log: &log.reader(),
            states: &states,
            disk: &disk.board,
            feeds: &feeds,
            metrics: &metrics,
            tracer: &traces.tracer,
        };
        let delivery = DeliverySide::start(&config, sinks, around).await?;
        if let Some(queue) = letter_queue {
            let (states, disk, metrics) = (states.clone(), disk.board.clone(), metrics.clone());
            delivery.mirror(MirrorParts { queue, states, disk, metrics });
        }
        let end = LogEnd {
            name: data_dir.log_name.clone(),
            next_sequence: log.next_sequence(),
            last_event_millis: Arc::new(AtomicI64::new(recovered.last_time.as_millis())),
            is_stopped: Arc::new(AtomicBool::new(false)),
        };
        let end_of_log = end.clone();
        let housekeeping = Housekeeping::start(Parts {
            log: log.reader(),
            trimmer: log.trimmer(),
            snapshots,
            states: states.clone(),
            retention: config.wal.retention,
            snapshot_every: config.wal.snapshot_every,
            disk: disk.board.clone(),
            metrics: metrics.clone(),
        })
        .map_err(StartError::Thread)?;
        let scrub =
            Scrub::start(log.scrubber(), metrics.clone(), Schedule::default()).map_err(StartError::Scrub)?;
        let index = open_index(&data_dir, log.reader());
        let indexing = Indexing::start(index.clone(), disk.board.clone(), metrics.clone())
            .map_err(StartError::Thread)?;
        let disk_board = disk.board.clone();
        let disk = disk.watched_for(metrics.clone());
        let (router, reader, busy_poll) = (delivery.router.clone(), log.reader(), BusyPoll::default());
        let hears = router.clone().recipient();
        let log = LogSide::start(log, recovered, end, hears, disk, busy_poll.clone(), traces.tracer.clone())
            .await?;
        if let Some((queue, sync)) = card_queue.zip(config.card_sync.clone()) {
            let (own, directory) = (config.server.id.clone(), log.directory.clone());
            let (accept_from, metrics) = (sync.accept_from, metrics.clone());
            delivery.sync_cards(CardSyncParts { queue, accept_from, own, directory, metrics });
        }
        let ids = config.buildings.iter().map(|building| building.rules.building.clone());
        let live = ids.zip(log.buildings.iter().cloned()).collect();
        let beside = Beside {
            delivery: &delivery,
            log_name: data_dir.log_name.clone(),
            live: LiveState { directory: log.directory.clone(), buildings: live },
            log: reader,
            states: states.clone(),
            disk: disk_board.clone(),
            metrics: metrics.clone(),
        };
        let replay = ReplaySide::start(&config, beside).await?;
        let buildings = (config.buildings.iter().zip(&log.buildings))
            .map(|(building, actor)| {
                let rules = &building.rules;
                (rules.building.clone(), BuildingServices::new(rules, actor.clone(), &metrics))
            })
            .collect();
        report_cards_of_unknown_groups(&log.directory, &config.groups, &metrics).await;
        let services = Data::new(Services {
            buildings,
            groups: KnownGroups::new(config.groups.clone()),
            directory: log.directory.clone(),
            imports: ImportPlaces::default(),
            admin: log.admin.clone(),
            device_events: DeviceEventServices::new(config.event_types.clone(), log.device_events.clone()),
            deliveries: delivery.starter.deliveries.clone(),
            feeds: feeds.clone(),
            history: HistoryServices::new(index).map_err(StartError::Random)?,
            replays: ReplayServices {
                places: replay.places,
                board: replay.board,
                manager: replay.replays.clone(),
            },
            tracing: traces.of_requests(&config),
            access: Access::new(access_rules(&config)),
            auth,
            sinks: delivery.starter.board.clone(),
            dead_letters: states,
            metrics,
            busy_poll,
            disk: disk_board,
            end_of_log,
        });
        let devices = DeviceWatch::start(&data_dir.path, services.clone()).await;
        let http = HttpSide::start(listeners, &services, tls.clone())?;
        let replays = replay.replays;
        let (starter, path) = (delivery.starter.clone(), data_dir.path.clone());
        let reloader = Reloader { config, data_dir: path, room, starter, router, services, tls };
        Ok((
            Self {
                address,
                admin_address,
                http,
                devices,
                feeds,
                log,
                delivery,
                replays,
                housekeeping,
                scrub,
                indexing,
                traces,
                data_dir,
            },
            reloader,
        ))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers admins only, if anywhere.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Any of its buildings. A configuration has one at least.
    fn building(&self) -> Option<Addr<BuildingActor>> {
        self.log.buildings.first().cloned()
    }

    /// Stops accepting, commits what is under way, writes cursors, releases the data directory.
    pub async fn stop(self) {
        // before the answers that a stop waits for
        self.feeds.end();
        self.http.stop().await;
        self.devices.stop().await;
        self.housekeeping.stop().await;
        self.scrub.stop();
        self.indexing.stop();
        self.log.stop().await;
        self.delivery.stop(self.replays).await;
        self.traces.stop().await;
        drop(self.data_dir);
        tracing::info!("stopped");
    }
}

/// The log and what lies beside it, and the state that they come to.
struct Opened {
    log: Log,
    disk: Disk,
    states: SinkStates,
    progress: Vec<(String, Progress)>,
    recovered: Recovered,
}

impl Opened {
    fn open(data_dir: &Path, config: &Config, snapshots: &Snapshots) -> Result<Self, StartError> {
        let log_dir = data_dir::log_dir(data_dir);
        let disk = Disk::of(data_dir, &config.wal)?;
        disk.make_room_to_open()?;
        tracing::info!(path = %log_dir.display(), "opening the log");
        let log = Log::open(&log_dir, disk.log_options(&config.wal))?;
        let reader = log.reader();
        let state = StateStore::open(&data_dir::state_dir(data_dir))?;
        let has_lost_state = state.is_new() && reader.committed() > 0;
        if has_lost_state {
            tracing::warn!(
                "cursors and dead letters are gone: every sink begins again with the oldest event"
            );
        }
        let states = SinkStates::new(state);
        let progress = progress_of_all(&config.sinks, &reader, &states, has_lost_state)?;
        warn_of_forgotten_sinks(&config.sinks, &states)?;
        let rules = config.buildings.iter().map(|building| building.rules.clone()).collect();
        let recovered = recover(&reader, snapshots, rules, &config.routes, &progress)?;
        Ok(Self { log, disk, states, progress, recovered })
    }
}

/// Nothing needs its files: without the directory they are not there, and said to be missing.
fn open_index(data_dir: &DataDir, log: LogReader) -> Index {
    let dir = data_dir::index_dir(&data_dir.path);
    if let Err(error) = data_dir::create_private_dir(&dir) {
        tracing::warn!(%error, path = %dir.display(), "the index has no directory: histories are scanned");
    }
    Index::new(&dir, log, data_dir.log_name.clone())
}

/// Ends an arbiter's thread and waits for it: what it owned is closed then.
async fn end(arbiter: Arbiter) {
    arbiter.stop();
    let ended = tokio::task::spawn_blocking(|| arbiter.join()).await;
    if !matches!(ended, Ok(Ok(()))) {
        tracing::error!("a thread of actors did not end as it should");
    }
}

fn access_rules(config: &Config) -> AccessRules {
    AccessRules { hosts: config.server.hosts.clone(), device_rate: config.server.rate_limit }
}
