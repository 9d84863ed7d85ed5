//! The bound on what is pulled from the log and not yet settled.

use super::outcome::BatchLimits;

/// The smallest window a sink gets unless told otherwise.
pub const MIN_WINDOW_RECORDS: usize = 4_096;
/// The largest window a sink gets unless told otherwise.
pub const MAX_WINDOW_RECORDS: usize = 65_536;
/// The smallest window a sink gets unless told otherwise, in bytes of bodies.
pub const MIN_WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// The largest window a sink gets unless told otherwise, in bytes of bodies.
pub const MAX_WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// A pull waits until this part of the window is free: many pulls of one record would cost more than they bring.
const PULL_WHEN_FREE_FRACTION: usize = 8;

/// How much may be outstanding at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Records pulled and not settled. Ranges settled out of order are at most one more than that.
    pub max_records: usize,
    /// Bytes of their bodies. One pull may go over it by one record, because a pull brings at least one.
    pub max_bytes: usize,
}

impl WindowLimits {
    /// Room for every batch in flight and one more that gathers, within the named limits.
    #[must_use]
    pub fn for_batches(limits: &BatchLimits) -> Self {
        let batches = limits.max_in_flight.saturating_add(1);
        let records = limits.max_records.saturating_mul(batches);
        let bytes = limits.max_bytes.saturating_mul(batches);
        Self {
            max_records: records.clamp(MIN_WINDOW_RECORDS, MAX_WINDOW_RECORDS),
            max_bytes: bytes.clamp(MIN_WINDOW_BYTES, MAX_WINDOW_BYTES),
        }
    }
}

/// What is outstanding.
#[derive(Debug)]
pub(super) struct Window {
    limits: WindowLimits,
    records: usize,
    bytes: usize,
}

impl Window {
    pub(super) fn new(limits: WindowLimits) -> Self {
        let limits =
            WindowLimits { max_records: limits.max_records.max(1), max_bytes: limits.max_bytes.max(1) };
        Self { limits, records: 0, bytes: 0 }
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Nothing is outstanding any more.
    pub(super) fn clear(&mut self) {
        (self.records, self.bytes) = (0, 0);
    }

    pub(super) fn enter(&mut self, body_bytes: usize) {
        self.records += 1;
        self.bytes += body_bytes;
    }

    pub(super) fn leave(&mut self, body_bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(body_bytes);
    }

    /// The records and bytes the next pull may bring; `None` while the window is as good as full.
    pub(super) fn room(&self) -> Option<(usize, usize)> {
        let records = self.limits.max_records.saturating_sub(self.records);
        let bytes = self.limits.max_bytes.saturating_sub(self.bytes);
        let enough = |free: usize, limit: usize| free >= (limit / PULL_WHEN_FREE_FRACTION).max(1);
        (enough(records, self.limits.max_records) && enough(bytes, self.limits.max_bytes))
            .then_some((records, bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::outcome::Order;

    #[test]
    fn a_full_window_opens_again_when_an_eighth_is_free() {
        let mut window = Window::new(WindowLimits { max_records: 80, max_bytes: 8_000 });
        assert_eq!(window.room(), Some((80, 8_000)));
        (0..75).for_each(|_| window.enter(10));
        assert_eq!(window.room(), None);
        (0..5).for_each(|_| window.leave(10));
        assert_eq!(window.room(), Some((10, 7_300)));
    }

    #[test]
    fn bytes_close_the_window_too() {
        let mut window = Window::new(WindowLimits { max_records: 80, max_bytes: 1_000 });
        window.enter(2_000);
        assert_eq!(window.room(), None);
        window.leave(2_000);
        assert!(window.room().is_some());
    }

    #[test]
    fn a_window_of_nothing_still_lets_one_record_through() {
        assert_eq!(Window::new(WindowLimits { max_records: 0, max_bytes: 0 }).room(), Some((1, 1)));
    }

    #[test]
    fn an_empty_window_holds_the_batches_in_flight_and_one_more() {
        let mut limits = BatchLimits {
            max_records: 2_000,
            max_bytes: 10 << 20,
            record_overhead_bytes: 0,
            linger: Duration::ZERO,
            max_in_flight: 3,
            order: Order::None,
        };
        let window = WindowLimits::for_batches(&limits);
        assert_eq!(window, WindowLimits { max_records: 8_000, max_bytes: 40 << 20 });
        limits.max_records = usize::MAX;
        limits.max_bytes = 1;
        let window = WindowLimits::for_batches(&limits);
        assert_eq!(window, WindowLimits { max_records: MAX_WINDOW_RECORDS, max_bytes: MIN_WINDOW_BYTES });
    }
}
