//! `turnstiled wal verify --against`: whether an archive tells the same story as the log.

mod index;
mod report;
mod windows;

use std::{io::Write, sync::Arc};

use turnstiled_wal::{Hash, Record, verify_each};

use self::{index::Index, windows::Windows};
use super::{CommandError, Verdict, repair_dir, verify::Whole};
use crate::{
    app::{ArchiveSink, open_archive, sink_of},
    config::Config,
    data_dir::{self, DataDir},
    domain::{
        archive_check::{ArchiveCheck, FormOf, LogRecord, NotHeld, Presence},
        event::Body,
        event_json,
        outbound::Form,
        record::EventRecord,
    },
    sinks::archive::Location,
};

/// The type of the event that says that a dead letter was discarded.
const DISCARD: &str = "admin.discard";

/// Compares the archive with the log if that is whole, else only with itself.
pub(super) fn run(
    data_dir: &DataDir,
    config: &Config,
    location: &Location,
    whole: Whole,
    out: &mut impl Write,
) -> Result<Verdict, CommandError> {
    let server = &config.server.id;
    let configured = sink_of(config, location);
    let scratch = tempfile::Builder::new().prefix("verify-").tempdir_in(&data_dir.path)?;
    let sink = match configured {
        Some(sink) if whole.log && whole.state => {
            let copy = scratch.path().join("state");
            repair_dir::copy_tree(&data_dir::state_dir(&data_dir.path), &copy)?;
            Some(Arc::new(ArchiveSink::read(sink, &config.routes, &copy)?))
        }
        _ => None,
    };
    let archive = open_archive(location, configured)?;
    let listing = archive.list()?;
    let (others, other) = (listing.others, listing.other.clone());
    let index = Index::make(&archive, listing, server)?;
    let objects_of_others = index.of_others;
    let mut walk = Walk {
        windows: Windows::new(&archive, index, server),
        check: ArchiveCheck::new(data_dir.log_name.epoch, form_of(sink.clone())),
        sink,
        has_begun: false,
        failed: None,
    };
    if whole.log {
        let log = data_dir::log_dir(&data_dir.path);
        let checked =
            verify_each(&log, &scratch.path().join("log"), &mut |record, hash| walk.take(record, hash))?;
        if !checked.is_clean() {
            return Err("the log was whole a moment ago and is not now: run `turnstiled wal verify`".into());
        }
    }
    walk.rest(whole.log)?;
    let report = report::Report {
        location,
        sink: configured.map(|sink| sink.name.as_str()),
        is_log_whole: whole.log,
        is_state_whole: whole.state,
        others,
        other,
        objects_of_others,
    };
    report.print(&walk.check.finish(), &walk.windows, out)
}

fn form_of(sink: Option<Arc<ArchiveSink>>) -> FormOf {
    let plain = Arc::new(Form::default());
    Box::new(move |event_type| sink.as_ref().map_or_else(|| Arc::clone(&plain), |sink| sink.form(event_type)))
}

/// The log's records and the archive's events, side by side.
struct Walk<'a> {
    windows: Windows<'a>,
    check: ArchiveCheck,
    sink: Option<Arc<ArchiveSink>>,
    /// Whether the log's first record has been seen.
    has_begun: bool,
    failed: Option<CommandError>,
}

impl Walk<'_> {
    fn take(&mut self, record: &Record, hash: &Hash) {
        if self.failed.is_none() {
            self.failed = self.compare(record, hash).err();
        }
    }

    fn compare(&mut self, found: &Record, hash: &Hash) -> Result<(), CommandError> {
        let sequence = found.sequence;
        let place = if self.has_begun { NotHeld::InGap } else { NotHeld::Before };
        self.has_begun = true;
        let mut here = Vec::new();
        while let Some((at, events)) = self.windows.next_to(sequence)? {
            if at == sequence {
                here = events;
                break;
            }
            self.check.not_held(at, events, place);
        }
        let event = EventRecord::parse(found.payload.clone())
            .map_err(|error| format!("sequence {sequence}: {error}"))?;
        let presence =
            self.sink.as_ref().map_or(Presence::May, |sink| sink.presence(sequence, event.event_type()));
        let record = LogRecord {
            sequence,
            previous_hash: &found.previous_hash,
            hash,
            event_type: event.event_type(),
            json: &event.json(),
            presence,
        };
        self.check.record(&record, here);
        self.note_discard(&event)
    }

    /// What was discarded is not missing.
    fn note_discard(&mut self, record: &EventRecord) -> Result<(), CommandError> {
        let Some(sink) = self.sink.as_ref().filter(|_| record.event_type() == DISCARD) else { return Ok(()) };
        let event = event_json::decode(record)?;
        if let Body::Discard(act) = &event.body
            && let Some(sequence) = sink.discarded_by(act)
        {
            self.check.discarded(sequence, &event.by, &act.reason);
        }
        Ok(())
    }

    /// What the archive has past the log's end; all of it, if the log was not looked at.
    fn rest(&mut self, is_log_whole: bool) -> Result<(), CommandError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let place = if is_log_whole { NotHeld::Beyond } else { NotHeld::Before };
        while let Some((at, events)) = self.windows.next_to(u64::MAX)? {
            self.check.not_held(at, events, place);
        }
        Ok(())
    }
}
