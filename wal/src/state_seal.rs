//! The seal of the state store: what its entries must add up to.
//!
//! A damaged sled database opens with entries missing, or with older values of them, and nothing in it shows that.
//! So the store keeps one entry more, which callers can neither name nor see, and every write changes it in the
//! same batch: a generation, which counts the writes, how many other entries there are, and the sum of their
//! hashes. What an open finds must add up to it. A seal that is older, with entries that fit it, is noticed by the
//! high-water file beside the database (see `high_water.rs`), which knows the last durable generation.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic |
//! | 4 | version |
//! | 8 | generation, 1 for a store without a write |
//! | 8 | number of entries, as sled counts them, without this one |
//! | 16 | sum, modulo 2^128, of the first 16 bytes of SHA-256(length of key (4), key, value) of each |
//!
//! Integers are little-endian.

use bytes::{Buf, BufMut};
use sha2::{Digest, Sha256};

use crate::frame;
use crate::high_water::Mark;

/// Where it is kept. Callers' keys, as they are stored, begin with `00` only if `FF` or `01` follows (see
/// `state_sled.rs`), so this is none of them, and sorts before all.
pub(crate) const SEAL_KEY: [u8; 2] = [0x00, 0x00];

/// Every other stored key is at or after this one.
pub(crate) const FIRST_ENTRY_KEY: [u8; 2] = [0x00, 0x01];

const MAGIC: [u8; 4] = *b"TWSS";
const VERSION: u32 = 1;
const SEAL_BYTES: usize = 4 + 4 + 8 + 8 + 16;

/// See above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) generation: u64,
    pub(crate) entries: u64,
    pub(crate) sum: u128,
}

impl Seal {
    /// Of a store to which nothing was ever written.
    pub(crate) const FIRST: Seal = Seal { generation: 1, entries: 0, sum: 0 };

    /// Counts an entry that is there from now on.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        self.sum = self.sum.wrapping_add(entry_hash(key, value));
    }

    /// Takes an entry out that is there no longer.
    pub(crate) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(entry_hash(key, value));
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEAL_BYTES);
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.put_u64_le(self.generation);
        bytes.put_u64_le(self.entries);
        bytes.put_u128_le(self.sum);
        bytes
    }

    /// `None`: not a seal that this program knows.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Seal> {
        if bytes.len() != SEAL_BYTES {
            return None;
        }
        let mut magic = [0; 4];
        bytes.copy_to_slice(&mut magic);
        let known = magic == MAGIC && bytes.get_u32_le() == VERSION;
        known.then(|| Seal {
            generation: bytes.get_u64_le(),
            entries: bytes.get_u64_le(),
            sum: bytes.get_u128_le(),
        })
    }

    /// What the high-water file says of a store with this seal.
    pub(crate) fn mark(&self) -> Mark {
        Mark { sequence: self.generation, hash: frame::hash(&self.encode()) }
    }
}

fn entry_hash(key: &[u8], value: &[u8]) -> u128 {
    let mut hash = Sha256::new();
    hash.update((key.len() as u32).to_le_bytes());
    hash.update(key);
    hash.update(value);
    hash.finalize().as_slice().get_u128_le()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_seal() {
        let seal = Seal { generation: 2, entries: 3, sum: 4 };
        let hex: String = seal.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "5457535301000000020000000000000003000000000000000400000000000000";
        assert_eq!(hex, format!("{expected}0000000000000000"));
        assert_eq!(Seal::decode(&seal.encode()), Some(seal));
        assert_eq!(Seal::decode(b""), None);
        assert_eq!(Seal::decode(&[0; SEAL_BYTES]), None);
    }

    #[test]
    fn entries_add_up_in_any_order_and_cancel_out() {
        let (mut one, mut other) = (Seal::FIRST, Seal::FIRST);
        one.add(b"a", b"1");
        one.add(b"b", b"2");
        other.add(b"b", b"2");
        other.add(b"c", b"3");
        other.add(b"a", b"1");
        other.remove(b"c", b"3");
        assert_eq!(one, other);
        other.remove(b"a", b"1");
        other.add(b"a1", b"");
        assert_eq!(one.entries, other.entries);
        assert_ne!(one, other, "what is key and what is value counts");
    }
}
