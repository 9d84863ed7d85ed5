//! What a comparison of log and archive came to, in words for an auditor.

use std::io::Write;

use super::{
    super::{CommandError, Verdict},
    windows::Windows,
};
use crate::{
    cli::{client::visible, counted},
    domain::archive_comparison::{ArchiveCounts, ArchiveFinding, Comparison, NotHere},
    sinks::archive::Location,
};

/// What was compared.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) location: &'a Location,
    /// The sink of the configuration that writes there.
    pub(super) sink: Option<&'a str>,
    pub(super) is_log_whole: bool,
    pub(super) is_state_whole: bool,
    /// Objects that are none of a sink's, and one of them.
    pub(super) others: u64,
    pub(super) other: Option<String>,
    pub(super) objects_of_others: u64,
}

impl Report<'_> {
    pub(super) fn print(
        &self,
        comparison: &Comparison,
        windows: &Windows<'_>,
        out: &mut impl Write,
    ) -> Result<Verdict, CommandError> {
        let Comparison { counts, findings, findings_left_off, notes } = comparison;
        self.print_counts(counts, windows, out)?;
        self.print_not_here(counts, out)?;
        self.print_notes(notes, counts.dead.saturating_add(counts.discarded), out)?;
        for finding in findings {
            writeln!(out, "{}", describe(finding, windows))?;
        }
        let seen = &windows.seen;
        for problem in &seen.problems {
            writeln!(out, "{}: line {} {}", windows.name(problem.object), problem.line, problem.what)?;
        }
        let left_off = findings_left_off.saturating_add(seen.problems_left_off);
        if left_off > 0 {
            writeln!(out, "and {} more", counted(left_off, "finding"))?;
        }
        let compared = counts.identical + counts.edited;
        let events = compared + counts.not_held + counts.recovered;
        let found = (findings.len() + seen.problems.len()) as u64 + left_off;
        let not_here = counts.not_here.values().map(|of_type| of_type.events).sum::<u64>();
        let not_here = not_here.saturating_add(counts.not_here_more);
        self.verdict(compared, events, found, not_here, out)
    }

    /// Which events of the log are not here, where nobody knows whether they should be.
    fn print_not_here(&self, counts: &ArchiveCounts, out: &mut impl Write) -> Result<(), CommandError> {
        for (event_type, NotHere { events, first }) in &counts.not_here {
            let first: Vec<String> = first.iter().map(ToString::to_string).collect();
            let more = if *events > first.len() as u64 { ", ..." } else { "" };
            writeln!(
                out,
                "  not here: {events} {}, sequences {}{more}",
                visible(event_type),
                first.join(", ")
            )?;
        }
        if counts.not_here_more > 0 {
            writeln!(out, "  not here: {} of other types", counted(counts.not_here_more, "event"))?;
        }
        Ok(())
    }

    /// What is not here, and need not be. Operators' words are shown without what a terminal would take for orders.
    fn print_notes(
        &self,
        notes: &[ArchiveFinding],
        events: u64,
        out: &mut impl Write,
    ) -> Result<(), CommandError> {
        for ArchiveFinding { first, what, .. } in notes {
            writeln!(out, "  not here: sequence {first}, {}", visible(what))?;
        }
        let left_off = events.saturating_sub(notes.len() as u64);
        if left_off > 0 {
            writeln!(out, "  and {left_off} more that are not here for these reasons")?;
        }
        Ok(())
    }

    fn verdict(
        &self,
        compared: u64,
        events: u64,
        found: u64,
        not_here: u64,
        out: &mut impl Write,
    ) -> Result<Verdict, CommandError> {
        let place = self.location;
        if found > 0 {
            writeln!(
                out,
                "verdict: log and archive do NOT tell the same story: {} in {place}",
                counted(found, "finding")
            )?;
        } else if !self.is_log_whole {
            writeln!(
                out,
                "verdict: the log is damaged, so {place} was held against itself only; nothing is wrong there"
            )?;
        } else if events == 0 {
            writeln!(out, "verdict: nothing is proven: {place} has no event of this server")?;
        } else if not_here > 0 && (self.sink.is_none() || !self.is_state_whole) {
            let (events, not_here) = (counted(compared, "event"), counted(not_here, "event"));
            writeln!(
                out,
                "verdict: what is here agrees with the log ({events} of {place}), and {not_here} of the log not here: \
                 whether they should be, nobody can say of a place that no sink of the configuration writes to"
            )?;
            return Ok(Verdict::Passed);
        } else {
            writeln!(
                out,
                "verdict: log and archive tell the same story: {compared} events of {place} are what the log has"
            )?;
            return Ok(Verdict::Passed);
        }
        Ok(Verdict::Failed)
    }

    fn print_counts(
        &self,
        counts: &ArchiveCounts,
        windows: &Windows<'_>,
        out: &mut impl Write,
    ) -> Result<(), CommandError> {
        let seen = &windows.seen;
        match self.sink {
            Some(sink) => writeln!(out, "archive: {}, of the sink {sink}", self.location)?,
            None => writeln!(
                out,
                "archive: {}, of no sink of this configuration: what it should hold is not known",
                self.location
            )?,
        }
        if self.is_log_whole && !self.is_state_whole {
            writeln!(out, "  cursors are damaged: whether events are missing from the archive is not known")?;
        }
        let mut line = |count: u64, what: &str| -> Result<(), CommandError> {
            if count > 0 {
                writeln!(out, "  {count} {what}")?;
            }
            Ok(())
        };
        line(windows.objects() as u64, "objects read")?;
        line(counts.identical, "events are byte for byte what the log has")?;
        line(counts.edited, "events are what the log has, but for members that a route left out or added")?;
        line(counts.members_left_out, "members left out")?;
        line(counts.members_added, "members added or replaced")?;
        line(counts.links, "links proven: an event's own hash is the chainhash of the next one")?;
        line(counts.unproven, "links prove nothing, because a route may have edited the first event")?;
        line(counts.not_held, "events are not held against the log, which has not or no longer got them")?;
        line(counts.recovered, "events that a repair found missing from the log are here")?;
        line(
            counts.repeats.saturating_add(seen.repeats),
            "repeats, which promise nothing else than at least once",
        )?;
        line(counts.lacking, "events of the log between these are not here")?;
        line(
            counts.before_first,
            "events of the log for this sink are before the first one here: it began later, or they were removed",
        )?;
        line(counts.dead, "events are not here, because they are dead letters of this sink")?;
        line(
            counts.discarded,
            "events are not here, because they were dead letters of this sink and have been discarded",
        )?;
        for (log, events) in &counts.other_logs {
            line(
                *events,
                &format!(
                    "events of {log}, another data directory of this server, are not held against this log"
                ),
            )?;
        }
        line(counts.other_logs_more, "events of still more data directories of this server")?;
        line(seen.of_others, "events of other servers")?;
        line(self.objects_of_others, "objects of other servers, not read")?;
        line(seen.unfinished, "unfinished lines at the ends of files: never acknowledged, no loss")?;
        let other = self.other.as_deref().unwrap_or_default();
        line(self.others, &format!("objects that no sink writes, such as {other}"))
    }
}

fn describe(finding: &ArchiveFinding, windows: &Windows<'_>) -> String {
    let place = match (finding.first, finding.last) {
        (first, last) if first == last => format!("sequence {first}"),
        (first, last) => format!("sequences {first} to {last}"),
    };
    let objects: Vec<&str> = finding.objects.iter().map(|object| windows.name(*object)).collect();
    let objects = if objects.is_empty() { String::new() } else { format!(" ({})", objects.join(", ")) };
    format!("{place}: {}{objects}", finding.what)
}
