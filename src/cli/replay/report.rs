//! What the daemon says of a replay, and what of it is shown.

use std::io::Write;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    cli::{CommandError, Verdict},
    domain::replay::STATE,
};

/// How a replay stands, as far as this shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) to: String,
    pub(super) dry_run: bool,
    pub(super) created_at: String,
    pub(super) finished_at: Option<String>,
    pub(super) matched: u64,
    pub(super) delivered: u64,
    pub(super) refused: u64,
    pub(super) scanned: u64,
    pub(super) total: Option<u64>,
    pub(super) objects: Option<Objects>,
    pub(super) others: u64,
    pub(super) unreadable: u64,
    pub(super) problems: Vec<String>,
    pub(super) range: Option<Range>,
    pub(super) trimmed: Option<Range>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) differences: Option<Differences>,
    pub(super) last_error: Option<LastError>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Objects {
    pub(super) done: u64,
    pub(super) total: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Range {
    first: String,
    last: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Differences {
    compared: u64,
    total: u64,
    not_judged: u64,
    listed: Vec<Difference>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Difference {
    entry: String,
    live: Value,
    source: Value,
    sequence: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    event_id: String,
    code: String,
    text: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct LastError {
    code: String,
    text: String,
}

impl Report {
    pub(super) fn progress(&self) -> String {
        let done = match self.dry_run || self.to == STATE {
            true if self.to == STATE => format!("{} events so far", self.scanned),
            true => format!("{} would be sent", self.matched),
            false => format!("{} delivered, {} refused", self.delivered, self.refused),
        };
        match &self.last_error {
            Some(LastError { code, .. }) => format!("{done}; last error: {code}"),
            None => done,
        }
    }

    /// Says how it ended. It failed if anything that was asked for was not sent.
    pub(super) fn conclude(
        &self,
        may_be_cut: bool,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> Result<Verdict, CommandError> {
        let begin = self.range.as_ref().filter(|_| may_be_cut).map(|range| range.first.as_str());
        if let Some(first) = begin.filter(|first| first.parse::<u64>().is_ok_and(|first| first > 1)) {
            writeln!(err, "the log begins with sequence {first}; what came before is in the archive")?;
        }
        if let Some(Range { first, last }) = &self.trimmed {
            writeln!(
                err,
                "sequences {first} to {last} are no longer in the log; replay them from the archive"
            )?;
        }
        if self.others > 0 {
            writeln!(err, "{} events of other servers are not replayed", self.others)?;
        }
        for problem in &self.problems {
            writeln!(err, "{problem}")?;
        }
        let unnamed = self.unreadable.saturating_sub(self.problems.len() as u64);
        if unnamed > 0 {
            writeln!(err, "and {unnamed} more lines that are no events")?;
        }
        for Refusal { event_id, code, text } in &self.refusals {
            writeln!(err, "refused: {event_id}: {code}: {text}")?;
        }
        if self.state == "failed" {
            let why = self.last_error.as_ref().map_or("", |error| error.text.as_str());
            writeln!(err, "the replay failed: {why}")?;
        }
        if self.to == STATE {
            return self.conclude_state(out, err);
        }
        match self.dry_run {
            true => {
                writeln!(out, "{} of {} events would be sent to {}", self.matched, self.scanned, self.to)?
            }
            false => writeln!(
                out,
                "{} of {} events delivered to {}, {} refused",
                self.delivered, self.scanned, self.to, self.refused
            )?,
        }
        let is_whole =
            self.state == "done" && self.refused == 0 && self.unreadable == 0 && self.trimmed.is_none();
        Ok(if is_whole { Verdict::Passed } else { Verdict::Failed })
    }

    /// One difference a line, then what was compared.
    fn conclude_state(&self, out: &mut impl Write, err: &mut impl Write) -> Result<Verdict, CommandError> {
        let Some(Differences { compared, total, not_judged, listed }) = &self.differences else {
            return Ok(Verdict::Failed);
        };
        for Difference { entry, live, source, sequence } in listed {
            let by = sequence.as_deref().map_or(String::new(), |sequence| format!(" by {sequence}"));
            writeln!(out, "{entry}: live {live}, source {source}{by}")?;
        }
        let unlisted = total.saturating_sub(listed.len() as u64);
        if unlisted > 0 {
            writeln!(out, "and {unlisted} more")?;
        }
        if *not_judged > 0 {
            writeln!(
                err,
                "{not_judged} entries may be older than the first event of the source and are not judged"
            )?;
        }
        writeln!(out, "{total} of {compared} entries differ")?;
        let is_whole = *total == 0 && self.unreadable == 0;
        Ok(if is_whole { Verdict::Passed } else { Verdict::Failed })
    }
}
