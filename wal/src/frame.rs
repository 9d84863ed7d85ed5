//! The self-describing record: one frame on disk.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 4 | magic | [`MAGIC`] |
//! | 1 | version | [`VERSION`] |
//! | 1 | flags | bit 0: this frame ends its group |
//! | 4 | length | of the payload, in bytes |
//! | 8 | sequence | 1 for the first ever |
//! | 32 | previous hash | SHA-256 of the whole previous frame, zeros for sequence 1 |
//! | n | payload | |
//! | 4 | CRC32C | of everything before |
//!
//! Integers are little-endian. A frame says all about itself, so that a raw scan of a damaged file (magic,
//! length, CRC) finds every whole frame without the store that wrote it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// What the first frame names as its previous hash.
pub const NO_HASH: Hash = [0; 32];

/// The first bytes of every frame. The first is not ASCII, so that no text payload contains it by accident.
pub const MAGIC: [u8; 4] = [0xAB, b'T', b'W', b'F'];

/// The layout described above.
pub const VERSION: u8 = 1;

/// The longest payload. HTTP bodies end at 1 MiB (contract, section 3) and one event is never longer than the
/// body it came from.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

const HEADER_BYTES: usize = 4 + 1 + 1 + 4 + 8 + 32;
const CRC_BYTES: usize = 4;

/// What a frame adds to its payload.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + CRC_BYTES;

const ENDS_GROUP: u8 = 1;

/// A committed record as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log, gapless from 1.
    pub sequence: u64,
    /// SHA-256 of the previous record's frame, zeros for sequence 1.
    pub previous_hash: Hash,
    /// Whether this is the last record of its command.
    pub ends_group: bool,
    /// What was given to commit, byte for byte.
    pub payload: Bytes,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than an empty frame.
    #[error("{actual} bytes are too short for a frame, which has at least {OVERHEAD_BYTES}")]
    TooShort { actual: usize },
    /// Not a frame, or its start is damaged.
    #[error("no frame starts here: the magic is {actual:02x?}")]
    BadMagic { actual: [u8; 4] },
    /// Written by a newer turnstiled, or damaged.
    #[error("frame version {actual} is unknown; this program reads version {VERSION}")]
    UnknownVersion { actual: u8 },
    /// The header and the bytes at hand disagree.
    #[error("the header says {claimed} bytes, {actual} are there")]
    WrongLength { claimed: usize, actual: usize },
    /// A bit changed.
    #[error("the checksum is {actual:08x}, the frame says {claimed:08x}")]
    BadChecksum { claimed: u32, actual: u32 },
    /// A flag this program does not know.
    #[error("the flags are {actual:#04x}; only bit 0 is known")]
    UnknownFlags { actual: u8 },
}

/// The bytes of one frame. The caller has checked the payload against [`MAX_PAYLOAD_BYTES`].
pub(crate) fn encode(sequence: u64, previous_hash: &Hash, ends_group: bool, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(OVERHEAD_BYTES + payload.len());
    frame.put_slice(&MAGIC);
    frame.put_u8(VERSION);
    frame.put_u8(if ends_group { ENDS_GROUP } else { 0 });
    frame.put_u32_le(payload.len() as u32);
    frame.put_u64_le(sequence);
    frame.put_slice(previous_hash);
    frame.put_slice(payload);
    let crc = crc32c::crc32c(&frame);
    frame.put_u32_le(crc);
    frame.freeze()
}

/// What [`decode`] makes of a frame that was just encoded with these values.
pub(crate) fn record(sequence: u64, previous_hash: Hash, ends_group: bool, frame: &Bytes) -> Record {
    let payload = frame.slice(HEADER_BYTES..frame.len() - CRC_BYTES);
    Record { sequence, previous_hash, ends_group, payload }
}

/// The record in exactly these bytes.
///
/// # Errors
/// Anything that makes them not one whole, unaltered frame.
pub fn decode(frame: &Bytes) -> Result<Record, FrameError> {
    let claimed = claimed_bytes(frame)?;
    if claimed != frame.len() {
        return Err(FrameError::WrongLength { claimed, actual: frame.len() });
    }
    let mut rest = frame.clone();
    let mut body = rest.split_to(claimed - CRC_BYTES);
    let (claimed, actual) = (rest.get_u32_le(), crc32c::crc32c(&body));
    if claimed != actual {
        return Err(FrameError::BadChecksum { claimed, actual });
    }
    body.advance(MAGIC.len() + 1);
    let flags = body.get_u8();
    if flags & !ENDS_GROUP != 0 {
        return Err(FrameError::UnknownFlags { actual: flags });
    }
    body.advance(4);
    let sequence = body.get_u64_le();
    let mut previous_hash = NO_HASH;
    body.copy_to_slice(&mut previous_hash);
    Ok(Record { sequence, previous_hash, ends_group: flags & ENDS_GROUP != 0, payload: body })
}

/// How many bytes the frame starting here has, by its header. For scanning raw files: cut that many and
/// [`decode`] them.
///
/// # Errors
/// No frame starts here.
pub fn claimed_bytes(mut bytes: &[u8]) -> Result<usize, FrameError> {
    let actual = bytes.len();
    if actual < OVERHEAD_BYTES {
        return Err(FrameError::TooShort { actual });
    }
    let mut magic = [0; 4];
    bytes.copy_to_slice(&mut magic);
    if magic != MAGIC {
        return Err(FrameError::BadMagic { actual: magic });
    }
    let version = bytes.get_u8();
    if version != VERSION {
        return Err(FrameError::UnknownVersion { actual: version });
    }
    bytes.advance(1);
    let claimed = (bytes.get_u32_le() as usize).saturating_add(OVERHEAD_BYTES);
    if claimed > MAX_PAYLOAD_BYTES + OVERHEAD_BYTES {
        return Err(FrameError::WrongLength { claimed, actual });
    }
    Ok(claimed)
}

/// The sequence in the header of a frame that [`claimed_bytes`] finds here, unchecked; for frames that are not in
/// one piece.
pub(crate) fn claimed_sequence(bytes: &[u8]) -> Option<u64> {
    let mut header = bytes.get(MAGIC.len() + 1..HEADER_BYTES)?;
    let flags = header.get_u8();
    header.advance(4);
    (flags & !ENDS_GROUP == 0).then(|| header.get_u64_le())
}

/// The hash the next frame carries as its previous one.
pub fn hash(frame: &[u8]) -> Hash {
    Sha256::digest(frame).into()
}

/// The hash of the frame that a record with these values has. For those who have the values from elsewhere, such as an
/// archive, and want to know whether they are the record.
pub fn hash_of(sequence: u64, previous_hash: &Hash, ends_group: bool, payload: &[u8]) -> Hash {
    hash(&encode(sequence, previous_hash, ends_group, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Old logs must always open: these bytes never change. If this fails, the format changed, and the answer
    /// is a new version beside the old one.
    #[test]
    fn golden_frame() {
        let frame = encode(42, &[0x11; 32], true, b"hello");
        let expected = concat!(
            "ab545746", // magic
            "01",       // version
            "01",       // flags
            "05000000", // length
            "2a00000000000000",
            "1111111111111111111111111111111111111111111111111111111111111111",
            "68656c6c6f",
            "3c8389c6",
        );
        assert_eq!(hex(&frame), expected);
        assert_eq!(hex(&hash(&frame)), "cfbe195e0e9655336c9c9d206f290bee4aaf0fdb47e1142232a5bfa224d9d1b7");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let frame = encode(7, &[3; 32], false, b"payload");
        for bit in 0..frame.len() * 8 {
            let mut bytes = frame.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            decode(&bytes.into()).expect_err("a flipped bit");
        }
        for len in 0..frame.len() {
            decode(&frame.slice(..len)).expect_err("a cut");
        }
        let mut longer = frame.to_vec();
        longer.push(0);
        decode(&longer.into()).expect_err("a byte too many");
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        let mut bytes = encode(1, &NO_HASH, true, b"").to_vec();
        bytes.truncate(HEADER_BYTES);
        bytes[5] = 0b10;
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&bytes.into()), Err(FrameError::UnknownFlags { actual: 0b10 }));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            sequence: u64, previous_hash: [u8; 32], ends_group: bool,
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let frame = encode(sequence, &previous_hash, ends_group, &payload);
            let decoded = decode(&frame).expect("whole");
            prop_assert_eq!(&decoded, &record(sequence, previous_hash, ends_group, &frame));
            prop_assert_eq!(decoded, Record { sequence, previous_hash, ends_group, payload: payload.into() });
        }

        #[test]
        fn noise_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend_from_slice(&bytes);
            let _ = decode(&bytes.into());
            let _ = decode(&with_magic.into());
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
