//! turnstiled: an event server for buildings.
pub mod actors;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod delivery;
pub mod domain;
pub mod http;
pub mod https_client;
pub mod metrics;
pub mod projections;
pub mod random;
pub mod rate;
pub mod sinks;
pub mod space;
pub mod telemetry;
