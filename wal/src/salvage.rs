//! Which of the frames that were found are the records of the log. A plain function over what was found.
//!
//! From the last record to the first, because a record names the one before it:
//!
//! - What the record after it names by its hash is the record; other frames of that sequence are left over from a
//!   commit that a crash undid. If none is what that names, the record is missing.
//! - At the high-water mark it is the record that the mark names. Past the mark, what does not go on from it is left
//!   over.
//! - Where nothing else decides, at the end of what is there or before a gap: the one that goes on from the record
//!   before it, then the one that lies last in the file. That is a guess, and said.
//! - Past what is known to have been durable, an unfinished group at the very end is dropped, as an open does it: it
//!   was never answered. A group cut by a gap is kept as far as it is there: those records were durable, and are
//!   evidence.

use crate::candidates::{Candidate, Candidates};
use crate::frame::Hash;
use crate::high_water::Mark;

/// What is known before any frame is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// The high-water mark, if its file can be read.
    pub(crate) mark: Option<Mark>,
    /// Everything up to here was durable once: by the mark, or because a sink had it.
    pub(crate) durable_to: u64,
}

/// A record that was kept: its sequence, and the hash that it names as its previous one.
pub(crate) type Kept = (u64, Hash);

/// The records of one segment.
#[derive(Debug, Default)]
pub(crate) struct Salvaged<'a> {
    /// Ascending.
    pub(crate) records: Vec<(u64, &'a Candidate)>,
    /// Sequences of several frames, of which the chain or the mark names one.
    pub(crate) decided: u64,
    /// Sequences of several frames, of which one was guessed.
    pub(crate) guessed: Vec<u64>,
    /// Sequences of an unfinished group at the end.
    pub(crate) unfinished: u64,
    /// Sequences of which no frame is the one that the chain or the mark names: those are missing.
    pub(crate) contradicted: u64,
}

/// Chooses the records of a segment. `above` is the lowest record kept of the segments after it.
pub(crate) fn choose<'a>(found: &'a Candidates, known: &Known, above: Option<Kept>) -> Salvaged<'a> {
    let mut salvaged = Salvaged::default();
    let mut above = above;
    for (sequence, versions) in found.descending() {
        let named = above.and_then(|(next, hash)| (next.checked_sub(1) == Some(sequence)).then_some(hash));
        let is_end = above.is_none() && sequence > known.durable_to;
        let possible: Vec<&Candidate> = versions
            .iter()
            .filter(|version| named.is_none_or(|hash| version.hash == hash))
            .filter(|version| !is_end || version.ends_group)
            .filter(|version| named.is_some() || !contradicts_mark(found, known.mark, sequence, version))
            .collect();
        let Some(record) = likeliest(found, sequence, &possible) else {
            if is_end && versions.iter().all(|version| !version.ends_group) {
                salvaged.unfinished += 1;
            } else {
                salvaged.contradicted += 1;
            }
            continue;
        };
        if possible.len() > 1 {
            salvaged.guessed.push(sequence);
        } else if versions.len() > 1 {
            salvaged.decided += 1;
        }
        above = Some((sequence, record.previous_hash));
        salvaged.records.push((sequence, record));
    }
    salvaged.records.reverse();
    salvaged.guessed.reverse();
    salvaged
}

fn likeliest<'a>(found: &'a Candidates, sequence: u64, possible: &[&'a Candidate]) -> Option<&'a Candidate> {
    let follows = |version: &Candidate| {
        let before = found.of(sequence.saturating_sub(1));
        before.iter().any(|before| before.hash == version.previous_hash)
    };
    possible.iter().copied().max_by_key(|version| (follows(version), version.offset()))
}

/// Whether a record at or after the mark cannot be of the same log as the mark: its chain leads elsewhere.
fn contradicts_mark(found: &Candidates, mark: Option<Mark>, sequence: u64, version: &Candidate) -> bool {
    let Some(mark) = mark.filter(|mark| mark.sequence > 0 && sequence >= mark.sequence) else { return false };
    let (mut sequence, mut version) = (sequence, version);
    while sequence > mark.sequence {
        sequence -= 1;
        let before = found.of(sequence).iter().find(|before| before.hash == version.previous_hash);
        match before {
            Some(before) => version = before,
            // its predecessor is not there, which says nothing unless it should be the mark's record
            None => return sequence == mark.sequence && version.previous_hash != mark.hash,
        }
    }
    version.hash != mark.hash
}
