//! Whatever the bytes are: no panic; and of a frame that is taken for whole, one flipped bit is always noticed.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use turnstiled_wal::frame;

const CRC_BYTES: usize = 4;
/// Of the frame's length field.
const LENGTH_AT: std::ops::Range<usize> = 6..10;

fuzz_target!(|input: (Vec<u8>, bool, usize)| {
    let (mut bytes, is_mended, flipped) = input;
    if is_mended && bytes.len() >= frame::OVERHEAD_BYTES {
        // What a fuzzer hardly finds by itself: magic, version, length and checksum are made right.
        bytes[..5].copy_from_slice(&[0xab, b'T', b'W', b'F', 1]);
        let payload = (bytes.len() - frame::OVERHEAD_BYTES) as u32;
        bytes[LENGTH_AT].copy_from_slice(&payload.to_le_bytes());
        let body = bytes.len() - CRC_BYTES;
        let crc = crc32c::crc32c(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_le_bytes());
    }
    let whole = Bytes::from(bytes.clone());
    let Ok(record) = frame::decode(&whole) else { return };
    assert_eq!(frame::claimed_bytes(&whole).ok(), Some(whole.len()));
    assert_eq!(record.payload.len() + frame::OVERHEAD_BYTES, whole.len());
    let bit = flipped % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    assert!(frame::decode(&bytes.into()).is_err(), "bit {bit} was flipped");
});
