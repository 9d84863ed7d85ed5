use std::collections::BTreeSet;

use super::*;

const DOCUMENT: &str = include_str!("../../deploy/METRICS.md");

/// What the tables of the document say: name, type and labels.
fn documented() -> Vec<Registered> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `turnstiled_"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, says, _look] = cells[..] else { panic!("not five cells: {line}") };
        assert!(says.ends_with('.'), "what it says: {line}");
        let kind = ["counter", "gauge", "histogram"].into_iter().find(|known| *known == kind);
        let unquoted = |cell: &str| cell.trim_matches('`').to_owned();
        Registered {
            name: unquoted(name),
            kind: kind.unwrap_or_else(|| panic!("no type: {line}")),
            labels: labels.split(", ").filter(|label| !label.is_empty()).map(unquoted).collect(),
        }
    };
    rows.map(row).collect()
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render()).unwrap()
}

/// The families of which a series of this sink is shown.
fn shown_of_sink(metrics: &Metrics, sink: &str) -> BTreeSet<String> {
    let (text, label) = (text(metrics), format!("sink=\"{sink}\""));
    let samples = text.lines().filter(|line| !line.starts_with('#') && line.contains(&label));
    let family = |name: &str| {
        name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count").to_owned()
    };
    samples.map(|line| family(line.split('{').next().unwrap())).collect()
}

#[test]
fn the_document_has_what_is_registered_and_nothing_else() {
    let mut documented = documented();
    let mut registered = Metrics::new().registered().to_vec();
    documented.sort_by(|a, b| a.name.cmp(&b.name));
    registered.sort_by(|a, b| a.name.cmp(&b.name));
    let lacking: Vec<_> = registered.iter().filter(|metric| !documented.contains(metric)).collect();
    let surplus: Vec<_> = documented.iter().filter(|metric| !registered.contains(metric)).collect();
    assert!(
        lacking.is_empty() && surplus.is_empty(),
        "deploy/METRICS.md lacks {lacking:#?}, has {surplus:#?}"
    );
    assert_eq!(documented.len(), registered.len(), "a metric is there twice");
}

#[test]
fn the_document_has_the_buckets() {
    let buckets = SECONDS_BUCKETS.map(|bucket| bucket.to_string()).join(", ");
    let flowing = DOCUMENT.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flowing.contains(&format!("in seconds: {buckets}.")), "{buckets}");
}

#[test]
fn a_sink_that_is_gone_has_no_series() {
    let metrics = Metrics::new();
    for sink in ["gone", "stays"] {
        let label = &[sink];
        let counters = [
            &metrics.sink_accepted,
            &metrics.sink_delivered,
            &metrics.sink_retried,
            &metrics.sink_discarded,
            &metrics.replayed,
            &metrics.replay_refused,
        ];
        counters.iter().for_each(|family| family.with_label_values(label).inc());
        let gauges = [
            &metrics.sink_dead,
            &metrics.sink_dead_letters,
            &metrics.sink_pending,
            &metrics.sink_oldest_seconds,
            &metrics.sink_held,
        ];
        gauges.iter().for_each(|family| family.with_label_values(label).set(1));
        metrics.sink_send_seconds.with_label_values(label).observe(1.0);
        SINK_STATES.iter().for_each(|state| metrics.sink_state.with_label_values(&[sink, *state]).set(1));
    }
    let of_sinks = metrics.registered().iter().filter(|metric| metric.labels.iter().any(|it| it == "sink"));
    let of_sinks: BTreeSet<String> = of_sinks.map(|metric| metric.name.clone()).collect();
    assert_eq!(shown_of_sink(&metrics, "gone"), of_sinks, "a new family of sinks belongs into this test");
    metrics.forget_sink("gone");
    assert_eq!(shown_of_sink(&metrics, "gone"), BTreeSet::new());
    assert_eq!(shown_of_sink(&metrics, "stays"), of_sinks);
}

#[test]
fn what_waits_is_counted_while_it_waits() {
    let metrics = Metrics::new();
    let (hq, annex) = (metrics.queues.requests_of("hq"), metrics.queues.requests_of("annex"));
    let first = hq.enter();
    let second = hq.enter();
    assert_eq!((hq.get(), annex.get()), (2, 0));
    drop(first);
    assert!(text(&metrics).contains("turnstiled_building_queue_requests{building=\"hq\"} 1\n"));
    drop(second);
    assert_eq!(hq.get(), 0);
}
