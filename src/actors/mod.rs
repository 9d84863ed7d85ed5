//! Shells: they carry values between the pure core, the log and the sinks, and decide nothing themselves.
//!
//! The log arbiter's one thread runs [`log::LogActor`], every [`building::BuildingActor`] and the
//! [`directory::DirectoryActor`]; it may block in `fdatasync`, and nothing else runs on it. Because they
//! share a thread, a building's decision, its change of state and its place in the log are one step.
//! The [`router::RouterActor`] and a [`delivery::DeliveryActor`] for each sink have an arbiter apart.
//! Messages carry their reply sender and are sent by `try_send` (a clean stop waits with `send`), so a full
//! mailbox is an answer, not a loss.

pub mod admin;
pub mod building;
pub mod busy_poll;
pub mod card_sync;
pub mod dead_letters;
pub mod deliveries;
pub mod delivery;
pub mod device_events;
pub mod directory;
pub mod disk;
pub mod feeds;
mod group_trace;
pub mod log;
pub mod mirror;
mod mirror_marks;
mod oldest_pending;
pub mod places;
pub mod recorder;
pub mod replay;
pub mod router;
pub mod sink_board;
pub mod sink_state;
