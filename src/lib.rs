//! turnstiled: an event server for buildings.
pub mod actors;
pub mod delivery;
pub mod domain;
pub mod metrics;
pub mod sinks;
