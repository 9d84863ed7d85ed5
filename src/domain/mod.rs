//! The rules, pure: no I/O, no clock, no randomness.

pub mod record;
