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
    domain::{archive_check::Presence, event::Discard, outbound::Form, routes::RouteTable},
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
            let settings = sink.map_or_else(AwsSettings::default, |sink| aws_settings(&sink.aws));
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
        if self.dead.contains(&sequence) {
            return Presence::Dead;
        }
        if self.routes.form_for(event_type, &self.name).is_none() {
            return Presence::NeedNot;
        }
        // some of such a range may have been delivered
        let is_let_go =
            (self.progress.detached.iter()).any(|range| (range.first..=range.last).contains(&sequence));
        if is_let_go {
            Presence::May
        } else if self.progress.is_settled(sequence) {
            Presence::Must
        } else {
            Presence::NeedNot
        }
    }

    /// The sequence of the event that the act discards, if it was a dead letter of this sink.
    #[must_use]
    pub fn discarded_by(&self, act: &Discard) -> Option<u64> {
        act.event_sequence.parse().ok().filter(|_| act.sink == self.name)
    }

    /// In which form events of a type go there.
    #[must_use]
    pub fn form(&self, event_type: &str) -> Arc<Form> {
        self.routes.form_for(event_type, &self.name).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{delivery::progress::Detached, domain::routes::Route};

    #[test]
    fn only_what_was_delivered_must_be_there() {
        let route = Route {
            name: "all".to_owned(),
            types: vec!["card.*".parse().unwrap()],
            to: vec!["archive".into()],
            form: Arc::default(),
        };
        let detached = vec![Detached { first: 4, last: 5, ..Detached::default() }];
        let sink = ArchiveSink {
            name: "archive".to_owned(),
            routes: RouteTable::new(vec![route]),
            progress: Progress { cursor: 7, settled: vec![(9, 9)], detached, ..Progress::default() },
            dead: BTreeSet::from([3]),
        };
        let presences = (2..=10).map(|sequence| sink.presence(sequence, "card.lost"));
        use Presence::{Dead, May, Must, NeedNot};
        let expected = [Must, Dead, May, May, Must, Must, NeedNot, Must, NeedNot];
        assert_eq!(presences.collect::<Vec<_>>(), expected);
        assert_eq!(sink.presence(2, "access.exit.recorded"), NeedNot);
    }
}
