//! `turnstiled wal verify`: checks copies of the log and of the state beside it, in processes of their own,
//! because sled may panic or hang over a damaged database.

use std::{
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use turnstiled_wal::{Finding, Ranges, scan, verify_each, verify_state};

use super::{
    CommandError, Verdict,
    child::{self, Stdout},
};
use crate::{
    app::SnapshotCheck,
    cli::counted,
    data_dir::{self, DataDir},
};

/// What to check.
#[derive(Debug, Args)]
pub(in crate::cli) struct Copy {
    what: What,
    original: PathBuf,
    scratch: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    Log,
    State,
}

/// What is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) log: bool,
    pub(super) state: bool,
}

impl Whole {
    pub(super) fn verdict(self) -> Verdict {
        if self.log && self.state { Verdict::Passed } else { Verdict::Failed }
    }
}

pub(super) fn run(data_dir: &DataDir, out: &mut impl Write) -> Result<Whole, CommandError> {
    let log = data_dir::log_dir(&data_dir.path);
    let is_log_whole = in_child(&data_dir.path, What::Log, &log, out)?;
    if !is_log_whole && log.exists() {
        print_scan(&log, out)?;
    }
    let is_state_whole = in_child(&data_dir.path, What::State, &data_dir::state_dir(&data_dir.path), out)?;
    let whole = Whole { log: is_log_whole, state: is_state_whole };
    if whole.verdict() == Verdict::Passed {
        return Ok(whole);
    }
    writeln!(out, "damaged; nothing was changed; keep a copy of the data directory before anything else")?;
    if !is_log_whole {
        writeln!(out, "next: `turnstiled wal repair` makes a new data directory of what is whole")?;
    }
    if !is_state_whole {
        let state = data_dir::state_dir(&data_dir.path);
        writeln!(
            out,
            "cursors and dead letters: if the disk is full, free some space first, for that looks the same; else \
             move {} away if it is there, then every sink begins again with the oldest event in the log, \
             which repeats events (consumers deduplicate by id), and dead letters kept there are lost",
            state.display()
        )?;
    }
    Ok(whole)
}

/// Whether the child found it whole. What it found it has printed, unless it died. Copies are made in `scratch_in`.
pub(super) fn in_child(
    scratch_in: &Path,
    what: What,
    original: &Path,
    out: &mut impl Write,
) -> Result<bool, CommandError> {
    if !original.exists() {
        writeln!(out, "{}: is missing", original.display())?;
        return Ok(false);
    }
    out.flush()?;
    let scratch = tempfile::Builder::new().prefix("verify-").tempdir_in(scratch_in)?;
    let name = if what == What::Log { "log" } else { "state" };
    let arguments = ["wal", "verify-copy", name].map(OsStr::new);
    let arguments = arguments.into_iter().chain([original.as_os_str(), scratch.path().as_os_str()]);
    match child::run(arguments, original, Stdout::Shown)?.status {
        Ok(status) => {
            if status.code().is_none_or(|code| code > 1) {
                writeln!(out, "{}: opening a copy of it ended with {status}", original.display())?;
            }
            Ok(status.success())
        }
        Err(limit) => {
            let seconds = limit.as_secs();
            writeln!(out, "{}: opening a copy of it did not end in {seconds} s", original.display())?;
            Ok(false)
        }
    }
}

/// What can be seen without sled: which records are there all the same.
fn print_scan(log: &Path, out: &mut impl Write) -> Result<(), CommandError> {
    let found = scan(log)?;
    writeln!(
        out,
        "{}: {} records found whole in its files: {}",
        log.display(),
        found.whole.sequences,
        list(&found.whole)
    )?;
    if found.heads.sequences > 0 {
        writeln!(
            out,
            "  {} long ones are there in part at least: {}",
            found.heads.sequences,
            list(&found.heads)
        )?;
    }
    match found.missing.sequences {
        0 => writeln!(out, "  none is missing up to the last one known to have been durable")?,
        missing => writeln!(out, "  {missing} missing: {}", list(&found.missing))?,
    }
    Ok(())
}

fn list(ranges: &Ranges) -> String {
    let shown = ranges.listed.iter().map(|range| match (range.start(), range.end()) {
        (first, last) if first == last => format!("sequence {first}"),
        (first, last) => format!("sequences {first} to {last}"),
    });
    let more = (ranges.left_off > 0).then(|| format!("and {} ranges more", ranges.left_off));
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

impl Copy {
    /// The child's part.
    pub(super) fn run(&self, out: &mut impl Write) -> Result<Verdict, CommandError> {
        let (findings, left_off, whole) = match self.what {
            What::Log => self.check_log(out)?,
            What::State => {
                let report = verify_state(&self.original, &self.scratch)?;
                writeln!(out, "state: {} whole values (cursors and dead letters)", report.whole_values)?;
                let findings = report.findings.iter().map(describe).collect();
                (findings, report.findings_left_off, "every value")
            }
        };
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
        if left_off > 0 {
            writeln!(out, "and {} more", counted(left_off, "finding"))?;
        }
        if findings.is_empty() {
            writeln!(out, "{whole} is whole")?;
            return Ok(Verdict::Passed);
        }
        Ok(Verdict::Failed)
    }

    /// The log, and the snapshots beside it, which are of its events and never ahead of it.
    fn check_log(&self, out: &mut impl Write) -> Result<(Vec<String>, u64, &'static str), CommandError> {
        let beside = self.original.parent().map(data_dir::snapshots_dir).unwrap_or_default();
        let mut snapshots = SnapshotCheck::read(&beside)?;
        let report = verify_each(&self.original, &self.scratch, &mut |record, hash| {
            snapshots.see(record.sequence, hash)
        })?;
        if report.unfinished_records > 0 {
            let records = report.unfinished_records;
            writeln!(
                out,
                "{records} records of an unanswered command at the end: no damage, the next start drops them"
            )?;
        }
        let (whole, first, last) = (report.whole_records, report.first, report.last);
        writeln!(
            out,
            "log: {whole} whole records, {first} to {last}, in {} segments",
            report.segments.len()
        )?;
        for gap in &report.acknowledged {
            writeln!(out, "sequences {} to {}: missing since a repair, no damage", gap.first, gap.last)?;
        }
        writeln!(out, "snapshots: {}", snapshots.count())?;
        let mut findings: Vec<String> = report.findings.iter().map(describe).collect();
        findings.extend(snapshots.finish(&report).iter().map(ToString::to_string));
        Ok((findings, report.findings_left_off, "every record, the hash chain and every snapshot"))
    }
}

fn describe(finding: &Finding) -> String {
    let place = match (finding.first, finding.last) {
        (0, _) => String::new(),
        (first, last) if first == last => format!("sequence {first}: "),
        (first, last) => format!("sequences {first} to {last}: "),
    };
    format!("{}: {place}{}", finding.path.display(), finding.what)
}
