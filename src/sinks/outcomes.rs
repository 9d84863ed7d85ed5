//! One outcome a record, in the batch's order, whatever order they become known in.

use std::error::Error;

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::{
    delivery::outcome::Outcome,
    sinks::failure::{outcome_of_sdk_error, outcome_of_unmentioned},
};

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

    /// The same outcome for the records at some places.
    pub fn set_all(&mut self, places: &[usize], outcome: &Outcome) {
        for place in places {
            self.set(*place, outcome.clone());
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

/// A request under way: the place in the batch that each of its entries has, and what is known already.
#[derive(Debug)]
pub struct Request {
    places: Vec<usize>,
    outcomes: Outcomes,
}

/// The entries of one request for a batch of events, or of letters. `entry` gets the place of each, too. One that
/// cannot be an entry has its outcome already.
#[must_use]
pub fn entries<T, E>(
    batch: &[T],
    mut entry: impl FnMut(usize, &T) -> Result<E, Outcome>,
) -> (Vec<E>, Request) {
    let mut outcomes = Outcomes::of(batch.len());
    let (mut entries, mut places) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for (place, record) in batch.iter().enumerate() {
        match entry(place, record) {
            Ok(entry) => {
                places.push(place);
                entries.push(entry);
            }
            Err(outcome) => outcomes.set(place, outcome),
        }
    }
    (entries, Request { places, outcomes })
}

impl Request {
    /// The place in the batch that each entry has.
    #[must_use]
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// The service answered with a result an entry, in the request's order.
    #[must_use]
    pub fn answered(mut self, results: impl IntoIterator<Item = Outcome>) -> Vec<Outcome> {
        for (place, outcome) in self.places.iter().zip(results) {
            self.outcomes.set(*place, outcome);
        }
        self.outcomes.finish()
    }

    /// The service answered with results in any order, each with the id its entry had: its place in the batch.
    #[must_use]
    pub fn answered_by_id<'a>(
        mut self,
        results: impl IntoIterator<Item = (&'a str, Outcome)>,
    ) -> Vec<Outcome> {
        for (id, outcome) in results {
            if let Ok(place) = id.parse() {
                self.outcomes.set(place, outcome);
            }
        }
        self.outcomes.finish()
    }

    /// The request failed as a whole.
    #[must_use]
    pub fn failed<E>(mut self, error: &SdkError<E, HttpResponse>) -> Vec<Outcome>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        self.outcomes.set_open(&outcome_of_sdk_error(error, self.places.len()));
        self.outcomes.finish()
    }

    /// Nothing was sent, because none could be an entry.
    #[must_use]
    pub fn not_sent(self) -> Vec<Outcome> {
        self.outcomes.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::{envelope::reject, test_events::event};

    /// A request of the second and third of three events; the first cannot be an entry.
    fn request() -> Request {
        let batch = [1, 2, 3].map(|sequence| event("card.lost", "", "E1", sequence));
        let (entries, request) = entries(&batch, |place, event| match place {
            0 => Err(reject("Bad", "bad")),
            _ => Ok(event.sequence),
        });
        assert_eq!(entries, [2, 3]);
        request
    }

    #[test]
    fn results_in_order_find_their_events() {
        let outcomes = request().answered([Outcome::Delivered, reject("Worse", "")]);
        assert!(
            matches!(&outcomes[..], [Outcome::Rejected(bad), Outcome::Delivered, Outcome::Rejected(worse)]
            if bad.code == "Bad" && worse.code == "Worse")
        );
        let short = request().answered([Outcome::Delivered]);
        assert!(matches!(short[..], [Outcome::Rejected(_), Outcome::Delivered, Outcome::Retry(_)]));
    }

    #[test]
    fn results_with_ids_find_their_events() {
        let results = [("2", Outcome::Delivered), ("?", Outcome::Delivered), ("9", Outcome::Delivered)];
        let outcomes = request().answered_by_id(results);
        assert!(matches!(outcomes[..], [Outcome::Rejected(_), Outcome::Retry(_), Outcome::Delivered]));
    }

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
