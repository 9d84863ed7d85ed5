//! How long a sink may hold back what the log could drop, while the disk is nearly full.

/// Looks in a row that find a sink holding the log back before it is let go of. There is one a second, so it has a
/// minute, in trouble or only slow: one request that is throttled costs nothing.
pub const MAX_LOOKS_HOLDING: u32 = 60;

/// The looks at one sink.
#[derive(Debug, Default)]
pub struct Patience {
    looks_holding: u32,
}

impl Patience {
    /// A look at a sink with this cursor; without sinks everything below `trimmable_below`, where a segment begins,
    /// could go. True: it is to be let go of now.
    pub fn is_over(&mut self, cursor: u64, trimmable_below: u64) -> bool {
        // else nothing would be freed by it
        let holds_back = cursor.saturating_add(1) < trimmable_below;
        self.looks_holding = if holds_back { self.looks_holding.saturating_add(1) } else { 0 };
        let is_over = self.looks_holding > MAX_LOOKS_HOLDING;
        if is_over {
            self.renew();
        }
        is_over
    }

    /// The disk is no longer nearly full, or the sink cannot be let go of now.
    pub fn renew(&mut self) {
        self.looks_holding = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(patience: &mut Patience, count: u32, cursor: u64) -> bool {
        (0..count).any(|_| patience.is_over(cursor, 101))
    }

    #[test]
    fn a_sink_is_let_go_of_after_a_minute_in_a_row() {
        let mut patience = Patience::default();
        assert!(!looks(&mut patience, MAX_LOOKS_HOLDING, 99));
        assert!(patience.is_over(99, 101));
        assert!(!looks(&mut patience, MAX_LOOKS_HOLDING, 99), "and then it has another one");
        patience.renew();
        assert!(!looks(&mut patience, MAX_LOOKS_HOLDING, 99));
        assert!(!patience.is_over(100, 101), "it came back");
        assert!(!looks(&mut patience, MAX_LOOKS_HOLDING, 99));
        assert!(looks(&mut patience, 1, 99));
    }

    #[test]
    fn a_sink_that_keeps_nothing_from_being_trimmed_is_kept() {
        let mut patience = Patience::default();
        assert!(!looks(&mut patience, 1_000, 100), "it needs nothing of what could go");
        assert!((0..1_000).all(|_| !patience.is_over(0, 0)), "snapshots or retention hold the log");
        assert!((0..1_000).all(|_| !patience.is_over(0, 1)));
    }
}
