//! Every event type the daemon itself emits, in one table: `check` measures the routes against it.
//!
//! Source: section 4 of the contract. `device.*` types are declared by the operator and not listed here.

/// All types, sorted.
pub const EVENT_TYPES: &[&str] = &[
    "access.entry.denied",
    "access.entry.granted",
    "access.entry.recorded",
    "access.exit.recorded",
    "access.passage.abandoned",
    "access.passage.confirmed",
    "admin.discard",
    "admin.keys",
    "admin.redrive",
    "admin.reload",
    "admin.replay",
    "audit.read",
    "building.mode.changed",
    "card.lost",
    "card.registered",
    "card.reinstated",
    "card.revoked",
    "card.suspended",
    "card.updated",
    "log.repaired",
    "muster.accounted",
    "presence.expired",
    "presence.forgiven",
    "presence.reset",
    "sync.card.applied",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_free_of_repeats() {
        assert!(EVENT_TYPES.is_sorted_by(|one, next| one < next));
    }
}
