//! PURE: a cap per second, on a sink's records, a device's requests, lines of the log: a token bucket that may go into
//! debt for the rest of a batch. Time is passed in.

use std::{num::NonZeroU32, time::Duration};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A token bucket, kept as the moment at which the bucket was, or will be, just filled again to a burst.
///
/// A batch is let go whole as soon as one token is there, and pays the rest by later silence. So in any time
/// `t` at most `rate * (t + burst)` records and one batch more are sent, and the mean is exact.
#[derive(Debug)]
pub struct RateCap {
    per_second: Option<NonZeroU32>,
    /// How much unused rate may be saved up and then used at once.
    burst: Duration,
    paid_until: Duration,
}

impl RateCap {
    /// `None` caps nothing.
    #[must_use]
    pub fn new(per_second: Option<NonZeroU32>, burst: Duration) -> Self {
        Self { per_second, burst, paid_until: Duration::ZERO }
    }

    /// Another rate from now on; what is owed stays owed.
    pub fn set(&mut self, per_second: Option<NonZeroU32>) {
        self.per_second = per_second;
    }

    /// From when on the next batch may go.
    #[must_use]
    pub fn admits_from(&self) -> Duration {
        self.paid_until.saturating_sub(self.burst)
    }

    /// Counts one record less: it was not sent after all.
    pub fn give_back(&mut self) {
        let Some(per_second) = self.per_second else { return };
        let cost = Duration::from_secs(1) / per_second.get();
        self.paid_until = self.paid_until.saturating_sub(cost);
    }

    /// Counts `records` sent at `now`.
    pub fn take(&mut self, now: Duration, records: usize) {
        let Some(per_second) = self.per_second else { return };
        let nanos = records as u128 * NANOS_PER_SECOND / u128::from(per_second.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_until = self.paid_until.max(now).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BURST: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_cap_everything_goes_at_once() {
        let mut rate = RateCap::new(None, BURST);
        rate.take(Duration::ZERO, 1_000_000);
        assert_eq!(rate.admits_from(), Duration::ZERO);
    }

    #[test]
    fn a_burst_goes_then_the_rate_holds() {
        let mut rate = RateCap::new(NonZeroU32::new(10), BURST);
        let start = Duration::from_secs(100);
        rate.take(start, 10);
        assert_eq!(rate.admits_from(), start);
        rate.take(start, 5);
        assert_eq!(rate.admits_from(), start + Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn no_more_than_rate_and_burst_and_one_batch(per_second in 1_u32..1_000, batches in proptest::collection::vec(1_usize..50, 1..200)) {
            let mut rate = RateCap::new(NonZeroU32::new(per_second), BURST);
            let (mut now, mut sent) = (Duration::from_secs(5), 0_usize);
            let start = now;
            for batch in batches {
                now = now.max(rate.admits_from());
                rate.take(now, batch);
                sent += batch;
                let allowed = f64::from(per_second) * ((now - start).as_secs_f64() + 1.0) + batch as f64;
                prop_assert!(sent as f64 <= allowed + 1.0, "{} sent, {} allowed", sent, allowed);
            }
        }
    }
}
