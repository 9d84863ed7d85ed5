//! The rules, pure: no I/O, no clock, no randomness.

pub mod event_types;
pub mod outbound;
pub mod pattern;
mod raw_object;
pub mod record;
pub mod routes;
