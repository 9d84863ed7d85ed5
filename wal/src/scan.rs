//! A raw scan of the files for frames, whatever the store thinks of them.
//!
//! sled may hide much more than is damaged: after a flip that hid 885 of 2,000 records, a raw scan found all of
//! them. A frame says all about itself, so it is found without sled.

use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;

use crate::gaps::Gaps;
use crate::high_water::{self, Found};
use crate::raw_frames::{self, Found as RawFound};
use crate::segment_names;
use crate::sequence_set::{Inserted, SequenceSet, ranges};
use crate::store::StoreError;

/// The most ranges listed of each kind; more are counted.
pub const MAX_SCAN_RANGES: usize = 1_000;

/// The most sequences told apart, if they lie side by side: 32 MiB of memory. Frames past it are counted.
pub const MAX_SCAN_SEQUENCES: u64 = 256 * 1024 * 1024;

/// What lies in the files of a log. Frames that sled has rewritten since, and those of an unfinished group that was
/// dropped, are found, too, as long as nothing was written over them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Sequences whose frame was found whole, checksum included.
    pub whole: Ranges,
    /// Sequences of which only the head was found, because the frame is longer than 4 KiB and stored in pieces:
    /// nothing is known of their payload.
    pub heads: Ranges,
    /// Sequences of which neither was found, and which no repair has acknowledged to be missing, from the first the log's name says to `high_water`; if that is not
    /// known, to the last one found.
    pub missing: Ranges,
    /// Whole frames found again under a sequence found before. That is how sled works, no damage.
    pub duplicates: u64,
    /// Whole frames and heads past [`MAX_SCAN_SEQUENCES`], which are in none of the above.
    pub left_off: u64,
    /// The last sequence known to have been durable, if the high-water file can be read.
    pub high_water: Option<u64>,
    /// Bytes read.
    pub bytes: u64,
}

/// Sequences, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    /// How many sequences there are, the ranges left off included.
    pub sequences: u64,
    /// From the first one on, at most [`MAX_SCAN_RANGES`].
    pub listed: Vec<RangeInclusive<u64>>,
    /// How many ranges there are past that.
    pub left_off: u64,
}

impl Ranges {
    fn of(ranges: impl Iterator<Item = RangeInclusive<u64>>) -> Ranges {
        let mut all = Ranges::default();
        for range in ranges {
            let sequences = (range.end() - range.start()).saturating_add(1);
            all.sequences = all.sequences.saturating_add(sequences);
            if all.listed.len() < MAX_SCAN_RANGES {
                all.listed.push(range);
            } else {
                all.left_off += 1;
            }
        }
        all
    }
}

/// Looks for whole frames in the files of the log in `dir`, without sled: nothing is locked or written, and no
/// damage can stop it. Memory is bounded by the constants above, whatever the files hold.
///
/// # Errors
/// A file cannot be read. A log without segments is none: its report says what is missing.
pub fn scan(dir: &Path) -> Result<ScanReport, StoreError> {
    let paths = segment_names::segment_paths(dir)?;
    let high_water = match high_water::read(dir)? {
        Found::Mark(mark) => Some(mark.sequence),
        Found::Missing | Found::Damaged => None,
    };
    // a damaged file acknowledges nothing
    let gaps =
        Gaps::read(dir).or_else(|error| if error.is_damage() { Ok(Gaps::default()) } else { Err(error) })?;
    let mut found = Frames::default();
    for path in &paths {
        let kind = segment_names::kind(path).unwrap_or_default();
        let (data_path, longest_piece) = (kind.data_path(path), raw_frames::longest_piece(kind));
        match File::open(&data_path) {
            // then its records are missing
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => opened
                .and_then(|mut file| {
                    found.scan_file(&mut file, longest_piece, raw_frames::window_bytes(kind))
                })
                .map_err(StoreError::on("read", &data_path))?,
        }
    }
    let first = paths.first().and_then(|path| segment_names::first_sequence(path)).unwrap_or(1);
    Ok(found.report(first, high_water, &gaps))
}

/// What was found so far.
#[derive(Debug, Default)]
struct Frames {
    whole: SequenceSet,
    /// Those of which only the head was found, too.
    seen: SequenceSet,
    duplicates: u64,
    left_off: u64,
    bytes: u64,
}

impl Frames {
    fn scan_file(
        &mut self,
        file: &mut impl Read,
        longest_piece: usize,
        window_bytes: usize,
    ) -> io::Result<()> {
        let bytes = raw_frames::walk(file, longest_piece, window_bytes, &mut |found| self.take(&found))?;
        self.bytes += bytes;
        Ok(())
    }

    fn take(&mut self, found: &RawFound<'_>) {
        match found {
            RawFound::Chunk { .. } => {}
            RawFound::Head { sequence, .. } => {
                self.see(*sequence);
            }
            RawFound::Frame { record, .. } => {
                if self.see(record.sequence)
                    && self.whole.insert(record.sequence, MAX_SCAN_SEQUENCES) == Inserted::AlreadyThere
                {
                    self.duplicates += 1;
                }
            }
        }
    }

    /// Whether there was room for it. `whole` holds nothing else, so there is room in it, too.
    fn see(&mut self, sequence: u64) -> bool {
        let has_room = self.seen.insert(sequence, MAX_SCAN_SEQUENCES) != Inserted::Full;
        self.left_off += u64::from(!has_room);
        has_room
    }

    fn report(&self, first: u64, high_water: Option<u64>, acknowledged: &Gaps) -> ScanReport {
        let heads = self.seen.iter().filter(|sequence| !self.whole.contains(*sequence));
        let last = high_water.or_else(|| self.whole.iter().last()).unwrap_or(0);
        ScanReport {
            whole: Ranges::of(ranges(self.whole.iter())),
            heads: Ranges::of(ranges(heads)),
            missing: Ranges::of(self.gaps(first, last).flat_map(|range| acknowledged.outside(range))),
            duplicates: self.duplicates,
            left_off: self.left_off,
            high_water,
            bytes: self.bytes,
        }
    }

    /// What was not seen from `first` to `last`.
    fn gaps(&self, first: u64, last: u64) -> impl Iterator<Item = RangeInclusive<u64>> {
        let wanted = move |sequence: &u64| (first..=last).contains(sequence);
        let seen = ranges(self.seen.iter().filter(wanted)).map(Some);
        let mut expected = Some(first);
        seen.chain([None]).filter_map(move |range| {
            let from = expected?;
            expected = range.as_ref().and_then(|range| range.end().checked_add(1));
            let to = range.map_or(Some(last), |range| range.start().checked_sub(1))?;
            (from <= to).then_some(from..=to)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{self, NO_HASH, OVERHEAD_BYTES};
    use crate::sled_db::MAX_VALUE_BYTES;

    #[derive(Debug, Clone)]
    enum Piece {
        Noise(Vec<u8>),
        Whole(u64, usize),
        Flipped(u64, usize),
        Head(u64),
    }

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let length = prop_oneof![0..40_usize, Just(MAX_VALUE_BYTES - OVERHEAD_BYTES)];
        let noise = prop_oneof![prop::sample::select(frame::MAGIC.to_vec()), any::<u8>()];
        let piece = prop_oneof![
            2 => prop::collection::vec(noise, 0..100).prop_map(Piece::Noise),
            6 => (1..30_u64, length.clone()).prop_map(|(sequence, length)| Piece::Whole(sequence, length)),
            1 => (1..30_u64, length).prop_map(|(sequence, length)| Piece::Flipped(sequence, length)),
            1 => (1..30_u64).prop_map(Piece::Head),
        ];
        prop::collection::vec(piece, 0..20)
    }

    proptest! {
        #[test]
        fn frames_are_found_wherever_the_windows_end(pieces in pieces(), window in 2 * MAX_VALUE_BYTES..20_000) {
            let (mut file, mut whole, mut seen) = (Vec::new(), Vec::new(), Vec::new());
            for piece in pieces {
                match piece {
                    Piece::Noise(bytes) => file.extend(bytes),
                    Piece::Whole(sequence, length) => {
                        file.extend(frame::encode(sequence, &NO_HASH, true, &vec![7; length]));
                        whole.push(sequence);
                        seen.push(sequence);
                    }
                    Piece::Flipped(sequence, length) => {
                        let start = file.len();
                        file.extend(frame::encode(sequence, &NO_HASH, true, &vec![7; length]));
                        file[start + 20] ^= 1;
                    }
                    Piece::Head(sequence) => {
                        let frame = frame::encode(sequence, &NO_HASH, true, &vec![7; 2 * MAX_VALUE_BYTES]);
                        file.extend(&frame[..MAX_VALUE_BYTES]);
                        seen.push(sequence);
                    }
                }
            }
            let mut found = Frames::default();
            found.scan_file(&mut file.as_slice(), MAX_VALUE_BYTES, window).expect("read");
            let total = whole.len() as u64;
            for list in [&mut whole, &mut seen] {
                list.sort_unstable();
                list.dedup();
            }
            let report = found.report(1, Some(40), &Gaps::default());
            prop_assert_eq!(report.bytes, file.len() as u64);
            prop_assert_eq!(report.duplicates, total - whole.len() as u64);
            prop_assert!(report.whole.listed.into_iter().flatten().eq(whole.iter().copied()));
            let heads = seen.iter().copied().filter(|sequence| !whole.contains(sequence));
            prop_assert!(report.heads.listed.into_iter().flatten().eq(heads));
            let missing = (1..=40).filter(|sequence| !seen.contains(sequence));
            prop_assert!(report.missing.listed.into_iter().flatten().eq(missing));
        }
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let ranges = Ranges::of((0..1_500).map(|index| 3 * index..=3 * index + 1));
        assert_eq!((ranges.sequences, ranges.listed.len(), ranges.left_off), (3_000, MAX_SCAN_RANGES, 500));
    }
}
