//! How fast a shard that throttled is written to: as fast as AWS lets every shard be. Pure.
//!
//! Shards that do not throttle are not paced: there is nothing to gain, and an on-demand stream may take more.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Records that AWS takes on one shard in a second.
const SHARD_RECORDS_PER_SECOND: u32 = 1_000;
/// Bytes that AWS takes on one shard in a second: AWS says 1 MB.
const SHARD_BYTES_PER_SECOND: u64 = 1_000_000;
/// How long a shard stays paced after it throttled last.
const PACED_SECS: u64 = 60;
/// How much of its rate a shard may save up.
const BURST_MS: u64 = 250;
/// Records that find no room come again over so long: more than that would have no room either.
const SPREAD_MS: u64 = 1_000;

const BURST: Duration = Duration::from_millis(BURST_MS);

/// The shards that are paced.
#[derive(Debug, Default)]
pub(super) struct Paces(HashMap<Arc<str>, Pace>);

#[derive(Debug)]
struct Pace {
    until: Instant,
    /// When the shard has, or had, its burst saved up again.
    paid_until: Instant,
    /// When what was held back will have found room, if it comes again as it was told.
    held_until: Instant,
}

impl Paces {
    /// Whether no shard is paced: then nobody needs to know which shard a record is for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A shard throttled: it has nothing saved up, and is paced for [`PACED_SECS`] from now.
    pub(super) fn throttled(&mut self, shard: &Arc<str>, now: Instant) {
        self.forget_old(now);
        let fresh = Pace { until: now, paid_until: now, held_until: now };
        let pace = self.0.entry(Arc::clone(shard)).or_insert(fresh);
        pace.until = now + Duration::from_secs(PACED_SECS);
        pace.paid_until = pace.paid_until.max(now + BURST);
    }

    /// Counts a record for a shard if there is room for it.
    ///
    /// # Errors
    /// How long to wait before it is tried again.
    pub(super) fn admit(&mut self, shard: &str, bytes: usize, now: Instant) -> Result<(), Duration> {
        let Some(pace) = self.0.get_mut(shard).filter(|pace| now < pace.until) else { return Ok(()) };
        let cost = cost(bytes);
        let room_in = pace.paid_until.saturating_duration_since(now).saturating_sub(BURST);
        if room_in.is_zero() {
            pace.paid_until = pace.paid_until.max(now) + cost;
            return Ok(());
        }
        let room_at = now + room_in;
        if pace.held_until > room_at + Duration::from_millis(SPREAD_MS) {
            pace.held_until = room_at;
        }
        let slot = pace.held_until.max(room_at);
        pace.held_until = slot + cost;
        Err(slot.saturating_duration_since(now))
    }

    /// Forgets shards that have not throttled for long.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.0.retain(|_, pace| now < pace.until);
    }
}

/// The part of a second that a record takes of its shard, by the limit that it uses more of.
fn cost(bytes: usize) -> Duration {
    let by_bytes = (bytes as u64).saturating_mul(1_000_000_000) / SHARD_BYTES_PER_SECOND;
    Duration::from_nanos(by_bytes).max(Duration::from_secs(1) / SHARD_RECORDS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn throttled(now: Instant) -> Paces {
        let mut paces = Paces::default();
        paces.throttled(&"hot".into(), now);
        paces
    }

    #[test]
    fn only_a_shard_that_throttled_is_paced_and_not_for_ever() {
        let start = Instant::now();
        let mut paces = throttled(start);
        let admitted = |paces: &mut Paces, shard, now| {
            (0..2_000).filter(|_| paces.admit(shard, 100, now).is_ok()).count()
        };
        assert_eq!(admitted(&mut paces, "cold", start), 2_000);
        assert_eq!(admitted(&mut paces, "hot", start), 1);
        let later = start + Duration::from_secs(PACED_SECS);
        assert_eq!(admitted(&mut paces, "hot", later), 2_000);
        paces.forget_old(later);
        assert!(paces.is_empty());
    }

    #[test]
    fn what_finds_no_room_comes_again_one_after_the_other() {
        let start = Instant::now();
        let mut paces = throttled(start);
        assert_eq!(paces.admit("hot", 2_000, start), Ok(()));
        let waits: Vec<_> = (0..3).map(|_| paces.admit("hot", 10, start).unwrap_err().as_millis()).collect();
        assert_eq!(waits, [2, 3, 4]);
    }

    #[test]
    fn what_waited_gets_the_whole_rate() {
        let start = Instant::now();
        let mut paces = throttled(start);
        let mut waiting: Vec<(Instant, usize)> = (0..3_000).map(|_| (start, 200)).collect();
        let (mut last, mut tries) = (start, 0);
        while let Some(at) = waiting.iter().map(|(at, _)| *at).min() {
            let (now_due, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(due, _)| *due <= at);
            waiting = rest;
            for (_, bytes) in now_due {
                tries += 1;
                match paces.admit("hot", bytes, at) {
                    Ok(()) => last = at,
                    Err(wait) => waiting.push((at + wait.max(Duration::from_millis(10)), bytes)),
                }
            }
        }
        let took = (last - start).as_secs_f64();
        assert!((2.7..3.5).contains(&took), "3,000 records took {took} s");
        assert!(tries < 20_000, "{tries} tries for 3,000 records");
    }

    proptest! {
        #[test]
        fn no_more_than_the_rate_and_a_burst(
            records in proptest::collection::vec((1_usize..60_000, 0_u64..30), 1..500),
        ) {
            let start = Instant::now();
            let mut paces = throttled(start);
            let (mut now, mut took) = (start, Duration::ZERO);
            for (bytes, ms) in records {
                now += Duration::from_millis(ms);
                if paces.admit("hot", bytes, now).is_ok() {
                    took += cost(bytes);
                }
                prop_assert!(took <= now - start + BURST + cost(60_000));
            }
        }
    }
}
