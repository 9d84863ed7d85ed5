//! turnstiled
pub mod cli;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod sinks;
