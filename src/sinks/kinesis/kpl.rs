//! The Kinesis Producer Library's aggregated record: many events in one record of a stream. Pure.
//!
//! Four bytes of magic, a protobuf message, and the MD5 of the message. The message (proto2) has a table of partition
//! keys (field 1), a table of explicit hash keys (2), and the events (3), each with its places in the tables (1 and 2)
//! and its data (3).

use md5::{Digest, Md5};

/// How an aggregated record begins.
const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// How long its end is.
const MD5_BYTES: usize = 16;
/// The most that a length or a place takes: any `u64` in groups of seven bits.
const MAX_VARINT_BYTES: usize = 10;
/// What an event takes at most beside its data and its key: five tags and six numbers.
const EVENT_OVERHEAD_BYTES: usize = 5 + 6 * MAX_VARINT_BYTES;
/// What a record takes at most beside its events: magic, MD5, and a hash key of up to 39 digits.
pub(super) const RECORD_OVERHEAD_BYTES: usize = MAGIC.len() + MD5_BYTES + 1 + MAX_VARINT_BYTES + 39;

/// The protobuf tags of fields that hold bytes: number and wire type 2.
const PARTITION_KEYS: u8 = 1 << 3 | 2;
const HASH_KEYS: u8 = 2 << 3 | 2;
const RECORDS: u8 = 3 << 3 | 2;
const DATA: u8 = 3 << 3 | 2;
/// The protobuf tags of a record's numbers: number and wire type 0.
const PARTITION_KEY_PLACE: u8 = 1 << 3;
const HASH_KEY_PLACE: u8 = 2 << 3;

/// The most that an event takes in an aggregated record.
#[must_use]
pub(super) fn event_bytes(key: &str, data: &[u8]) -> usize {
    key.len() + data.len() + EVENT_OVERHEAD_BYTES
}

/// An aggregated record of events, each with its partition key. All have the hash key by which the record itself finds
/// its shard: a consumer drops an event whose own hash key is another shard's.
#[must_use]
pub(super) fn aggregated(hash_key: &str, events: &[(&str, &[u8])]) -> Vec<u8> {
    let bytes: usize = events.iter().map(|(key, data)| event_bytes(key, data)).sum();
    let mut record = Vec::with_capacity(bytes + RECORD_OVERHEAD_BYTES);
    record.extend_from_slice(&MAGIC);
    for (key, _) in events {
        put_bytes(&mut record, PARTITION_KEYS, key.as_bytes());
    }
    put_bytes(&mut record, HASH_KEYS, hash_key.as_bytes());
    let mut places = Vec::with_capacity(4 * MAX_VARINT_BYTES);
    for (place, (_, data)) in events.iter().enumerate() {
        places.clear();
        places.push(PARTITION_KEY_PLACE);
        put_number(&mut places, place);
        places.extend([HASH_KEY_PLACE, 0, DATA]);
        put_number(&mut places, data.len());
        record.push(RECORDS);
        put_number(&mut record, places.len() + data.len());
        record.extend_from_slice(&places);
        record.extend_from_slice(data);
    }
    let digest = Md5::digest(record.get(MAGIC.len()..).unwrap_or_default());
    record.extend_from_slice(&digest);
    record
}

fn put_bytes(to: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    to.push(tag);
    put_number(to, bytes.len());
    to.extend_from_slice(bytes);
}

/// Seven bits a byte, the lowest first; all but the last have the high bit set.
fn put_number(to: &mut Vec<u8>, mut number: usize) {
    while number > 0x7F {
        to.push(0x80 | (number & 0x7F) as u8);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte for byte by hand; tests/it reads larger ones with AWS' own reader.
    #[test]
    fn a_record_is_magic_message_and_md5() {
        let record = aggregated("7", &[("E1", b"one"), ("E2", b"two")]);
        let message = [
            &b"\x0a\x02E1\x0a\x02E2"[..],
            b"\x12\x017",
            b"\x1a\x09\x08\x00\x10\x00\x1a\x03one",
            b"\x1a\x09\x08\x01\x10\x00\x1a\x03two",
        ]
        .concat();
        assert_eq!(record[..4], MAGIC);
        assert_eq!(record[4..record.len() - 16], message);
        assert_eq!(record[record.len() - 16..], Md5::digest(&message)[..]);
    }

    #[test]
    fn numbers_are_varints() {
        let number = |number| {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            bytes
        };
        assert_eq!([number(0), number(127)], [[0], [127]]);
        assert_eq!([number(128), number(300)], [[0x80, 1], [0xAC, 2]]);
        assert_eq!(number(usize::MAX).len(), MAX_VARINT_BYTES);
    }

    #[test]
    fn no_record_is_larger_than_was_counted() {
        let (key, data) = ("k".repeat(255), vec![b'x'; 70_000]);
        let events: Vec<_> = (0..300).map(|_| (key.as_str(), &data[..])).collect();
        let counted = events.len() * event_bytes(&key, &data) + RECORD_OVERHEAD_BYTES;
        assert!(aggregated(&u128::MAX.to_string(), &events).len() <= counted);
    }
}
