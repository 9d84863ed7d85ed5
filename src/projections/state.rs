//! The state from the entries of a snapshot.

use std::collections::HashMap;

use super::entry::{Entry, EntryError, Line};
use crate::domain::{
    building::{Building, Inside, Rules},
    device_answers::{DeviceAnswers, DeviceKey, RememberedEvent},
    directory::Directory,
    ids::{BuildingId, EmployeeId},
    swipes::{Remembered, SwipeKey, SwipeWindow},
};

/// Takes entries one by one.
#[derive(Debug)]
pub struct StateBuilder {
    directory: Directory,
    device_answers: Vec<(DeviceKey, RememberedEvent)>,
    /// Of the buildings in the configuration, in its order; others stay in the snapshot.
    buildings: Vec<(Rules, Contents)>,
    places: HashMap<BuildingId, usize>,
}

#[derive(Debug, Default)]
struct Contents {
    inside: HashMap<EmployeeId, Inside>,
    swipes: Vec<(SwipeKey, Remembered)>,
}

impl StateBuilder {
    /// The empty state of these buildings.
    #[must_use]
    pub fn new(rules: &[Rules]) -> Self {
        let places = rules.iter().enumerate().map(|(place, rules)| (rules.building.clone(), place)).collect();
        let buildings = rules.iter().map(|rules| (rules.clone(), Contents::default())).collect();
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
                if let Some(contents) = self.contents(&building) {
                    contents.inside.insert(employee, inside);
                }
            }
            Entry::Swipe(building, key, first) => {
                if let Some(contents) = self.contents(&building) {
                    contents.swipes.push((key, first));
                }
            }
            Entry::Device(key, first) => self.device_answers.push((key, first)),
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
    pub fn finish(self) -> (Vec<Building>, Directory, DeviceAnswers) {
        let building =
            |(rules, Contents { inside, swipes })| Building::restored(rules, inside, SwipeWindow::of(swipes));
        let buildings = self.buildings.into_iter().map(building).collect();
        (buildings, self.directory, DeviceAnswers::of(self.device_answers))
    }
}
