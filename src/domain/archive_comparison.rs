//! What a comparison of an archive with the log came to.

use std::collections::BTreeMap;

use super::ids::LogName;

/// The most findings kept, and the most notes; more are counted.
pub const MAX_ARCHIVE_FINDINGS: usize = 1_000;
/// The most logs of other data directories that are told apart; the events of more are counted together.
pub const MAX_OTHER_LOGS: usize = 100;

/// Types that are told apart of what is not here; the events of more are counted together.
pub const MAX_TYPES_NOT_HERE: usize = 100;
/// Sequences that are named of each.
pub const MAX_NAMED_NOT_HERE: usize = 3;

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

/// Events of one type that are not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotHere {
    /// How many.
    pub events: u64,
    /// The first [`MAX_NAMED_NOT_HERE`] sequences.
    pub first: Vec<u64>,
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
    /// All events of the log that are not here and that nobody knows whether they should be, by type.
    pub not_here: BTreeMap<String, NotHere>,
    /// Those of still more types.
    pub not_here_more: u64,
    /// Events for this sink before the archive's first one.
    pub before_first: u64,
    /// Events that are not here, because they are dead letters.
    pub dead: u64,
    /// Events that are not here, because they were dead letters and have been discarded.
    pub discarded: u64,
    /// Events of other data directories of this server, by the log's name.
    pub other_logs: BTreeMap<LogName, u64>,
    /// Those of still more of them.
    pub other_logs_more: u64,
}

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// How many of each there are.
    pub counts: ArchiveCounts,
    /// What does not agree.
    pub findings: Vec<ArchiveFinding>,
    /// How many more findings there are.
    pub findings_left_off: u64,
    /// Which dead letters and discarded events are not here, by sequence as they were found.
    pub notes: Vec<ArchiveFinding>,
}

impl Comparison {
    pub(super) fn find(&mut self, finding: ArchiveFinding) {
        if self.findings.len() < MAX_ARCHIVE_FINDINGS {
            self.findings.push(finding);
        } else {
            self.findings_left_off += 1;
        }
    }

    pub(super) fn note(&mut self, sequence: u64, what: String) {
        if self.notes.len() < MAX_ARCHIVE_FINDINGS {
            self.notes.push(ArchiveFinding { first: sequence, last: sequence, objects: Vec::new(), what });
        }
    }

    pub(super) fn count_not_here(&mut self, event_type: &str, sequence: u64) {
        let types = &mut self.counts.not_here;
        if types.len() >= MAX_TYPES_NOT_HERE && !types.contains_key(event_type) {
            self.counts.not_here_more += 1;
            return;
        }
        let of_type = types.entry(event_type.to_owned()).or_default();
        of_type.events += 1;
        if of_type.first.len() < MAX_NAMED_NOT_HERE {
            of_type.first.push(sequence);
        }
    }

    pub(super) fn count_other(&mut self, log: &LogName) {
        let logs = &mut self.counts.other_logs;
        if logs.len() < MAX_OTHER_LOGS || logs.contains_key(log) {
            *logs.entry(log.clone()).or_default() += 1;
        } else {
            self.counts.other_logs_more += 1;
        }
    }
}
