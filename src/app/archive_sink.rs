//! The sink that an archive is from, as an offline command sees it.

use std::{collections::BTreeSet, fs, io, path::Path, sync::Arc};

use turnstiled_wal::StateStore;

use super::{StartError, sinks::aws_settings};
use crate::{
    actors::sink_state::SinkStates,
    config::{
        Config,
        sinks::{SinkConfig, SinkKind},
    },
    delivery::progress::Progress,
    domain::{archive_check::Presence, outbound::Form, routes::RouteTable},
    sinks::{
        archive::{Archive, Location},
        aws::{self, AwsSettings},
    },
};

/// Dead letters read at once.
const LETTERS_AT_ONCE: usize = 1_000;

/// What a sink was to bring into its archive.
#[derive(Debug)]
pub struct ArchiveSink {
    name: String,
    routes: RouteTable,
    progress: Progress,
    /// The sequences of its dead letters: settled, and not delivered.
    dead: BTreeSet<u64>,
}

/// The sink of the configuration that writes to this place.
#[must_use]
pub fn sink_of<'a>(config: &'a Config, location: &Location) -> Option<&'a SinkConfig> {
    config.sinks.iter().find(|sink| match (&sink.kind, location) {
        (SinkKind::S3 { bucket, prefix, .. }, Location::S3 { bucket: there, prefix: below }) => {
            bucket == there && prefix.trim_matches('/') == below
        }
        (SinkKind::File { dir, .. }, Location::Dir(path)) => {
            fs::canonicalize(dir).ok().is_some_and(|dir| fs::canonicalize(path).is_ok_and(|path| path == dir))
        }
        _ => false,
    })
}

/// The archive, with the AWS settings of its sink if there is one, else with those of the SDK's own chain.
///
/// # Errors
/// There is no thread or descriptor left.
pub fn open_archive(location: &Location, sink: Option<&SinkConfig>) -> io::Result<Archive> {
    match location {
        Location::Dir(path) => Ok(Archive::of_dir(path)),
        Location::S3 { bucket, prefix } => {
            let settings = sink.map_or_else(AwsSettings::default, aws_settings);
            Archive::of_bucket(bucket, prefix, async || Box::pin(aws::load_sdk_config(&settings)).await)
        }
    }
}

impl ArchiveSink {
    /// Reads what the state store in `state` has of the sink. Opening a store may change it: give a copy.
    ///
    /// # Errors
    /// [`StartError`] if it cannot be opened or read.
    pub fn read(sink: &SinkConfig, routes: &RouteTable, state: &Path) -> Result<Self, StartError> {
        let states = SinkStates::new(StateStore::open(state)?);
        let progress = states.progress(&sink.name)?.unwrap_or_default();
        let (mut dead, mut after) = (BTreeSet::new(), None);
        loop {
            let letters = states.dead_letters(Some(&sink.name), after.as_deref(), LETTERS_AT_ONCE)?;
            let Some(last) = letters.last() else { break };
            after = Some(last.id.clone());
            dead.extend(letters.iter().filter_map(|letter| letter.sequence.parse::<u64>().ok()));
        }
        Ok(Self { name: sink.name.clone(), routes: routes.clone(), progress, dead })
    }

    /// Whether the archive has to have this event of the log.
    #[must_use]
    pub fn presence(&self, sequence: u64, event_type: &str) -> Presence {
        let is_for_it = self.routes.form_for(event_type, &self.name).is_some();
        if is_for_it && self.progress.is_settled(sequence) && !self.dead.contains(&sequence) {
            Presence::Must
        } else {
            Presence::NeedNot
        }
    }

    /// In which form events of a type go there.
    #[must_use]
    pub fn form(&self, event_type: &str) -> Arc<Form> {
        self.routes.form_for(event_type, &self.name).unwrap_or_default()
    }
}
