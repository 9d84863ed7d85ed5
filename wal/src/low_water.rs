//! The low-water file: the last record that was trimmed, so that a lost beginning shows.
//!
//! A log that begins with record 5,000 looks whole, whether it was trimmed up to there or lost its first segments.
//! So before the first segment of a trim goes, the sequence and hash of the last record to go are written here,
//! durably. From then on the segments up to there are gone for whoever opens the log; if a crash left some of them,
//! the open removes them. The log then begins right after this record, and its first record names the record's hash.
//!
//! No file: nothing was ever trimmed, and the log begins with record 1. The format is that of the high-water file
//! (see `high_water.rs`), replaced as a whole because it is written once a trim.

use std::path::{Path, PathBuf};

use crate::frame::Hash;
use crate::gaps::Gaps;
use crate::high_water::{self, Found, Mark};
use crate::raw_check::{self, Checked};
use crate::recovery::Damage;
use crate::segment_names::{self, first_sequence};
use crate::store::StoreError;
use crate::trimmed::Trimmed;

/// The file's name in the log's directory.
pub(crate) const FILE_NAME: &str = "low-water";

/// The last record that was trimmed; [`Mark::NONE`] if none was. Damage of the file itself is apart from a failure
/// to read it.
pub(crate) fn read(dir: &Path) -> Result<Result<Mark, Damage>, StoreError> {
    let path = dir.join(FILE_NAME);
    Ok(match high_water::read_file(&path)? {
        Found::Mark(mark) => Ok(mark),
        Found::Missing => Ok(Mark::NONE),
        Found::Damaged => {
            let what = "neither of its two slots is whole, so a lost beginning of the log would not show";
            Err(Damage { path, first: 0, last: 0, what: what.to_owned() })
        }
    })
}

/// Says durably that everything up to this record is trimmed.
pub(crate) fn write(dir: &Path, mark: &Mark) -> Result<(), StoreError> {
    high_water::create_file(&dir.join(FILE_NAME), mark)
}

/// How many of the segments at the front lie wholly at or below the mark: what a crash left of a trim. Never the
/// last segment, which no trim drops.
pub(crate) fn leftovers(paths: &[PathBuf], low: &Mark) -> usize {
    let next_firsts = paths.iter().skip(1).filter_map(|path| first_sequence(path));
    next_firsts.take_while(|next_first| *next_first <= low.sequence.saturating_add(1)).count()
}

/// Drops what a crash, or a failure, left of a trim. Nobody remembers what was found damaged before, so each segment is
/// looked through first: one that is not whole is evidence, and set aside. Returned is what could not be, so that the
/// next trim tries again, and says why not; the log opens all the same.
pub(crate) fn finish_trim(dir: &Path, low: &Mark, gaps: &Gaps) -> Result<Vec<Trimmed>, StoreError> {
    let paths = segment_names::segment_paths(dir)?;
    let mut left = Vec::new();
    for (path, next) in paths.iter().zip(paths.iter().skip(1)).take(leftovers(&paths, low)) {
        let last = gaps.last_held(first_sequence(next).unwrap_or(0).saturating_sub(1));
        let trimmed = Trimmed { path: path.clone(), is_damaged: !is_whole(path, last) };
        match trimmed.drop_files() {
            Err(_) if trimmed.is_damaged => left.push(trimmed),
            dropped => dropped?,
        }
    }
    Ok(left)
}

/// Whether a segment up to this record is whole; one that cannot be read is not known to be.
fn is_whole(path: &Path, last: u64) -> bool {
    let (first, kind) = (first_sequence(path).unwrap_or(0), segment_names::kind(path).unwrap_or_default());
    let check = || raw_check::check(path, kind, first..=last, None, &mut |_| Ok(()));
    last < first || matches!(check(), Ok(Checked::Whole { .. }))
}

/// What is missing at the beginning of a log with these segments, none of them a leftover, that no repair has
/// acknowledged.
pub(crate) fn missing_beginning(dir: &Path, paths: &[PathBuf], low: &Mark, gaps: &Gaps) -> Option<Damage> {
    let path = paths.first()?;
    let (expected, first) = (gaps.skip(low.sequence.saturating_add(1)), first_sequence(path)?);
    if first <= expected {
        return None;
    }
    let kind = segment_names::kind(path).unwrap_or_default();
    let what = match low.sequence {
        0 => "missing: the first segments are gone, and the log was never trimmed".to_owned(),
        trimmed => format!("missing: the first segments are gone; the log was trimmed up to {trimmed} only"),
    };
    Some(Damage { path: segment_names::path(dir, expected, kind), first: expected, last: first - 1, what })
}

/// The hash of the record before `first`, if the mark is that record.
pub(crate) fn hash_before(low: &Mark, first: u64) -> Option<Hash> {
    (low.sequence.checked_add(1) == Some(first)).then_some(low.hash)
}

/// What is wrong with the first segment's own word on which record it follows. Of a store that cannot tell without
/// being opened (sled) nothing: its first record is compared when it is opened, or by `verify`.
pub(crate) fn broken_beginning(paths: &[PathBuf], low: &Mark) -> Option<Damage> {
    let path = paths.first()?;
    let first = first_sequence(path)?;
    let expected = hash_before(low, first)?;
    let claimed = segment_names::kind(path).and_then(|kind| kind.claimed_previous_hash(path))?;
    (claimed != expected).then(|| Damage {
        path: path.clone(),
        first,
        last: first,
        what: NOT_THE_NEXT.to_owned(),
    })
}

/// What is said of a first record that does not follow the last trimmed one.
pub(crate) const NOT_THE_NEXT: &str =
    "it does not follow the record that was trimmed last; do all files come from the same backup?";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store_kind::StoreKind;

    fn mark(sequence: u64) -> Mark {
        Mark { sequence, hash: [sequence as u8; 32] }
    }

    fn paths(firsts: &[u64]) -> Vec<PathBuf> {
        firsts.iter().map(|first| segment_names::path(Path::new("log"), *first, StoreKind::Files)).collect()
    }

    #[test]
    fn what_was_written_is_read_and_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(read(dir.path()).expect("read"), Ok(Mark::NONE));
        for sequence in [5, 9] {
            write(dir.path(), &mark(sequence)).expect("written");
            assert_eq!(read(dir.path()).expect("read"), Ok(mark(sequence)));
        }
        fs::write(dir.path().join(FILE_NAME), [0; 8192]).expect("damaged");
        let damage = read(dir.path()).expect("read").expect_err("damaged");
        assert_eq!(damage.path, dir.path().join(FILE_NAME));
    }

    #[test]
    fn leftovers_lie_wholly_below() {
        for (firsts, low, expected) in [
            (&[1, 10, 20][..], 0, 0),
            (&[1, 10, 20], 8, 0),
            (&[1, 10, 20], 9, 1),
            (&[1, 10, 20], 18, 1),
            (&[1, 10, 20], 19, 2),
            (&[1, 10, 20], 1_000, 2),
            (&[10], 9, 0),
            (&[], 9, 0),
        ] {
            assert_eq!(leftovers(&paths(firsts), &mark(low)), expected, "{firsts:?} after {low}");
        }
    }

    #[test]
    fn a_beginning_past_the_mark_is_missing() {
        let missing = |firsts: &[u64], low| {
            missing_beginning(Path::new("log"), &paths(firsts), &mark(low), &Gaps::default())
                .map(|lost| (lost.first, lost.last))
        };
        assert_eq!(missing(&[1, 10], 0), None);
        assert_eq!(missing(&[10, 20], 0), Some((1, 9)));
        assert_eq!(missing(&[10, 20], 9), None);
        assert_eq!(missing(&[10, 20], 12), None, "it is held");
        assert_eq!(missing(&[10, 20], 8), Some((9, 9)));
        assert_eq!(missing(&[], 8), None);
    }
}
