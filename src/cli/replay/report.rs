//! What the daemon says of a replay, and what of it is shown.

use std::io::Write;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    cli::{CommandError, Verdict, counted},
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
    pub(super) unrouted: u64,
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
    pub(super) at: String,
    pub(super) code: String,
    pub(super) text: String,
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
        if self.matched == 0 && self.unrouted > 0 {
            let (asked, to) = (counted(self.unrouted, "event"), &self.to);
            writeln!(
                err,
                "{asked} asked for, and no route leads any of them to {to}: look at --type and the routes"
            )?;
        }
        if self.others > 0 {
            writeln!(err, "not replayed: {} of other servers", counted(self.others, "event"))?;
        }
        for problem in &self.problems {
            writeln!(err, "{problem}")?;
        }
        let unnamed = self.unreadable.saturating_sub(self.problems.len() as u64);
        if unnamed > 0 {
            writeln!(err, "and {} that are no events", counted(unnamed, "more line"))?;
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::cli::replay) fn report(changes: &[(&str, Value)]) -> Report {
        let mut report = json!({ "name": "r", "state": "done", "to": "exits", "dry_run": false, "created_at": "",
            "finished_at": null, "matched": 0, "delivered": 0, "refused": 0, "scanned": 7, "total": null,
            "objects": null, "unrouted": 0, "others": 0, "unreadable": 0, "problems": [], "range": null,
            "trimmed": null, "refusals": [], "differences": null, "last_error": null });
        for (name, value) in changes {
            report[name] = value.clone();
        }
        serde_json::from_value(report).unwrap()
    }

    fn concluded(changes: &[(&str, Value)]) -> (Verdict, String, String) {
        let report = report(changes);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let verdict = report.conclude(true, &mut out, &mut err).unwrap();
        (verdict, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_filter_that_matches_nothing_says_what_was_looked_at_and_whether_no_route_leads_there() {
        let (verdict, out, err) = concluded(&[]);
        assert_eq!((verdict, err.as_str()), (Verdict::Passed, ""));
        assert_eq!(out, "0 of 7 events delivered to exits, 0 refused\n");
        let (verdict, _, err) = concluded(&[("unrouted", json!(1))]);
        assert_eq!(verdict, Verdict::Passed);
        assert!(err.starts_with("1 event asked for, and no route leads any of them to exits"), "{err}");
        let (_, _, err) = concluded(&[("unrouted", json!(5)), ("matched", json!(2))]);
        assert_eq!(err, "", "the sink takes some of what was asked for, as its routes have it");
    }

    #[test]
    fn a_source_with_nothing_in_it_is_a_failure() {
        let why = json!({ "at": "", "code": "failed", "text": "s3://arch/typo has no object" });
        for to in ["exits", "state"] {
            let changes = [("state", json!("failed")), ("to", json!(to)), ("last_error", why.clone())];
            let (verdict, _, err) = concluded(&changes);
            assert_eq!(verdict, Verdict::Failed);
            assert!(err.contains("the replay failed: s3://arch/typo has no object"), "{err}");
        }
    }
}
