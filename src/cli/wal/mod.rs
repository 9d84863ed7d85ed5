//! `turnstiled wal`: an offline look at the log in the data directory of a configuration.

mod against;
mod child;
mod repair;
mod repair_dir;
mod repair_event;
mod verify;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Subcommand;
use turnstiled_wal::{Log, stat};

use super::{CommandError, ConfigFile, Verdict};
use crate::{
    app::log_options,
    config::Config,
    data_dir::{self, DataDir},
    domain::{
        outbound::{Form, edit},
        record::EventRecord,
    },
    sinks::archive::Location,
};

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
    /// Check every record, the hash chain, cursors and dead letters, on a copy; exit code 1 if anything is wrong
    Verify {
        /// Then prove that this archive and the log tell the same story: s3://BUCKET/PREFIX of an s3 sink, or
        /// the directory of a file sink or of a copy of either. Each event must be what the log has, and no event that
        /// a sink of the configuration has settled may be missing from its archive; exit code 1 if anything differs
        #[arg(long, value_name = "S3_URL|DIR", value_parser = Location::parse)]
        against: Option<Location>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Make a new data directory of all that is whole in a damaged one, which stays as it is
    Repair {
        /// The new directory; <data_dir>.repaired unless it is given
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// The part of `verify` that may die of a damaged database
    #[command(hide = true)]
    VerifyCopy(verify::Copy),
    /// The part of `repair` that may die of a damaged database
    #[command(hide = true)]
    HighestSettled { state: PathBuf },
}

pub(super) fn run(wal: Wal, out: &mut impl Write) -> Result<Verdict, CommandError> {
    match wal {
        Wal::Stat { file } => print_stat(&file, out),
        Wal::Dump { after, file } => dump(&file, after, out),
        Wal::Verify { against, file } => {
            let (data_dir, config) = take(&file)?;
            let whole = verify::run(&data_dir, out)?;
            let Some(location) = against else { return Ok(whole.verdict()) };
            let archive = against::run(&data_dir, &config, &location, whole, out)?;
            Ok(if archive == Verdict::Passed { whole.verdict() } else { archive })
        }
        Wal::Repair { to, file } => {
            let (data_dir, config) = take(&file)?;
            repair::run(&data_dir, &config, to, out)
        }
        Wal::VerifyCopy(copy) => copy.run(out),
        Wal::HighestSettled { state } => repair::print_highest_settled(&state, out),
    }
}

/// Holds the data directory, so that no daemon writes meanwhile.
fn take(file: &ConfigFile) -> Result<(DataDir, Config), CommandError> {
    let config = file.load()?;
    // Looking must not make anything: a directory that is not there is an error, not a new log.
    data_dir::log_name(&config.server.data_dir)?;
    Ok((DataDir::take(&config.server.data_dir, &config.server.id, config.wal.store.as_str())?, config))
}

fn print_stat(file: &ConfigFile, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let (data_dir, _) = take(file)?;
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
    let (data_dir, config) = take(file)?;
    let log = Log::open(&data_dir::log_dir(&data_dir.path), log_options(&config.wal))?.reader();
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
