//! A segment in sled.
//!
//! The key of a frame is its sequence, eight bytes, big-endian, so that keys sort as sequences do. A frame longer
//! than [`MAX_VALUE_BYTES`] goes on in continuation chunks; see `sled_db.rs` for why values are small. Their keys
//! are the sequence and a chunk number from 1, two bytes, big-endian, so that they follow their frame.
//!
//! A continuation chunk says all about itself, as a frame does, so that a raw scan can put long frames together:
//! magic (4), length of the data (4), sequence (8), chunk number (2), data, CRC32C of everything before (4);
//! integers little-endian.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::sled_db::{MAX_VALUE_BYTES, SledDb, SledOpenError};
use crate::store::{SegmentStore, StoreError};

pub(crate) const CHUNK_MAGIC: [u8; 4] = [0xAC, b'T', b'W', b'C'];
pub(crate) const CHUNK_HEADER_BYTES: usize = 4 + 4 + 8 + 2;
const CHUNK_CRC_BYTES: usize = 4;
pub(crate) const CHUNK_DATA_BYTES: usize = MAX_VALUE_BYTES - CHUNK_HEADER_BYTES - CHUNK_CRC_BYTES;
const SEQUENCE_BYTES: usize = 8;

/// See [`SegmentStore`] for the contract.
#[derive(Debug)]
pub(crate) struct SledStore {
    db: SledDb,
    /// How many bytes of values it should hold. A database has no size of its own.
    segment_bytes: u64,
    /// Of values, roughly: those removed count, too.
    used_bytes: AtomicU64,
}

impl SledStore {
    /// Opens or creates a segment that takes everything.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<SledStore, SledOpenError> {
        let db = SledDb::open(dir, cache_bytes)?;
        Ok(SledStore { db, segment_bytes: u64::MAX, used_bytes: AtomicU64::new(0) })
    }

    /// Opens or creates a segment that is full with so many bytes. Reads all of it, to count them.
    pub(crate) fn open_limited(
        dir: &Path,
        cache_bytes: u64,
        segment_bytes: u64,
    ) -> Result<SledStore, SledOpenError> {
        let db = SledDb::open(dir, cache_bytes)?;
        let mut used = 0;
        for value in db.tree.iter().values() {
            used += value.map_err(|error| db.error("read", error))?.len() as u64;
        }
        Ok(SledStore { db, segment_bytes, used_bytes: AtomicU64::new(used) })
    }
}

impl SegmentStore for SledStore {
    fn path(&self) -> &Path {
        self.db.dir()
    }

    fn append(&self, frames: &[(u64, Bytes)]) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (sequence, frame) in frames {
            let mut rest = frame.clone();
            let head = rest.split_to(rest.len().min(MAX_VALUE_BYTES));
            batch.insert(&sequence.to_be_bytes(), head.as_ref());
            let mut number = 0_u16;
            while rest.has_remaining() {
                number += 1;
                let data = rest.split_to(rest.len().min(CHUNK_DATA_BYTES));
                batch.insert(chunk_key(*sequence, number), encode_chunk(*sequence, number, &data).as_ref());
            }
        }
        self.db.apply(batch)?;
        let bytes: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
        self.used_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.sync()
    }

    fn read(&self, from: u64, max_records: usize, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let mut frames: Vec<(u64, BytesMut)> = Vec::new();
        let mut bytes = 0_usize;
        for entry in self.db.tree.range(from.to_be_bytes()..) {
            let (key, value) = entry.map_err(|error| self.db.error("read", error))?;
            let (sequence, number) = parse_key(&key);
            let data = if number == 0 { value.as_ref() } else { chunk_data(&value) };
            bytes = bytes.saturating_add(data.len());
            if number == 0 {
                if frames.len() == max_records {
                    break;
                }
                frames.push((sequence, BytesMut::from(data)));
            } else if let Some((_, frame)) = frames.last_mut().filter(|(last, _)| *last == sequence) {
                // else its head is missing: then the caller misses the sequence
                frame.put_slice(data);
            }
            if bytes > max_bytes && frames.len() > 1 {
                frames.pop();
                break;
            }
            // a short value is the last of its frame: do not look at the next one, which may be damaged
            if frames.len() == max_records && value.len() < MAX_VALUE_BYTES {
                break;
            }
        }
        Ok(frames.into_iter().map(|(sequence, frame)| (sequence, frame.freeze())).collect())
    }

    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let first = self.db.tree.first().map_err(|error| self.db.error("read", error))?;
        let last = self.db.tree.last().map_err(|error| self.db.error("read", error))?;
        Ok(first.zip(last).map(|((first, _), (last, _))| (parse_key(&first).0, parse_key(&last).0)))
    }

    fn count(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        for key in self.db.tree.iter().keys() {
            let key = key.map_err(|error| self.db.error("read", error))?;
            count += u64::from(key.len() == SEQUENCE_BYTES);
        }
        Ok(count)
    }

    fn remaining_bytes(&self) -> u64 {
        match self.used_bytes.load(Ordering::Relaxed) {
            // a commit longer than a segment has one to itself
            0 => u64::MAX,
            used => self.segment_bytes.saturating_sub(used),
        }
    }

    fn remove_tail(&self, after: u64) -> Result<(), StoreError> {
        let Some(from) = after.checked_add(1) else { return Ok(()) };
        let mut batch = sled::Batch::default();
        for key in self.db.tree.range(from.to_be_bytes()..).keys() {
            batch.remove(key.map_err(|error| self.db.error("read", error))?);
        }
        self.db.apply(batch)
    }
}

fn chunk_key(sequence: u64, number: u16) -> Vec<u8> {
    let mut key = sequence.to_be_bytes().to_vec();
    key.put_u16(number);
    key
}

/// The sequence and the chunk number, 0 for the frame's head. A key of another length is none of ours: it is taken
/// for a chunk of a sequence that cannot be, and so passed over.
fn parse_key(mut key: &[u8]) -> (u64, u16) {
    match key.len() {
        8 => (key.get_u64(), 0),
        10 => (key.get_u64(), key.get_u16()),
        _ => (0, u16::MAX),
    }
}

fn encode_chunk(sequence: u64, number: u16, data: &[u8]) -> Bytes {
    let mut chunk = BytesMut::with_capacity(CHUNK_HEADER_BYTES + data.len() + CHUNK_CRC_BYTES);
    chunk.put_slice(&CHUNK_MAGIC);
    chunk.put_u32_le(data.len() as u32);
    chunk.put_u64_le(sequence);
    chunk.put_u16_le(number);
    chunk.put_slice(data);
    let crc = crc32c::crc32c(&chunk);
    chunk.put_u32_le(crc);
    chunk.freeze()
}

/// A continuation chunk found in the raw file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) sequence: u64,
    pub(crate) number: u16,
    pub(crate) data: &'a [u8],
}

/// The whole chunk that begins here, if one does, and its length.
pub(crate) fn decode_chunk(bytes: &[u8]) -> Option<(Chunk<'_>, usize)> {
    let mut header = bytes.strip_prefix(&CHUNK_MAGIC)?;
    let data_bytes = header.try_get_u32_le().ok()? as usize;
    let (sequence, number) = (header.try_get_u64_le().ok()?, header.try_get_u16_le().ok()?);
    if data_bytes > CHUNK_DATA_BYTES {
        return None;
    }
    let body = bytes.get(..CHUNK_HEADER_BYTES + data_bytes)?;
    let mut crc = bytes.get(body.len()..body.len() + CHUNK_CRC_BYTES)?;
    let data = body.get(CHUNK_HEADER_BYTES..)?;
    let is_whole = crc.get_u32_le() == crc32c::crc32c(body);
    is_whole.then_some((Chunk { sequence, number, data }, body.len() + CHUNK_CRC_BYTES))
}

/// The data of a stored chunk. Nothing is checked: the frame's own checksum covers it.
fn chunk_data(chunk: &[u8]) -> &[u8] {
    let end = chunk.len().saturating_sub(CHUNK_CRC_BYTES);
    chunk.get(CHUNK_HEADER_BYTES..end).unwrap_or_default()
}
