//! Any bytes are one whole frame or refused; what is a frame carries its own hash on.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use turnstiled_wal::frame::{claimed_bytes, decode, hash};

fuzz_target!(|bytes: &[u8]| {
    let claimed = claimed_bytes(bytes);
    if let Ok(record) = decode(&Bytes::copy_from_slice(bytes)) {
        assert_eq!(claimed, Ok(bytes.len()));
        assert!(record.payload.len() < bytes.len());
        let _ = hash(bytes);
    }
});
