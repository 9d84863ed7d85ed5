//! A file of the index: for one sealed segment, which of its events concern whom. Pure.
//!
//! | bytes | | |
//! |---|---|---|
//! | 80 | header | magic `TWIX`, version 1, first and last sequence (8 each), keys (4), places (4), SHA-256 of the log's name (32), zeros (8), checksum (8) |
//! | 4,096 each | blocks of keys | checksum (8), then up to 170 keys, ascending by hash: hash (8), first place (4), places (4), checksum of the places (8); zeros to the end |
//! | 4 each | places | sequence - first sequence, ascending for each key |
//!
//! Integers are little-endian. A checksum is the first 8 bytes of a SHA-256 and covers where in which file its bytes are.
//! A lookup reads the header, some blocks and one run of places, and checks all that it reads: so it tells the truth or
//! says that the file is damaged. Nothing of an index is kept elsewhere: whatever is wrong with a file, it is made anew.

use std::io;

use bytes::{Buf, BufMut};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::domain::ids::LogName;

const MAGIC: [u8; 4] = *b"TWIX";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 80;
const BLOCK_BYTES: usize = 4_096;
const KEY_BYTES: usize = 24;
const KEYS_OF_BLOCK: usize = (BLOCK_BYTES - CHECKSUM_BYTES) / KEY_BYTES;
const PLACE_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 8;
/// The most places of one file: a segment with more is not indexed. One of 64 MiB has some 300,000.
pub(super) const MAX_PLACES: usize = 1 << 24;

/// Which segment of which log a file is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) log: LogName,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// One entry of an index: a key and a sequence that it is found at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: u64,
    /// Sequence - first sequence of the segment.
    pub(super) place: u32,
}

/// Where the bytes of a file come from.
pub(super) trait ReadAt {
    fn len(&self) -> io::Result<u64>;
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Why a file is of no use.
#[derive(Debug, Error)]
pub(super) enum FormatError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it is of another segment or log")]
    OfAnother,
}

/// A file whose header is in order.
#[derive(Debug)]
pub(super) struct IndexFile<R> {
    source: R,
    first: u64,
    blocks: usize,
    keys: usize,
    places: usize,
}

/// What is said of a key.
struct Run {
    key: u64,
    begin: usize,
    places: usize,
    checksum: u64,
}

/// The file of a segment; `None` if it has too many places. Entries may come in any order; each counts once.
pub(super) fn encode(segment: &Segment, mut entries: Vec<Entry>) -> Option<Vec<u8>> {
    entries.sort_unstable();
    entries.dedup();
    if entries.len() > MAX_PLACES {
        return None;
    }
    let runs: Vec<&[Entry]> = entries.chunk_by(|one, next| one.key == next.key).collect();
    let blocks = runs.len().div_ceil(KEYS_OF_BLOCK);
    let length = HEADER_BYTES + blocks * BLOCK_BYTES + entries.len() * PLACE_BYTES;
    let mut file = Vec::with_capacity(length);
    put_header(&mut file, segment, runs.len(), entries.len());
    let mut begin = 0_usize;
    for (number, runs) in runs.chunks(KEYS_OF_BLOCK).enumerate() {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        for run in runs {
            let key = run.first().map_or(0, |entry| entry.key);
            block.put_u64_le(key);
            block.put_u32_le(small(begin));
            block.put_u32_le(small(run.len()));
            block.put_u64_le(checksum(&[
                &segment.first.to_le_bytes(),
                &key.to_le_bytes(),
                &place_bytes(run),
            ]));
            begin += run.len();
        }
        block.resize(BLOCK_BYTES - CHECKSUM_BYTES, 0);
        file.put_u64_le(block_checksum(segment.first, number, &block));
        file.put_slice(&block);
    }
    file.put_slice(&place_bytes(&entries));
    Some(file)
}

fn put_header(file: &mut Vec<u8>, segment: &Segment, keys: usize, places: usize) {
    file.put_slice(&MAGIC);
    file.put_u32_le(VERSION);
    file.put_u64_le(segment.first);
    file.put_u64_le(segment.last);
    file.put_u32_le(small(keys));
    file.put_u32_le(small(places));
    file.put_slice(&Sha256::digest(segment.log.to_string().as_bytes()));
    file.put_u64_le(0);
    let checksum = checksum(&[file]);
    file.put_u64_le(checksum);
}

/// Bounded by [`MAX_PLACES`].
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn place_bytes(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.place.to_le_bytes()).collect()
}

fn checksum(parts: &[&[u8]]) -> u64 {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().as_slice().get_u64_le()
}

fn block_checksum(first: u64, number: usize, block: &[u8]) -> u64 {
    checksum(&[&first.to_le_bytes(), &(number as u64).to_le_bytes(), block])
}

impl<R: ReadAt> IndexFile<R> {
    /// Reads the header.
    pub(super) fn open(source: R, segment: &Segment) -> Result<Self, FormatError> {
        let length = source.len()?;
        let mut header = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Err(FormatError::Damaged("its header is cut short"));
        }
        source.read_at(&mut header, 0)?;
        let (body, mut sum) = header.split_at(HEADER_BYTES - CHECKSUM_BYTES);
        if sum.get_u64_le() != checksum(&[body]) {
            return Err(FormatError::Damaged("the checksum of its header is wrong"));
        }
        let mut rest = body.strip_prefix(&MAGIC).ok_or(FormatError::Damaged("its magic is wrong"))?;
        if rest.get_u32_le() != VERSION {
            return Err(FormatError::OfAnother);
        }
        let (first, last) = (rest.get_u64_le(), rest.get_u64_le());
        let (keys, places) = (rest.get_u32_le() as usize, rest.get_u32_le() as usize);
        let log = Sha256::digest(segment.log.to_string().as_bytes());
        if !rest.starts_with(&log) || first != segment.first || last != segment.last {
            return Err(FormatError::OfAnother);
        }
        let blocks = keys.div_ceil(KEYS_OF_BLOCK);
        let expected = HEADER_BYTES + blocks * BLOCK_BYTES + places * PLACE_BYTES;
        if places > MAX_PLACES || keys > places || length != expected as u64 {
            return Err(FormatError::Damaged("it has another length than it says"));
        }
        Ok(Self { source, first, blocks, keys, places })
    }

    /// The sequences that a key is found at, ascending.
    pub(super) fn sequences(&self, key: u64) -> Result<Vec<u64>, FormatError> {
        let Some(run) = self.find(key)? else { return Ok(Vec::new()) };
        if run.begin.saturating_add(run.places) > self.places {
            return Err(FormatError::Damaged("a key's places are past its end"));
        }
        let mut bytes = vec![0; run.places * PLACE_BYTES];
        let offset = HEADER_BYTES + self.blocks * BLOCK_BYTES + run.begin * PLACE_BYTES;
        self.source.read_at(&mut bytes, offset as u64)?;
        if run.checksum != checksum(&[&self.first.to_le_bytes(), &key.to_le_bytes(), &bytes]) {
            return Err(FormatError::Damaged("the checksum of a key's places is wrong"));
        }
        let mut bytes = bytes.as_slice();
        let mut sequences = Vec::with_capacity(run.places);
        while bytes.has_remaining() {
            sequences.push(self.first.saturating_add(u64::from(bytes.get_u32_le())));
        }
        Ok(sequences)
    }

    /// Every block on the way is checked, so none leads astray.
    fn find(&self, key: u64) -> Result<Option<Run>, FormatError> {
        let (mut low, mut high) = (0, self.blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            let runs = self.block(middle)?;
            match (runs.first(), runs.last()) {
                (Some(first), _) if key < first.key => high = middle,
                (_, Some(last)) if key > last.key => low = middle + 1,
                _ => return Ok(runs.into_iter().find(|run| run.key == key)),
            }
        }
        Ok(None)
    }

    fn block(&self, number: usize) -> Result<Vec<Run>, FormatError> {
        let mut bytes = [0; BLOCK_BYTES];
        self.source.read_at(&mut bytes, (HEADER_BYTES + number * BLOCK_BYTES) as u64)?;
        let (mut sum, mut keys) = bytes.split_at(CHECKSUM_BYTES);
        if sum.get_u64_le() != block_checksum(self.first, number, keys) {
            return Err(FormatError::Damaged("the checksum of a block is wrong"));
        }
        let count = self.keys.saturating_sub(number * KEYS_OF_BLOCK).min(KEYS_OF_BLOCK);
        let run = |_| Run {
            key: keys.get_u64_le(),
            begin: keys.get_u32_le() as usize,
            places: keys.get_u32_le() as usize,
            checksum: keys.get_u64_le(),
        };
        Ok((0..count).map(run).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use proptest::prelude::*;

    impl ReadAt for &[u8] {
        fn len(&self) -> io::Result<u64> {
            Ok(<[u8]>::len(self) as u64)
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let begin = usize::try_from(offset).unwrap();
            let found = self.get(begin..begin + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(found);
            Ok(())
        }
    }

    fn segment() -> Segment {
        Segment { log: "hq-1.7".parse().unwrap(), first: 1_000, last: 1_999 }
    }

    fn sequences(file: &[u8], key: u64) -> Result<Vec<u64>, FormatError> {
        IndexFile::open(file, &segment())?.sequences(key)
    }

    fn entries(of: &[(u64, u32)]) -> Vec<Entry> {
        of.iter().map(|&(key, place)| Entry { key, place }).collect()
    }

    #[test]
    fn a_file_is_of_one_segment_of_one_log() {
        let file = encode(&segment(), entries(&[(5, 0), (5, 9)])).unwrap();
        assert_eq!(sequences(&file, 5).unwrap(), [1_000, 1_009]);
        assert!(sequences(&file, 6).unwrap().is_empty());
        for other in [
            Segment { first: 1_001, ..segment() },
            Segment { last: 1_998, ..segment() },
            Segment { log: "hq-1.8".parse().unwrap(), ..segment() },
        ] {
            assert!(matches!(IndexFile::open(file.as_slice(), &other), Err(FormatError::OfAnother)));
        }
        assert!(sequences(&encode(&segment(), vec![]).unwrap(), 5).unwrap().is_empty());
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_noticed_or_does_not_matter() {
        let of: Vec<_> = (0..400_u32).map(|n| (u64::from(n % 190) * 7, n)).collect();
        let file = encode(&segment(), entries(&of)).unwrap();
        let mut model: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (key, place) in of {
            model.entry(key).or_default().push(1_000 + u64::from(place));
        }
        for at in (0..file.len()).step_by(53) {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << (at % 8);
            for (key, expected) in model.iter().step_by(47) {
                if let Ok(found) = sequences(&flipped, *key) {
                    assert_eq!(&found, expected, "byte {at}");
                }
            }
            assert!(sequences(&file[..at], 7).is_err(), "cut at {at}");
        }
        let header = |at: usize| {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            sequences(&flipped, 7).is_err()
        };
        assert!((0..HEADER_BYTES).all(header));
    }

    proptest! {
        // hashing is slow in a debug build
        #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
        #[test]
        fn equals_a_plain_map(of in proptest::collection::vec((0..900_u64, 0..1_000_u32), 0..1_500)) {
            let file = encode(&segment(), entries(&of)).unwrap();
            let mut model: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
            for (key, place) in &of {
                model.entry(*key).or_default().insert(1_000 + u64::from(*place));
            }
            for key in (0..901).step_by(7) {
                let expected: Vec<u64> = model.remove(&key).unwrap_or_default().into_iter().collect();
                prop_assert_eq!(sequences(&file, key).unwrap(), expected);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5_000), key in any::<u64>()) {
            let _ = sequences(&bytes, key);
        }
    }

    /// Files on disks are like this.
    #[test]
    fn golden_header() {
        let file = encode(&segment(), entries(&[(5, 1)])).unwrap();
        assert_eq!(file.len(), 80 + 4_096 + 4);
        let hex: String = file.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5457495801000000e803000000000000cf070000000000000100000001000000");
    }
}
