//! The files of snapshots: `<directory>/<sequence, 20 digits>.snapshot`, two of them.
//!
//! A snapshot is written under a temporary name, synced, renamed, and the directory synced: after a crash it is there
//! whole or not at all. One that is found damaged is renamed to `*.damaged` and never read again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    entry::{EntryError, Line},
    format::{Decoder, Encoder, FormatError, Header},
};
use crate::domain::ids::LogName;

/// How many are kept: should the newest be damaged, the one before and the log still tell everything.
pub const KEPT_SNAPSHOTS: usize = 2;

/// Damaged ones that are kept for whoever wants to look at them; older ones are removed.
const KEPT_DAMAGED: usize = 2;

const SUFFIX: &str = ".snapshot";
const UNFINISHED_SUFFIX: &str = ".unfinished";
const DAMAGED_SUFFIX: &str = ".damaged";
const SEQUENCE_DIGITS: usize = 20;
const BUFFER_BYTES: usize = 256 << 10;

/// What to do when a snapshot proves that the log is not the one it was made of.
const RESTORE_TOGETHER: &str = "run `turnstiled wal verify`, then restore log, state and snapshots of one backup \
    together, or, if what this log has is known to be all that is left, move this snapshot away";

/// A snapshot could not be read or written.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The system says no.
    #[error("snapshot {}: cannot {action} it: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is not whole.
    #[error("snapshot {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A newer program wrote it.
    #[error("snapshot {} has version {found}, and this program reads only older ones: start the program that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It is whole, and the log does not reach it.
    #[error(
        "snapshot {} has the state up to sequence {sequence}, but the log ends at {committed}: the log has lost its \
         end or is another one; {RESTORE_TOGETHER}", path.display()
    )]
    Ahead {
        /// The file.
        path: PathBuf,
        /// Its sequence.
        sequence: u64,
        /// The log's end.
        committed: u64,
    },
    /// It is whole, and was made of other events than the log has.
    #[error(
        "snapshot {} has the state up to sequence {sequence}, which is another event there than in the log, which ends \
         at {committed}: the log is another one; {RESTORE_TOGETHER}", path.display()
    )]
    OtherHistory {
        /// The file.
        path: PathBuf,
        /// Its sequence.
        sequence: u64,
        /// The log's end.
        committed: u64,
    },
    /// The log, while events were folded.
    #[error("the log cannot be read for a snapshot: {0}; run `turnstiled wal verify`")]
    Log(String),
    /// The log was trimmed, and no snapshot covers what is gone.
    #[error("no whole snapshot reaches the log, which begins with event {first}")]
    NoBase {
        /// The first event that is there.
        first: u64,
    },
    /// The daemon stops.
    #[error("the snapshot was given up because the server stops")]
    Stopped,
}

/// The directory.
#[derive(Clone, Debug)]
pub struct Snapshots {
    dir: PathBuf,
    log: LogName,
}

impl Snapshots {
    /// Takes the directory into use, makes it if there is none, and removes what a crash left.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn open(dir: &Path, log: LogName) -> Result<Self, SnapshotError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).map_err(on("create", dir))?;
        dir.parent().map_or(Ok(()), sync_names)?;
        for path in names(dir, UNFINISHED_SUFFIX)? {
            fs::remove_file(&path).map_err(on("remove", &path))?;
        }
        Ok(Self { dir: dir.to_owned(), log })
    }

    /// Where they are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log that new ones are of.
    #[must_use]
    pub fn log_name(&self) -> &LogName {
        &self.log
    }

    /// Every snapshot that is there with its sequence, ascending, unchecked.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>, SnapshotError> {
        list(&self.dir)
    }

    /// The same of a directory that may not be there, and is only looked at.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn list_in(dir: &Path) -> Result<Vec<(u64, PathBuf)>, SnapshotError> {
        if dir.try_exists().map_err(on("look at", dir))? { list(dir) } else { Ok(Vec::new()) }
    }

    /// The highest sequence of a server's log that a snapshot in `dir` was made of, 0 if there is none. One that cannot
    /// be read counts by its name. Changes nothing.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn highest_sequence(dir: &Path, server: &str) -> Result<u64, SnapshotError> {
        let is_of_other =
            |path: &Path| Self::read(path).is_ok_and(|reader| reader.header().log.server != server);
        let newest = Self::list_in(dir)?.into_iter().rev().find(|(_, path)| !is_of_other(path));
        Ok(newest.map_or(0, |(sequence, _)| sequence))
    }

    /// Begins to read one.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn read(path: &Path) -> Result<SnapshotReader, SnapshotError> {
        let file = File::open(path).map_err(on("open", path))?;
        let decoder = Decoder::new(BufReader::with_capacity(BUFFER_BYTES, file));
        let decoder = decoder.map_err(|error| format_error(path, error))?;
        if sequence_of(path) != Some(decoder.header().sequence) {
            let what = format!("it says that it is of sequence {}", decoder.header().sequence);
            return Err(SnapshotError::Damaged { path: path.to_owned(), what });
        }
        Ok(SnapshotReader { decoder, path: path.to_owned() })
    }

    /// Writes one, durably. It takes the place of one of the same sequence, and the oldest goes.
    ///
    /// # Errors
    /// [`SnapshotError`]: the system's, or the first one among the lines. Nothing has changed then.
    pub fn write(
        &self,
        header: &Header,
        lines: impl Iterator<Item = Result<Line, SnapshotError>>,
    ) -> Result<PathBuf, SnapshotError> {
        let path = self.dir.join(format!("{:0SEQUENCE_DIGITS$}{SUFFIX}", header.sequence));
        let unfinished = with_suffix(&path, UNFINISHED_SUFFIX);
        let written = write_file(&unfinished, header, lines)
            .and_then(|()| fs::rename(&unfinished, &path).map_err(on("rename", &unfinished)))
            .and_then(|()| sync_names(&self.dir));
        if written.is_err() {
            // a full disk is not kept full; what cannot be removed goes at the next start
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        let all = self.list()?;
        let surplus = all.len().saturating_sub(KEPT_SNAPSHOTS);
        for (_, old) in all.iter().take(surplus) {
            fs::remove_file(old).map_err(on("remove", old))?;
        }
        Ok(path)
    }

    /// Never reads a damaged one again, and keeps it for people to look at.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn set_aside(&self, path: &Path) -> Result<(), SnapshotError> {
        let aside = with_suffix(path, DAMAGED_SUFFIX);
        fs::rename(path, &aside).map_err(on("set aside", path))?;
        let all = names(&self.dir, DAMAGED_SUFFIX)?;
        for old in all.iter().take(all.len().saturating_sub(KEPT_DAMAGED)) {
            fs::remove_file(old).map_err(on("remove", old))?;
        }
        sync_names(&self.dir)
    }
}

/// An iterator over the entries of one file. Nothing of it may be believed until it has come to its end without an error.
pub struct SnapshotReader {
    decoder: Decoder<BufReader<File>>,
    path: PathBuf,
}

impl SnapshotReader {
    /// Which state this is.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.decoder.header()
    }

    /// For what an entry says.
    #[must_use]
    pub fn damaged(&self, error: &EntryError) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.clone(), what: error.to_string() }
    }
}

impl Iterator for SnapshotReader {
    type Item = Result<Line, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.decoder.next()?;
        Some(line.map_err(|error| format_error(&self.path, error)))
    }
}

fn write_file(
    path: &Path,
    header: &Header,
    lines: impl Iterator<Item = Result<Line, SnapshotError>>,
) -> Result<(), SnapshotError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.map_err(on("create", path))?;
    let mut encoder =
        Encoder::new(BufWriter::with_capacity(BUFFER_BYTES, file), header).map_err(on("write", path))?;
    for line in lines {
        encoder.add(&line?).map_err(on("write", path))?;
    }
    let mut file = encoder.finish().map_err(on("write", path))?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(on("sync", path))
}

fn format_error(path: &Path, error: FormatError) -> SnapshotError {
    let path = path.to_owned();
    match error {
        FormatError::Io(source) => SnapshotError::Io { path, action: "read", source },
        FormatError::Newer(found) => SnapshotError::Newer { path, found },
        FormatError::Line { .. } => SnapshotError::Damaged { path, what: error.to_string() },
    }
}

fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::Io { path: path.to_owned(), action, source }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn sequence_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    (digits.len() == SEQUENCE_DIGITS).then(|| digits.parse().ok()).flatten()
}

fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, SnapshotError> {
    let paths = names(dir, SUFFIX)?;
    Ok(paths.into_iter().filter_map(|path| Some((sequence_of(&path)?, path))).collect())
}

/// The files whose names end so, sorted.
fn names(dir: &Path, suffix: &str) -> Result<Vec<PathBuf>, SnapshotError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(on("list", dir))? {
        let path = entry.map_err(on("list", dir))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(suffix)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn sync_names(dir: &Path) -> Result<(), SnapshotError> {
    turnstiled_wal::sync_dir(dir).map_err(|error| on("sync", dir)(error.source))
}
