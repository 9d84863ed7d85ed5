//! A replay to `state`: rebuilds cards and presence from a source and holds them against the live state. It sends
//! nothing and blocks, so it is a thread. After a restart it begins again.
//!
//! What the source cannot have yet comes from the log. The live state is read piece by piece while it goes on; each piece
//! says which sequence it is of, and the log is folded exactly so far before the two are compared.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use actix::{Actor, Addr, Handler, Message, dev::ToEnvelope};
use thiserror::Error;
use tokio::sync::oneshot;
use turnstiled_wal::{LogReader, ReadError};

use super::{
    Shared,
    archive::ArchiveOpener,
    board::ReplayReport,
    record::{RECORD_BYTES, ReplayRecord, ReplayState},
    source::{Found, Objects},
};
use crate::{
    actors::{
        building::{
            BuildingActor,
            look::{InsideNow, LookInside},
        },
        directory::{CardPage, CardQuery, DirectoryActor, ReadCards},
        places::NoPlace,
    },
    clock,
    domain::{
        archived_event::{ArchivedEventError, EventOfLine},
        event_json::{EventJsonError, decode},
        ids::{BuildingId, LogName},
        record::{EventRecord, RecordError},
    },
    projections::{
        entry::{CARDS, Line as Entry, card_key, inside_key, inside_prefix},
        entry_card::write_card,
        entry_inside::write_inside,
        rebuilt::{Differences, Part, Rebuilt, Scope},
    },
    sinks::archive::{ArchiveError, Line, Location},
};

/// The most memory that the rebuilt state may take; beyond it the check fails and asks for a building or a card.
const MAX_REBUILT_BYTES: usize = 512 << 20;
/// Objects of the archive at most.
const MAX_OBJECTS: usize = 200_000;
/// Log records that are read at once.
const CHUNK_RECORDS: usize = 4_096;
/// Bytes of them.
const CHUNK_BYTES: usize = 8 << 20;
/// Cards that are read at once: gates wait for it.
const PAGE_CARDS: usize = 1_000;
/// How often a piece of the live state is asked for while the server is too busy for it.
const MAX_ASKED: u32 = 100;
/// And when again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Who has the live state.
#[derive(Clone, Debug)]
pub struct LiveState {
    /// The cards.
    pub directory: Addr<DirectoryActor>,
    /// The buildings of the configuration.
    pub buildings: Vec<(BuildingId, Addr<BuildingActor>)>,
}

/// Where the events come from.
#[derive(Debug)]
pub(super) enum StateSource {
    /// The log alone.
    Wal,
    /// An archive, and the log after `settled`, up to which its sink has delivered; `None`: after what is found.
    Archive { opener: ArchiveOpener, location: Location, settled: Option<u64> },
}

/// What a check works with.
#[derive(Debug)]
pub(super) struct StateCheck {
    pub(super) record: ReplayRecord,
    pub(super) source: StateSource,
    pub(super) log: LogReader,
    pub(super) log_name: LogName,
    pub(super) live: LiveState,
    pub(super) shared: Shared,
    pub(super) cancel: Cancel,
}

/// Ends a check. Whoever holds the lock decides whether its result is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel(Arc<Mutex<bool>>);

/// Why a check came to nothing.
#[derive(Debug, Error)]
pub(super) enum CheckError {
    #[error("it was ended")]
    Cancelled,
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("sequence {sequence} of the log: {source}")]
    Record { sequence: u64, source: RecordError },
    #[error("sequence {sequence} of the log: {source}")]
    Line { sequence: u64, source: ArchivedEventError },
    #[error("sequence {sequence} of the log: {source}")]
    Event { sequence: u64, source: EventJsonError },
    #[error("the archive cannot be opened: {0}")]
    Open(#[from] std::io::Error),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("nothing is proven: {0}")]
    NothingThere(String),
    #[error(
        "the archive ends with sequence {last}, and the log begins with {first}: what lies between is in neither"
    )]
    Gap { last: u64, first: u64 },
    #[error("the state takes more than {MAX_REBUILT_BYTES} bytes: narrow it by a building or a card")]
    TooLarge,
    #[error("the live state cannot be read, the server is too busy or stopping: try again")]
    Busy,
    #[error("an entry cannot be written: {0}")]
    Entry(#[from] serde_json::Error),
}

impl Cancel {
    pub(super) fn cancel(&self) {
        *self.lock() = true;
    }

    /// The check itself has ended: nobody else holds this.
    pub(super) fn is_over(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins a check on a thread of its own.
pub(super) fn start(check: StateCheck) {
    let (mut failed, shared) = (check.record.clone(), check.shared.clone());
    if let Err(error) = thread::Builder::new().name("state-check".to_owned()).spawn(move || check.run()) {
        failed.state = ReplayState::Failed;
        failed.error = Some(format!("there is no thread for it: {error}"));
        shared.board.set(ReplayReport::of(&failed, None, None));
    }
}

/// The fold so far.
struct Fold {
    rebuilt: Rebuilt,
    /// Everything of the log up to here is in it.
    folded_to: u64,
    /// The highest sequence that the archive has of the log's present epoch.
    last_found: u64,
    objects: Option<Objects>,
    scanned: u64,
    /// Events of this server that the archive has.
    taken: u64,
}

impl StateCheck {
    fn run(mut self) {
        let checked = self.check();
        let is_cancelled = self.cancel.clone();
        let is_cancelled = is_cancelled.lock();
        if *is_cancelled {
            return;
        }
        match checked {
            Ok(differences) => {
                tracing::info!(replay = %self.record.name, compared = differences.compared, differ = differences.total, "the state is held against its source");
                self.record.state = ReplayState::Done;
                self.record.differences = Some(differences);
            }
            Err(error) => {
                tracing::error!(replay = %self.record.name, %error, "the state cannot be held against its source");
                self.record.state = ReplayState::Failed;
                self.record.error = Some(error.to_string());
            }
        }
        self.record.finished_at = Some(clock::wall());
        self.shared.board.set(ReplayReport::of(&self.record, None, None));
        let bytes = serde_json::to_vec(&self.record).map_or(RECORD_BYTES, |text| text.len() as u64);
        // on a full disk it is not written: after a restart it begins again
        if self.shared.disk.has_room_for_state(bytes.max(RECORD_BYTES))
            && let Err(error) = self.shared.states.put_replay(&self.record)
        {
            tracing::error!(%error, "a replay cannot be written down; the server stops and goes on from disk at its next start");
            std::process::exit(1);
        }
    }

    fn check(&mut self) -> Result<Differences, CheckError> {
        let order = &self.record.order;
        let scope = Scope { building: order.building.clone(), card: order.card.clone() };
        let before_first = self.log.first().saturating_sub(1);
        let is_cut = before_first > 0 && !self.log.is_acknowledged(1..=before_first);
        let is_archive = matches!(self.source, StateSource::Archive { .. });
        let rebuilt = Rebuilt::new(scope, is_archive || !is_cut);
        let mut fold =
            Fold { rebuilt, folded_to: before_first, last_found: 0, objects: None, scanned: 0, taken: 0 };
        if let StateSource::Archive { opener, location, settled } = &self.source {
            let archive = opener.open(location)?;
            let settled = *settled;
            self.read_archive(&archive, &mut fold)?;
            let last = settled.unwrap_or(fold.last_found);
            if last < before_first && is_cut {
                return Err(CheckError::Gap { last, first: before_first.saturating_add(1) });
            }
            fold.folded_to = last.max(before_first);
        }
        self.fold_to(self.log.committed(), &mut fold)?;
        let mut found = Differences::default();
        self.compare_cards(&mut fold, &mut found)?;
        for (building, actor) in self.live.buildings.clone() {
            let InsideNow { people, as_of } = ask(&actor, |reply| LookInside { reply })?;
            self.fold_to(as_of, &mut fold)?;
            let mut lines = Vec::with_capacity(people.len());
            for (employee, inside) in people {
                lines.push(Entry { key: inside_key(&building, &employee), value: write_inside(&inside)? });
            }
            let part = Part { prefix: inside_prefix(&building), after: None, to: None, lines };
            fold.rebuilt.compare(part, &mut found);
        }
        Ok(found)
    }

    fn compare_cards(&mut self, fold: &mut Fold, found: &mut Differences) -> Result<(), CheckError> {
        let mut after = None;
        loop {
            let query = CardQuery { after: after.clone(), limit: PAGE_CARDS, ..CardQuery::default() };
            let CardPage { cards, next, as_of } =
                ask(&self.live.directory, |reply| ReadCards { query: query.clone(), reply })?;
            self.fold_to(as_of, fold)?;
            let mut lines = Vec::with_capacity(cards.len());
            for card in &cards {
                lines.push(Entry { key: card_key(&card.card_id), value: write_card(card)? });
            }
            let (after_key, to) = (after.as_ref().map(card_key), next.as_ref().map(card_key));
            fold.rebuilt.compare(Part { prefix: CARDS.to_owned(), after: after_key, to, lines }, found);
            if next.is_none() {
                return Ok(());
            }
            after = next;
        }
    }

    fn read_archive(
        &mut self,
        archive: &crate::sinks::archive::Archive,
        fold: &mut Fold,
    ) -> Result<(), CheckError> {
        let order = self.record.order.clone();
        let wanted = |name: &str| order.wants_object(name);
        let listing = archive.list_some(MAX_OBJECTS, &wanted)?;
        if let Some(nothing) = listing.nothing_there() {
            return Err(CheckError::NothingThere(format!("{} {nothing}", order.from)));
        }
        let total = listing.objects.len() as u64;
        for (done, object) in listing.objects.iter().enumerate() {
            fold.objects = Some(Objects { done: done as u64, total });
            self.show(fold);
            self.go_on(fold)?;
            let (mut found, mut line_number, server) = (Found::default(), 0_u64, self.log_name.clone());
            archive.read(object, &mut |line| {
                line_number += 1;
                fold.scanned += 1;
                match fold.take_line(line, &server) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => found.others += 1,
                    Err(why) => found.unreadable(format!("{}: line {line_number} {why}", object.name)),
                }
            })?;
            self.record.found(found);
        }
        fold.objects = Some(Objects { done: total, total });
        if fold.taken == 0 {
            let (from, server) = (&order.from, &self.log_name.server);
            let others = self.record.others;
            let what = format!("of {total} objects of {from} that were read none has an event of {server}");
            return Err(CheckError::NothingThere(format!("{what} ({others} events are of other servers)")));
        }
        Ok(())
    }

    /// Takes in the log up to a sequence that is committed.
    fn fold_to(&self, to: u64, fold: &mut Fold) -> Result<(), CheckError> {
        while fold.folded_to < to {
            self.show(fold);
            self.go_on(fold)?;
            let records = self.log.read(fold.folded_to, CHUNK_RECORDS, CHUNK_BYTES)?;
            if records.is_empty() {
                break;
            }
            for found in records {
                let sequence = found.sequence;
                if sequence > to {
                    fold.folded_to = to;
                    break;
                }
                let record = EventRecord::parse(found.payload)
                    .map_err(|source| CheckError::Record { sequence, source })?;
                let line = EventOfLine::read(&record.json(), &self.log_name.server)
                    .map_err(|source| CheckError::Line { sequence, source })?;
                let event = decode(&record).map_err(|source| CheckError::Event { sequence, source })?;
                let epoch = line.map_or(self.log_name.epoch, |line| line.log.epoch);
                fold.rebuilt.apply(epoch, &event)?;
                fold.folded_to = sequence;
                fold.scanned += 1;
            }
        }
        Ok(())
    }

    fn go_on(&self, fold: &Fold) -> Result<(), CheckError> {
        match (*self.cancel.lock(), fold.rebuilt.bytes() > MAX_REBUILT_BYTES) {
            (true, _) => Err(CheckError::Cancelled),
            (_, true) => Err(CheckError::TooLarge),
            _ => Ok(()),
        }
    }

    fn show(&self, fold: &Fold) {
        let is_cancelled = self.cancel.lock();
        if !*is_cancelled {
            let report = ReplayReport::of(&self.record, None, None);
            self.shared.board.set(ReplayReport { objects: fold.objects, scanned: fold.scanned, ..report });
        }
    }
}

impl Fold {
    /// Breaks for an event of another server.
    fn take_line(&mut self, line: Line<'_>, log: &LogName) -> Result<ControlFlow<()>, String> {
        let (line, is_tail) = match line {
            Line::Whole(line) => (line, false),
            // after a crash half a line, which comes again
            Line::Tail(line) => (line, true),
            Line::TooLong => return Err("is too long; the rest of the object is not read".to_owned()),
            Line::Differs(_, column) => return Err(format!("says something else than its column {column}")),
            Line::Damaged => return Err("is damaged, the rest of the object cannot be read".to_owned()),
        };
        match EventOfLine::read(line, &log.server) {
            Err(_) if is_tail => Ok(ControlFlow::Continue(())),
            Err(error) => Err(error.to_string()),
            Ok(None) => Ok(ControlFlow::Break(())),
            Ok(Some(event)) => {
                let decoded = decode(&event.record).map_err(|error| error.to_string())?;
                self.rebuilt.apply(event.log.epoch, &decoded).map_err(|error| error.to_string())?;
                self.taken += 1;
                if event.log.epoch == log.epoch {
                    self.last_found = self.last_found.max(event.sequence);
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }
}

/// Asks an actor from this thread. While it is too busy it is asked again.
fn ask<A, M, T>(
    actor: &Addr<A>,
    message: impl Fn(oneshot::Sender<Result<T, NoPlace>>) -> M,
) -> Result<T, CheckError>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = ()> + Send + 'static,
{
    for _ in 0..MAX_ASKED {
        let (reply, answer) = oneshot::channel();
        if actor.try_send(message(reply)).is_ok()
            && let Ok(Ok(answer)) = answer.blocking_recv()
        {
            return Ok(answer);
        }
        thread::sleep(ASK_AGAIN);
    }
    Err(CheckError::Busy)
}
