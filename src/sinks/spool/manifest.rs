//! PURE: what a spooled object says of itself, and what becomes of one that an earlier process left.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::domain::hex::hex;

/// The longest first line of a spooled file: a range for each event of a full batch, and room.
pub const MAX_HEAD_BYTES: usize = 4 << 20;
/// What the first line begins with; the number is that of the format.
const MAGIC: &str = "turnstiled-spool-1";
/// What the name of every whole spooled file ends in.
pub const ENDING: &str = ".spooled";
/// Digits of a key's hash in a file's name: ranges in two partitions may be equal.
const KEY_HASH_DIGITS: usize = 16;
/// Digits of a sequence in a file's name, so that names sort as events do.
const SEQUENCE_DIGITS: usize = 20;

/// Where the objects of a sink go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The bucket's name.
    pub bucket: String,
    /// What all keys begin with.
    pub prefix: String,
}

/// What is known of an object before it is uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Where it belongs.
    #[serde(flatten)]
    pub target: Target,
    /// Its whole key.
    pub key: String,
    /// SHA-256 of its bytes, 64 hex digits.
    pub sha256: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// The lowest sequence of its events.
    pub first: u64,
    /// The highest one.
    pub last: u64,
    /// How many events it has.
    pub count: u64,
    /// Which places of the log its events have: ranges, both ends included, ascending.
    pub places: Vec<(u64, u64)>,
}

/// Why a first line is none of a spooled file's.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Not of this format.
    #[error("it does not begin with {MAGIC:?}")]
    Format,
    /// Not what was written.
    #[error("its first line does not have the checksum it names")]
    Checksum,
    /// It has its checksum, and cannot be read all the same.
    #[error("its first line is no manifest: {0}")]
    Content(String),
}

/// What becomes of a whole spooled file at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// Its events are to be delivered by it, and by nothing else.
    Keep,
    /// All its events are settled: nobody sends them again.
    Settled,
    /// The sink writes to another place by now. There it was not uploaded, so events go there as they come.
    Elsewhere,
}

impl Manifest {
    /// The first line of its file, with its line feed.
    ///
    /// # Errors
    /// [`ManifestError::Content`] if it cannot be written as JSON, which no text can cause.
    pub fn head(&self) -> Result<Vec<u8>, ManifestError> {
        let json = serde_json::to_string(self).map_err(|error| ManifestError::Content(error.to_string()))?;
        Ok(format!("{MAGIC} {} {json}\n", checksum(json.as_bytes())).into_bytes())
    }

    /// Reads a first line, with or without its line feed.
    ///
    /// # Errors
    /// [`ManifestError`] if it is damaged, or of another format.
    pub fn of_head(line: &[u8]) -> Result<Self, ManifestError> {
        let text = str::from_utf8(line).map_err(|_| ManifestError::Format)?;
        let rest = text.trim_end_matches('\n').strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' '));
        let (written, json) = rest.and_then(|rest| rest.split_once(' ')).ok_or(ManifestError::Format)?;
        if checksum(json.as_bytes()) != written {
            return Err(ManifestError::Checksum);
        }
        serde_json::from_str(json).map_err(|error| ManifestError::Content(error.to_string()))
    }

    /// The name of its file: no other object of the same sink has it.
    #[must_use]
    pub fn file_name(&self) -> String {
        let (first, last, hash) = (self.first, self.last, checksum(self.key.as_bytes()));
        let hash = hash.get(..KEY_HASH_DIGITS).unwrap_or_default();
        format!("{first:0SEQUENCE_DIGITS$}-{last:0SEQUENCE_DIGITS$}-{hash}{ENDING}")
    }

    /// Whether it holds the event at this place of the log.
    #[must_use]
    pub fn holds(&self, sequence: u64) -> bool {
        let after = self.places.partition_point(|&(first, _)| first <= sequence);
        let range = after.checked_sub(1).and_then(|at| self.places.get(at));
        range.is_some_and(|&(_, last)| sequence <= last)
    }

    /// Whether every event of it is settled once everything up to `cursor` is.
    #[must_use]
    pub fn is_settled(&self, cursor: u64) -> bool {
        self.places.last().is_none_or(|&(_, last)| last <= cursor)
    }

    /// What becomes of it in a sink on `target`, everything up to `cursor` being settled.
    #[must_use]
    pub fn leftover(&self, target: &Target, cursor: u64) -> Leftover {
        if self.is_settled(cursor) {
            Leftover::Settled
        } else if self.target == *target {
            Leftover::Keep
        } else {
            Leftover::Elsewhere
        }
    }
}

/// SHA-256 as 64 hex digits.
#[must_use]
pub fn checksum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Ascending sequences as ranges, both ends included.
#[must_use]
pub fn ranges(sequences: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(sequence) => *last = sequence,
            _ => ranges.push((sequence, sequence)),
        }
    }
    ranges
}

#[cfg(test)]
pub(in crate::sinks) fn archive() -> Target {
    Target { bucket: "archive".to_owned(), prefix: "events".to_owned() }
}

#[cfg(test)]
pub(in crate::sinks) fn manifest_of(bytes: &[u8], places: &[u64]) -> Manifest {
    let first = places.first().copied().unwrap_or_default();
    let last = places.last().copied().unwrap_or_default();
    Manifest {
        target: archive(),
        key: format!("events/building=hq/hq-1.1-{first}-{last}.ndjson"),
        sha256: checksum(bytes),
        bytes: bytes.len() as u64,
        first,
        last,
        count: places.len() as u64,
        places: ranges(places.iter().copied()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_is_read_back_and_every_flipped_bit_of_it_is_noticed() {
        let manifest = manifest_of(b"x", &[3, 4, 9]);
        let head = manifest.head().unwrap();
        assert_eq!(Manifest::of_head(&head).unwrap(), manifest);
        for bit in 0..(head.len() - 1) * 8 {
            let mut damaged = head.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::of_head(&damaged).is_err(), "bit {bit}");
        }
        assert_eq!(Manifest::of_head(b"turnstiled-spool-2 x {}"), Err(ManifestError::Format));
    }

    #[test]
    fn only_what_is_in_it_is_held() {
        let manifest = manifest_of(b"x", &[3, 4, 5, 9, 11]);
        assert_eq!(manifest.places, [(3, 5), (9, 9), (11, 11)]);
        let held: Vec<u64> = (0..20).filter(|sequence| manifest.holds(*sequence)).collect();
        assert_eq!(held, [3, 4, 5, 9, 11]);
    }

    #[test]
    fn a_leftover_is_kept_until_it_is_settled_or_belongs_elsewhere() {
        let manifest = manifest_of(b"x", &[3, 9]);
        assert_eq!(manifest.leftover(&archive(), 8), Leftover::Keep);
        assert_eq!(manifest.leftover(&archive(), 9), Leftover::Settled);
        for (bucket, prefix) in [("archive", "event"), ("archive", ""), ("other", "events")] {
            let target = Target { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
            assert_eq!(manifest.leftover(&target, 8), Leftover::Elsewhere, "{target:?}");
            assert_eq!(manifest.leftover(&target, 9), Leftover::Settled, "{target:?}");
        }
    }

    #[test]
    fn objects_of_two_partitions_have_two_names() {
        let one = manifest_of(b"x", &[3, 9]);
        let other = Manifest { key: one.key.replace("hq/", "annex/"), ..one.clone() };
        assert!(one.file_name().starts_with("00000000000000000003-00000000000000000009-"));
        assert_ne!(one.file_name(), other.file_name());
    }

    #[test]
    fn ranges_end_where_a_sequence_is_left_out() {
        assert_eq!(ranges([]), []);
        assert_eq!(ranges([1, 2, 4, u64::MAX]), [(1, 2), (4, 4), (u64::MAX, u64::MAX)]);
    }
}
