//! What happened: the facts the log keeps. State is a fold over these and nothing else.

mod presence;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    card::Card,
    card_sync::CardSynced,
    device::KeysChanged,
    device_event::DeviceEvent,
    ids::{BuildingId, CardId, EmployeeId, GateId, ReplayName},
    mode::{Accounted, ModeChanged},
    reason::{Anomaly, Reason},
    replay::ReplayOrder,
    time::Timestamp,
    trace::TraceContext,
};

pub use self::presence::{
    EntryRecorded, ExpiryCause, GateDecision, Outcome, PassageDue, PassageEnded, Presence, PresenceExpired,
    PresenceForgiven, PresenceReset,
};

/// An event with its place in the log. Made once; retries, redrive and replay never change it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Consumers deduplicate by this: a UUIDv7.
    pub id: Uuid,
    /// Its gapless place in the log, from 1.
    pub sequence: u64,
    /// When the server decided; never before the event in front of it.
    pub time: Timestamp,
    /// Who acted: `device/<key id>`, `person/<subject>` or `server`.
    pub by: String,
    /// W3C trace context of the request that caused it.
    pub traceparent: Option<TraceContext>,
    /// What happened.
    pub body: Body,
}

/// What happened. Types that this version does not know are kept in the log and sent on, and change no
/// state here: [`Body::Other`].
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// `card.*`: the whole card after the change.
    Card(CardChanged),
    /// `access.entry.granted` or `access.entry.denied`.
    Entry(Entry),
    /// `access.exit.recorded`.
    Exit(Exit),
    /// `presence.expired`: inside for longer than the building's rules take as possible.
    PresenceExpired(PresenceExpired),
    /// `audit.read`: someone looked at who is or was where.
    AuditRead(AuditRead),
    /// `log.repaired`: the first event after `wal repair`.
    LogRepaired(LogRepaired),
    /// `admin.redrive`: dead letters go back to their sinks.
    Redrive(Redrive),
    /// `admin.reload`: the configuration is read anew.
    Reload(Reload),
    /// `admin.discard`: a dead letter is thrown away.
    Discard(Discard),
    /// `admin.replay`: events are sent again, or no longer.
    Replay(Box<Replay>),
    /// `device.*`: what a device says that is no turnstile.
    Device(Box<DeviceEvent>),
    /// `admin.keys`: devices' keys came or went.
    Keys(Box<KeysChanged>),
    /// `presence.forgiven`: the security desk says that someone is not inside.
    PresenceForgiven(Box<PresenceForgiven>),
    /// `presence.reset`: the security desk says that nobody is inside.
    PresenceReset(PresenceReset),
    /// `sync.card.applied`: a change of a card that another server made.
    CardSynced(Box<CardSynced>),
    /// `building.mode.changed`: normal, lockdown or evacuation.
    ModeChanged(Box<ModeChanged>),
    /// `muster.accounted`: someone of the roster was seen at the assembly point.
    Accounted(Accounted),
    /// `access.passage.confirmed` or `access.passage.abandoned`.
    Passage(Box<PassageEnded>),
    /// `access.entry.recorded`: what a gate decided alone.
    EntryRecorded(Box<EntryRecorded>),
    /// A type of another version.
    Other,
}

/// A change of a card.
#[derive(Clone, Debug, PartialEq)]
pub struct CardChanged {
    /// Which kind of change.
    pub change: CardChange,
    /// The whole card afterwards.
    pub card: Card,
    /// Why, in the words of whoever did it.
    pub note: Option<String>,
}

/// The kinds of change of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardChange {
    /// `card.registered`
    Registered,
    /// `card.updated`
    Updated,
    /// `card.suspended`
    Suspended,
    /// `card.reinstated`
    Reinstated,
    /// `card.revoked`
    Revoked,
    /// `card.lost`
    Lost,
}

/// A card held before a gate from outside, and the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where, which card, whose.
    pub swipe: Swiped,
    /// The answer.
    pub decision: Decision,
    /// Of one that was granted before, a moment ago: when the holder is taken to have entered.
    pub since: Option<Timestamp>,
    /// Of one that was granted at a gate that will say what came of it.
    pub passage: Option<Box<PassageDue>>,
}

impl Entry {
    /// An answer of which no more is to be said.
    #[must_use]
    pub fn new(swipe: Swiped, decision: Decision) -> Self {
        Self { swipe, decision, since: None, passage: None }
    }
}

/// The answer to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The gate opens.
    Granted {
        /// Whether the holder was inside already (soft anti-passback).
        violation: bool,
    },
    /// The gate stays closed.
    Denied(Reason),
}

/// Someone left.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Where, which card, whose.
    pub swipe: Swiped,
    /// What is odd about it, if anything.
    pub anomaly: Option<Anomaly>,
}

/// What every passage carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swiped {
    /// Where.
    pub building: BuildingId,
    /// Through which gate.
    pub gate: GateId,
    /// The card as the reader sent it.
    pub card_id: CardId,
    /// Whose card it is; `None` for an unknown card.
    pub employee_id: Option<EmployeeId>,
    /// The device's name for this swipe; a retried request has the same.
    pub swipe_id: Option<Uuid>,
    /// The device's own clock; kept beside the server's time and never used to decide.
    pub occurred_at: Option<Timestamp>,
}

/// A look at personal data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRead {
    /// The building asked about, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building: Option<BuildingId>,
    /// What was read, such as `presence`.
    pub what: String,
    /// Whom or what it was about: `card/<id>` or `employee/<id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Events of this moment and later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Events before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Events of these types: patterns, separated by commas.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub types: Option<String>,
}

/// An operator gives dead letters back to their sinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// All of this sink, if it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Those that were named one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// How many they are.
    pub letters: u64,
}

/// The configuration is read anew, and these change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reload {
    /// Sinks that it did not name before.
    pub sinks_added: Vec<String>,
    /// Sinks with other settings, or that other events are led to.
    pub sinks_changed: Vec<String>,
    /// Sinks that it no longer names.
    pub sinks_removed: Vec<String>,
    /// Buildings with other gates or rules.
    pub buildings_changed: Vec<BuildingId>,
    /// Event types of devices that are declared, no longer declared, or have another schema.
    pub event_types_changed: Vec<String>,
    /// Routes that are new, gone, or lead elsewhere or in another form.
    pub routes_changed: Vec<String>,
    /// Keys of `[server]` with other values.
    pub server_changed: Vec<String>,
    /// SHA-256, in hex, of the file that counts from then on; of each of the lists above this tells what exactly it says.
    pub config_sha256: String,
}

/// An operator throws a dead letter away: its sink never gets that event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discard {
    /// The dead letter's id.
    pub dead_letter: String,
    /// The sink.
    pub sink: String,
    /// The place of its event in the log, 20 digits.
    pub event_sequence: String,
    /// The id of its event.
    pub event_id: String,
    /// The service's error code.
    pub code: String,
    /// Why, in the operator's words.
    pub reason: String,
}

/// An operator begins a replay, or ends one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Which of the two.
    pub action: ReplayAction,
    /// Its name.
    pub replay: ReplayName,
    /// What it sends where.
    pub order: ReplayOrder,
}

/// What an operator does to a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayAction {
    /// Begins it.
    Start,
    /// Ends it, or forgets one that is over.
    Delete,
}

/// What a repair of the log came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRepaired {
    /// The name that the log had before.
    pub old_log: String,
    /// Its epoch.
    pub old_epoch: u64,
    /// The epoch from this event on.
    pub new_epoch: u64,
    /// How many events were salvaged.
    pub salvaged: u64,
    /// How many sequences are missing: lost, or never used.
    pub missing: u64,
    /// Which, as far as they are listed.
    pub missing_ranges: Vec<MissingRange>,
    /// How many ranges there are past those listed.
    pub missing_ranges_left_off: u64,
}

/// Sequences that are missing, both ends included, as 20 digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingRange {
    /// The first one.
    pub first: String,
    /// The last one.
    pub last: String,
}

impl CardChange {
    /// The CloudEvents `type`.
    #[must_use]
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Registered => "card.registered",
            Self::Updated => "card.updated",
            Self::Suspended => "card.suspended",
            Self::Reinstated => "card.reinstated",
            Self::Revoked => "card.revoked",
            Self::Lost => "card.lost",
        }
    }

    pub(super) fn of_type(event_type: &str) -> Option<Self> {
        [Self::Registered, Self::Updated, Self::Suspended, Self::Reinstated, Self::Revoked, Self::Lost]
            .into_iter()
            .find(|change| change.event_type() == event_type)
    }
}

impl Body {
    /// The CloudEvents `type`; empty for [`Body::Other`], which this version never writes.
    #[must_use]
    pub fn event_type(&self) -> &str {
        match self {
            Self::Card(changed) => changed.change.event_type(),
            Self::Entry(Entry { decision: Decision::Granted { .. }, .. }) => "access.entry.granted",
            Self::Entry(Entry { decision: Decision::Denied(_), .. }) => "access.entry.denied",
            Self::Exit(_) => "access.exit.recorded",
            Self::PresenceExpired(_) => "presence.expired",
            Self::AuditRead(_) => "audit.read",
            Self::LogRepaired(_) => "log.repaired",
            Self::Redrive(_) => "admin.redrive",
            Self::Reload(_) => "admin.reload",
            Self::Discard(_) => "admin.discard",
            Self::Replay(_) => "admin.replay",
            Self::Device(device) => &device.event_type,
            Self::CardSynced(_) => "sync.card.applied",
            Self::Keys(_) => "admin.keys",
            Self::PresenceForgiven(_) => "presence.forgiven",
            Self::PresenceReset(_) => "presence.reset",
            Self::ModeChanged(_) => "building.mode.changed",
            Self::Accounted(_) => "muster.accounted",
            Self::Passage(ended) => match ended.outcome {
                Outcome::Entered => "access.passage.confirmed",
                Outcome::NoEntry => "access.passage.abandoned",
            },
            Self::EntryRecorded(_) => "access.entry.recorded",
            Self::Other => "",
        }
    }

    /// The building it belongs to; `None` for events of the whole server.
    #[must_use]
    pub fn building(&self) -> Option<&BuildingId> {
        match self {
            Self::Entry(entry) => Some(&entry.swipe.building),
            Self::Exit(exit) => Some(&exit.swipe.building),
            Self::PresenceExpired(expired) => Some(&expired.building),
            Self::AuditRead(read) => read.building.as_ref(),
            Self::Device(device) => Some(&device.building),
            Self::PresenceForgiven(forgiven) => Some(&forgiven.building),
            Self::PresenceReset(reset) => Some(&reset.building),
            Self::ModeChanged(changed) => Some(&changed.building),
            Self::Accounted(accounted) => Some(&accounted.building),
            Self::Passage(ended) => Some(&ended.building),
            Self::EntryRecorded(recorded) => Some(&recorded.building),
            Self::Card(_)
            | Self::CardSynced(_)
            | Self::LogRepaired(_)
            | Self::Redrive(_)
            | Self::Reload(_)
            | Self::Discard(_)
            | Self::Replay(_)
            | Self::Keys(_)
            | Self::Other => None,
        }
    }
}
