//! When to try again: exponential backoff with full jitter, and the service's own wish.

use std::time::Duration;

/// The longest `Retry-After` that is honoured, in seconds, the cap of every backoff (contract, section 2): a service, or
/// a proxy before it, that names a day must not silence its sink for longer than an outage would.
pub const MAX_RETRY_AFTER_SECS: u64 = 30;

/// The shortest wait, so that a draw near nothing cannot turn full jitter into a spin.
pub const MIN_DELAY_MS: u64 = 10;

/// How long to wait before the next try: `random * min(base * 2^n, cap)`, full jitter, after AWS'
/// "Exponential Backoff And Jitter" (2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub base: Duration,
    /// The longest wait after any failure.
    pub cap: Duration,
}

impl Backoff {
    /// What a record waits before it is sent again.
    pub const RECORD: Self = Self { base: Duration::from_millis(100), cap: Duration::from_secs(30) };

    /// What an open breaker waits before it probes.
    pub const BREAKER: Self = Self { base: Duration::from_secs(1), cap: Duration::from_secs(30) };

    /// The wait after the `failures`-th failure in a row, with `random` drawn from `0.0..1.0`.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1);
        let ceiling = 2_u32.checked_pow(doublings).and_then(|factor| self.base.checked_mul(factor));
        let ceiling = ceiling.map_or(self.cap, |ceiling| ceiling.min(self.cap));
        let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 };
        ceiling.mul_f64(random).max(Duration::from_millis(MIN_DELAY_MS))
    }

    /// The same, but not before the service wants to be asked again, within [`MAX_RETRY_AFTER_SECS`].
    #[must_use]
    pub fn delay_after(&self, failures: u32, random: f64, retry_after: Option<Duration>) -> Duration {
        let wish = retry_after.unwrap_or_default().min(Duration::from_secs(MAX_RETRY_AFTER_SECS));
        self.delay(failures, random).max(wish)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let delays: Vec<u128> = [1, 2, 3, 4, 9, 10, 33, u32::MAX]
            .iter()
            .map(|n| Backoff::RECORD.delay(*n, 1.0).as_millis())
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 25_600, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn the_draw_scales_the_wait() {
        assert_eq!(Backoff::RECORD.delay(4, 0.5), Duration::from_millis(400));
        assert_eq!(Backoff::RECORD.delay(4, 0.0), Duration::from_millis(MIN_DELAY_MS));
    }

    #[test]
    fn retry_after_is_a_lower_bound_with_a_limit() {
        let delay = |secs| Backoff::RECORD.delay_after(1, 1.0, Some(Duration::from_secs(secs)));
        assert_eq!(delay(0), Duration::from_millis(100));
        assert_eq!(delay(7), Duration::from_secs(7));
        assert_eq!(delay(86_400), Duration::from_secs(MAX_RETRY_AFTER_SECS));
    }

    proptest! {
        #[test]
        fn no_draw_leaves_the_bounds(failures in any::<u32>(), random in any::<f64>()) {
            let delay = Backoff::RECORD.delay(failures, random);
            prop_assert!(delay >= Duration::from_millis(MIN_DELAY_MS) && delay <= Backoff::RECORD.cap);
        }
    }
}
