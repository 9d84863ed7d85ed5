//! PURE: how many attempts with missing or bad credentials come from where. An address that fails too often is told
//! when to come again; that concerns further failures only, because valid credentials are looked at first.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// How long failures of an address are counted together, from the first one on.
pub const WINDOW_SECONDS: u64 = 60;
/// So many failures in a window are answered 401; further ones are answered 429.
pub const MAX_FAILURES_PER_WINDOW: u32 = 20;
/// The most addresses that are counted at once; at the limit the one that began first is forgotten.
pub const MAX_ADDRESSES: usize = 4_096;

const WINDOW: Duration = Duration::from_secs(WINDOW_SECONDS);

/// Addresses that failed within the last window. Time is that of a clock that only runs forwards.
#[derive(Debug, Default)]
pub struct Failures {
    by_address: HashMap<IpAddr, Window>,
    /// The keys of `by_address`, in the order in which their windows began.
    in_order: VecDeque<IpAddr>,
}

#[derive(Debug)]
struct Window {
    began: Duration,
    failures: u32,
}

impl Failures {
    /// Counts a failure of `address` at `now`. How long it is to wait if it has failed too often.
    pub fn count(&mut self, address: IpAddr, now: Duration) -> Option<Duration> {
        self.forget_over(now);
        let address = counted_as(address);
        if let Some(window) = self.by_address.get_mut(&address) {
            window.failures = window.failures.saturating_add(1);
            let is_too_often = window.failures > MAX_FAILURES_PER_WINDOW;
            return is_too_often.then(|| window.began.saturating_add(WINDOW).saturating_sub(now));
        }
        if self.in_order.len() >= MAX_ADDRESSES {
            self.forget_first();
        }
        self.by_address.insert(address, Window { began: now, failures: 1 });
        self.in_order.push_back(address);
        None
    }

    fn forget_over(&mut self, now: Duration) {
        let is_over = |window: &Window| window.began.saturating_add(WINDOW) <= now;
        while self.in_order.front().is_some_and(|first| self.by_address.get(first).is_none_or(is_over)) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.in_order.pop_front() {
            self.by_address.remove(&first);
        }
    }
}

/// Whoever has an IPv6 address usually has the 2^64 of its network, too: they count as one.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        IpAddr::V4(address) => IpAddr::V4(address),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::V4(last.into())
    }

    #[test]
    fn the_failures_of_a_window_are_refused_and_further_ones_slowed() {
        let (mut failures, start) = (Failures::default(), Duration::from_secs(7));
        for _ in 0..MAX_FAILURES_PER_WINDOW {
            assert_eq!(failures.count(address(1), start), None);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(failures.count(address(1), later), Some(Duration::from_secs(40)));
        assert_eq!(failures.count(address(2), later), None, "another address is not concerned");
        assert_eq!(failures.count(address(1), start + WINDOW), None, "the next window begins at zero");
    }

    #[test]
    fn one_network_of_ipv6_and_one_mapped_address_count_as_one() {
        let same =
            |one: &str, other: &str| counted_as(one.parse().unwrap()) == counted_as(other.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1") && !same("10.0.0.1", "10.0.0.2"));
    }

    proptest! {
        #[test]
        fn an_address_is_slowed_only_by_its_own_failures_and_the_table_is_bounded(
            steps in proptest::collection::vec((0_u32..10_000, 0_u64..3_000), 1..6_000),
        ) {
            let (mut failures, mut now) = (Failures::default(), Duration::ZERO);
            let mut own: HashMap<u32, Vec<Duration>> = HashMap::new();
            for (last, millis) in steps {
                // one address in ten fails again and again
                let last = if last % 10 == 0 { 0 } else { last };
                now += Duration::from_millis(millis / 100);
                let times = own.entry(last).or_default();
                times.push(now);
                let recent = times.iter().filter(|time| **time + WINDOW > now).count();
                if let Some(wait) = failures.count(address(last), now) {
                    prop_assert!(recent > MAX_FAILURES_PER_WINDOW as usize);
                    prop_assert!(wait > Duration::ZERO && wait <= WINDOW);
                }
                prop_assert!(failures.by_address.len() <= MAX_ADDRESSES);
                prop_assert_eq!(failures.by_address.len(), failures.in_order.len());
            }
        }
    }
}
