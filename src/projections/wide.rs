//! Events that touch the entries of many people at once. Which ones, only the state before them tells.

use super::{
    entry::{EntryError, Line, inside_of},
    entry_inside::read_inside,
    fold::Entered,
    mode_entry::{roster_key, roster_prefixes},
};
use crate::domain::{
    event::{Body, Event},
    ids::BuildingId,
    mode::Mode,
};

/// What such an event does in its building.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wide {
    building: BuildingId,
    /// Everyone inside comes onto a roster.
    takes_roster: bool,
    /// Nobody is inside any more whose last entry comes before this.
    clears_before: Option<Before>,
    /// There is no roster any more.
    ends_roster: bool,
}

/// A place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Before {
    /// The epoch of its log; `None`: it is the event's own.
    epoch: Option<u64>,
    sequence: u64,
}

impl Wide {
    /// What an event does, if it is one of these.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let changed = match &event.body {
            Body::PresenceReset(reset) => {
                let here = Before { epoch: None, sequence: event.sequence };
                return Some(Self {
                    building: reset.building.clone(),
                    takes_roster: false,
                    clears_before: Some(here),
                    ends_roster: false,
                });
            }
            Body::ModeChanged(changed) => changed,
            _ => return None,
        };
        let mark = changed.roster.as_ref()?;
        let is_over = changed.mode == Mode::Normal;
        let before = Before { epoch: Some(mark.log.epoch), sequence: mark.sequence };
        let wide = Self {
            building: changed.building.clone(),
            takes_roster: !is_over && mark.sequence == event.sequence,
            clears_before: is_over.then_some(before),
            ends_roster: is_over,
        };
        (wide.takes_roster || is_over).then_some(wide)
    }

    /// The building where everyone is out whose last entry comes before an epoch and a sequence. `epoch` is the event's.
    #[must_use]
    pub fn cleared(&self, epoch: u64) -> Option<(&BuildingId, (u64, u64))> {
        let before = self.clears_before.as_ref()?;
        Some((&self.building, (before.epoch.unwrap_or(epoch), before.sequence)))
    }

    /// The entries that it sets and removes. `lines` are those of the state before it; of them as many are kept in memory
    /// as there are people inside and on the roster.
    ///
    /// # Errors
    /// Those of `lines`, and what `damaged` makes of a line that cannot be read.
    pub(super) fn changes<E>(
        &self,
        lines: impl Iterator<Item = Result<Line, E>>,
        damaged: impl Fn(EntryError) -> E,
    ) -> Result<Vec<Entered>, E> {
        let roster = roster_prefixes(&self.building);
        let mut changes = Vec::new();
        for line in lines {
            let Line { key, value } = line?;
            if inside_of(&key) == Some(self.building.as_str()) {
                if let Some(before) = &self.clears_before
                    && read_inside(&key, &value).map_err(&damaged)?.sequence < before.sequence
                {
                    changes.push((key, None));
                } else if self.takes_roster
                    && let Some((_, employee)) = key.rsplit_once('/')
                {
                    changes.push((roster_key(&self.building, employee), Some(value)));
                }
            } else if self.ends_roster && roster.iter().any(|prefix| key.starts_with(prefix)) {
                changes.push((key, None));
            }
        }
        Ok(changes)
    }
}
