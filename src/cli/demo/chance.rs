//! Seeded randomness: the same seed makes the same day.

use super::clock::TimeOfDay;

/// A splitmix64 generator (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// Of one person on one day.
    pub(super) fn new(seed: u64, person: u32, day: u32) -> Self {
        let mut mixed = Self(seed ^ (u64::from(person) << 32 | u64::from(day)));
        Self(mixed.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end - 1`; 0 if `end` is 0. The bias of the remainder is far below what a demo shows.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end.max(1))).unwrap_or_default()
    }

    /// True in so many of 100 cases.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// Some time in between.
    pub(super) fn between(&mut self, from: TimeOfDay, to: TimeOfDay) -> TimeOfDay {
        TimeOfDay(from.0 + self.below(to.0.saturating_sub(from.0)))
    }

    /// Some time in between, most likely in the middle: a rush.
    pub(super) fn rush(&mut self, from: TimeOfDay, to: TimeOfDay) -> TimeOfDay {
        let half = to.0.saturating_sub(from.0) / 2;
        TimeOfDay(from.0 + self.below(half) + self.below(half))
    }
}
