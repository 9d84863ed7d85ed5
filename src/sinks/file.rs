//! Rotated ndjson files in a directory.
//!
//! A file is named after the log and the first sequence in it, `hq-1.1-00000000000000000042.ndjson`. It is
//! only ever appended to, synced before its events count as delivered, and never touched again once the
//! next one has begun; a new process begins a new file. After a crash the last file may end in half a
//! line: that tail was never acknowledged and is cut off on opening, because those events come again.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome},
    },
    sinks::{
        Sink,
        envelope::{Envelope, reject},
        failure::outcome_of_io_error,
        stdout::lines,
    },
};

/// Events written and synced at once.
const MAX_BATCH_RECORDS: usize = 4_096;
/// Bytes written and synced at once.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The line feed after each event.
const LINE_FEED_BYTES: usize = 1;
/// Files that may begin with the same event: each attempt to write it after a restart begins one.
const MAX_FILES_OF_ONE_NAME: u32 = 1_000;
/// How much of a file is read at once when its last whole line is looked for.
const TAIL_CHUNK_BYTES: u64 = 64 * 1024;
/// Digits of a sequence in a file's name, so that names sort as events do.
const SEQUENCE_DIGITS: usize = 20;
/// What every file's name ends in.
const EXTENSION: &str = ".ndjson";

/// Where the files lie and when the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// The directory; it is made if it is not there, and belongs to one sink alone.
    pub dir: PathBuf,
    /// A file that has reached this size is finished. One batch may carry it beyond.
    pub max_bytes: u64,
    /// A file this old is finished when the next event comes.
    pub max_age: Duration,
}

/// Writes events to files.
#[derive(Debug)]
pub struct FileSink {
    writer: Arc<Mutex<Writer>>,
}

#[derive(Debug)]
struct Writer {
    settings: FileSettings,
    /// The directory, locked and without torn tails; `None` until the first batch.
    dir: Option<File>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: File,
    synced_bytes: u64,
    opened_at: Instant,
}

impl FileSink {
    /// A sink on a directory. It is opened with the first batch, so that a missing disk is retried like
    /// any other outage.
    #[must_use]
    pub fn new(settings: FileSettings) -> Self {
        let writer = Writer { settings, dir: None, current: None };
        Self { writer: Arc::new(Mutex::new(writer)) }
    }
}

impl Sink for FileSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: MAX_BATCH_RECORDS,
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: LINE_FEED_BYTES,
            linger: Duration::ZERO,
            max_in_flight: 1,
            order: Order::Batch,
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let writer = Arc::clone(&self.writer);
        Box::pin(async move {
            let records = batch.len();
            let written = tokio::task::spawn_blocking(move || {
                // a poisoned writer is a writer: what it had not synced was not acknowledged either
                writer.lock().unwrap_or_else(PoisonError::into_inner).write(&batch)
            });
            written.await.unwrap_or_else(|error| {
                vec![outcome_of_io_error(&io::Error::other(error), "file sink"); records]
            })
        })
    }
}

impl Writer {
    fn write(&mut self, batch: &[Outgoing]) -> Vec<Outcome> {
        // only the file's name depends on what an event says, so one that says nothing is no obstacle
        let Some(first) = batch.iter().find_map(|event| Envelope::parse(&event.body).ok()) else {
            return vec![reject("NotAnEvent", "no event of the batch has a log and a sequence"); batch.len()];
        };
        let outcome = match self.append(&first, &lines(batch)) {
            Ok(()) => Outcome::Delivered,
            Err(error) => outcome_of_io_error(&error, &self.settings.dir.display().to_string()),
        };
        vec![outcome; batch.len()]
    }

    fn append(&mut self, first: &Envelope, lines: &[u8]) -> io::Result<()> {
        if self.is_deleted() {
            (self.current, self.dir) = (None, None);
        }
        let dir = match self.dir.take() {
            Some(dir) => dir,
            None => prepare(&self.settings.dir)?,
        };
        let dir = self.dir.insert(dir);
        let (max_bytes, max_age) = (self.settings.max_bytes, self.settings.max_age);
        self.current
            .take_if(|current| current.synced_bytes >= max_bytes || current.opened_at.elapsed() >= max_age);
        let current = match self.current.take() {
            Some(current) => current,
            None => begin(&self.settings.dir, dir, first)?,
        };
        let current = self.current.insert(current);
        let appended = current.append(lines);
        if appended.is_err() && current.cut_unsynced().is_err() {
            // a file whose end is unknown is looked at anew before the next one begins
            self.current = None;
            self.dir = None;
        }
        appended
    }
}

impl Writer {
    /// Whether someone has removed the file or the directory that is open: what is written there reaches
    /// nobody, so both are made anew.
    fn is_deleted(&self) -> bool {
        let file = self.current.as_ref().map(|current| &current.file);
        [file, self.dir.as_ref()]
            .into_iter()
            .flatten()
            .any(|open| open.metadata().is_ok_and(|found| found.nlink() == 0))
    }
}

impl Current {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.synced_bytes += lines.len() as u64;
        Ok(())
    }

    fn cut_unsynced(&mut self) -> io::Result<()> {
        self.file.set_len(self.synced_bytes)?;
        self.file.sync_data()
    }
}

/// Makes the directory, locks it against a second writer, such as the same sink before a reload, and cuts
/// the half lines off files that a crash left behind.
fn prepare(path: &Path) -> io::Result<File> {
    fs::create_dir_all(path)?;
    let dir = File::open(path)?;
    dir.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another sink writes to it"),
        TryLockError::Error(error) => error,
    })?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if is_our_name(&entry.file_name().to_string_lossy()) {
            cut_torn_tail(&entry.path())?;
        }
    }
    Ok(dir)
}

/// Whether a name is `<log>-<20 digits>.ndjson`, with `.N` before the extension if it is not the first.
fn is_our_name(name: &str) -> bool {
    let Some((_, tail)) = name.strip_suffix(EXTENSION).and_then(|stem| stem.rsplit_once('-')) else {
        return false;
    };
    let (digits, number) = tail.split_once('.').unwrap_or((tail, "1"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.len() == SEQUENCE_DIGITS && all_digits(digits) && all_digits(number)
}

/// Cuts what follows the last line feed. A file that ends in one is not written to.
fn cut_torn_tail(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let whole = whole_lines_bytes(&mut file, length)?;
    if whole < length {
        file.set_len(whole)?;
        file.sync_data()?;
    }
    Ok(())
}

fn whole_lines_bytes(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(TAIL_CHUNK_BYTES);
        // the last byte decides in all but the one file that was torn
        let start = if end == length { end - 1 } else { start };
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut chunk)?;
        if let Some(line_feed) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + line_feed as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Begins a file whose name no other has, and makes its name durable.
fn begin(path: &Path, dir: &File, first: &Envelope) -> io::Result<Current> {
    let stem = format!("{}-{:0SEQUENCE_DIGITS$}", first.log, first.sequence);
    for number in 1..=MAX_FILES_OF_ONE_NAME {
        let name =
            if number == 1 { format!("{stem}{EXTENSION}") } else { format!("{stem}.{number}{EXTENSION}") };
        match OpenOptions::new().append(true).create_new(true).open(path.join(name)) {
            Ok(file) => {
                dir.sync_all()?;
                return Ok(Current { file, synced_bytes: 0, opened_at: Instant::now() });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{MAX_FILES_OF_ONE_NAME} files are named {stem}: move them away")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::test_events::event;
    use serde_json::Value;

    fn settings(dir: &Path) -> FileSettings {
        FileSettings { dir: dir.to_owned(), max_bytes: 1_000, max_age: Duration::from_secs(3600) }
    }

    fn events(sequences: std::ops::RangeInclusive<u64>) -> Vec<Outgoing> {
        sequences.map(|sequence| event("access.entry.granted", "hq", "E1", sequence)).collect()
    }

    fn files(dir: &Path) -> Vec<(String, Vec<u64>)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = fs::read_to_string(entry.path()).unwrap();
                assert!(text.is_empty() || text.ends_with('\n'));
                let sequences = text.lines().map(|line| {
                    let event: Value = serde_json::from_str(line).unwrap();
                    event["sequence"].as_str().unwrap().parse().unwrap()
                });
                (entry.file_name().into_string().unwrap(), sequences.collect())
            })
            .collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn a_full_file_is_followed_by_one_named_after_its_first_event() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::new(settings(dir.path()));
        for batch in [events(1..=2), events(3..=5), events(6..=6)] {
            let records = batch.len();
            assert_eq!(sink.send(batch).await, vec![Outcome::Delivered; records]);
        }
        let first = "hq-1.1-00000000000000000001.ndjson".to_owned();
        let second = "hq-1.1-00000000000000000006.ndjson".to_owned();
        assert_eq!(files(dir.path()), [(first, vec![1, 2, 3, 4, 5]), (second, vec![6])]);
    }

    #[tokio::test]
    async fn an_old_file_is_followed_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink::new(FileSettings { max_age: Duration::ZERO, ..settings(dir.path()) });
        sink.send(events(1..=1)).await;
        sink.send(events(2..=2)).await;
        assert_eq!(files(dir.path()).len(), 2);
    }

    #[tokio::test]
    async fn a_restart_cuts_half_a_line_and_leaves_whole_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        FileSink::new(settings(dir.path())).send(events(1..=2)).await;
        let torn = dir.path().join("hq-1.1-00000000000000000003.ndjson");
        let line = [lines(&events(3..=3)), br#"{"half": ""#.to_vec(), vec![b'x'; 100_000]].concat();
        fs::write(&torn, line).unwrap();
        let only_half = dir.path().join("hq-1.1-00000000000000000009.ndjson");
        fs::write(&only_half, "{").unwrap();
        let foreign = dir.path().join("notes.ndjson");
        fs::write(&foreign, "no line feed").unwrap();

        assert_eq!(
            FileSink::new(settings(dir.path())).send(events(3..=4)).await,
            vec![Outcome::Delivered; 2]
        );
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "no line feed");
        fs::remove_file(foreign).unwrap();
        let names = [1, 3, 3, 9].map(|sequence| format!("hq-1.1-{sequence:020}"));
        let expected = [
            (format!("{}.ndjson", names[0]), vec![1, 2]),
            (format!("{}.2.ndjson", names[1]), vec![3, 4]),
            (format!("{}.ndjson", names[2]), vec![3]),
            (format!("{}.ndjson", names[3]), vec![]),
        ];
        assert_eq!(files(dir.path()), expected);
    }

    #[tokio::test]
    async fn a_missing_disk_is_an_outage_that_ends() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("events");
        fs::write(&blocked, "a file where the directory should be").unwrap();
        let sink = FileSink::new(settings(&blocked));
        assert!(matches!(sink.send(events(1..=2)).await[..], [Outcome::Retry(_), Outcome::Retry(_)]));
        fs::remove_file(&blocked).unwrap();
        assert_eq!(sink.send(events(1..=2)).await, vec![Outcome::Delivered; 2]);
    }

    #[tokio::test]
    async fn a_second_writer_waits_for_the_first_to_go() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (FileSink::new(settings(dir.path())), FileSink::new(settings(dir.path())));
        assert_eq!(first.send(events(1..=1)).await, vec![Outcome::Delivered; 1]);
        assert!(matches!(second.send(events(2..=2)).await[..], [Outcome::Retry(_)]));
        drop(first);
        assert_eq!(second.send(events(2..=2)).await, vec![Outcome::Delivered; 1]);
    }

    #[test]
    fn only_names_of_the_sinks_own_are_looked_at() {
        assert!(is_our_name("hq-1.1-00000000000000000001.ndjson"));
        assert!(is_our_name("hq-1.1-00000000000000000001.12.ndjson"));
        assert!(!is_our_name("hq-1.1-00000000000000000001.x.ndjson"));
        assert!(!is_our_name("hq-1.1-1.ndjson"));
        assert!(!is_our_name("notes.ndjson"));
        assert!(!is_our_name("hq-1.1-00000000000000000001.ndjson.gz"));
    }

    #[tokio::test]
    async fn a_removed_file_or_directory_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("sink");
        let sink = FileSink::new(settings(&place));
        assert_eq!(sink.send(events(1..=1)).await, [Outcome::Delivered]);
        fs::remove_file(fs::read_dir(&place).unwrap().next().unwrap().unwrap().path()).unwrap();
        assert_eq!(sink.send(events(2..=2)).await, [Outcome::Delivered]);
        assert_eq!(files(&place).iter().map(|(_, found)| found.clone()).collect::<Vec<_>>(), [[2]]);
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(sink.send(events(3..=3)).await, [Outcome::Delivered]);
        assert_eq!(files(&place).iter().map(|(_, found)| found.clone()).collect::<Vec<_>>(), [[3]]);
    }
}
