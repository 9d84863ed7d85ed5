//! The HTTP API: handlers parse, ask an actor, render. Nothing is decided here.

pub mod access;
pub mod answers;
pub mod auth;
mod body;
pub mod card_csv;
pub mod card_export;
pub mod card_import;
pub mod cards;
pub mod csv_cells;
pub mod cursor;
pub mod dead_letters;
mod device_events;
mod docs;
pub mod error;
pub mod feed;
pub mod fields;
pub mod forgive;
pub mod health;
pub mod history;
mod log_lines;
pub mod modes;
pub mod muster;
#[cfg(test)]
mod openapi_tests;
pub mod passages;
mod plain_swipe;
pub mod presence;
mod query;
pub mod recorded;
pub mod refusals;
pub mod replays;
pub mod routes;
pub mod sinks;
mod sse;
pub mod swipes;
pub mod tls;
pub mod trace;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{PoisonError, RwLock},
};

use actix::{
    Actor, Addr, Handler, Message,
    dev::{MessageResponse, ToEnvelope},
};
use actix_web::HttpRequest;
use tokio::sync::oneshot;

pub use self::device_events::DeviceEventServices;
use self::{
    access::Access,
    auth::Auth,
    error::ApiError,
    history::HistoryServices,
    refusals::Refusals,
    trace::{RequestTrace, RequestTracing},
};
use crate::{
    actors::{
        admin::AdminActor,
        building::BuildingActor,
        busy_poll::BusyPoll,
        deliveries::Deliveries,
        directory::DirectoryActor,
        disk::DiskBoard,
        feeds::Feeds,
        recorder::LogEnd,
        recorder::Origin,
        replay::{board::ReplayBoard, manager::ReplaysActor, prepare::ReplayPlaces},
        sink_board::SinkBoard,
        sink_state::SinkStates,
    },
    domain::{
        building::Rules,
        ids::{BuildingId, GateId, GroupId},
    },
    metrics::{Depth, Metrics},
};

/// What handlers ask.
#[derive(Debug)]
pub struct Services {
    /// The buildings of this server.
    pub buildings: HashMap<BuildingId, BuildingServices>,
    /// The access groups that cards may name.
    pub groups: KnownGroups,
    /// The cards.
    pub directory: Addr<DirectoryActor>,
    /// Who may import.
    pub imports: card_import::ImportPlaces,
    /// Who records what operators do.
    pub admin: Addr<AdminActor>,
    /// What other devices than turnstiles may say, and who records it.
    pub device_events: DeviceEventServices,
    /// Who delivers, by sink.
    pub deliveries: Deliveries,
    /// Who looks on.
    pub feeds: Feeds,
    /// What was.
    pub history: HistoryServices,
    /// Events that are sent again.
    pub replays: ReplayServices,
    /// How requests are traced.
    pub tracing: RequestTracing,
    /// What the log says of requests that are not done.
    pub refusals: Refusals,
    /// Who may come in at all.
    pub access: Access,
    /// Who may call.
    pub auth: Auth,
    /// How the sinks do.
    pub sinks: SinkBoard,
    /// What no sink could take.
    pub dead_letters: SinkStates,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Whether to wait awake.
    pub busy_poll: BusyPoll,
    /// How full the disk is.
    pub disk: DiskBoard,
    /// Where the log ends, and whether it can go on.
    pub end_of_log: LogEnd,
}

/// Replays, as handlers see them.
#[derive(Debug)]
pub struct ReplayServices {
    /// What may be asked for.
    pub places: ReplayPlaces,
    /// How they do.
    pub board: ReplayBoard,
    /// Who begins and ends them.
    pub manager: Addr<ReplaysActor>,
}

/// The access groups of the configuration. A reload changes them.
#[derive(Debug)]
pub struct KnownGroups(RwLock<BTreeSet<GroupId>>);

impl KnownGroups {
    /// These.
    #[must_use]
    pub fn new(groups: BTreeSet<GroupId>) -> Self {
        Self(RwLock::new(groups))
    }

    /// Whether there is such a group.
    #[must_use]
    pub fn has(&self, group: &GroupId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(group)
    }

    /// These from now on.
    pub fn set(&self, groups: BTreeSet<GroupId>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = groups;
    }
}

/// One building, as handlers see it.
#[derive(Debug)]
pub struct BuildingServices {
    /// Its id.
    pub id: BuildingId,
    /// Its gates. A reload changes them.
    gates: RwLock<HashSet<GateId>>,
    /// Who decides.
    pub actor: Addr<BuildingActor>,
    unanswered: Depth,
}

impl BuildingServices {
    /// A building with these rules.
    #[must_use]
    pub fn new(rules: &Rules, actor: Addr<BuildingActor>, metrics: &Metrics) -> Self {
        let (id, gates) = (rules.building.clone(), RwLock::new(rules.gates.clone()));
        let unanswered = metrics.queues.requests_of(id.as_str());
        Self { id, gates, actor, unanswered }
    }

    /// As the function of this name, counted while it waits.
    async fn ask<M, T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> M) -> Result<T, ApiError>
    where
        BuildingActor: Handler<M>,
        M: Message + Send + 'static,
        M::Result: MessageResponse<BuildingActor, M> + Send,
    {
        let _waits = self.unanswered.enter();
        ask(&self.actor, request).await
    }

    /// Whether it has this gate.
    #[must_use]
    pub fn has_gate(&self, gate: &GateId) -> bool {
        self.gates.read().unwrap_or_else(PoisonError::into_inner).contains(gate)
    }

    /// It has these gates from now on.
    pub fn set_gates(&self, gates: HashSet<GateId>) {
        *self.gates.write().unwrap_or_else(PoisonError::into_inner) = gates;
    }
}

impl Services {
    /// The building that a path names.
    ///
    /// # Errors
    /// 404 if this server has no such building.
    pub fn building(&self, id: &str) -> Result<&BuildingServices, ApiError> {
        self.buildings
            .get(id)
            .ok_or_else(|| ApiError::NotFound(format!("this server has no building {:?}", cut(id))))
    }
}

/// Sends a message that carries its reply sender, and waits for the reply.
///
/// # Errors
/// 503 if the mailbox is full, or if the reply can no longer come because the process is about to stop.
async fn ask<A, M, T>(actor: &Addr<A>, message: impl FnOnce(oneshot::Sender<T>) -> M) -> Result<T, ApiError>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: MessageResponse<A, M> + Send,
{
    let (reply, answer) = oneshot::channel();
    actor.try_send(message(reply))?;
    answer.await.map_err(|_| ApiError::not_committed())
}

/// Who acts, in the trace of the request.
fn origin(by: String, request: &HttpRequest) -> Origin {
    Origin { by, trace: RequestTrace::of(request) }
}

/// What a caller sent, short enough to be sent back.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
