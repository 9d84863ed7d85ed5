//! An archive as the source of a replay. Its places are lines, counted through the objects in the order of their names:
//! each building by itself, in the order of time. A thread reads ahead of the machine by a few chunks.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::source::{Found, Objects, Read};
use crate::{
    delivery::Outgoing,
    domain::{
        archived_event::{ArchivedEventError, EventOfLine},
        outbound::{EditError, edit_again, mark_replayed},
        replay::ReplayOrder,
        routes::RouteTable,
    },
    sinks::archive::{Archive, ArchiveError, Line, Location, Object},
};

/// Objects of one replay at most: each takes some 200 bytes of memory.
const MAX_REPLAYED_OBJECTS: usize = 200_000;
/// Chunks that are read ahead.
const MAX_CHUNKS_AHEAD: usize = 2;
/// Events in one chunk: fewer than the smallest room that a machine pulls for.
const MAX_CHUNK_RECORDS: usize = 500;
/// Bytes of events in one chunk; the last event may go beyond.
const MAX_CHUNK_BYTES: usize = 1 << 20;
/// Lines in one chunk, also of those that are not sent.
const MAX_CHUNK_LINES: u64 = 20_000;

type Open = dyn Fn(&Location) -> io::Result<Archive> + Send + Sync;

/// Opens archives, with the settings of the sink that writes them if there is one.
#[derive(Clone)]
pub struct ArchiveOpener(Arc<Open>);

/// Where an object begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPlace {
    /// Its name.
    pub object: String,
    /// The place before its first line.
    pub before: u64,
}

/// Reads an archive for one replay.
#[derive(Clone, Debug)]
pub(super) struct ArchiveSource {
    parts: Arc<Parts>,
    reading: Arc<Mutex<Reading>>,
}

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) opener: ArchiveOpener,
    pub(super) location: Location,
    pub(super) routes: Arc<RouteTable>,
    pub(super) order: ReplayOrder,
    /// Whose events are sent.
    pub(super) server: String,
}

#[derive(Debug, Default)]
struct Reading {
    chunks: Option<Receiver<Result<Chunk, ArchiveSourceError>>>,
    /// Where objects begin, from the one on that the cursor is in.
    begun: VecDeque<ObjectPlace>,
}

#[derive(Debug)]
struct Chunk {
    begins: Vec<ObjectPlace>,
    read: Read,
}

/// Why an archive cannot be read on for now.
#[derive(Debug, Error)]
pub(super) enum ArchiveSourceError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("the archive cannot be opened: {0}")]
    Open(#[from] io::Error),
    #[error("the thread that reads the archive has ended")]
    Ended,
}

#[derive(Debug, Error)]
enum LineError {
    #[error(transparent)]
    Event(#[from] ArchivedEventError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl ArchiveOpener {
    /// Opens by this.
    pub fn new(open: impl Fn(&Location) -> io::Result<Archive> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    pub(super) fn open(&self, location: &Location) -> io::Result<Archive> {
        (self.0)(location)
    }
}

impl fmt::Debug for ArchiveOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArchiveOpener")
    }
}

impl ArchiveSource {
    /// Goes on in the object of `at`, if there is one.
    pub(super) fn new(parts: Parts, at: Option<ObjectPlace>) -> Self {
        let reading = Reading { chunks: None, begun: at.into_iter().collect() };
        Self { parts: Arc::new(parts), reading: Arc::new(Mutex::new(reading)) }
    }

    /// What comes after a place, which is the last one that was read, or lies before it after an error.
    ///
    /// # Errors
    /// [`ArchiveSourceError`].
    pub(super) fn read(&self, after: u64) -> Result<Read, ArchiveSourceError> {
        let mut reading = self.reading();
        if reading.chunks.is_none() {
            let (sender, receiver) = sync_channel(MAX_CHUNKS_AHEAD);
            let (parts, at) = (Arc::clone(&self.parts), reading.begun.back().cloned());
            thread::Builder::new().name("replay".to_owned()).spawn(move || {
                let mut reader = Reader::new(&parts, after, sender);
                if let Err(error) = reader.run(at) {
                    reader.fail(error);
                }
            })?;
            reading.chunks = Some(receiver);
        }
        let chunk = reading.chunks.as_ref().map(Receiver::recv);
        let Some(Ok(Ok(Chunk { begins, read }))) = chunk else {
            reading.chunks = None;
            return Err(match chunk {
                Some(Ok(Err(error))) => error,
                _ => ArchiveSourceError::Ended,
            });
        };
        let known = reading.begun.back().map(|last| last.object.clone());
        reading.begun.extend(begins.into_iter().filter(|begun| Some(&begun.object) > known.as_ref()));
        Ok(read)
    }

    /// The object that the next line after `cursor` is in or before.
    pub(super) fn place_of(&self, cursor: u64) -> Option<ObjectPlace> {
        let mut reading = self.reading();
        while reading.begun.get(1).is_some_and(|next| next.before <= cursor) {
            reading.begun.pop_front();
        }
        reading.begun.front().cloned()
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On its own thread.
struct Reader<'a> {
    parts: &'a Parts,
    sender: SyncSender<Result<Chunk, ArchiveSourceError>>,
    is_wanted: bool,
    /// Lines up to here were sent before.
    after: u64,
    place: u64,
    begins: Vec<ObjectPlace>,
    records: Vec<Outgoing>,
    bytes: usize,
    lines: u64,
    found: Found,
    objects: Objects,
    nothing_there: Option<String>,
}

impl<'a> Reader<'a> {
    fn new(parts: &'a Parts, after: u64, sender: SyncSender<Result<Chunk, ArchiveSourceError>>) -> Self {
        Self {
            parts,
            sender,
            is_wanted: true,
            after,
            place: after,
            begins: Vec::new(),
            records: Vec::new(),
            bytes: 0,
            lines: 0,
            found: Found::default(),
            objects: Objects::default(),
            nothing_there: None,
        }
    }

    fn run(&mut self, at: Option<ObjectPlace>) -> Result<(), ArchiveSourceError> {
        let archive = self.parts.opener.open(&self.parts.location)?;
        let order = &self.parts.order;
        let listing = archive.list_some(MAX_REPLAYED_OBJECTS, &|name| order.wants_object(name))?;
        self.objects.total = listing.objects.len() as u64;
        self.nothing_there = listing.nothing_there();
        for object in listing.objects {
            let is_before = at.as_ref().is_some_and(|at| object.name < at.object);
            if !is_before && self.is_wanted {
                // in the object that it had begun, from its first line
                let again = at.as_ref().filter(|at| at.object == object.name);
                self.place = again.map_or(self.place, |at| at.before);
                self.read(&archive, &object)?;
            }
            self.objects.done += 1;
        }
        self.hand_on(true);
        Ok(())
    }

    fn read(&mut self, archive: &Archive, object: &Object) -> Result<(), ArchiveSourceError> {
        self.begins.push(ObjectPlace { object: object.name.clone(), before: self.place });
        archive.read(object, &mut |line| {
            self.place += 1;
            if self.place > self.after && self.is_wanted {
                self.take(&object.name, line);
            }
        })?;
        Ok(())
    }

    fn take(&mut self, object: &str, line: Line<'_>) {
        let taken = match line {
            Line::Whole(line) => self.outgoing(line).map_err(|error| error.to_string()),
            // after a crash half a line, which comes again
            Line::Tail(line) => Ok(self.outgoing(line).unwrap_or_default()),
            Line::TooLong => Err("is too long; the rest of the object is not read".to_owned()),
            Line::Differs(_, column) => Err(format!("says something else than its column {column}")),
            Line::Damaged => Err("is damaged, the rest of the object cannot be read".to_owned()),
        };
        match taken {
            Ok(Some(event)) => {
                self.bytes = self.bytes.saturating_add(event.body.len());
                self.records.push(event);
            }
            Ok(None) => {}
            Err(why) => {
                let line = self.place.saturating_sub(self.begins.last().map_or(0, |begun| begun.before));
                self.found.unreadable(format!("{object}: line {line} {why}"));
            }
        }
        self.lines += 1;
        let is_full = self.records.len() >= MAX_CHUNK_RECORDS || self.bytes >= MAX_CHUNK_BYTES;
        if is_full || self.lines >= MAX_CHUNK_LINES {
            self.hand_on(false);
        }
    }

    /// `None`: it is not to be sent.
    fn outgoing(&mut self, line: &[u8]) -> Result<Option<Outgoing>, LineError> {
        let Parts { routes, order, server, .. } = self.parts;
        let Some(event) = EventOfLine::read(line, server)? else {
            self.found.others += 1;
            return Ok(None);
        };
        let record = event.record;
        if !order.wants(&record)? {
            return Ok(None);
        }
        let Some(form) = routes.form_for(record.event_type(), &order.to) else {
            self.found.unrouted += 1;
            return Ok(None);
        };
        let body = mark_replayed(edit_again(record.json(), &form)?)?;
        Ok(Some(Outgoing { sequence: self.place, record, body, trace: None }))
    }

    fn hand_on(&mut self, is_end: bool) {
        self.lines = 0;
        self.bytes = 0;
        let read = Read {
            records: std::mem::take(&mut self.records),
            found: std::mem::take(&mut self.found),
            objects: Some(self.objects),
            nothing_there: self.nothing_there.take(),
            is_end,
            ..Read::nothing(self.place)
        };
        let chunk = Chunk { begins: std::mem::take(&mut self.begins), read };
        self.is_wanted = self.sender.send(Ok(chunk)).is_ok();
    }

    fn fail(&self, error: ArchiveSourceError) {
        // nobody to tell: the replay is over
        let _ = self.sender.send(Err(error));
    }
}
