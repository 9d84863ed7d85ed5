//! PURE: what becomes of a disk that fills up. Gates come first: an alarm, then sinks let go, then entries are
//! refused while exits use what was kept for them (promise 2).

pub mod filling;

use std::fmt;

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;

/// At this part of the limit an alarm is raised.
pub const ALARM_PERCENT: u64 = 80;
/// At this part of the limit sinks that are not required are detached.
pub const DETACH_PERCENT: u64 = 95;
/// A step is left only when so much more of the limit is free than where it began, so that it does not flutter.
pub const HYSTERESIS_PERCENT: u64 = 2;

/// The most that one swipe puts into the log: its event, and the one that ends an earlier presence. Ids have at most
/// 64 bytes; a test makes the largest.
pub const MAX_SWIPE_BYTES: u64 = 4 * KIB;
/// The most that one change of a card puts into the log: its request has 64 KiB, an event holds it once.
pub const MAX_CARD_BYTES: u64 = 96 * KIB;
/// The most that one event of a device puts into the log: its data of 32 KiB at most, and as much around them as a swipe
/// has.
pub const MAX_DEVICE_EVENT_BYTES: u64 = 36 * KIB;
/// The most that one recorded read puts into the log; a person's name comes with their token.
pub const MAX_READ_BYTES: u64 = 16 * KIB;
/// The most that an act of the security desk puts into the log: its reason has 500 characters, and a person's name comes
/// with their token.
pub const MAX_DESK_BYTES: u64 = 16 * KIB;

/// The largest file beside the log that may use some of what is kept free: on a full disk a sink goes on with such small
/// ones, so that the log can be trimmed.
pub const MAX_SMALL_FILE_BYTES: u64 = 256 * KIB;

/// The smallest `[wal] max_bytes`: eight of the smallest segments.
pub const MIN_LOG_BYTES: u64 = 16 * MIB;

/// How large the parts of a log are on its disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of a segment. An eighth of what there is at most, so that trimming gives space back in good pieces.
    pub segment_bytes: u64,
    /// Kept for exits, in bytes of the log: entries are refused before it is touched.
    pub reserve_bytes: u64,
    /// Of the file that is deleted when even the reserve runs out, and before a start on a full disk.
    pub ballast_bytes: u64,
    /// Left of the file system for everything else: cursors, dead letters, the segment after this one.
    pub keep_free_bytes: u64,
}

impl Sizes {
    /// For a log of at most `max_bytes` on a file system of `total_bytes`.
    #[must_use]
    pub fn of(max_bytes: u64, total_bytes: u64) -> Self {
        let segment_bytes = (max_bytes.min(total_bytes) / 8).clamp(2 * MIB, 64 * MIB);
        Self {
            segment_bytes,
            // what is sure is one segment: the reserve has to be found within it
            reserve_bytes: (total_bytes / 32).clamp(MIB, 8 * MIB).min(segment_bytes / 2),
            ballast_bytes: (total_bytes / 4).clamp(MIB, 32 * MIB),
            keep_free_bytes: (total_bytes / 16).clamp(MIB, 8 * MIB),
        }
    }
}

/// How a log stands on its disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// What its segments take, those prepared ahead included.
    pub allocated_bytes: u64,
    /// What of that is prepared and not yet written.
    pub unwritten_bytes: u64,
    /// What the file system has left.
    pub available_bytes: u64,
    /// Bytes of the log that surely still fit.
    pub room_bytes: u64,
    /// What the ballast takes, also while it is being made; 0 if it is not there.
    pub ballast_bytes: u64,
}

/// How full the disk is. Each step includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// All is well.
    #[default]
    Normal,
    /// An operator has to look.
    Alarm,
    /// Sinks that are not required, and that are behind, are let go.
    Detach,
    /// Entries and new cards are refused; exits are recorded.
    Full,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Alarm => "alarm",
            Self::Detach => "detach",
            Self::Full => "full",
        })
    }
}

/// Where a log stands, and where its end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The step.
    pub step: Step,
    /// Written, in bytes on the disk.
    pub used_bytes: u64,
    /// At so many bytes entries are refused.
    pub limit_bytes: u64,
}

/// Follows a disk from step to step.
#[derive(Clone, Copy, Debug)]
pub struct Gauge {
    /// The sizes it goes by.
    pub sizes: Sizes,
    max_bytes: u64,
    /// What the reserve takes on the disk; 0 where it lies in what is prepared.
    reserve_on_disk_bytes: u64,
    step: Step,
}

impl Gauge {
    /// For a log of at most `max_bytes` that takes so many bytes of the disk for each of its own.
    #[must_use]
    pub fn new(sizes: Sizes, max_bytes: u64, disk_bytes_per_byte: u64) -> Self {
        let reserve_on_disk_bytes = sizes.reserve_bytes.saturating_mul(disk_bytes_per_byte);
        Self { sizes, max_bytes, reserve_on_disk_bytes, step: Step::Normal }
    }

    /// Takes a look. A ballast that is missing counts as taken: it comes first when there is space again.
    pub fn look(&mut self, measured: &Measured) -> Standing {
        let Measured { allocated_bytes, unwritten_bytes, available_bytes, room_bytes, ballast_bytes } =
            *measured;
        let missing = self.sizes.ballast_bytes.saturating_sub(ballast_bytes);
        let held_back = self.kept_bytes().saturating_add(missing);
        let used_bytes = allocated_bytes.saturating_sub(unwritten_bytes);
        let free = unwritten_bytes.saturating_add(available_bytes).saturating_sub(held_back);
        let limit_bytes = self.max_bytes.min(used_bytes.saturating_add(free));
        let reserve = self.sizes.reserve_bytes;
        let here = step_at(used_bytes, limit_bytes, room_bytes < reserve);
        let margin = limit_bytes / 100 * HYSTERESIS_PERCENT;
        let a_little_fuller = step_at(
            used_bytes.saturating_add(margin),
            limit_bytes,
            room_bytes < reserve.saturating_add(reserve / 4),
        );
        // never below where it is, never above where it would be with a little less space
        self.step = self.step.max(here).min(a_little_fuller.max(here));
        Standing { step: self.step, used_bytes, limit_bytes }
    }

    /// What the log's disk has to have left before entries are refused, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.sizes.keep_free_bytes.saturating_add(self.reserve_on_disk_bytes)
    }

    /// What is to become of the ballast, one thing a look: what is given away is not made again at once, nor while
    /// exits lack room. Where it would fit a second time, it is not what is missing.
    #[must_use]
    pub fn ballast_step(&self, measured: &Measured, in_flight_bytes: u64) -> BallastStep {
        let fits = measured.available_bytes >= self.sizes.ballast_bytes.saturating_add(self.kept_bytes());
        let lack_room = measured.room_bytes.saturating_sub(in_flight_bytes) < self.sizes.reserve_bytes / 2;
        let is_there = measured.ballast_bytes >= self.sizes.ballast_bytes;
        match (is_there, fits, lack_room) {
            (true, false, true) => BallastStep::Release,
            (false, true, false) => BallastStep::Make,
            _ => BallastStep::Leave,
        }
    }
}

/// What is to become of the ballast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BallastStep {
    /// It stays as it is, there or not.
    Leave,
    /// Exits may soon have no room: they get its space.
    Release,
    /// It can be made without taking what is kept for exits.
    Make,
}

/// Whether a file may be written beside the log: by it no entry is refused, and no exit loses its reserve. A small one may
/// use half of what is kept free for such things.
#[must_use]
pub fn has_room_for_file(
    file_bytes: u64,
    available_bytes: u64,
    kept_bytes: u64,
    keep_free_bytes: u64,
) -> bool {
    let is_small = file_bytes <= MAX_SMALL_FILE_BYTES;
    let stays_bytes = if is_small { keep_free_bytes / 2 } else { kept_bytes };
    available_bytes.checked_sub(file_bytes).is_some_and(|left_bytes| left_bytes >= stays_bytes)
}

fn step_at(used_bytes: u64, limit_bytes: u64, is_in_reserve: bool) -> Step {
    let percent_of_limit =
        |percent: u64| u64::try_from(u128::from(limit_bytes) * u128::from(percent) / 100).unwrap_or(u64::MAX);
    if is_in_reserve || used_bytes >= limit_bytes {
        Step::Full
    } else if used_bytes >= percent_of_limit(DETACH_PERCENT) {
        Step::Detach
    } else if used_bytes >= percent_of_limit(ALARM_PERCENT) {
        Step::Alarm
    } else {
        Step::Normal
    }
}

/// What something that goes into the log needs, at most. Known before it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it only waits for what is before it.
    Nothing,
    /// An entry, a new card, what another device says: refused when the disk is full.
    Entry {
        /// In bytes.
        bytes: u64,
    },
    /// An exit, a card taken away, a recorded read: may use the reserve.
    Essential {
        /// In bytes.
        bytes: u64,
    },
}

impl Need {
    /// An event of a device that is no turnstile.
    pub const DEVICE_EVENT: Self = Self::Entry { bytes: MAX_DEVICE_EVENT_BYTES };
    /// A recorded read.
    pub const READ: Self = Self::Essential { bytes: MAX_READ_BYTES };
    /// An act of the security desk.
    pub const DESK: Self = Self::Essential { bytes: MAX_DESK_BYTES };

    /// So many swipes from inside, or presences that end.
    #[must_use]
    pub fn exits(count: usize) -> Self {
        Self::Essential { bytes: (count as u64).saturating_mul(MAX_SWIPE_BYTES) }
    }

    /// So many swipes from outside.
    #[must_use]
    pub fn entries(count: usize) -> Self {
        Self::Entry { bytes: (count as u64).saturating_mul(MAX_SWIPE_BYTES) }
    }

    /// A change of a card. What takes rights away may use the reserve.
    #[must_use]
    pub fn card(takes_away: bool) -> Self {
        let bytes = MAX_CARD_BYTES;
        if takes_away { Self::Essential { bytes } } else { Self::Entry { bytes } }
    }

    /// At most.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Entry { bytes } | Self::Essential { bytes } => bytes,
        }
    }
}

/// Why there is no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// For entries; exits have theirs.
    ForEntries,
    /// For anything.
    ForAll,
}

/// What is left for what is still to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The step.
    pub step: Step,
    /// Bytes of the log that surely still fit.
    pub room_bytes: u64,
    /// What of it is promised already, in bytes.
    pub in_flight_bytes: u64,
    /// What only the essential may use, in bytes.
    pub reserve_bytes: u64,
}

impl Left {
    /// Whether something may be decided.
    ///
    /// # Errors
    /// [`Full`] if it may not: then nothing of it may happen.
    pub fn admits(&self, need: Need) -> Result<(), Full> {
        let free = self.room_bytes.saturating_sub(self.in_flight_bytes);
        match need {
            Need::Nothing => Ok(()),
            Need::Essential { bytes } if free >= bytes => Ok(()),
            Need::Essential { .. } => Err(Full::ForAll),
            Need::Entry { bytes } => {
                let is_free = self.step < Step::Full && free >= self.reserve_bytes.saturating_add(bytes);
                if is_free { Ok(()) } else { Err(Full::ForEntries) }
            }
        }
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
