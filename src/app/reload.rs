//! Carries out a reload: what [`plan`] says, step by step. Whatever can refuse comes first; then each sink that changes
//! is replaced by itself, so that one that is slow holds up no other, and those that do not change notice nothing.
//!
//! A delivery ends when what it has sent is settled and written; the next one goes on right there. What the sink has
//! still to take under the new routes is counted meanwhile (`accepted` is what is settled and what is pending).

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::{Addr, MailboxError};
use actix_web::web::Data;
use futures_util::future::{join_all, try_join, try_join_all};
use thiserror::Error;
use tokio::sync::oneshot::{self, error::RecvError};

use super::{
    StartError, access_rules,
    delivery_side::{Starter, progress_of_all, warn_of_forgotten_sink},
    http_side::{note_certificate, tls_files},
    pending::count_pending,
    replay_side::places_of,
    sinks,
    unknown_groups::report_cards_of_unknown_groups,
};
use crate::{
    actors::{
        admin::RecordAdmin,
        building::ChangeRules,
        delivery::{DeliveryActor, retire::RetireDelivery},
        places::NoPlace,
        recorder::Origin,
        replay::reload::{GoOnReplays, HoldReplays},
        router::{Counted, Join, Leave, RouterActor, SetRoutes},
    },
    config::{
        Config,
        reload::{NeedsRestart, Plan, plan},
        sinks::SinkConfig,
    },
    delivery::progress::Progress,
    domain::{
        event::{Body, Reload},
        routes::RouteTable,
    },
    http::{
        Services,
        tls::{Certificates, Tls, TlsError},
    },
    metrics::Metrics,
    sinks::{Sink, spool::Room},
};

/// How long to wait for what was sent to a sink before saying so, again and again.
const SAY_SO_AFTER: Duration = Duration::from_secs(10);
/// What the places of new sinks take beside the log, generously, in bytes.
const STATE_BYTES: u64 = 64 << 10;

/// Knows what runs, and replaces it.
#[derive(Debug)]
pub struct Reloader {
    /// What runs now.
    pub(super) config: Config,
    pub(super) data_dir: PathBuf,
    pub(super) room: Room,
    pub(super) starter: Starter,
    pub(super) router: Addr<RouterActor>,
    pub(super) services: Data<Services>,
    pub(super) tls: Option<Arc<Tls>>,
}

/// Why nothing has changed.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// Some keys cannot.
    #[error(transparent)]
    NeedsRestart(#[from] NeedsRestart),
    /// Certificates that cannot be used.
    #[error("[server] tls: {0}")]
    Tls(#[from] TlsError),
    /// A sink that could never work, or state that cannot be read.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A write that fails would cost the server.
    #[error("the disk is full: free some space where data_dir is, then send SIGHUP again")]
    DiskFull,
    /// The log has no place for it.
    #[error("that it is reloaded cannot be recorded: {0}")]
    NotRecorded(#[from] NoPlace),
    /// Others have ended already.
    #[error("the server stops")]
    Stopping,
}

impl From<MailboxError> for ReloadError {
    fn from(_: MailboxError) -> Self {
        Self::Stopping
    }
}

impl From<RecvError> for ReloadError {
    fn from(_: RecvError) -> Self {
        Self::Stopping
    }
}

/// A delivery that goes on after `progress`; up to `to` nobody has counted yet what its sink has still to take.
struct Uncounted {
    name: String,
    progress: Progress,
    to: u64,
}

/// Stops counting when the reload is given up.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Reloader {
    pub(super) fn metrics(&self) -> Metrics {
        self.services.metrics.clone()
    }

    /// Makes `config` what runs. Returns what has changed.
    ///
    /// # Errors
    /// [`ReloadError`]: everything is as it was, unless the server stops.
    pub async fn reload(&mut self, config: Config) -> Result<Reload, ReloadError> {
        let plan = plan(&self.config, &config)?;
        if !self.services.disk.has_room_for_state(STATE_BYTES) {
            return Err(ReloadError::DiskFull);
        }
        let certificates = tls_files(&config.server).map(Certificates::read).transpose()?;
        let new: Vec<SinkConfig> = plan.restart.iter().chain(&plan.add).cloned().collect();
        let opened = sinks::open(&new, &self.data_dir, &self.room).await?;
        let opened = new.iter().map(|sink| sink.name.clone()).zip(opened).collect();
        let act = act_of(&plan, &config);
        let (reply, recorded) = oneshot::channel();
        let (body, origin) = (Body::Reload(act.clone()), Origin::server());
        self.services.admin.send(RecordAdmin { body, origin, reply }).await?;
        recorded.await??;
        if let Some((tls, certificates)) = self.tls.as_ref().zip(certificates) {
            tls.take(certificates);
            note_certificate(tls, &self.services.metrics);
        }
        self.carry_out(plan, config, opened).await?;
        Ok(act)
    }

    async fn carry_out(
        &mut self,
        plan: Plan,
        config: Config,
        opened: HashMap<String, Arc<dyn Sink>>,
    ) -> Result<(), ReloadError> {
        let routes = Arc::new(config.routes.clone());
        self.services.access.set(access_rules(&config));
        self.change_rules(&plan).await?;
        self.services.device_events.set_schemas(config.event_types.clone());
        self.services.groups.set(config.groups.clone());
        let directory = &self.services.directory;
        report_cards_of_unknown_groups(directory, &config.groups, &self.services.metrics).await;
        self.router.send(SetRoutes(Arc::clone(&routes))).await?;
        let held: BTreeSet<String> =
            plan.restart.iter().map(|sink| &sink.name).chain(&plan.remove).cloned().collect();
        let resting = self.services.replays.manager.send(HoldReplays(held)).await?;
        let sink_of = |settings: &SinkConfig| opened.get(&settings.name).cloned();
        let (this, routes) = (&*self, &routes);
        let restarts = plan.restart.iter().filter_map(|settings| Some((settings, sink_of(settings)?)));
        let restarts = try_join_all(restarts.map(|(settings, sink)| this.restart(settings, sink, routes)));
        let adds = plan.add.iter().filter_map(|settings| Some((settings, sink_of(settings)?))).collect();
        // a sink that comes may write where one that goes has written
        let others = async {
            try_join_all(plan.remove.iter().map(|name| this.remove(name))).await?;
            this.add(adds, routes).await
        };
        let (restarted, added) = try_join(restarts, others).await?;
        join_all(resting).await;
        let (log, states) = (self.starter.log.clone(), self.starter.states.clone());
        let log_name = self.services.end_of_log.name.clone();
        self.services.replays.places.set(places_of(&config, log_name, log, states));
        self.services.replays.manager.send(GoOnReplays).await?;
        self.config = config;
        for uncounted in restarted.into_iter().chain(added) {
            self.count(uncounted, routes).await?;
        }
        Ok(())
    }

    async fn change_rules(&self, plan: &Plan) -> Result<(), ReloadError> {
        for rules in &plan.rules {
            if let Some(building) = self.services.buildings.get(&rules.building) {
                building.actor.send(ChangeRules(rules.clone())).await?;
                building.set_gates(rules.gates.clone());
            }
        }
        Ok(())
    }

    async fn restart(
        &self,
        settings: &SinkConfig,
        sink: Arc<dyn Sink>,
        routes: &Arc<RouteTable>,
    ) -> Result<Uncounted, ReloadError> {
        let progress = self.retire(&settings.name).await?;
        self.begin(settings, sink, progress, routes).await
    }

    async fn remove(&self, name: &str) -> Result<(), ReloadError> {
        let progress = self.retire(name).await?;
        self.router.send(Leave(name.to_owned())).await?;
        self.starter.deliveries.remove(name);
        self.starter.board.remove(name);
        self.starter.states.claimed().remove(name);
        warn_of_forgotten_sink(name, progress.cursor);
        Ok(())
    }

    async fn add(
        &self,
        sinks: Vec<(&SinkConfig, Arc<dyn Sink>)>,
        routes: &Arc<RouteTable>,
    ) -> Result<Vec<Uncounted>, ReloadError> {
        let settings: Vec<SinkConfig> = sinks.iter().map(|(settings, _)| (*settings).clone()).collect();
        let (log, states) = (self.starter.log.clone(), self.starter.states.clone());
        // apart: it waits for a disk
        let places = tokio::task::spawn_blocking(move || progress_of_all(&settings, &log, &states, false));
        let places = places.await.map_err(|_| ReloadError::Stopping)?.unwrap_or_else(|error| {
            tracing::error!(%error, "the places of new sinks cannot be written; the server stops and takes the configuration with its next start");
            std::process::exit(1)
        });
        let mut added = Vec::new();
        for ((settings, sink), (name, progress)) in sinks.into_iter().zip(places) {
            self.starter.board.add(&name);
            added.push(self.begin(settings, sink, progress, routes).await?);
        }
        Ok(added)
    }

    async fn begin(
        &self,
        settings: &SinkConfig,
        sink: Arc<dyn Sink>,
        progress: Progress,
        routes: &Arc<RouteTable>,
    ) -> Result<Uncounted, ReloadError> {
        let (name, routes) = (settings.name.clone(), Arc::clone(routes));
        let delivery = self.starter.start(settings, sink, progress.clone(), Arc::clone(&routes)).await?;
        let (reply, to) = oneshot::channel();
        let join = Join { name: name.clone(), delivery, routes, reached: progress.reached(), reply };
        self.router.send(join).await?;
        Ok(Uncounted { name, progress, to: to.await? })
    }

    /// Ends a delivery; where it has ended.
    async fn retire(&self, name: &str) -> Result<Progress, ReloadError> {
        let delivery: Addr<DeliveryActor> =
            self.starter.deliveries.get(name).ok_or(ReloadError::Stopping)?.actor;
        let (reply, mut progress) = oneshot::channel();
        delivery.send(RetireDelivery { reply }).await?;
        drop(delivery);
        loop {
            match tokio::time::timeout(SAY_SO_AFTER, &mut progress).await {
                Ok(progress) => return Ok(progress?),
                Err(_) => {
                    tracing::warn!(
                        sink = name,
                        "the reload waits until what was sent to this sink is answered"
                    );
                }
            }
        }
    }

    async fn count(&self, uncounted: Uncounted, routes: &Arc<RouteTable>) -> Result<(), ReloadError> {
        let stop = StopOnDrop(Arc::default());
        let (log, routes, stopped) = (self.starter.log.clone(), Arc::clone(routes), Arc::clone(&stop.0));
        let counting = tokio::task::spawn_blocking(move || {
            let Uncounted { name, progress, to } = uncounted;
            let pending = count_pending(&log, &routes, (&name, &progress), to, &stopped);
            let settled = progress.totals.settled();
            let accepted = match pending {
                Ok(pending) => settled.saturating_add(pending.unwrap_or(0)),
                Err(error) => {
                    tracing::error!(sink = name, %error, "what this sink has still to take cannot be counted; `pending` is too low until the next start");
                    settled
                }
            };
            Counted { name, accepted }
        });
        let counted = counting.await.map_err(|_| ReloadError::Stopping)?;
        Ok(self.router.send(counted).await?)
    }
}

fn act_of(plan: &Plan, config: &Config) -> Reload {
    let names = |sinks: &[SinkConfig]| sinks.iter().map(|sink| sink.name.clone()).collect();
    Reload {
        sinks_added: names(&plan.add),
        sinks_changed: names(&plan.restart),
        sinks_removed: plan.remove.clone(),
        buildings_changed: plan.rules.iter().map(|rules| rules.building.clone()).collect(),
        event_types_changed: plan.event_types.clone(),
        routes_changed: plan.routes.clone(),
        server_changed: plan.server.clone(),
        config_sha256: config.sha256.clone(),
    }
}
