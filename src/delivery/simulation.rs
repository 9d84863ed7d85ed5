//! Whole histories of one machine: a simulated log, a sink with faults, virtual time, and crashes.
//!
//! The world plays the shell. It answers pulls and batches after random delays, lets the log grow, kills the
//! machine and starts another from the last settlement, and checks every effect against a plain model.

mod outage;
mod random;
mod world;

use proptest::prelude::*;

use super::outcome::Order;
use world::{Faults, Plan, World};

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::None), Just(Order::PerKey), Just(Order::Batch)]
}

fn faults() -> impl Strategy<Value = Faults> {
    let percents = (0_u64..60, 0_u64..40, 0_u64..30, 0_u64..10, prop_oneof![Just(0_u64), 0..30_u64]);
    (percents, prop_oneof![Just(0_u64), 3..40_u64], any::<bool>()).prop_map(
        |((failing, batch_failing, throttled, short, lost), poison_every, named)| Faults {
            record_fails_percent: failing,
            batch_fails_percent: batch_failing,
            throttled_percent: throttled,
            short_answer_percent: short,
            lost_reply_percent: lost,
            poison_every,
            poison_is_named: named,
        },
    )
}

prop_compose! {
    fn plans(crashes: impl Strategy<Value = usize>, detaches: impl Strategy<Value = usize>)(
        seed in any::<u64>(),
        order in orders(),
        faults in faults(),
        events in 1_u64..250,
        matching_percent in 20_u64..=100,
        keys in 1_u64..12,
        max_records in 1_usize..12,
        max_bytes in 200_usize..3_000,
        max_in_flight in 1_usize..5,
        linger_ms in prop_oneof![Just(0_u64), 1..400_u64],
        window_records in 1_usize..40,
        window_bytes in 200_usize..8_000,
        rate in prop_oneof![3 => Just(None), 1 => (20_u32..200).prop_map(Some)],
        crashes in crashes,
        acts in 0_usize..12,
        detaches in detaches,
        max_dead_letters in prop_oneof![2 => Just(None), 1 => (1_u64..6).prop_map(Some)],
    ) -> Plan {
        Plan {
            seed, order, faults, events, matching_percent, keys, max_records, max_bytes, max_in_flight,
            linger_ms, window_records, window_bytes, rate, crashes, acts, detaches, max_dead_letters,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn without_a_crash_every_event_arrives_once_and_again_for_each_lost_reply(plan in plans(Just(0), Just(0))) {
        let world = World::new(plan).run();
        for (sequence, times) in &world.arrivals {
            prop_assert_eq!(*times, 1 + world.lost_replies(*sequence), "sequence {}", sequence);
        }
    }

    #[test]
    fn through_crashes_every_event_arrives_at_least_once(plan in plans(1_usize..6, Just(0))) {
        let world = World::new(plan).run();
        let unheard = |sequence: &u64| world.lost_replies(*sequence);
        let repeats: usize = world.arrivals.iter().map(|(sequence, times)| times.saturating_sub(1 + unheard(sequence))).sum();
        prop_assert!(repeats <= world.may_repeat, "{} repeats, {} unsettled at crashes", repeats, world.may_repeat);
    }

    /// The world checks the equation after every step, and that what is written agrees with it.
    #[test]
    fn what_was_accepted_is_accounted_for_through_everything(plan in plans(0_usize..6, 1_usize..4)) {
        World::new(plan).run();
    }
}
