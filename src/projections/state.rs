//! The state from the entries of a snapshot.

use std::collections::HashMap;

use super::{
    entry::{Entry, EntryError, Line},
    mode_entry::StoredMode,
};
use crate::domain::{
    building::{
        Building, Inside, Rules,
        modes::ModeState,
        muster::{Accounting, Left, Muster, RosterLine},
    },
    directory::Directory,
    ids::{BuildingId, EmployeeId},
    swipes::{Remembered, SwipeKey, SwipeWindow},
};

/// Takes entries one by one.
#[derive(Debug)]
pub struct StateBuilder {
    directory: Directory,
    /// Of the buildings in the configuration, in its order; others stay in the snapshot.
    buildings: Vec<(Rules, Contents)>,
    places: HashMap<BuildingId, usize>,
}

#[derive(Debug, Default)]
struct Contents {
    inside: HashMap<EmployeeId, Inside>,
    swipes: Vec<(SwipeKey, Remembered)>,
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
        let buildings = rules.iter().map(|rules| (rules.clone(), Contents::default())).collect();
        Self { directory: Directory::default(), buildings, places }
    }

    /// Takes a line.
    ///
    /// # Errors
    /// [`EntryError`] if the line is damaged.
    pub fn take(&mut self, line: &Line) -> Result<(), EntryError> {
        match Entry::read(line)? {
            Entry::Card(card) => self.directory.insert(*card),
            Entry::Inside(building, employee, inside) => {
                if let Some(contents) = self.contents(&building) {
                    contents.inside.insert(employee, inside);
                }
            }
            Entry::Swipe(building, key, first) => {
                if let Some(contents) = self.contents(&building) {
                    contents.swipes.push((key, first));
                }
            }
            Entry::Mode(building, mode) => {
                if let Some(contents) = self.contents(&building) {
                    contents.mode = Some(mode);
                }
            }
            Entry::Roster(building, employee, inside) => {
                if let Some(contents) = self.contents(&building) {
                    contents.roster.insert(employee, RosterLine::new(inside));
                }
            }
            Entry::RosterLeft(building, employee, left) => {
                if let Some(contents) = self.contents(&building) {
                    contents.left.push((employee, left));
                }
            }
            Entry::RosterAccounted(building, employee, accounting) => {
                if let Some(contents) = self.contents(&building) {
                    contents.accounted.push((employee, accounting));
                }
            }
            Entry::Unknown => {}
        }
        Ok(())
    }

    fn contents(&mut self, building: &BuildingId) -> Option<&mut Contents> {
        let place = *self.places.get(building)?;
        self.buildings.get_mut(place).map(|(_, contents)| contents)
    }

    /// All entries have been taken.
    #[must_use]
    pub fn finish(self) -> (Vec<Building>, Directory) {
        let building = |(rules, mut contents): (Rules, Contents)| {
            let mode = contents.take_mode();
            Building::restored(rules, contents.inside, SwipeWindow::of(contents.swipes)).in_mode(mode)
        };
        (self.buildings.into_iter().map(building).collect(), self.directory)
    }
}

impl Contents {
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
