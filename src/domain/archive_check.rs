//! Whether an archive and the log tell the same story. Pure: the caller brings both in order of their sequences.
//!
//! `chainhash` in an archived event is the hash of the log's previous record. So an unedited event of the archive
//! proves the one before it, whether the log still holds that or not: such a pair is a link.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    archived_event::{ArchivedEvent, Hash},
    ids::LogName,
    member_diff::MemberDiff,
    outbound::Form,
};

/// The most findings kept; more are counted.
pub const MAX_ARCHIVE_FINDINGS: usize = 1_000;
/// The most logs of other data directories that are told apart; the events of more are counted together.
pub const MAX_OTHER_LOGS: usize = 100;

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveFinding {
    /// The first sequence concerned.
    pub first: u64,
    /// The last sequence concerned.
    pub last: u64,
    /// Where the events were found, by the caller's numbering; none for what is missing.
    pub objects: Vec<u32>,
    /// What it is.
    pub what: String,
}

/// How many of each there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveCounts {
    /// Events byte for byte as in the log.
    pub identical: u64,
    /// Events equal in all that they share with the log's, with members left out or added.
    pub edited: u64,
    /// Members left out of those, holders' names above all.
    pub members_left_out: u64,
    /// Members that routes have added or replaced.
    pub members_added: u64,
    /// Events found again with the same content.
    pub repeats: u64,
    /// Events that the log held once: trimmed since, or the log was not looked at.
    pub not_held: u64,
    /// Events that a repair acknowledged to be missing from the log.
    pub recovered: u64,
    /// Pairs of neighbours of which the second proves the first.
    pub links: u64,
    /// Pairs that prove nothing, because a route may have edited the first.
    pub unproven: u64,
    /// Events that the log has and the archive may lack.
    pub lacking: u64,
    /// Events for this sink before the archive's first one.
    pub before_first: u64,
    /// Events of other data directories of this server, by the log's name.
    pub other_logs: BTreeMap<LogName, u64>,
    /// Those of still more of them.
    pub other_logs_more: u64,
}

/// Whether the archive has to have an event of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A route leads it there, and the sink has settled it.
    Must,
    /// Nobody knows which sink the archive is from, or the sink was let go of it when the disk was full.
    May,
    /// It is not for this sink, or not yet, or a dead letter.
    NeedNot,
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
    counts: ArchiveCounts,
    findings: Vec<ArchiveFinding>,
    findings_left_off: u64,
    /// The last sequence with archived events, and what they were.
    before: (u64, Vec<(ArchivedEvent, Standing)>),
    has_begun: bool,
    /// A run of events that must be there and are not: first, last, how many.
    missing: Option<(u64, u64, u64)>,
    /// Events that may be missing since the last one that is there.
    may_lack: u64,
}

impl fmt::Debug for ArchiveCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ArchiveCheck").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl ArchiveCheck {
    /// Against a log whose newest events have this epoch.
    #[must_use]
    pub fn new(epoch: u64, form_of: FormOf) -> Self {
        Self {
            epoch,
            form_of,
            counts: ArchiveCounts::default(),
            findings: Vec::new(),
            findings_left_off: 0,
            before: (0, Vec::new()),
            has_begun: false,
            missing: None,
            may_lack: 0,
        }
    }

    /// The log's next record, and what the archive has at its sequence.
    pub fn record(&mut self, record: &LogRecord<'_>, archived: Vec<ArchivedEvent>) {
        let mut found = Vec::new();
        let mut is_there = false;
        for event in self.distinct(archived) {
            let standing = if event.own.contains(record.hash) {
                self.counts.identical += 1;
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
                    self.count_other(&event.log);
                    self.standing_by_form(&event)
                }
                NotHeld::Before => {
                    self.counts.not_held += 1;
                    self.standing_by_form(&event)
                }
                NotHeld::InGap => {
                    self.counts.recovered += 1;
                    self.standing_by_form(&event)
                }
            };
            found.push((event, standing));
        }
        self.link(sequence, None, found);
    }

    /// What it all came to: counts, findings by sequence as they were found, and how many more findings there are.
    #[must_use]
    pub fn finish(mut self) -> (ArchiveCounts, Vec<ArchiveFinding>, u64) {
        self.end_missing();
        (self.counts, self.findings, self.findings_left_off)
    }

    /// Each event of one sequence once. Two of one log that contradict each other are a finding.
    fn distinct(&mut self, archived: Vec<ArchivedEvent>) -> Vec<ArchivedEvent> {
        let mut distinct: Vec<ArchivedEvent> = Vec::new();
        for event in archived {
            match distinct.iter().find(|other| other.log == event.log) {
                None => distinct.push(event),
                Some(other) if is_repeat(other, &event) => self.counts.repeats += 1,
                Some(other) => {
                    let what = "two events that contradict each other have this sequence".to_owned();
                    let finding = finding(event.sequence, &[other, &event], what);
                    self.add(finding);
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
            self.count_other(&event.log);
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
                self.counts.members_left_out += diff.left_out;
                self.counts.members_added += diff.added;
                if has_hash {
                    self.counts.edited += 1;
                    return Some(Standing::Edited);
                }
            }
        }
        Some(Standing::Faulty)
    }

    fn note_presence(&mut self, record: &LogRecord<'_>, is_there: bool) {
        if is_there {
            self.has_begun = true;
            self.counts.lacking += std::mem::take(&mut self.may_lack);
            self.end_missing();
            return;
        }
        match (record.presence, self.has_begun) {
            (Presence::Must, false) => self.counts.before_first += 1,
            (Presence::Must, true) => {
                let (first, _, events) = self.missing.unwrap_or((record.sequence, 0, 0));
                self.missing = Some((first, record.sequence, events + 1));
            }
            (Presence::May, true) => self.may_lack += 1,
            (Presence::May, false) | (Presence::NeedNot, _) => {}
        }
    }

    fn end_missing(&mut self) {
        if let Some((first, last, events)) = self.missing.take() {
            let are = if events == 1 { "event is" } else { "events are" };
            let what = format!(
                "{events} {are} missing from the archive, although the sink has settled what its routes lead there"
            );
            self.add(ArchiveFinding { first, last, objects: Vec::new(), what });
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
            _ if is_proven || is_proven_by_log => self.counts.links += 1,
            (Standing::Whole, Some((next, next_standing))) if *next_standing != Standing::Faulty => {
                let what = "the hash of this event is not the chainhash of the next one: one of them is not what the \
                            log had, or a route left something out then"
                    .to_owned();
                self.find(event.sequence, &[event, next], what);
            }
            (Standing::Edited, Some(_)) => self.counts.unproven += 1,
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

    fn count_other(&mut self, log: &LogName) {
        let logs = &mut self.counts.other_logs;
        if logs.len() < MAX_OTHER_LOGS || logs.contains_key(log) {
            *logs.entry(log.clone()).or_default() += 1;
        } else {
            self.counts.other_logs_more += 1;
        }
    }

    fn find(&mut self, sequence: u64, events: &[&ArchivedEvent], what: String) {
        self.add(finding(sequence, events, what));
    }

    fn add(&mut self, finding: ArchiveFinding) {
        if self.findings.len() < MAX_ARCHIVE_FINDINGS {
            self.findings.push(finding);
        } else {
            self.findings_left_off += 1;
        }
    }
}

#[derive(serde::Deserialize)]
struct Envelope {
    id: String,
    log: String,
}

fn finding(sequence: u64, events: &[&ArchivedEvent], what: String) -> ArchiveFinding {
    let mut objects: Vec<u32> = events.iter().map(|event| event.object).collect();
    objects.dedup();
    ArchiveFinding { first: sequence, last: sequence, objects, what }
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
