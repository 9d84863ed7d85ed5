//! The events of an archive in order of their sequences, a window of sequences in memory at a time.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::RangeInclusive,
};

use turnstiled_wal::frame;

use super::index::{Index, Indexed};
use crate::{
    domain::archived_event::{ArchivedEvent, ArchivedLine},
    sinks::archive::{Archive, ArchiveError, Line, MAX_LINE_BYTES, Object},
};

/// Sequences in one window. An object is read once for each window that it touches.
const WINDOW_SEQUENCES: u64 = 1 << 18;
/// Bytes of events in one window. One with more is halved, and read again; one sequence is never too much.
const MAX_WINDOW_BYTES: usize = 256 << 20;
/// What an event takes beside its JSON, about.
const EVENT_BYTES: usize = 400;
/// Different events of one sequence that are kept; more are a problem of their object.
const MAX_DIFFERENT: usize = 16;
/// Problems of objects that are kept; more are counted.
const MAX_PROBLEMS: usize = 1_000;

/// Something wrong with an object, not with one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) object: u32,
    /// The line, from 1.
    pub(super) line: u64,
    pub(super) what: String,
}

/// What was seen beside the events.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) problems: Vec<Problem>,
    pub(super) problems_left_off: u64,
    /// Events of other servers.
    pub(super) of_others: u64,
    /// Lines at the end of files that a crash has cut short: not acknowledged, so no loss.
    pub(super) unfinished: u64,
    /// Events found again, byte for byte.
    pub(super) repeats: u64,
}

/// The archive as a stream of events.
#[derive(Debug)]
pub(super) struct Windows<'a> {
    archive: &'a Archive,
    server: &'a str,
    objects: Vec<Indexed>,
    /// How many of `objects` were looked at: the others begin later.
    begun: usize,
    /// Those that go on past `from`.
    open: Vec<usize>,
    /// Where the next window begins.
    from: Option<u64>,
    events: BTreeMap<u64, Vec<ArchivedEvent>>,
    limits: Limits,
    pub(super) seen: Seen,
}

/// How large a window gets.
#[derive(Clone, Copy, Debug)]
struct Limits {
    sequences: u64,
    bytes: usize,
}

impl<'a> Windows<'a> {
    pub(super) fn new(archive: &'a Archive, index: Index, server: &'a str) -> Self {
        Self {
            archive,
            server,
            objects: index.objects,
            begun: 0,
            open: Vec::new(),
            from: Some(0),
            events: BTreeMap::new(),
            limits: Limits { sequences: WINDOW_SEQUENCES, bytes: MAX_WINDOW_BYTES },
            seen: Seen::default(),
        }
    }

    /// The name of an object.
    pub(super) fn name(&self, object: u32) -> &str {
        self.objects.get(object as usize).map_or("?", |indexed| indexed.object.name.as_str())
    }

    /// How many objects there are.
    pub(super) fn objects(&self) -> usize {
        self.objects.len()
    }

    /// What the archive has at its next sequence, if that is at most `last`.
    pub(super) fn next_to(&mut self, last: u64) -> Result<Option<(u64, Vec<ArchivedEvent>)>, ArchiveError> {
        loop {
            if let Some(next) = self.events.first_entry() {
                return Ok((*next.key() <= last).then(|| next.remove_entry()));
            }
            match self.next_start() {
                Some(start) if start <= last => self.load(start)?,
                _ => return Ok(None),
            }
        }
    }

    /// The first sequence from `from` on that an object may hold.
    fn next_start(&mut self) -> Option<u64> {
        let from = self.from?;
        self.open
            .retain(|index| self.objects.get(*index).is_some_and(|indexed| *indexed.range.end() >= from));
        let unseen = self.objects.get(self.begun).map(|indexed| *indexed.range.start());
        if self.open.is_empty() { unseen } else { Some(from) }
    }

    fn load(&mut self, start: u64) -> Result<(), ArchiveError> {
        let mut end = start.saturating_add(self.limits.sequences - 1);
        while let Some(indexed) = self.objects.get(self.begun)
            && *indexed.range.start() <= end
        {
            self.open.push(self.begun);
            self.begun += 1;
        }
        while !self.load_window(&(start..=end))? {
            end = start + (end - start) / 2;
        }
        tracing::info!(to = end, objects = self.begun, of = self.objects.len(), "reading the archive");
        self.from = end.checked_add(1);
        Ok(())
    }

    /// Whether it was small enough.
    fn load_window(&mut self, window: &RangeInclusive<u64>) -> Result<bool, ArchiveError> {
        let mut loading = Loading {
            server: self.server,
            window,
            max_bytes: self.limits.bytes,
            events: &mut self.events,
            seen: &mut self.seen,
            bytes: 0,
            repeats: 0,
        };
        for index in &self.open {
            let Some(indexed) = self.objects.get_mut(*index) else { continue };
            let number = u32::try_from(*index).unwrap_or(u32::MAX);
            let (mut line_number, says) = (0, !indexed.is_checked);
            indexed.is_checked = true;
            self.archive.read(&indexed.object, &mut |line| {
                line_number += 1;
                if says || !loading.is_full() {
                    loading.take(&indexed.object, number, line_number, says, line);
                }
            })?;
            if loading.is_full() {
                self.events.clear();
                return Ok(false);
            }
        }
        self.seen.repeats += loading.repeats;
        Ok(true)
    }
}

/// One window on its way into memory.
struct Loading<'a> {
    server: &'a str,
    window: &'a RangeInclusive<u64>,
    max_bytes: usize,
    events: &'a mut BTreeMap<u64, Vec<ArchivedEvent>>,
    seen: &'a mut Seen,
    bytes: usize,
    repeats: u64,
}

impl Loading<'_> {
    fn is_full(&self) -> bool {
        self.bytes > self.max_bytes && self.window.start() < self.window.end()
    }

    /// `says`: the object is read for the first time, so what is wrong with it is to be said.
    fn take(&mut self, object: &Object, number: u32, line_number: u64, says: bool, line: Line<'_>) {
        let mut problem = |what: String| {
            if says {
                self.seen.add(Problem { object: number, line: line_number, what });
            }
        };
        let (text, is_tail) = match line {
            Line::Whole(text) => (text, false),
            Line::Tail(text) => (text, true),
            Line::TooLong => return problem(format!("is longer than {MAX_LINE_BYTES} bytes")),
            Line::Differs(text, column) => {
                problem(format!("has in its column {column} what its event does not say"));
                (text, false)
            }
            Line::Damaged => {
                return problem("is damaged: nothing from here on can be read".to_owned());
            }
        };
        let (log, sequence, event) =
            match ArchivedEvent::read(text, self.server, self.window, number, frame::hash_of) {
                // a `file` sink was killed while it wrote; what it acknowledged ends in a line feed
                Err(_) if is_tail && object.range.is_none() => {
                    self.seen.unfinished += u64::from(says);
                    return;
                }
                Err(error) => return problem(error.to_string()),
                Ok(ArchivedLine::OfOther) if object.range.is_some() => {
                    return problem("is an event of another server than the object's name says".to_owned());
                }
                Ok(ArchivedLine::OfOther) => {
                    self.seen.of_others += u64::from(says);
                    return;
                }
                Ok(ArchivedLine::NotAsked(log, sequence)) => (log, sequence, None),
                Ok(ArchivedLine::Ours(event)) => (event.log.clone(), event.sequence, Some(event)),
            };
        if let Some(named) = &object.range
            && (named.log != log || !(named.first..=named.last).contains(&sequence))
        {
            problem(format!(
                "is sequence {sequence} of {log}, which does not belong into an object of this name"
            ));
        }
        if let Some(event) = event
            && !self.is_full()
        {
            self.keep(event, line_number);
        }
    }

    fn keep(&mut self, event: ArchivedEvent, line: u64) {
        let bytes = event.json.len() + EVENT_BYTES;
        match self.events.entry(event.sequence) {
            Entry::Vacant(vacant) => {
                self.bytes += bytes;
                vacant.insert(vec![event]);
            }
            Entry::Occupied(mut there) => {
                let there = there.get_mut();
                let is_repeat = |other: &ArchivedEvent| {
                    (&other.log, &other.chainhash, &other.json) == (&event.log, &event.chainhash, &event.json)
                };
                if there.iter().any(is_repeat) {
                    self.repeats += 1;
                } else if there.len() < MAX_DIFFERENT {
                    self.bytes += bytes;
                    there.push(event);
                } else {
                    let what =
                        format!("is one of more than {MAX_DIFFERENT} different events of one sequence");
                    self.seen.add(Problem { object: event.object, line, what });
                }
            }
        }
    }
}

impl Seen {
    fn add(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.problems_left_off += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use serde_json::json;

    fn line(log: &str, sequence: u64) -> String {
        let event = json!({ "id": format!("{log}-{sequence}"), "source": "/servers/x", "type": "card.lost", "log": log,
            "time": "2026-11-20T08:00:00Z", "sequence": format!("{sequence:020}"), "partitionkey": "E1", "data": {},
            "chainhash": "ab".repeat(32) });
        format!("{event}\n")
    }

    fn write(dir: &Path, name: &str, lines: impl IntoIterator<Item = String>) {
        fs::write(dir.join(name), lines.into_iter().collect::<String>()).unwrap();
    }

    /// All sequences, each as often as different events have it.
    fn read(dir: &Path, limits: Limits) -> (Vec<u64>, Seen) {
        let archive = Archive::of_dir(dir);
        let index = Index::make(&archive, archive.list().unwrap(), "hq-1").unwrap();
        let mut windows = Windows { limits, ..Windows::new(&archive, index, "hq-1") };
        let mut sequences = Vec::new();
        while let Some((sequence, events)) = windows.next_to(u64::MAX).unwrap() {
            sequences.extend(events.iter().map(|event| {
                assert_eq!(event.sequence, sequence);
                sequence
            }));
        }
        (sequences, windows.seen)
    }

    #[test]
    fn windows_of_any_size_give_every_event_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let key = |first: u64, last: u64| format!("hq-1.1-{first:020}-{last:020}.ndjson");
        write(dir.path(), &key(1, 40), (1..=40).filter(|at| at % 2 == 1).map(|at| line("hq-1.1", at)));
        write(dir.path(), &key(2, 20), (2..=20).filter(|at| at % 2 == 0).map(|at| line("hq-1.1", at)));
        write(dir.path(), "late.ndjson", [300, 22, 5].map(|at| line("hq-1.1", at)));
        write(dir.path(), "old.ndjson", [5].map(|at| line("hq-1.0", at)));
        write(dir.path(), "bad.ndjson", ["{}\n".to_owned(), line("annex-1.1", 3), "{\"half".to_owned()]);
        let odd = (1..=40).filter(|at| at % 2 == 1);
        let mut expected: Vec<u64> =
            odd.chain((2..=20).filter(|at| at % 2 == 0)).chain([5, 22, 300]).collect();
        expected.sort_unstable();
        for sequences in [7, 100, WINDOW_SEQUENCES] {
            for bytes in [1, 2_000, 5_000, MAX_WINDOW_BYTES] {
                let (found, seen) = read(dir.path(), Limits { sequences, bytes });
                assert_eq!(found, expected, "{sequences} {bytes}");
                assert_eq!((seen.repeats, seen.of_others, seen.unfinished), (1, 1, 1), "{sequences} {bytes}");
                assert_eq!(seen.problems.len(), 1, "{:?}", seen.problems);
            }
        }
    }

    #[test]
    fn an_event_in_an_object_of_another_name_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("hq-1.1-{:020}-{:020}.ndjson", 3, 4);
        write(
            dir.path(),
            &name,
            [("hq-1", 3), ("hq-1", 4), ("hq-1", 9), ("x", 3)]
                .map(|(server, at)| line(&format!("{server}.1"), at)),
        );
        write(dir.path(), &format!("annex-1.1-{:020}-{:020}.ndjson", 3, 4), ["not read".to_owned()]);
        let (found, seen) = read(dir.path(), Limits { sequences: 2, bytes: MAX_WINDOW_BYTES });
        assert_eq!(found, [3, 4]);
        let lines: Vec<u64> = seen.problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [3, 4]);
    }
}
