//! The configuration: raw TOML in, a [`Config`] that cannot be wrong out, or every error at once.
//!
//! One file is one section (`server`, `auth`, `wal`, `buildings`, `schedules`, `groups`, `sinks` with `sink_kinds`, `routes` with
//! `coverage`, `route_tests`, `event_types`). They share `reader` (a table) and `value` (one value), which report to the
//! `document`.

pub mod auth;
mod aws_names;
pub mod buildings;
pub mod card_sync;
mod coverage;
pub mod dead_letters;
mod document;
pub mod duration;
pub mod env;
mod event_types;
pub mod finding;
mod groups;
mod hint;
mod json;
pub mod limits;
mod load;
mod reader;
pub mod reload;
pub mod route_tests;
mod routes;
mod schedules;
pub mod server;
mod sink_checks;
mod sink_kinds;
mod sink_order;
pub mod sinks;
pub mod size;
pub mod telemetry;
mod unique;
mod value;
pub mod wal;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::domain::{device_schema::DeviceSchemas, ids::GroupId, routes::RouteTable};

pub use finding::{ConfigErrors, Finding};

/// The configuration that is compiled in: it runs on a bare machine.
pub const EMBEDDED: &str = include_str!("../../routes.toml");

/// A whole, validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who this server is.
    pub server: server::ServerConfig,
    /// Devices and people.
    pub auth: auth::AuthConfig,
    /// The log.
    pub wal: wal::WalConfig,
    /// At least one, ids unique.
    pub buildings: Vec<buildings::BuildingConfig>,
    /// The access groups that cards may name. What they say of a building is in its rules.
    pub groups: BTreeSet<GroupId>,
    /// In the order of the file, names unique.
    pub sinks: Vec<sinks::SinkConfig>,
    /// Names no sink that is not in `sinks`, and leaves no event type out.
    pub routes: RouteTable,
    /// What devices that are no turnstiles may say.
    pub event_types: DeviceSchemas,
    /// Where dead letters are mirrored to, if anywhere.
    pub letter_queue: Option<dead_letters::LetterQueueConfig>,
    /// Where other servers' changes of cards come from, if from anywhere.
    pub card_sync: Option<card_sync::CardSyncConfig>,
    /// Traces.
    pub telemetry: telemetry::TelemetryConfig,
    /// For `turnstiled test-routes`.
    pub tests: Vec<route_tests::RouteTest>,
    /// What is allowed but perhaps not meant.
    pub warnings: Vec<Finding>,
    /// SHA-256 of the text it was read from, in hex: what an auditor can hold a kept file against.
    pub sha256: String,
}
