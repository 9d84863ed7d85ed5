//! The rules, pure: no I/O, no clock, no randomness. Facts are [`event`]s; state is a fold over them.

pub mod archive_check;
pub mod archived_event;
pub mod building;
pub mod card;
pub mod directory;
pub mod event;
pub mod event_json;
pub mod event_types;
pub mod groups;
pub mod hex;
pub mod hosts;
pub mod ids;
pub mod member_diff;
pub mod mode;
pub mod outbound;
pub mod pattern;
pub mod provider;
mod raw_object;
pub mod reason;
pub mod record;
pub mod replay;
pub mod routes;
pub mod schedule;
mod sorted_cards;
pub mod swipes;
pub mod time;
pub mod webhook_secret;
