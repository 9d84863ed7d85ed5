//! Which dead letters the queue has not got yet: `mirror/<sink>/<sequence>` marks them, set in the write that makes a dead
//! letter, also when no queue is configured, so that one that is later gets all of them. The mark's value says which
//! refusal it is of; the mark goes with the letter, so there are never more of them than letters.

use bytes::Bytes;
use turnstiled_wal::Change;

use super::{
    dead_letters::{DeadLetter, digits},
    sink_state::{SinkStateError, SinkStates},
};
use crate::delivery::progress::DeadRecord;

const PREFIX: &str = "mirror/";
/// Marks counted at once.
const MARKS_AT_ONCE: usize = 1_000;

/// A dead letter that the queue has not got.
#[derive(Clone, Debug)]
pub(super) struct ToMirror {
    mark: Bytes,
    refusal: Bytes,
    /// `None`: it is gone, or cannot be read, which is an error in the log.
    pub(super) letter: Option<DeadLetter>,
}

/// Marks a letter.
pub(super) fn put(sink: &str, dead: &DeadRecord) -> Change {
    Change::Put { key: key(sink, dead.outgoing.sequence), value: dead.attempts.to_string().into() }
}

/// Removes the mark of a letter.
pub(super) fn remove(sink: &str, sequence: u64) -> Change {
    Change::Delete { key: key(sink, sequence) }
}

impl SinkStates {
    /// The first letters that the queue has not got, by sink and sequence.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub(super) fn to_mirror(&self, max: usize) -> Result<Vec<ToMirror>, SinkStateError> {
        let marks = self.store.scan_prefix(PREFIX.as_bytes(), None, max)?;
        marks.into_iter().map(|(mark, refusal)| self.marked_letter(mark, refusal)).collect()
    }

    fn marked_letter(&self, mark: Bytes, refusal: Bytes) -> Result<ToMirror, SinkStateError> {
        let letter = match parse(&mark).map(|(sink, sequence)| self.dead_letter(sink, sequence)) {
            None | Some(Ok(None)) => None,
            Some(Ok(Some(letter))) => Some(letter),
            Some(Err(error @ SinkStateError::Content { .. })) => {
                tracing::error!(%error, "this dead letter cannot be mirrored; it stays");
                None
            }
            Some(Err(error)) => return Err(error),
        };
        Ok(ToMirror { mark, refusal, letter })
    }

    /// How many letters the queue has not got.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub(super) fn count_to_mirror(&self) -> Result<usize, SinkStateError> {
        let (mut count, mut after) = (0_usize, None::<Bytes>);
        loop {
            let page = self.store.scan_prefix(PREFIX.as_bytes(), after.as_deref(), MARKS_AT_ONCE)?;
            count = count.saturating_add(page.len());
            match page.last() {
                Some((last, _)) => after = Some(last.clone()),
                None => return Ok(count),
            }
        }
    }

    /// The queue has got these, or will not. What was refused again meanwhile stays marked.
    ///
    /// # Errors
    /// [`SinkStateError`]; the store takes nothing more then, and the process has to end.
    pub(super) fn mirrored(&self, letters: &[ToMirror]) -> Result<(), SinkStateError> {
        let mut changes = Vec::new();
        for ToMirror { mark, refusal, .. } in letters {
            if self.store.get(mark)?.as_ref() == Some(refusal) {
                changes.push(Change::Delete { key: mark.clone() });
            }
        }
        if changes.is_empty() { Ok(()) } else { Ok(self.store.write(&changes)?) }
    }
}

fn key(sink: &str, sequence: u64) -> Bytes {
    format!("{PREFIX}{sink}/{}", digits(sequence)).into()
}

fn parse(mark: &[u8]) -> Option<(&str, u64)> {
    let (sink, sequence) = std::str::from_utf8(mark).ok()?.strip_prefix(PREFIX)?.rsplit_once('/')?;
    Some((sink, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use turnstiled_wal::StateStore;

    use super::*;
    use crate::{
        delivery::{
            Outgoing,
            outcome::{Trouble, TroubleKind},
            progress::{Progress, Settlement},
        },
        domain::record::EventRecord,
    };

    fn dead(sequence: u64, attempts: u32) -> DeadRecord {
        let body = Bytes::from_static(br#"{"id":"1","type":"card.lost"}"#);
        let record = EventRecord::encode("card.lost", "hq", "E1", &body).unwrap();
        let (code, text) = ("Bad".to_owned(), "bad".to_owned());
        DeadRecord {
            outgoing: Outgoing { sequence, record, body, trace: None },
            trouble: Trouble { kind: TroubleKind::Invalid, code, text, retry_after: None },
            attempts,
            first_failed_ms: 1,
            last_failed_ms: 2,
        }
    }

    fn settle(states: &SinkStates, dead: Vec<DeadRecord>, resolved: Vec<u64>) {
        states.settle("exits", &Settlement { progress: Progress::default(), dead, resolved }).unwrap();
    }

    fn sequences(found: &[ToMirror]) -> Vec<String> {
        found.iter().map(|found| found.letter.as_ref().unwrap().sequence.clone()).collect()
    }

    #[test]
    fn a_letter_is_to_be_mirrored_until_the_queue_has_its_last_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let states = SinkStates::new(StateStore::open(&dir.path().join("state")).unwrap());
        settle(&states, vec![dead(7, 1), dead(8, 1), dead(9, 1)], vec![]);
        let found = states.to_mirror(2).unwrap();
        assert_eq!(sequences(&found), ["00000000000000000007", "00000000000000000008"]);
        // 7 is refused again while the queue is sent what was known before
        settle(&states, vec![dead(7, 2)], vec![]);
        states.mirrored(&found).unwrap();
        let found = states.to_mirror(10).unwrap();
        assert_eq!(sequences(&found), ["00000000000000000007", "00000000000000000009"]);
        assert_eq!(found[0].letter.as_ref().unwrap().attempts, 2);
        settle(&states, vec![], vec![9]);
        assert_eq!(states.count_to_mirror().unwrap(), 1, "a mark goes with its letter");
        states.mirrored(&found).unwrap();
        assert_eq!(
            (states.count_to_mirror().unwrap(), states.letter_sequences("exits").unwrap()),
            (0, vec![7, 8])
        );
    }
}
