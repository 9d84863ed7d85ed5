//! The closing look: does the daemon know what the turnstiles saw, and have the sinks got everything?

use std::collections::BTreeSet;

use super::{
    model::{Mismatches, Tally},
    office::{Office, SinkState, metric},
    people::number_of,
    setting::Place,
    takings::Takings,
};
use crate::domain::reason::Anomaly;

/// The sink that every event goes to.
pub(super) const EVERYTHING_SINK: &str = "archive";

/// What was found.
#[derive(Debug)]
pub(super) struct Audit {
    /// What became of all swipes, by the model.
    pub(super) tally: Tally,
    pub(super) sinks: Vec<SinkState>,
}

/// Compares what the turnstiles saw with what the daemon says; mismatches are in the tally.
pub(super) async fn audit(office: &Office, takings: &Takings, places: &[Place]) -> Result<Audit, String> {
    let mut tally = Tally::of(takings.observed.clone(), places);
    for (place, expected) in places.iter().zip(&tally.inside) {
        let inside = office.presence(&place.id).await?;
        compare_presence(&place.id, expected, &inside, &mut tally.mismatches);
    }
    // after the presence, because looking at it is recorded too
    let metrics = office.metrics().await?;
    compare_anomalies(&metrics, places, &mut tally);
    let Some(events) = metric(&metrics, "turnstiled_log_sequence") else {
        return Err("/metrics has no turnstiled_log_sequence".to_owned());
    };
    let sinks = office.settled_sinks(EVERYTHING_SINK, events).await?;
    compare_sinks(&sinks, events, &mut tally.mismatches);
    Ok(Audit { tally, sinks })
}

fn compare_presence(
    building: &str,
    expected: &BTreeSet<u32>,
    inside: &BTreeSet<String>,
    mismatches: &mut Mismatches,
) {
    let known: BTreeSet<u32> = inside.iter().filter_map(|employee| number_of(employee)).collect();
    for missing in expected.difference(&known) {
        mismatches.add(format!("employee {missing} is inside {building}, but presence does not say so"));
    }
    for ghost in known.difference(expected) {
        mismatches.add(format!("employee {ghost} is not inside {building}, but presence says so"));
    }
    if known.len() != inside.len() {
        mismatches.add(format!("presence of {building} names someone who does not work here"));
    }
}

/// Answers to exits do not tell the anomaly, so the metrics are asked.
fn compare_anomalies(metrics: &str, places: &[Place], tally: &mut Tally) {
    for (index, place) in places.iter().enumerate() {
        for anomaly in [Anomaly::NotInside, Anomaly::UnknownCard].map(Anomaly::as_str) {
            let series = format!("turnstiled_exits_total{{anomaly=\"{anomaly}\",building=\"{}\"}}", place.id);
            let counted = metric(metrics, &series).unwrap_or_default();
            let expected = tally.anomalies.get(&(index, anomaly)).copied().unwrap_or_default();
            if counted != expected {
                tally.mismatches.add(format!("{series} is {counted}, expected {expected}"));
            }
        }
    }
}

fn compare_sinks(sinks: &[SinkState], events: u64, mismatches: &mut Mismatches) {
    for sink in sinks {
        let SinkState { name, state, accepted, delivered, pending, dead, discarded } = sink;
        if *pending > 0 || *dead > 0 || *discarded > 0 {
            mismatches.add(format!(
                "sink {name} ({state}): {pending} pending, {dead} dead, {discarded} discarded, expected none"
            ));
        }
        if accepted != &(delivered + pending + dead + discarded) {
            mismatches.add(format!("sink {name}: {accepted} accepted is not the sum of what became of them"));
        }
    }
    let archived = sinks.iter().find(|sink| sink.name == EVERYTHING_SINK).map_or(0, |sink| sink.accepted);
    if archived != events {
        mismatches.add(format!("sink {EVERYTHING_SINK} accepted {archived} of {events} events"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(name: &str, accepted: u64, delivered: u64) -> SinkState {
        let pending = accepted - delivered;
        let (name, state) = (name.to_owned(), "healthy".to_owned());
        SinkState { name, state, accepted, delivered, pending, dead: 0, discarded: 0 }
    }

    #[test]
    fn presence_is_compared_both_ways() {
        let mut mismatches = Mismatches::default();
        let inside = ["E1001".to_owned(), "E1002".to_owned()].into();
        compare_presence("hq", &[0, 1].into(), &inside, &mut mismatches);
        assert_eq!(mismatches.count, 0);
        compare_presence("hq", &[1, 2].into(), &inside, &mut mismatches);
        assert_eq!(mismatches.count, 2);
        compare_presence("hq", &BTreeSet::new(), &["V7".to_owned()].into(), &mut mismatches);
        assert_eq!(mismatches.count, 3);
    }

    #[test]
    fn a_sink_that_has_not_everything_is_found() {
        let mut mismatches = Mismatches::default();
        compare_sinks(&[sink("exits", 5, 5), sink(EVERYTHING_SINK, 9, 9)], 9, &mut mismatches);
        assert_eq!(mismatches.count, 0);
        compare_sinks(&[sink("exits", 5, 4), sink(EVERYTHING_SINK, 8, 8)], 9, &mut mismatches);
        assert_eq!(mismatches.count, 2);
    }
}
