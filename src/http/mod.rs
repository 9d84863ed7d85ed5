//! The HTTP API: handlers parse, ask an actor, render. Nothing is decided here.

pub mod answers;
pub mod auth;
pub mod cards;
pub mod error;
pub mod fields;
pub mod health;
pub mod presence;
pub mod routes;
pub mod sinks;
pub mod swipes;
pub mod trace_context;

use std::collections::{HashMap, HashSet};

use actix::Addr;

use self::{auth::Auth, error::ApiError};
use crate::{
    actors::{
        building::BuildingActor, directory::DirectoryActor, sink_board::SinkBoard, sink_state::SinkStates,
    },
    domain::{
        ids::{BuildingId, GateId},
        time::Timestamp,
    },
    metrics::Metrics,
};

/// What handlers ask.
#[derive(Debug)]
pub struct Services {
    /// The buildings of this server.
    pub buildings: HashMap<BuildingId, BuildingServices>,
    /// The cards.
    pub directory: Addr<DirectoryActor>,
    /// Who may call.
    pub auth: Auth,
    /// How the sinks do.
    pub sinks: SinkBoard,
    /// What no sink could take.
    pub dead_letters: SinkStates,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// The time of the last event at start: the server's clock should be after it.
    pub started_after: Timestamp,
}

/// One building, as handlers see it.
#[derive(Debug)]
pub struct BuildingServices {
    /// Its id.
    pub id: BuildingId,
    /// Its gates.
    pub gates: HashSet<GateId>,
    /// Who decides.
    pub actor: Addr<BuildingActor>,
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

/// What a caller sent, short enough to be sent back.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
