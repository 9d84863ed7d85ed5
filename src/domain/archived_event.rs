//! An event as an archive holds it, read back far enough to be compared with the log.

use std::ops::RangeInclusive;

use thiserror::Error;

use super::{
    hex::read_hash,
    ids::{InvalidLogName, LogName},
    raw_object::RawObject,
    record::{EventRecord, RecordError},
};

/// A SHA-256.
pub type Hash = [u8; 32];

/// The hash of the log's frame with this sequence, previous hash, mark of a group's end, and payload. The log's own
/// function, given by whoever knows the log.
pub type FrameHash = fn(u64, &Hash, bool, &[u8]) -> Hash;

/// The members that are added on the way out.
const ADDED_ON_THE_WAY_OUT: [&str; 2] = ["chainhash", "replayed"];
/// What the source of a building's event begins with.
const BUILDING_SOURCE: &str = "/buildings/";

/// One event of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedEvent {
    /// Whose sequence it is.
    pub log: LogName,
    /// Its place in that log.
    pub sequence: u64,
    /// Its CloudEvents `id`.
    pub id: String,
    /// Its CloudEvents `type`.
    pub event_type: String,
    /// What it says of the record before it.
    pub chainhash: Hash,
    /// The event without what is added on the way out: if no route has edited it, byte for byte as in the log.
    pub json: Box<[u8]>,
    /// The hashes that its own record can have, if no route has edited it.
    pub own: Vec<Hash>,
    /// Where it was found, by the caller's numbering.
    pub object: u32,
}

/// What a line of an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchivedLine {
    /// An event of this server.
    Ours(ArchivedEvent),
    /// One of this server whose sequence was not asked for, with its log and sequence.
    NotAsked(LogName, u64),
    /// An event of another one.
    OfOther,
}

/// One event of an archive, as it can be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventOfLine {
    /// Whose sequence it is.
    pub log: LogName,
    /// Its place in that log.
    pub sequence: u64,
    /// The event as it was archived, with what was added on the way out.
    pub record: EventRecord,
}

/// Why a line is no event that can be compared.
#[derive(Debug, Error)]
pub enum ArchivedEventError {
    /// Not an object.
    #[error("is not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// A member that every event has is missing, or is no text.
    #[error("has no {0}")]
    Missing(&'static str),
    /// A member is there twice: readers disagree which one counts.
    #[error("has {0} twice")]
    Twice(String),
    /// `log` has no epoch.
    #[error("has a log it cannot have: {0}")]
    Log(#[from] InvalidLogName),
    /// `sequence` is not a number.
    #[error("has sequence {0:?}, expected decimal digits")]
    Sequence(String),
    /// `chainhash` is not a hash.
    #[error("has chainhash {0:?}, expected 64 lower-case hex digits")]
    Chainhash(String),
    /// A field is longer than any record's.
    #[error("cannot be a record: {0}")]
    Record(#[from] RecordError),
}

impl ArchivedEvent {
    /// Reads a line of an archive of `server`'s events, if its sequence is one of those `asked` for.
    ///
    /// # Errors
    /// [`ArchivedEventError`] if it is no whole event.
    pub fn read(
        line: &[u8],
        server: &str,
        asked: &RangeInclusive<u64>,
        object: u32,
        frame_hash: FrameHash,
    ) -> Result<ArchivedLine, ArchivedEventError> {
        let mut members: RawObject<'_> = serde_json::from_slice(line)?;
        if let Some(name) = members.repeated_name() {
            return Err(ArchivedEventError::Twice(name.to_owned()));
        }
        let text = |name| text(&members, name).ok_or(ArchivedEventError::Missing(name));
        let log: LogName = text("log")?.parse()?;
        if log.server != server {
            return Ok(ArchivedLine::OfOther);
        }
        let sequence = text("sequence")?;
        let sequence = sequence.parse().map_err(|_| ArchivedEventError::Sequence(sequence))?;
        if !asked.contains(&sequence) {
            return Ok(ArchivedLine::NotAsked(log, sequence));
        }
        let chainhash = text("chainhash")?;
        let chainhash = read_hash(&chainhash).ok_or(ArchivedEventError::Chainhash(chainhash))?;
        let (id, event_type) = (text("id")?, text("type")?);
        members.0.retain(|(name, _)| !ADDED_ON_THE_WAY_OUT.contains(&name.as_ref()));
        let mut json = Vec::with_capacity(line.len());
        members.write(&mut json)?;
        let mut own = Vec::with_capacity(2);
        for payload in payloads(&members, &event_type, server, &json)? {
            own.extend(
                [true, false]
                    .map(|ends_group| frame_hash(sequence, &chainhash, ends_group, payload.payload())),
            );
        }
        let json = json.into_boxed_slice();
        Ok(ArchivedLine::Ours(Self { log, sequence, id, event_type, chainhash, json, own, object }))
    }
}

impl EventOfLine {
    /// Reads a line of an archive; `None` if it is an event of another server.
    ///
    /// # Errors
    /// [`ArchivedEventError`] if it is no whole event.
    pub fn read(line: &[u8], server: &str) -> Result<Option<Self>, ArchivedEventError> {
        let members: RawObject<'_> = serde_json::from_slice(line)?;
        if let Some(name) = members.repeated_name() {
            return Err(ArchivedEventError::Twice(name.to_owned()));
        }
        let text = |name| text(&members, name).ok_or(ArchivedEventError::Missing(name));
        let log: LogName = text("log")?.parse()?;
        if log.server != server {
            return Ok(None);
        }
        let sequence = text("sequence")?;
        let sequence = sequence.parse().map_err(|_| ArchivedEventError::Sequence(sequence))?;
        for member in ["id", "time"] {
            text(member)?;
        }
        let record = payloads(&members, &text("type")?, server, line)?.pop();
        let record = record.ok_or(ArchivedEventError::Missing("type"))?;
        Ok(Some(Self { log, sequence, record }))
    }
}

/// The records that the event can have been, the one with the empty key last. An event of no building, card or employee has an empty key in its
/// record, and the server's id in its JSON.
fn payloads(
    members: &RawObject<'_>,
    event_type: &str,
    server: &str,
    json: &[u8],
) -> Result<Vec<EventRecord>, RecordError> {
    let source = text(members, "source").unwrap_or_default();
    let building = source.strip_prefix(BUILDING_SOURCE).and_then(|rest| rest.split('/').next()).unwrap_or("");
    let key = text(members, "partitionkey").unwrap_or_default();
    let mut records = vec![EventRecord::encode(event_type, building, &key, json)?];
    if key == server {
        records.push(EventRecord::encode(event_type, building, "", json)?);
    }
    Ok(records)
}

fn text(members: &RawObject<'_>, name: &str) -> Option<String> {
    serde_json::from_str(members.get(name)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outbound::{Form, edit};
    use serde_json::json;

    /// Not a hash, but it tells what went in.
    fn fake_hash(sequence: u64, previous: &Hash, ends_group: bool, payload: &[u8]) -> Hash {
        let mut hash = *previous;
        let sum =
            payload.iter().fold(sequence, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        hash[..8].copy_from_slice(&sum.to_le_bytes());
        hash[8] = u8::from(ends_group);
        hash
    }

    fn event(key: &str, source: &str) -> String {
        json!({ "id": "a", "source": source, "type": "card.lost", "log": "hq-1.7", "time": "2026-11-20T08:00:00Z",
            "sequence": "00000000000000000042", "partitionkey": key, "data": { "n": 1.50 } })
        .to_string()
    }

    #[test]
    fn the_record_of_an_unedited_event_is_known_again() {
        for (key, building, source) in [
            ("E1", "hq", "/buildings/hq/gates/north-1"),
            ("E1", "", "/servers/hq-1"),
            ("", "", "/servers/hq-1"),
        ] {
            let json = event(if key.is_empty() { "hq-1" } else { key }, source);
            let record = EventRecord::encode("card.lost", building, key, json.as_bytes()).unwrap();
            let line = edit(json.as_bytes(), &Form::default(), &[3; 32]).unwrap();
            let ArchivedLine::Ours(read) =
                ArchivedEvent::read(&line, "hq-1", &(0..=50), 9, fake_hash).unwrap()
            else {
                panic!("it is ours")
            };
            assert_eq!((read.sequence, read.log.epoch, read.object), (42, 7, 9));
            assert_eq!((read.chainhash, &read.json[..]), ([3; 32], json.as_bytes()));
            assert!(read.own.contains(&fake_hash(42, &[3; 32], true, record.payload())));
            assert!(read.own.contains(&fake_hash(42, &[3; 32], false, record.payload())));
        }
    }

    #[test]
    fn a_line_becomes_the_record_that_it_was() {
        for (key, building, source) in
            [("E1", "hq", "/buildings/hq/gates/north-1"), ("hq-1", "", "/servers/hq-1")]
        {
            let line = edit(event(key, source).as_bytes(), &Form::default(), &[3; 32]).unwrap();
            let read = EventOfLine::read(&line, "hq-1").unwrap().unwrap();
            assert_eq!((read.sequence, read.log.epoch), (42, 7));
            let key = if key == "hq-1" { "" } else { key };
            assert_eq!(read.record, EventRecord::encode("card.lost", building, key, &line).unwrap());
        }
        let line = event("E1", "");
        assert_eq!(EventOfLine::read(line.as_bytes(), "annex-1").unwrap(), None);
        for wrong in ["{", "{}", "[]", &line.replace("\"time\"", "\"when\""), &line.replace("0042\"", "x\"")]
        {
            assert!(EventOfLine::read(wrong.as_bytes(), "hq-1").is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_event_of_ours_is_told_apart() {
        let line = edit(event("E1", "").as_bytes(), &Form::default(), &[3; 32]).unwrap();
        let read = |line: &[u8], server, asked| ArchivedEvent::read(line, server, &asked, 0, fake_hash);
        assert_eq!(read(&line, "annex-1", 0..=50).unwrap(), ArchivedLine::OfOther);
        let not_asked = ArchivedLine::NotAsked("hq-1.7".parse().unwrap(), 42);
        assert_eq!(read(&line, "hq-1", 43..=50).unwrap(), not_asked);
        let line = String::from_utf8(line.to_vec()).unwrap();
        for (from, to, expected) in [
            ("\"id\":\"a\"", "\"id\":\"a\",\"id\":\"b\"", "has id twice"),
            ("\"chainhash\"", "\"hash\"", "has no chainhash"),
            ("0303", "030x", "64 lower-case hex digits"),
            ("0042\"", "0042.5\"", "expected decimal digits"),
            ("hq-1.7", "hq-1", "a log it cannot have"),
            ("{\"id\"", "{{\"id\"", "not a JSON object"),
        ] {
            let error = read(line.replacen(from, to, 1).as_bytes(), "hq-1", 0..=50);
            let error = error.map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
