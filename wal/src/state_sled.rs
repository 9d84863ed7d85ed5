//! Keyed state in sled.
//!
//! sled is given small values only (see `sled_db.rs`), so a value is stored in chunks. A stored key is the key with
//! every 0 byte written as `00 FF`, then `00 01`, then the chunk number (two bytes, big-endian, from 0). So no
//! stored key of one key falls among those of another, and stored keys sort as keys do. The first chunk begins with
//! the length of the whole value (4 bytes, little-endian), so that a missing chunk shows. One entry more, the seal,
//! says what the others add up to: see `state_seal.rs`.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::high_water::HighWater;
use crate::sled_db::{MAX_KEY_BYTES, MAX_VALUE_BYTES, SledDb};
use crate::state_seal::{FIRST_ENTRY_KEY, SEAL_KEY, Seal};
use crate::state_store::{Change, MAX_STATE_KEY_BYTES, StateError};
use crate::store::StoreError;

const LENGTH_BYTES: usize = 4;
const KEY_END: [u8; 2] = [0x00, 0x01];
/// Sorts after every chunk of a key and before every later key.
const KEY_END_AFTER: [u8; 2] = [0x00, 0x02];
const CHUNK_NUMBER_BYTES: usize = 2;

const _: () = assert!(2 * MAX_STATE_KEY_BYTES + KEY_END.len() + CHUNK_NUMBER_BYTES <= MAX_KEY_BYTES);

#[derive(Debug)]
pub(crate) struct StateSled {
    db: SledDb,
    /// As it is in the database.
    seal: Seal,
    high_water: HighWater,
}

/// A value being put together.
struct Value {
    key: Bytes,
    length: usize,
    data: BytesMut,
}

impl StateSled {
    /// The caller has checked that they belong together.
    pub(crate) fn new(db: SledDb, seal: Seal, high_water: HighWater) -> StateSled {
        StateSled { db, seal, high_water }
    }

    /// Whether nothing was ever written to it.
    pub(crate) fn is_new(&self) -> bool {
        self.seal == Seal::FIRST
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let mut stored = escape(key);
        stored.put_slice(&KEY_END);
        let mut values = collect(&self.db, &stored, &stored, 1)?;
        Ok(values.pop().map(|(_, value)| value))
    }

    pub(crate) fn scan_prefix(
        &self,
        prefix: &[u8],
        after_key: Option<&[u8]>,
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        scan_prefix(&self.db, prefix, after_key, max)
    }

    pub(crate) fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        // sled's batch, too, keeps the last change of a stored key, but a shorter value has fewer stored keys
        let last_changes: BTreeMap<&[u8], &Change> =
            changes.iter().map(|change| (change.key().as_ref(), change)).collect();
        let mut batch = sled::Batch::default();
        let mut seal = Seal { generation: self.seal.generation.saturating_add(1), ..self.seal };
        for (key, change) in last_changes {
            let mut stored = escape(key);
            stored.put_slice(&KEY_END);
            for old in self.db.tree.scan_prefix(&stored) {
                let (key, value) = old.map_err(|error| self.db.error("read", error))?;
                seal.remove(&key, &value);
                batch.remove(key);
            }
            if let Change::Put { value, .. } = change {
                put_chunks(&mut batch, &mut seal, &stored, value);
            }
        }
        batch.insert(&SEAL_KEY, seal.encode());
        self.db.apply(batch)?;
        self.db.sync()?;
        self.seal = seal;
        self.high_water.write(&seal.mark())
    }
}

/// See [`crate::StateStore::scan_prefix`].
pub(crate) fn scan_prefix(
    db: &SledDb,
    prefix: &[u8],
    after_key: Option<&[u8]>,
    max: usize,
) -> Result<Vec<(Bytes, Bytes)>, StateError> {
    let prefix = escape(prefix);
    let start = after_key.map(|after| {
        let mut start = escape(after);
        start.put_slice(&KEY_END_AFTER);
        start
    });
    let start = start.filter(|start| *start > prefix).unwrap_or_else(|| prefix.clone());
    collect(db, start.as_slice().max(&FIRST_ENTRY_KEY), &prefix, max)
}

/// Values from stored key `start` on, as long as stored keys begin with `prefix`.
fn collect(db: &SledDb, start: &[u8], prefix: &[u8], max: usize) -> Result<Vec<(Bytes, Bytes)>, StateError> {
    let mut values = Vec::new();
    let mut current: Option<Value> = None;
    for entry in db.tree.range(start..) {
        let (stored, chunk) = entry.map_err(|error| db.error("read", error))?;
        if !stored.starts_with(prefix) {
            break;
        }
        let (key, number) = parse_key(&stored);
        if number > 0 {
            match &mut current {
                Some(value) if value.key == key => value.data.put_slice(&chunk),
                _ => return Err(damaged(db, key, "its first chunk is missing".to_owned())),
            }
            continue;
        }
        if let Some(whole) = current.take() {
            values.push(finish(db, whole)?);
        }
        if values.len() >= max {
            return Ok(values);
        }
        current = Some(begin(db, key, &chunk)?);
    }
    if let Some(whole) = current {
        values.push(finish(db, whole)?);
    }
    Ok(values)
}

fn begin(db: &SledDb, key: Bytes, mut chunk: &[u8]) -> Result<Value, StateError> {
    if chunk.len() < LENGTH_BYTES {
        return Err(damaged(db, key, format!("its first chunk has {} bytes only", chunk.len())));
    }
    let length = chunk.get_u32_le() as usize;
    Ok(Value { key, length, data: BytesMut::from(chunk) })
}

fn finish(db: &SledDb, Value { key, length, data }: Value) -> Result<(Bytes, Bytes), StateError> {
    if data.len() != length {
        return Err(damaged(db, key, format!("{} of {length} bytes are there", data.len())));
    }
    Ok((key, data.freeze()))
}

fn damaged(db: &SledDb, key: Bytes, what: String) -> StateError {
    StateError::Damaged { path: db.dir().to_owned(), key, what }
}

fn put_chunks(batch: &mut sled::Batch, seal: &mut Seal, stored: &[u8], value: &Bytes) {
    let mut rest = value.clone();
    let mut number = 0_u16;
    let mut chunk = BytesMut::with_capacity(MAX_VALUE_BYTES);
    chunk.put_u32_le(value.len() as u32);
    loop {
        let room = MAX_VALUE_BYTES - chunk.len();
        chunk.put(rest.split_to(rest.len().min(room)));
        let mut key = stored.to_vec();
        key.put_u16(number);
        seal.add(&key, &chunk);
        batch.insert(key, chunk.as_ref());
        if rest.is_empty() {
            break;
        }
        chunk.clear();
        number += 1;
    }
}

fn escape(key: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(key.len() + 8);
    for byte in key {
        escaped.push(*byte);
        if *byte == 0 {
            escaped.push(0xFF);
        }
    }
    escaped
}

/// The key and the chunk number in a stored key.
fn parse_key(stored: &[u8]) -> (Bytes, u16) {
    let (rest, mut number) = stored.split_at(stored.len().saturating_sub(CHUNK_NUMBER_BYTES));
    let escaped = rest.strip_suffix(&KEY_END).unwrap_or(rest);
    let mut key = Vec::with_capacity(escaped.len());
    let mut after_zero = false;
    for byte in escaped {
        if !after_zero {
            key.push(*byte);
        }
        after_zero = *byte == 0 && !after_zero;
    }
    let number = if number.len() == CHUNK_NUMBER_BYTES { number.get_u16() } else { 0 };
    (key.into(), number)
}
