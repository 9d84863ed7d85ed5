//! turnstiled
pub mod delivery;
pub mod domain;
pub mod sinks;
