use proptest::prelude::*;

use super::*;

const GIB: u64 = 1_024 * MIB;
const TEBIBYTE: u64 = 1_024 * GIB;

fn gauge(max_bytes: u64) -> Gauge {
    Gauge::new(Sizes::of(max_bytes, TEBIBYTE), max_bytes, 1)
}

/// A log of so many bytes on a disk with space.
fn log_of(bytes: u64, available_bytes: u64) -> Measured {
    Measured {
        allocated_bytes: bytes,
        unwritten_bytes: 0,
        available_bytes,
        room_bytes: available_bytes,
        ballast_bytes: 32 * MIB,
    }
}

#[test]
fn parts_are_small_on_a_small_disk_and_never_too_small() {
    let large = Sizes::of(20 * GIB, TEBIBYTE);
    assert_eq!((large.segment_bytes, large.reserve_bytes), (64 * MIB, 8 * MIB));
    assert_eq!((large.ballast_bytes, large.keep_free_bytes), (32 * MIB, 8 * MIB));
    let small = Sizes::of(20 * GIB, 16 * MIB);
    assert_eq!((small.segment_bytes, small.reserve_bytes), (2 * MIB, MIB));
    assert_eq!((small.ballast_bytes, small.keep_free_bytes), (4 * MIB, MIB));
    let limited = Sizes::of(MIN_LOG_BYTES, TEBIBYTE);
    assert_eq!((limited.segment_bytes, limited.reserve_bytes), (2 * MIB, MIB), "a segment holds the reserve");
    assert_eq!(Sizes::of(0, 0).segment_bytes, 2 * MIB);
}

#[test]
fn max_bytes_is_reached_in_steps_and_left_a_little_later() {
    let mut gauge = gauge(1_000 * MIB);
    let mut step = |mib: u64| gauge.look(&log_of(mib * MIB, TEBIBYTE)).step;
    assert_eq!([0, 799, 800, 949, 950, 999, 1_000, 2_000].map(&mut step), {
        use Step::{Alarm, Detach, Full, Normal};
        [Normal, Normal, Alarm, Alarm, Detach, Detach, Full, Full]
    });
    assert_eq!([981, 979, 931, 929, 781, 779].map(&mut step), {
        use Step::{Alarm, Detach, Full, Normal};
        [Full, Detach, Detach, Alarm, Alarm, Normal]
    });
}

#[test]
fn the_disk_is_the_limit_where_it_is_smaller_and_what_is_kept_is_not_for_entries() {
    let mut gauge = gauge(TEBIBYTE);
    let kept = 8 * MIB + 8 * MIB;
    let standing = gauge.look(&log_of(1_000 * MIB, kept + 1_000 * MIB));
    assert_eq!(standing, Standing { step: Step::Normal, used_bytes: 1_000 * MIB, limit_bytes: 2_000 * MIB });
    assert_eq!(gauge.look(&log_of(1_000 * MIB, kept + 20 * MIB)).step, Step::Detach);
    assert_eq!(gauge.look(&log_of(1_000 * MIB, kept)).step, Step::Full);
    let prepared = Measured { unwritten_bytes: 64 * MIB, ..log_of(1_064 * MIB, kept) };
    let standing = gauge.look(&prepared);
    assert_eq!((standing.used_bytes, standing.limit_bytes), (1_000 * MIB, 1_064 * MIB));
}

#[test]
fn a_missing_ballast_comes_before_entries() {
    let mut gauge = gauge(TEBIBYTE);
    let kept = 8 * MIB + 8 * MIB;
    let without = |available| Measured { ballast_bytes: 0, ..log_of(1_000 * MIB, available) };
    assert_eq!(gauge.look(&without(kept + 32 * MIB)).step, Step::Full);
    assert_eq!(gauge.ballast_step(&without(kept + 32 * MIB), 0), BallastStep::Make);
    assert_eq!(gauge.ballast_step(&without(kept + 32 * MIB - 1), 0), BallastStep::Leave);
    assert_eq!(gauge.look(&without(kept + 532 * MIB)).step, Step::Normal);
}

#[test]
fn the_reserve_is_for_what_is_essential() {
    let mut left = Left { step: Step::Detach, room_bytes: 100, in_flight_bytes: 0, reserve_bytes: 50 };
    let (entry, exit) = (Need::Entry { bytes: 10 }, Need::Essential { bytes: 10 });
    assert_eq!((left.admits(entry), left.admits(exit)), (Ok(()), Ok(())));
    left.in_flight_bytes = 40;
    assert_eq!((left.admits(entry), left.admits(exit)), (Ok(()), Ok(())));
    left.in_flight_bytes = 41;
    assert_eq!((left.admits(entry), left.admits(exit)), (Err(Full::ForEntries), Ok(())));
    left.in_flight_bytes = 90;
    assert_eq!(left.admits(exit), Ok(()), "down to the last byte");
    left.in_flight_bytes = 91;
    assert_eq!((left.admits(exit), left.admits(Need::Nothing)), (Err(Full::ForAll), Ok(())));
    let full = Left { step: Step::Full, room_bytes: 1_000, in_flight_bytes: 0, reserve_bytes: 50 };
    assert_eq!((full.admits(entry), full.admits(exit)), (Err(Full::ForEntries), Ok(())));
}

#[test]
fn exits_that_run_short_of_room_need_the_ballast() {
    let gauge = gauge(TEBIBYTE);
    let looked_at = Measured { room_bytes: 5 * MIB, ..log_of(GIB, 40 * MIB) };
    assert_eq!(gauge.ballast_step(&looked_at, MIB), BallastStep::Leave);
    assert_eq!(gauge.ballast_step(&looked_at, MIB + 1), BallastStep::Release);
    let after = Measured { ballast_bytes: 0, available_bytes: 72 * MIB, ..looked_at };
    assert_eq!(gauge.ballast_step(&after, MIB + 1), BallastStep::Leave, "exits have it now");
    assert_eq!(gauge.ballast_step(&after, MIB), BallastStep::Make, "they have room again");
    let elsewhere = Measured { available_bytes: GIB, ..looked_at };
    assert_eq!(gauge.ballast_step(&elsewhere, MIB + 1), BallastStep::Leave, "it is not what is missing");
}

#[test]
fn a_ballast_that_is_being_made_changes_no_limit() {
    let mut gauge = gauge(TEBIBYTE);
    let limit = |written: u64, gauge: &mut Gauge| {
        let available = 500 * MIB - written;
        gauge.look(&Measured { ballast_bytes: written, ..log_of(GIB, available) }).limit_bytes
    };
    let before = limit(0, &mut gauge);
    assert_eq!([1, 16, 32].map(|mib| limit(mib * MIB, &mut gauge)), [before; 3]);
}

proptest! {
    /// Whatever came before: a step is never lower than the space there is calls for, and gone at the latest
    /// when there is plenty.
    #[test]
    fn a_step_is_never_too_low(looks in proptest::collection::vec((0_u64..2_000, 0_u64..2_000), 1..40)) {
        let mut gauge = gauge(1_000 * MIB);
        for (used, available) in looks {
            let measured = log_of(used * MIB, available * MIB);
            let standing = gauge.look(&measured);
            let mut fresh = Gauge { step: Step::Normal, ..gauge };
            prop_assert!(standing.step >= fresh.look(&measured).step);
            prop_assert!(standing.limit_bytes <= 1_000 * MIB);
            prop_assert!(standing.step <= Step::Full);
        }
        prop_assert_eq!(gauge.look(&log_of(0, TEBIBYTE)).step, Step::Normal);
    }

    /// All that is admitted fits, whatever it is and in whichever order it comes.
    #[test]
    fn what_is_admitted_fits(needs in proptest::collection::vec((any::<bool>(), 0_u64..40), 0..60), room in 0_u64..400) {
        let mut left = Left { step: Step::Normal, room_bytes: room, in_flight_bytes: 0, reserve_bytes: 100 };
        let mut entries = 0;
        for (is_entry, bytes) in needs {
            let need = if is_entry { Need::Entry { bytes } } else { Need::Essential { bytes } };
            if left.admits(need).is_ok() {
                left.in_flight_bytes += bytes;
                entries += if is_entry { bytes } else { 0 };
            }
            prop_assert!(left.in_flight_bytes <= room);
            prop_assert!(entries <= room.saturating_sub(100));
        }
    }
}

#[test]
fn a_large_file_beside_the_log_leaves_all_that_is_kept_and_a_small_one_half_of_what_is_free_for_it() {
    let (kept, keep_free) = (16 * MIB, 8 * MIB);
    let has_room = |bytes, available| has_room_for_file(bytes, available, kept, keep_free);
    assert!(has_room(16 * MIB, 32 * MIB) && !has_room(16 * MIB, 32 * MIB - 1));
    assert!(!has_room(MAX_SMALL_FILE_BYTES + 1, kept));
    assert!(has_room(MAX_SMALL_FILE_BYTES, keep_free / 2 + MAX_SMALL_FILE_BYTES));
    assert!(!has_room(1, keep_free / 2));
    assert!(!has_room(u64::MAX, u64::MAX));
}
