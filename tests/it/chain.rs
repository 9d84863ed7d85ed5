//! Checks the hash chain of an archive from the outside, from the documented layouts of record and frame
//! alone: `chainhash` is the SHA-256 of the previous event's frame.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::daemon::sequence;

const MAGIC: [u8; 4] = [0xAB, b'T', b'W', b'F'];
const FRAME_VERSION: u8 = 1;
const RECORD_VERSION: u8 = 1;
const ENDS_GROUP: u8 = 1;
/// CRC32C (Castagnoli), reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// That each event of an unedited archive carries the hash of the one before it, the first one zeros.
/// Holds for logs whose commands had one event each.
#[track_caller]
pub(crate) fn assert_chained(lines: &[String]) {
    let mut events: Vec<(u64, &str, Value)> = Vec::new();
    for line in lines {
        let event: Value = serde_json::from_str(line).unwrap();
        events.push((sequence(&event), line, event));
    }
    events.sort_by_key(|(sequence, ..)| *sequence);
    let mut previous = [0; 32];
    for (sequence, line, event) in events {
        let hash = hex(&previous);
        assert_eq!(event["chainhash"], hash, "sequence {sequence}");
        let json = line.strip_suffix(&format!(",\"chainhash\":\"{hash}\"}}")).unwrap().to_owned() + "}";
        previous = Sha256::digest(frame(sequence, &previous, &record(&event, &json))).into();
    }
}

fn record(event: &Value, json: &str) -> Vec<u8> {
    let mut record = vec![RECORD_VERSION];
    for field in [&event["type"], &event["data"]["building"], &event["partitionkey"]] {
        let text = field.as_str().unwrap_or_default();
        record.push(u8::try_from(text.len()).unwrap());
        record.extend(text.as_bytes());
    }
    record.extend(json.as_bytes());
    record
}

fn frame(sequence: u64, previous: &[u8; 32], payload: &[u8]) -> Vec<u8> {
    let mut frame = MAGIC.to_vec();
    frame.extend([FRAME_VERSION, ENDS_GROUP]);
    frame.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    frame.extend(sequence.to_le_bytes());
    frame.extend(previous);
    frame.extend(payload);
    frame.extend(crc32c(&frame).to_le_bytes());
    frame
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
