//! `turnstiled wal verify`: checks copies of the log and of the state beside it, in processes of their own,
//! because sled may panic or hang over a damaged database.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use turnstiled_wal::{Finding, Ranges, scan, verify, verify_state};

use super::{CommandError, Verdict};
use crate::data_dir::{self, DataDir};

/// The least time that a check may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// And this for each of these many bytes: far below what any disk that still works can read.
const TIMEOUT_PER_BYTES: (Duration, u64) = (Duration::from_secs(1), 4 << 20);
/// How often to look whether the check has ended.
const POLL: Duration = Duration::from_millis(20);

/// What to check.
#[derive(Debug, Args)]
pub(in crate::cli) struct Copy {
    what: What,
    original: PathBuf,
    scratch: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Log,
    State,
}

pub(super) fn run(data_dir: &DataDir, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let log = data_dir::log_dir(&data_dir.path);
    let is_log_whole = in_child(data_dir, What::Log, &log, out)?;
    if !is_log_whole && log.exists() {
        print_scan(&log, out)?;
    }
    let is_state_whole = in_child(data_dir, What::State, &data_dir::state_dir(&data_dir.path), out)?;
    if is_log_whole && is_state_whole {
        return Ok(Verdict::Passed);
    }
    writeln!(out, "damaged; nothing was changed; keep a copy of the data directory before anything else")?;
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
    Ok(Verdict::Failed)
}

/// Whether the child found it whole. What it found it has printed, unless it died.
fn in_child(
    data_dir: &DataDir,
    what: What,
    original: &Path,
    out: &mut impl Write,
) -> Result<bool, CommandError> {
    if !original.exists() {
        writeln!(out, "{}: is missing", original.display())?;
        return Ok(false);
    }
    out.flush()?;
    let scratch = tempfile::Builder::new().prefix("verify-").tempdir_in(&data_dir.path)?;
    let name = if what == What::Log { "log" } else { "state" };
    let mut child = Command::new(std::env::current_exe()?)
        .args(["wal", "verify-copy", name])
        .args([original, scratch.path()])
        .stdin(Stdio::null())
        .spawn()?;
    let (per, bytes) = TIMEOUT_PER_BYTES;
    let chunks = u32::try_from(bytes_below(original)? / bytes).unwrap_or(u32::MAX);
    let limit = TIMEOUT.saturating_add(per.saturating_mul(chunks));
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            if status.code().is_none_or(|code| code > 1) {
                writeln!(out, "{}: opening a copy of it ended with {status}", original.display())?;
            }
            return Ok(status.success());
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            writeln!(
                out,
                "{}: opening a copy of it did not end in {} s",
                original.display(),
                limit.as_secs()
            )?;
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
}

fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes +=
            if entry.file_type()?.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
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
        let (findings, left_off) = match self.what {
            What::Log => {
                let report = verify(&self.original, &self.scratch)?;
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
                (report.findings, report.findings_left_off)
            }
            What::State => {
                let report = verify_state(&self.original, &self.scratch)?;
                writeln!(out, "state: {} whole values (cursors and dead letters)", report.whole_values)?;
                (report.findings, report.findings_left_off)
            }
        };
        for finding in &findings {
            writeln!(out, "{}", describe(finding))?;
        }
        if left_off > 0 {
            writeln!(out, "and {left_off} findings more")?;
        }
        if findings.is_empty() {
            let whole =
                if self.what == What::Log { "every record and the hash chain" } else { "every value" };
            writeln!(out, "{whole} is whole")?;
            return Ok(Verdict::Passed);
        }
        Ok(Verdict::Failed)
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
