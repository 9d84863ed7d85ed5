//! One outcome a record, in the batch's order, whatever order they become known in.

use crate::{delivery::outcome::Outcome, sinks::failure::outcome_of_unmentioned};

/// The outcomes of a batch while it is under way.
#[derive(Debug)]
pub struct Outcomes {
    places: Vec<Option<Outcome>>,
}

impl Outcomes {
    /// Nothing is known yet of `records` records.
    #[must_use]
    pub fn of(records: usize) -> Self {
        Self { places: vec![None; records] }
    }

    /// What became of the record at `place` in the batch. Places outside the batch are ignored: a service
    /// that answers for records it was not given says nothing about those it was.
    pub fn set(&mut self, place: usize, outcome: Outcome) {
        if let Some(open) = self.places.get_mut(place) {
            *open = Some(outcome);
        }
    }

    /// The same outcome for every record that has none yet.
    pub fn set_open(&mut self, outcome: &Outcome) {
        for open in self.places.iter_mut().filter(|place| place.is_none()) {
            *open = Some(outcome.clone());
        }
    }

    /// The outcomes in order; a record that nobody mentioned is sent again.
    #[must_use]
    pub fn finish(self) -> Vec<Outcome> {
        self.places.into_iter().map(|place| place.unwrap_or_else(outcome_of_unmentioned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::envelope::reject;

    #[test]
    fn what_is_not_mentioned_is_sent_again() {
        let mut outcomes = Outcomes::of(3);
        outcomes.set(2, Outcome::Delivered);
        outcomes.set(9, Outcome::Delivered);
        outcomes.set(0, reject("Bad", "bad"));
        let outcomes = outcomes.finish();
        assert!(matches!(outcomes[..], [Outcome::Rejected(_), Outcome::Retry(_), Outcome::Delivered]));
    }

    #[test]
    fn an_answer_for_all_leaves_what_is_known() {
        let mut outcomes = Outcomes::of(2);
        outcomes.set(0, reject("Bad", "bad"));
        outcomes.set_open(&Outcome::Delivered);
        assert!(matches!(outcomes.finish()[..], [Outcome::Rejected(_), Outcome::Delivered]));
    }
}
