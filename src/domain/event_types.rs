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

/// Every member of `data` that an event of these has, sorted: `check` warns of a route that drops another one.
pub const DATA_FIELDS: &[&str] = &[
    "action",
    "added",
    "anomaly",
    "anti_passback_exempt",
    "bacnet_code",
    "before",
    "building",
    "buildings",
    "buildings_changed",
    "by",
    "card_id",
    "cause",
    "code",
    "dead_letter",
    "decision",
    "employee_id",
    "event_id",
    "event_sequence",
    "from",
    "gate",
    "gates",
    "granted_at",
    "granted_event_id",
    "granted_sequence",
    "groups",
    "holder_name",
    "ids",
    "letters",
    "missing",
    "missing_ranges",
    "missing_ranges_left_off",
    "new_epoch",
    "note",
    "occurred_at",
    "old_epoch",
    "old_log",
    "order",
    "outcome",
    "passage_until",
    "people",
    "presence",
    "reason",
    "removed",
    "replay",
    "responder",
    "salvaged",
    "since",
    "sink",
    "sinks_added",
    "sinks_changed",
    "sinks_removed",
    "stale",
    "status",
    "subject",
    "swipe_id",
    "to",
    "type",
    "until",
    "valid_from",
    "valid_until",
    "version",
    "violation",
    "what",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_free_of_repeats() {
        assert!(EVENT_TYPES.is_sorted_by(|one, next| one < next));
        assert!(DATA_FIELDS.is_sorted_by(|one, next| one < next));
    }
}
