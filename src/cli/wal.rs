//! `turnstiled wal`: an offline look at the log in the data directory of a configuration.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use clap::Subcommand;
use turnstiled_wal::{Log, LogOptions, VerifyReport, stat, verify};

use super::{CommandError, ConfigFile, Verdict};
use crate::{
    data_dir::{self, DataDir},
    domain::{
        outbound::{Form, edit},
        record::EventRecord,
    },
};

/// The least time that a check may take.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// And this for each of these many bytes: far below what any disk that still works can read.
const VERIFY_TIMEOUT_PER_BYTES: (Duration, u64) = (Duration::from_secs(1), 4 << 20);
/// How often to look whether the check has ended.
const VERIFY_POLL: Duration = Duration::from_millis(20);

/// Records read at once.
const DUMP_RECORDS: usize = 1_000;
/// Bytes read at once.
const DUMP_BYTES: usize = 8 << 20;

/// What to look at.
#[derive(Debug, Subcommand)]
pub(super) enum Wal {
    /// Count what is there
    Stat {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Print every event as NDJSON, with its chainhash
    Dump {
        /// Only events after this sequence
        #[arg(long, default_value_t = 0)]
        after: u64,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Check every record and the hash chain, on a copy; exit code 1 if anything is wrong
    Verify {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// The part of `verify` that may die of a damaged database
    #[command(hide = true)]
    VerifyCopy { log: PathBuf, scratch: PathBuf },
}

pub(super) fn run(wal: Wal, out: &mut impl Write) -> Result<Verdict, CommandError> {
    match wal {
        Wal::Stat { file } => print_stat(&file, out),
        Wal::Dump { after, file } => dump(&file, after, out),
        Wal::Verify { file } => verify_in_child(&file, out),
        Wal::VerifyCopy { log, scratch } => print_report(&verify(&log, &scratch)?, out),
    }
}

/// Holds the data directory, so that no daemon writes meanwhile.
fn take(file: &ConfigFile) -> Result<DataDir, CommandError> {
    let config = file.load()?;
    // Looking must not make anything: a directory that is not there is an error, not a new log.
    data_dir::log_name(&config.server.data_dir)?;
    Ok(DataDir::take(&config.server.data_dir, &config.server.id)?)
}

fn print_stat(file: &ConfigFile, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let data_dir = take(file)?;
    let found = stat(&data_dir::log_dir(&data_dir.path))?;
    let records: u64 = found.segments.iter().map(|segment| segment.records).sum();
    let bytes: u64 = found.segments.iter().map(|segment| segment.bytes_on_disk).sum();
    writeln!(out, "log         {}", data_dir.log_name)?;
    writeln!(out, "records     {records}")?;
    writeln!(
        out,
        "first       {}",
        found.segments.iter().map(|segment| segment.first).find(|&first| first > 0).unwrap_or(0)
    )?;
    writeln!(out, "last        {}", found.segments.iter().map(|segment| segment.last).max().unwrap_or(0))?;
    match found.high_water {
        Some(sequence) => writeln!(out, "high water  {sequence}")?,
        None => writeln!(out, "high water  unreadable; run `turnstiled wal verify`")?,
    }
    writeln!(out, "on disk     {bytes} bytes in {} segments", found.segments.len())?;
    for segment in &found.segments {
        let (path, first, last) = (segment.path.display(), segment.first, segment.last);
        writeln!(
            out,
            "  {path}: {} records, {first} to {last}, {} bytes",
            segment.records, segment.bytes_on_disk
        )?;
    }
    Ok(Verdict::Passed)
}

/// Everything is printed, holders' names too: whoever may read the data directory has them anyway.
fn dump(file: &ConfigFile, after: u64, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let data_dir = take(file)?;
    let log = Log::open(&data_dir::log_dir(&data_dir.path), LogOptions::default())?.reader();
    let form = Form { personal: true, ..Form::default() };
    let mut after = after.max(log.first().saturating_sub(1));
    let mut out = io::BufWriter::new(out);
    loop {
        let records = log.read(after, DUMP_RECORDS, DUMP_BYTES)?;
        let Some(last) = records.last() else { break };
        after = last.sequence;
        for found in &records {
            let event = EventRecord::parse(found.payload.clone())
                .map_err(|error| format!("sequence {}: {error}", found.sequence))?;
            out.write_all(&edit(&event.json(), &form, &found.previous_hash)?)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(Verdict::Passed)
}

/// sled may panic or hang over a damaged database, so the check runs in a process of its own.
fn verify_in_child(file: &ConfigFile, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let data_dir = take(file)?;
    let log = data_dir::log_dir(&data_dir.path);
    let scratch = tempfile::Builder::new().prefix("verify-").tempdir_in(&data_dir.path)?;
    out.flush()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["wal", "verify-copy"])
        .args([&log, &scratch.path().to_path_buf()])
        .stdin(Stdio::null())
        .spawn()?;
    let (per, bytes) = VERIFY_TIMEOUT_PER_BYTES;
    let chunks = u32::try_from(bytes_below(&log)? / bytes).unwrap_or(u32::MAX);
    let limit = VERIFY_TIMEOUT.saturating_add(per.saturating_mul(chunks));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(VERIFY_POLL);
    };
    conclude(status, limit, &log, out)
}

fn conclude(
    status: Option<ExitStatus>,
    limit: Duration,
    log: &Path,
    out: &mut impl Write,
) -> Result<Verdict, CommandError> {
    match status.map(|status| (status, status.code())) {
        Some((_, Some(0))) => return Ok(Verdict::Passed),
        Some((_, Some(1))) => {}
        Some((status, _)) => {
            writeln!(out, "{}: damaged: opening a copy of it ended with {status}", log.display())?
        }
        None => writeln!(
            out,
            "{}: damaged: opening a copy of it did not end in {} s",
            log.display(),
            limit.as_secs()
        )?,
    }
    Ok(Verdict::Failed)
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

fn print_report(report: &VerifyReport, out: &mut impl Write) -> Result<Verdict, CommandError> {
    for finding in &report.findings {
        let place = match (finding.first, finding.last) {
            (0, _) => String::new(),
            (first, last) if first == last => format!("sequence {first}: "),
            (first, last) => format!("sequences {first} to {last}: "),
        };
        writeln!(out, "{}: {place}{}", finding.path.display(), finding.what)?;
    }
    if report.findings_left_off > 0 {
        writeln!(out, "and {} findings more", report.findings_left_off)?;
    }
    if report.unfinished_records > 0 {
        writeln!(
            out,
            "{} records of an unanswered command at the end: no damage, the next start drops them",
            report.unfinished_records
        )?;
    }
    writeln!(
        out,
        "{} whole records, {} to {}, in {} segments",
        report.whole_records,
        report.first,
        report.last,
        report.segments.len()
    )?;
    if report.is_clean() {
        writeln!(out, "every record and the hash chain are whole")?;
        return Ok(Verdict::Passed);
    }
    writeln!(
        out,
        "the log is damaged; nothing was changed; keep a copy of the data directory before anything else"
    )?;
    Ok(Verdict::Failed)
}
