//! What a segment file holds besides frames: its header and the marks between commits.
//!
//! | bytes of the header | field | |
//! |---|---|---|
//! | 4 | magic | `TWSG` |
//! | 4 | version | 1 |
//! | 8 | first sequence | as in the file's name |
//! | 32 | previous hash | SHA-256 of the frame before, which is the last one of the segment before |
//! | 8 | segment bytes | the size of the file |
//! | 4 | CRC32C | of everything before |
//!
//! The header has the first [`HEADER_BLOCK_BYTES`] to itself, so that no append ever rewrites its block. Then follow
//! the commits: a mark (magic, first sequence, CRC32C), and its frames. Integers are little-endian.
//!
//! Why a mark: a power cut keeps the pages of one unsynced write in any order, so that the last commit may have
//! lost its first frame and kept its second. In the middle of the file the same picture means that an acknowledged
//! record is lost. A later mark tells them apart: it is written only after the commit before it was synced.

use bytes::{Buf, BufMut};

use crate::frame::{Hash, NO_HASH};

/// What the header has for itself.
pub(crate) const HEADER_BLOCK_BYTES: u64 = 4096;

const HEADER_MAGIC: [u8; 4] = *b"TWSG";
const VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 4 + 4 + 8 + 32 + 8 + 4;
const CRC_BYTES: usize = 4;

/// The first byte is not ASCII, so that no text payload contains it by accident.
pub(crate) const MARK_MAGIC: [u8; 4] = [0xAD, b'T', b'W', b'M'];
pub(crate) const MARK_BYTES: usize = 4 + 8 + 4;

/// The header of a segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) first: u64,
    pub(crate) previous_hash: Hash,
    pub(crate) segment_bytes: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.put_slice(&HEADER_MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.put_u64_le(self.first);
        bytes.put_slice(&self.previous_hash);
        bytes.put_u64_le(self.segment_bytes);
        put_crc(&mut bytes);
        bytes
    }

    /// The header in exactly these bytes, or what is wrong with them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Header, String> {
        let mut body = body(bytes, HEADER_BYTES).ok_or("its header is damaged")?;
        let mut magic = [0; 4];
        body.copy_to_slice(&mut magic);
        let version = body.get_u32_le();
        if magic != HEADER_MAGIC {
            return Err("it is no segment of a log".to_owned());
        }
        if version != VERSION {
            return Err(format!("its version is {version}; this program reads version {VERSION}"));
        }
        let first = body.get_u64_le();
        let mut previous_hash = NO_HASH;
        body.copy_to_slice(&mut previous_hash);
        Ok(Header { first, previous_hash, segment_bytes: body.get_u64_le() })
    }
}

/// The mark before the frames of a commit that begins with this sequence.
pub(crate) fn encode_mark(first: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_BYTES);
    bytes.put_slice(&MARK_MAGIC);
    bytes.put_u64_le(first);
    put_crc(&mut bytes);
    bytes
}

/// The first sequence of the commit whose mark these bytes are.
pub(crate) fn decode_mark(bytes: &[u8]) -> Option<u64> {
    let body = body(bytes, MARK_BYTES)?;
    body.strip_prefix(&MARK_MAGIC).map(|mut rest| rest.get_u64_le())
}

fn put_crc(bytes: &mut Vec<u8>) {
    let crc = crc32c::crc32c(bytes);
    bytes.put_u32_le(crc);
}

/// What is before the checksum, if there are so many bytes and the checksum is right.
fn body(bytes: &[u8], expected_bytes: usize) -> Option<&[u8]> {
    let (body, mut crc) = bytes.split_at_checked(expected_bytes - CRC_BYTES)?;
    (crc.len() == CRC_BYTES && crc.get_u32_le() == crc32c::crc32c(body)).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Old logs must always open: these bytes never change.
    #[test]
    fn golden_header_and_mark() {
        let header = Header { first: 42, previous_hash: [0x11; 32], segment_bytes: 1 << 26 };
        let expected = concat!(
            "54575347",
            "01000000",
            "2a00000000000000",
            "1111111111111111111111111111111111111111111111111111111111111111",
            "0000000400000000",
            "aab7a1f6",
        );
        assert_eq!(hex(&header.encode()), expected);
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        assert_eq!(hex(&encode_mark(42)), "ad54574d2a00000000000000c3324a87");
        assert_eq!(decode_mark(&encode_mark(42)), Some(42));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let header = Header { first: 42, previous_hash: [0x11; 32], segment_bytes: 1 << 26 }.encode();
        let mark = encode_mark(42);
        for bit in 0..header.len() * 8 {
            let mut bytes = header.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Header::decode(&bytes).expect_err("a flipped bit");
            Header::decode(&header[..bit / 8]).expect_err("a cut");
        }
        for bit in 0..mark.len() * 8 {
            let mut bytes = mark.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_mark(&bytes), None);
            assert_eq!(decode_mark(&mark[..bit / 8]), None);
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
