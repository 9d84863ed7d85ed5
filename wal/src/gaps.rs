//! The gaps file: which records of a repaired log are known, and acknowledged, to be missing.
//!
//! A repair writes it once. Reads pass over what it lists; whatever else is missing is damage as ever. Gaps lie
//! between segments only.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 4 | magic | `TWGP` |
//! | 4 | version | 1 |
//! | 4 | gaps | at most [`MAX_GAPS`], ascending, not touching each other |
//! | 48 each | first and last sequence (8 each), hash of the last one's frame (32) | |
//! | 4 | CRC32C | of everything before |
//!
//! Integers are little-endian.

use std::fs;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut};

use crate::durable_fs;
use crate::frame::{Hash, NO_HASH};
use crate::store::StoreError;

/// The most gaps of one log, because each is followed by a segment of its own. A repair that finds more fails.
pub const MAX_GAPS: usize = 4_096;

/// The file's name in the log's directory.
pub(crate) const FILE_NAME: &str = "gaps";

const MAGIC: [u8; 4] = *b"TWGP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 4 + 4 + 4;
const GAP_BYTES: usize = 8 + 8 + 32;
const CRC_BYTES: usize = 4;
const MAX_FILE_BYTES: u64 = (HEADER_BYTES + MAX_GAPS * GAP_BYTES + CRC_BYTES) as u64;

/// Records that are missing, and what the record after them names as its previous hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first sequence that is missing.
    pub first: u64,
    /// The last sequence that is missing.
    pub last: u64,
    /// SHA-256 of the frame of `last`; zeros if nothing tells it any more.
    pub hash: Hash,
}

/// All gaps of a log. Clones are cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gaps(Arc<[Gap]>);

impl Gap {
    /// The sequences that are missing.
    pub fn range(&self) -> RangeInclusive<u64> {
        self.first..=self.last
    }
}

impl Gaps {
    /// Takes gaps in ascending order.
    pub(crate) fn new(gaps: Vec<Gap>) -> Gaps {
        Gaps(gaps.into())
    }

    pub(crate) fn list(&self) -> &[Gap] {
        &self.0
    }

    /// The gap that a sequence is in.
    pub(crate) fn around(&self, sequence: u64) -> Option<&Gap> {
        let after = self.0.partition_point(|gap| gap.first <= sequence);
        self.0.get(after.checked_sub(1)?).filter(|gap| sequence <= gap.last)
    }

    /// The first sequence from this one on that is in no gap.
    pub(crate) fn skip(&self, sequence: u64) -> u64 {
        self.around(sequence).map_or(sequence, |gap| gap.last.saturating_add(1))
    }

    /// The last sequence up to this one that is in no gap.
    pub(crate) fn last_held(&self, sequence: u64) -> u64 {
        self.around(sequence).map_or(sequence, |gap| gap.first.saturating_sub(1))
    }

    /// The parts of a range that are in no gap.
    pub(crate) fn outside(&self, range: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let mut parts = Vec::new();
        let mut from = *range.start();
        let from_first = self.0.partition_point(|gap| gap.last < from);
        for gap in self.0.iter().skip(from_first).take_while(|gap| gap.first <= *range.end()) {
            if from < gap.first {
                parts.push(from..=gap.first - 1);
            }
            from = gap.last.saturating_add(1);
        }
        if from <= *range.end() {
            parts.push(from..=*range.end());
        }
        parts
    }

    /// What the record at this sequence must name as its previous hash, if a gap is before it.
    pub(crate) fn hash_before(&self, sequence: u64) -> Option<Hash> {
        let gap = self.around(sequence.checked_sub(1)?)?;
        (gap.last.checked_add(1) == Some(sequence)).then_some(gap.hash)
    }

    /// The gaps of the log in `dir`; none, if there is no such file.
    ///
    /// # Errors
    /// The file is damaged, for which [`StoreError::is_damage`] holds, or cannot be read.
    pub(crate) fn read(dir: &Path) -> Result<Gaps, StoreError> {
        let path = dir.join(FILE_NAME);
        let read = || {
            if fs::metadata(&path)?.len() > MAX_FILE_BYTES {
                return Err(damaged("it is too long"));
            }
            decode(&fs::read(&path)?).ok_or_else(|| damaged("its checksum or its contents are wrong"))
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Gaps::default()),
            gaps => gaps.map_err(StoreError::on("read", &path)),
        }
    }

    /// Writes the file, durably.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let (path, unfinished) = (dir.join(FILE_NAME), dir.join("gaps.new"));
        let write = || {
            let mut file = fs::File::create(&unfinished)?;
            file.write_all(&encode(&self.0))?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(StoreError::on("create", &path))?;
        durable_fs::sync_dir(dir)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn encode(gaps: &[Gap]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + gaps.len() * GAP_BYTES + CRC_BYTES);
    bytes.put_slice(&MAGIC);
    bytes.put_u32_le(VERSION);
    // fits: MAX_GAPS does
    bytes.put_u32_le(gaps.len() as u32);
    for gap in gaps {
        bytes.put_u64_le(gap.first);
        bytes.put_u64_le(gap.last);
        bytes.put_slice(&gap.hash);
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.put_u32_le(crc);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Gaps> {
    let (body, mut crc) = bytes.split_at_checked(bytes.len().checked_sub(CRC_BYTES)?)?;
    if crc.get_u32_le() != crc32c::crc32c(body) {
        return None;
    }
    let mut body = body.strip_prefix(&MAGIC)?;
    let (version, count) = (body.try_get_u32_le().ok()?, body.try_get_u32_le().ok()? as usize);
    if version != VERSION || count > MAX_GAPS || body.len() != count * GAP_BYTES {
        return None;
    }
    let mut gaps: Vec<Gap> = Vec::with_capacity(count);
    while body.has_remaining() {
        let mut gap = Gap { first: body.get_u64_le(), last: body.get_u64_le(), hash: NO_HASH };
        body.copy_to_slice(&mut gap.hash);
        let is_after = gaps.last().is_none_or(|before| before.last.saturating_add(1) < gap.first);
        if gap.first == 0 || gap.last < gap.first || !is_after {
            return None;
        }
        gaps.push(gap);
    }
    Some(Gaps::new(gaps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps() -> Gaps {
        Gaps::new(vec![
            Gap { first: 1, last: 4, hash: [1; 32] },
            Gap { first: 10, last: 10, hash: [2; 32] },
            Gap { first: 20, last: 29, hash: NO_HASH },
        ])
    }

    #[test]
    fn a_gap_is_found_by_its_sequences() {
        let gaps = gaps();
        for (sequence, skipped) in [(0, 0), (1, 5), (4, 5), (5, 5), (10, 11), (11, 11), (29, 30), (30, 30)] {
            assert_eq!(gaps.skip(sequence), skipped, "{sequence}");
        }
        assert_eq!(gaps.hash_before(5), Some([1; 32]));
        assert_eq!((gaps.hash_before(0), gaps.hash_before(1), gaps.hash_before(4)), (None, None, None));
        assert_eq!((gaps.hash_before(11), gaps.hash_before(30)), (Some([2; 32]), Some(NO_HASH)));
        assert_eq!(gaps.hash_before(31), None);
        assert_eq!(gaps.outside(1..=40), [5..=9, 11..=19, 30..=40]);
        assert_eq!((gaps.outside(2..=3), gaps.outside(6..=7)), (vec![], vec![6..=7]));
        assert_eq!(gaps.outside(4..=10), [5..=9]);
    }

    #[test]
    fn what_was_written_is_read_and_every_flipped_bit_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Gaps::read(dir.path()).expect("none"), Gaps::default());
        gaps().write(dir.path()).expect("written");
        assert_eq!(Gaps::read(dir.path()).expect("read"), gaps());
        let whole = fs::read(dir.path().join(FILE_NAME)).expect("read");
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes), None);
            assert_eq!(decode(&whole[..bit / 8]), None);
        }
        fs::write(dir.path().join(FILE_NAME), &whole[1..]).expect("damaged");
        assert!(Gaps::read(dir.path()).expect_err("damaged").is_damage());
    }

    /// Repaired logs must always open: these bytes never change.
    #[test]
    fn golden_file() {
        let bytes = encode(&[Gap { first: 2, last: 3, hash: [0x11; 32] }]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "54574750",
            "01000000",
            "01000000",
            "0200000000000000",
            "0300000000000000",
            "1111111111111111111111111111111111111111111111111111111111111111",
            "2df179d6",
        );
        assert_eq!(hex, expected);
    }
}
