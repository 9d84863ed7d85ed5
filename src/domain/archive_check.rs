//! Whether an archive and the log tell the same story. Pure: the caller brings both in order of their sequences.
//!
//! `chainhash` in an archived event is the hash of the log's previous record. So an unedited event of the archive
//! proves the one before it, whether the log still holds that or not: such a pair is a link.

use std::{fmt, sync::Arc};

use super::{
    archive_comparison::{ArchiveFinding, Comparison},
    archive_missing::{Missing, Run},
    archived_event::{ArchivedEvent, Hash},
    member_diff::MemberDiff,
    outbound::Form,
};

/// Whether the archive has to have an event of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A route leads it there, and the sink has settled it.
    Must,
    /// Nobody knows which sink the archive is from, or the sink was let go of it when the disk was full.
    May,
    /// It is not for this sink, or not yet.
    NeedNot,
    /// It is a dead letter of this sink.
    Dead,
}

/// A record of the log.
#[derive(Clone, Debug)]
pub struct LogRecord<'a> {
    /// Its place.
    pub sequence: u64,
    /// The hash of the record before it.
    pub previous_hash: &'a Hash,
    /// Its own.
    pub hash: &'a Hash,
    /// The event's type.
    pub event_type: &'a str,
    /// The event.
    pub json: &'a [u8],
    /// Whether the archive has to have it.
    pub presence: Presence,
}

/// Where an event lies that the log does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHeld {
    /// Before the log's first record, or no log was looked at.
    Before,
    /// In a gap, which the log's own check has found acknowledged.
    InGap,
    /// After the log's last record.
    Beyond,
}

/// What is known of an event by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// As the log has it.
    Identical,
    /// Edited by a route, or of an unknown form.
    Edited,
    /// Only the archive has it, as it was in the log unless someone changed it.
    Whole,
    /// There is a finding about it already.
    Faulty,
}

/// In which form a sink gets events of a type.
pub type FormOf = Box<dyn Fn(&str) -> Arc<Form>>;

/// The comparison.
pub struct ArchiveCheck {
    epoch: u64,
    form_of: FormOf,
    result: Comparison,
    /// The last sequence with archived events, and what they were.
    before: (u64, Vec<(ArchivedEvent, Standing)>),
    has_begun: bool,
    /// Events that must be there and are not.
    missing: Missing,
    /// Events that may be missing since the last one that is there.
    may_lack: u64,
}

impl fmt::Debug for ArchiveCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ArchiveCheck").field("counts", &self.result.counts).finish_non_exhaustive()
    }
}

impl ArchiveCheck {
    /// Against a log whose newest events have this epoch.
    #[must_use]
    pub fn new(epoch: u64, form_of: FormOf) -> Self {
        Self {
            epoch,
            form_of,
            result: Comparison::default(),
            before: (0, Vec::new()),
            has_begun: false,
            missing: Missing::default(),
            may_lack: 0,
        }
    }

    /// The log's next record, and what the archive has at its sequence.
    pub fn record(&mut self, record: &LogRecord<'_>, archived: Vec<ArchivedEvent>) {
        let mut found = Vec::new();
        let mut is_there = false;
        for event in self.distinct(archived) {
            let standing = if event.own.contains(record.hash) {
                self.result.counts.identical += 1;
                Some(Standing::Identical)
            } else {
                self.compare(record, &event)
            };
            is_there |= standing.is_some();
            let standing = standing.unwrap_or_else(|| self.standing_by_form(&event));
            found.push((event, standing));
        }
        self.note_presence(record, is_there);
        self.link(record.sequence, Some(record.previous_hash), found);
    }

    /// What the archive has at a sequence that the log does not hold.
    pub fn not_held(&mut self, sequence: u64, archived: Vec<ArchivedEvent>, place: NotHeld) {
        let mut found = Vec::new();
        for event in self.distinct(archived) {
            let is_older = event.log.epoch < self.epoch;
            let standing = match place {
                NotHeld::Beyond if !is_older => {
                    self.find(sequence, &[&event], "it is beyond the end of the log".to_owned());
                    Standing::Faulty
                }
                NotHeld::Beyond => {
                    self.result.count_other(&event.log);
                    self.standing_by_form(&event)
                }
                NotHeld::Before => {
                    self.result.counts.not_held += 1;
                    self.standing_by_form(&event)
                }
                NotHeld::InGap => {
                    self.result.counts.recovered += 1;
                    self.standing_by_form(&event)
                }
            };
            found.push((event, standing));
        }
        self.link(sequence, None, found);
    }

    /// The log's record at hand says that a dead letter of this sink was discarded. If its event is missing, that is why.
    pub fn discarded(&mut self, sequence: u64, by: &str, reason: &str) {
        if self.missing.excuse(sequence) {
            self.result.counts.discarded += 1;
            self.result.note(sequence, format!("a dead letter that {by} discarded: {reason}"));
        }
    }

    /// What it all came to, findings by sequence.
    #[must_use]
    pub fn finish(mut self) -> Comparison {
        let missing = self.missing.take_runs();
        self.find_missing(missing);
        self.result.findings.sort_by_key(|finding| finding.first);
        self.result.notes.sort_by_key(|note| note.first);
        self.result
    }

    /// Each event of one sequence once. Two of one log that contradict each other are a finding.
    fn distinct(&mut self, archived: Vec<ArchivedEvent>) -> Vec<ArchivedEvent> {
        let mut distinct: Vec<ArchivedEvent> = Vec::new();
        for event in archived {
            match distinct.iter().find(|other| other.log == event.log) {
                None => distinct.push(event),
                Some(other) if is_repeat(other, &event) => self.result.counts.repeats += 1,
                Some(other) => {
                    let what = "two events that contradict each other have this sequence".to_owned();
                    self.find(event.sequence, &[other, &event], what);
                }
            }
        }
        distinct
    }

    /// An event that is not the record byte for byte. `None`: of another data directory of this server.
    fn compare(&mut self, record: &LogRecord<'_>, event: &ArchivedEvent) -> Option<Standing> {
        let envelope: Option<Envelope> = serde_json::from_slice(record.json).ok();
        let is_same = envelope.is_none_or(|envelope| {
            event.log.epoch >= self.epoch || envelope.log == event.log.to_string() || envelope.id == event.id
        });
        if !is_same {
            self.result.count_other(&event.log);
            return None;
        }
        let form = (self.form_of)(record.event_type);
        let has_hash = event.chainhash == *record.previous_hash;
        if !has_hash {
            let what = "its chainhash is not the hash of the log's record before it".to_owned();
            self.find(record.sequence, &[event], what);
        }
        match MemberDiff::between(record.json, &event.json, &form) {
            Err(error) => self.find(record.sequence, &[event], format!("cannot be compared: {error}")),
            Ok(diff) if !diff.changed.is_empty() => {
                let more = if diff.changed_more > 0 {
                    format!(" and {} more", diff.changed_more)
                } else {
                    String::new()
                };
                let what = format!("it differs from the log in {}{more}", diff.changed.join(", "));
                self.find(record.sequence, &[event], what);
            }
            Ok(diff) => {
                self.result.counts.members_left_out += diff.left_out;
                self.result.counts.members_added += diff.added;
                if has_hash {
                    self.result.counts.edited += 1;
                    return Some(Standing::Edited);
                }
            }
        }
        Some(Standing::Faulty)
    }

    fn note_presence(&mut self, record: &LogRecord<'_>, is_there: bool) {
        if is_there {
            self.has_begun = true;
            self.result.counts.lacking += std::mem::take(&mut self.may_lack);
            self.missing.end_run();
            return;
        }
        if record.presence == Presence::May {
            self.result.count_not_here(record.event_type, record.sequence);
        }
        match (record.presence, self.has_begun) {
            (Presence::Must, false) => self.result.counts.before_first += 1,
            (Presence::Must, true) => {
                let judged = self.missing.add(record.sequence);
                self.find_missing(judged);
            }
            (Presence::Dead, _) => {
                self.result.counts.dead += 1;
                self.result.note(record.sequence, "a dead letter".to_owned());
            }
            (Presence::May, true) => self.may_lack += 1,
            (Presence::May, false) | (Presence::NeedNot, _) => {}
        }
    }

    fn find_missing(&mut self, runs: Vec<Run>) {
        for Run { first, last, events } in runs {
            let are = if events == 1 { "event is" } else { "events are" };
            let what = format!(
                "{events} {are} missing from the archive, although the sink has settled what its routes lead there"
            );
            self.result.find(ArchiveFinding { first, last, objects: Vec::new(), what });
        }
    }

    /// Holds what was there before against what follows it at once: another event of its log, or the log's record.
    fn link(&mut self, sequence: u64, previous: Option<&Hash>, found: Vec<(ArchivedEvent, Standing)>) {
        let (before, events) = std::mem::replace(&mut self.before, (sequence, Vec::new()));
        if before.checked_add(1) == Some(sequence) {
            for (event, standing) in &events {
                let next = found.iter().find(|(next, _)| next.log == event.log);
                self.link_one(event, *standing, next, previous);
            }
        }
        self.before.1 = found;
    }

    fn link_one(
        &mut self,
        event: &ArchivedEvent,
        standing: Standing,
        next: Option<&(ArchivedEvent, Standing)>,
        previous: Option<&Hash>,
    ) {
        let is_proven = next.is_some_and(|(next, _)| event.own.contains(&next.chainhash));
        // the log proves the last one that was trimmed from it
        let is_proven_by_log = matches!(standing, Standing::Whole | Standing::Edited)
            && previous.is_some_and(|hash| event.own.contains(hash));
        match (standing, next) {
            _ if is_proven || is_proven_by_log => self.result.counts.links += 1,
            (Standing::Whole, Some((next, next_standing))) if *next_standing != Standing::Faulty => {
                let what = "the hash of this event is not the chainhash of the next one: one of them is not what the \
                            log had, or a route left something out then"
                    .to_owned();
                self.find(event.sequence, &[event, next], what);
            }
            (Standing::Edited, Some(_)) => self.result.counts.unproven += 1,
            _ => {}
        }
    }

    /// Whether the sink gets the event as it is in the log.
    fn standing_by_form(&self, event: &ArchivedEvent) -> Standing {
        let form = (self.form_of)(&event.event_type);
        let has_holder = ["card.", "sync.", "device."].iter().any(|kind| event.event_type.starts_with(kind));
        let is_whole = form.drop.is_empty() && form.add.is_empty() && (form.personal || !has_holder);
        if is_whole { Standing::Whole } else { Standing::Edited }
    }

    fn find(&mut self, sequence: u64, events: &[&ArchivedEvent], what: String) {
        let mut objects: Vec<u32> = events.iter().map(|event| event.object).collect();
        objects.dedup();
        self.result.find(ArchiveFinding { first: sequence, last: sequence, objects, what });
    }
}

#[derive(serde::Deserialize)]
struct Envelope {
    id: String,
    log: String,
}

/// Whether both say the same, apart from what a route may leave out or add.
fn is_repeat(one: &ArchivedEvent, other: &ArchivedEvent) -> bool {
    let is_same = one.json == other.json
        || MemberDiff::between(&one.json, &other.json, &Form::default())
            .is_ok_and(|diff| diff.changed.is_empty());
    one.chainhash == other.chainhash && is_same
}

#[cfg(test)]
#[path = "archive_check_tests.rs"]
mod tests;
