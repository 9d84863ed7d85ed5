//! What is made from the log and can be made again: snapshots of the state, so that a start need not read all of the
//! log, and the log need not keep all of its events.
//!
//! - `entry.rs`, `entry_card.rs`, `entry_device.rs`, `entry_inside.rs`, `mode_entry.rs`: one fact of the state as a key and a JSON text; `fold.rs`: what events
//!   do to entries, `wide.rs` those that do it to many at once; `merge.rs`: the
//!   entries of a snapshot and those touched since as one sorted stream; `state.rs`: entries back into the state.
//!   `rebuilt.rs`: the state of events in any order, held against the live one. All of these are pure.
//! - `format.rs`: a snapshot as lines; `store.rs`: its files; `take.rs`: from one snapshot to the next; `load.rs`: the
//!   newest one that is whole
//! - `trim_point.rs`: what the log may drop

pub mod entry;
pub mod entry_card;
pub mod entry_device;
pub mod entry_inside;
pub mod fold;
pub mod format;
pub mod load;
pub mod merge;
pub mod mode_entry;
pub mod rebuilt;
pub mod state;
pub mod store;
pub mod take;
pub mod trim_point;
pub mod wide;

#[cfg(test)]
pub(crate) mod tests;
