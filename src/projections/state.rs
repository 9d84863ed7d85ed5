//! The state from the entries of a snapshot.

use std::collections::HashMap;

use super::{
    entry::{Entry, EntryError, Line},
    mode_entry::StoredMode,
};
use crate::domain::{
    building::{
        Building, Contents, Rules,
        last_exits::LastExits,
        modes::ModeState,
        muster::{Accounting, Left, Muster, RosterLine},
        passages::{Passage, Passages},
    },
    device_answers::{DeviceAnswers, DeviceKey, RememberedEvent},
    directory::Directory,
    ids::{BuildingId, EmployeeId},
    swipes::{Remembered, SwipeKey, SwipeWindow},
    time::Timestamp,
};

/// Takes entries one by one.
#[derive(Debug)]
pub struct StateBuilder {
    directory: Directory,
    device_answers: Vec<(DeviceKey, RememberedEvent)>,
    /// Of the buildings in the configuration, in its order; others stay in the snapshot.
    buildings: Vec<(Rules, Parts)>,
    places: HashMap<BuildingId, usize>,
}

/// What is known of a building, as far as it is ordered only when all of it is there.
#[derive(Debug, Default)]
struct Parts {
    contents: Contents,
    swipes: Vec<(SwipeKey, Remembered)>,
    passages: Vec<(u64, Passage)>,
    exits: Vec<(EmployeeId, Timestamp)>,
    mode: Option<StoredMode>,
    roster: HashMap<EmployeeId, RosterLine>,
    left: Vec<(EmployeeId, Left)>,
    accounted: Vec<(EmployeeId, Accounting)>,
}

impl StateBuilder {
    /// The empty state of these buildings.
    #[must_use]
    pub fn new(rules: &[Rules]) -> Self {
        let places = rules.iter().enumerate().map(|(place, rules)| (rules.building.clone(), place)).collect();
        let buildings = rules.iter().map(|rules| (rules.clone(), Parts::default())).collect();
        Self { directory: Directory::default(), device_answers: Vec::new(), buildings, places }
    }

    /// Takes a line.
    ///
    /// # Errors
    /// [`EntryError`] if the line is damaged.
    pub fn take(&mut self, line: &Line) -> Result<(), EntryError> {
        match Entry::read(line)? {
            Entry::Card(card) => self.directory.insert(*card),
            Entry::Inside(building, employee, inside) => {
                if let Some(parts) = self.parts(&building) {
                    parts.contents.inside.insert(employee, inside);
                }
            }
            Entry::Swipe(building, key, first) => {
                if let Some(parts) = self.parts(&building) {
                    parts.swipes.push((key, first));
                }
            }
            Entry::Cleared(building, at) => {
                if let Some(parts) = self.parts(&building) {
                    parts.contents.cleared_at = Some(at);
                }
            }
            Entry::Left(building, employee, at) => {
                if let Some(parts) = self.parts(&building) {
                    parts.exits.push((employee, at));
                }
            }
            Entry::Passage(building, sequence, passage) => {
                if let Some(parts) = self.parts(&building) {
                    parts.passages.push((sequence, *passage));
                }
            }
            Entry::Device(key, first) => self.device_answers.push((key, first)),
            Entry::Mode(building, mode) => {
                if let Some(parts) = self.parts(&building) {
                    parts.mode = Some(mode);
                }
            }
            Entry::Roster(building, employee, inside) => {
                if let Some(parts) = self.parts(&building) {
                    parts.roster.insert(employee, RosterLine::new(inside));
                }
            }
            Entry::RosterLeft(building, employee, left) => {
                if let Some(parts) = self.parts(&building) {
                    parts.left.push((employee, left));
                }
            }
            Entry::RosterAccounted(building, employee, accounting) => {
                if let Some(parts) = self.parts(&building) {
                    parts.accounted.push((employee, accounting));
                }
            }
            Entry::Unknown => {}
        }
        Ok(())
    }

    fn parts(&mut self, building: &BuildingId) -> Option<&mut Parts> {
        let place = *self.places.get(building)?;
        self.buildings.get_mut(place).map(|(_, parts)| parts)
    }

    /// All entries have been taken.
    #[must_use]
    pub fn finish(self) -> (Vec<Building>, Directory, DeviceAnswers) {
        let building = |(rules, mut parts): (Rules, Parts)| {
            let mode = parts.take_mode();
            let Parts { contents, swipes, passages, exits, .. } = parts;
            let (swipes, passages, last_exits) =
                (SwipeWindow::of(swipes), Passages::of(passages), LastExits::of(exits));
            Building::restored(rules, Contents { swipes, passages, last_exits, ..contents }).in_mode(mode)
        };
        let buildings = self.buildings.into_iter().map(building).collect();
        (buildings, self.directory, DeviceAnswers::of(self.device_answers))
    }
}

impl Parts {
    fn take_mode(&mut self) -> ModeState {
        let Some(stored) = self.mode.take() else { return ModeState::default() };
        let mut lines = std::mem::take(&mut self.roster);
        for (employee, left) in self.left.drain(..) {
            if let Some(line) = lines.get_mut(&employee) {
                line.left = Some(left);
            }
        }
        for (employee, accounting) in self.accounted.drain(..) {
            if let Some(line) = lines.get_mut(&employee) {
                line.accounted = Some(accounting);
            }
        }
        let muster = stored.roster.clone().map(|mark| Muster::new(mark, lines));
        ModeState { muster, ..stored.state() }
    }
}
