//! What `/metrics` shows. Names are the contract's (section 6); units are in the names.

mod building;
mod card_sync;
mod events;
mod register;
mod series;
mod traces;

use std::sync::Arc;

pub use prometheus::Histogram;
use prometheus::{
    Encoder, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use self::events::EventCounters;
use self::register::{counter, counters, gauge, gauges, histogram, histograms};
pub use self::{card_sync::CardSyncMetrics, traces::TraceMetrics};

/// Buckets in seconds, fit for a decision that takes 100 µs on a good disk and 100 ms on a bad day.
const SECONDS_BUCKETS: [f64; 15] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.1,
    0.5, 2.5,
];

/// Buckets in seconds, fit for a send to a file and for one that a service takes half a minute to answer.
const SEND_SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0];

/// Buckets of the size of a commit, in records.
const RECORDS_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// What state a sink can be in.
pub const SINK_STATES: [&str; 3] = ["healthy", "retrying", "open"];

/// Every metric of the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

/// The metrics by name.
#[derive(Debug)]
pub struct Families {
    registry: Registry,
    events: EventCounters,
    inside: IntGaugeVec,
    building_mode: IntGaugeVec,
    muster_missing: IntGaugeVec,
    /// From the request's arrival to its durable answer, in seconds.
    pub decision_seconds: Histogram,
    /// One write and one sync of the log, in seconds.
    pub commit_seconds: Histogram,
    /// Records in one commit.
    pub commit_records: Histogram,
    /// What the log takes on the disk, without what is prepared ahead.
    pub log_bytes: IntGauge,
    /// What of that is set aside: damaged, and no longer of the log.
    pub log_set_aside_bytes: IntGauge,
    /// At so many bytes entries are refused.
    pub log_limit_bytes: IntGauge,
    /// How full the disk is: 0 normal, 1 alarm, 2 sinks are detached, 3 entries are refused.
    pub disk_step: IntGauge,
    /// The last event in the newest snapshot of the state.
    pub snapshot_sequence: IntGauge,
    /// When it was taken, in seconds since 1970; 0 if none was since the start.
    pub snapshot_timestamp_seconds: IntGauge,
    /// The last durable sequence.
    pub log_sequence: IntGauge,
    /// Sealed segments of the log that were found damaged.
    pub log_damaged_segments: IntGauge,
    /// Bytes of sealed segments looked through for damage.
    pub scrubbed_bytes: IntCounter,
    /// 1 if the last reload was taken, 0 if it was refused.
    config_last_reload_successful: IntGauge,
    /// When the configuration was last taken.
    config_last_reload_success_timestamp_seconds: IntGauge,
    /// Events that took a route since the start, also where an earlier one decided their form.
    pub route_events: IntCounterVec,
    /// Events that a sink's routes have led to it.
    pub sink_accepted: IntCounterVec,
    /// Events the sink's service has.
    pub sink_delivered: IntCounterVec,
    /// Sends that have to be done again.
    pub sink_retried: IntCounterVec,
    /// One send to the sink, in seconds, whatever came of it, also for replays.
    pub sink_send_seconds: HistogramVec,
    /// Dead letters that are there still, and what was let go of. The contract's name has `_total`, and its promise 2
    /// wants the present number, which goes down when a dead letter is delivered after all.
    pub sink_dead: IntGaugeVec,
    /// Dead letters that are kept.
    pub sink_dead_letters: IntGaugeVec,
    /// Dead letters that the mirror queue has not got; 0 without one.
    pub dead_letters_to_mirror: IntGauge,
    /// Dead letters that the mirror queue refuses.
    pub dead_letters_not_mirrored: IntCounter,
    /// Changes of cards that come from other servers.
    pub card_sync: CardSyncMetrics,
    /// Events given up on purpose.
    pub sink_discarded: IntCounterVec,
    /// Events the sink has still to take.
    pub sink_pending: IntGaugeVec,
    /// Age of the oldest of them, in seconds.
    pub sink_oldest_seconds: IntGaugeVec,
    /// 1 for the state the sink is in, 0 for the others.
    pub sink_state: IntGaugeVec,
    /// Whether an operator has to mend something for the sink.
    pub sink_held: IntGaugeVec,
    /// Events sent to the sink again by replays. The sink's own counts are without them.
    pub replayed: IntCounterVec,
    /// Those of them that its service called invalid.
    pub replay_refused: IntCounterVec,
    /// Replays that go on.
    pub replays_running: IntGauge,
    /// When the server's certificate ends, in seconds since 1970; not there without TLS. No labels.
    pub tls_not_after: IntGaugeVec,
    /// Sealed segments of the log that have a file in the index.
    pub index_segments: IntGauge,
    /// Events that are not in the index yet.
    pub index_behind_records: IntGauge,
    /// Live feeds that are open.
    pub feeds: IntGauge,
    /// Those that ended because their reader did not keep up.
    pub feed_dropped: IntCounter,
    /// Cards that name a group which the configuration does not have, as of the start or the last reload.
    pub cards_of_unknown_groups: IntGauge,
    /// Requests with missing or bad credentials, by kind.
    pub auth_failures: IntCounterVec,
    /// Keys by which people's tokens are checked; 0 with the local issuer.
    pub provider_keys: IntGauge,
    /// When the provider last showed them, in seconds since 1970.
    pub provider_keys_timestamp_seconds: IntGauge,
    /// Looks at the provider's keys that failed.
    pub provider_key_failures: IntCounter,
    /// Spans on their way to the collector.
    pub traces: TraceMetrics,
    /// Answered requests, by route and status.
    pub http_requests: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::ops::Deref for Metrics {
    type Target = Families;
    fn deref(&self) -> &Families {
        &self.0
    }
}

impl Metrics {
    /// Registers every metric, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Families {
            events: EventCounters::new(&registry),
            inside: gauges(&registry, "inside", "People known inside.", &["building"]),
            building_mode: gauges(
                &registry,
                "building_mode",
                "1 for the mode the building is in.",
                &["building", "mode"],
            ),
            muster_missing: gauges(
                &registry,
                "muster_missing",
                "People of the roster that nobody has seen outside; 0 without a roster.",
                &["building"],
            ),
            decision_seconds: histogram(
                &registry,
                "decision_seconds",
                "From a request's arrival to its durable answer.",
                &SECONDS_BUCKETS,
            ),
            commit_seconds: histogram(
                &registry,
                "commit_seconds",
                "One write and one sync of the log.",
                &SECONDS_BUCKETS,
            ),
            commit_records: histogram(
                &registry,
                "commit_records",
                "Records in one commit.",
                &RECORDS_BUCKETS,
            ),
            log_bytes: gauge(&registry, "log_bytes", "What the log takes on the disk."),
            log_set_aside_bytes: gauge(
                &registry,
                "log_set_aside_bytes",
                "What of log_bytes is damaged, no longer of the log, and kept in log/set-aside to be looked at.",
            ),
            log_limit_bytes: gauge(&registry, "log_limit_bytes", "At so many bytes entries are refused."),
            disk_step: gauge(
                &registry,
                "disk_step",
                "How full the disk is: 0 normal, 1 alarm, 2 sinks are detached, 3 entries are refused.",
            ),
            snapshot_sequence: gauge(
                &registry,
                "snapshot_sequence",
                "The last event in the newest snapshot.",
            ),
            snapshot_timestamp_seconds: gauge(
                &registry,
                "snapshot_timestamp_seconds",
                "When the newest snapshot was taken.",
            ),
            log_sequence: gauge(&registry, "log_sequence", "The last durable sequence."),
            log_damaged_segments: gauge(
                &registry,
                "log_damaged_segments",
                "Sealed segments of the log found damaged.",
            ),
            scrubbed_bytes: counter(
                &registry,
                "scrubbed_bytes_total",
                "Bytes of sealed segments looked through for damage.",
            ),
            config_last_reload_successful: gauge(
                &registry,
                "config_last_reload_successful",
                "1 if the last reload of the configuration was taken, 0 if it was refused.",
            ),
            config_last_reload_success_timestamp_seconds: gauge(
                &registry,
                "config_last_reload_success_timestamp_seconds",
                "When the configuration was last taken, at the start or by a reload.",
            ),
            route_events: counters(
                &registry,
                "route_events_total",
                "Events that took the route since the start.",
                &["route"],
            ),
            sink_accepted: counters(&registry, "sink_accepted_total", "Events led to the sink.", &["sink"]),
            sink_delivered: counters(&registry, "sink_delivered_total", "Events the service has.", &["sink"]),
            sink_retried: counters(&registry, "sink_retried_total", "Sends to be done again.", &["sink"]),
            sink_send_seconds: histograms(
                &registry,
                "sink_send_seconds",
                "One send to the sink, whatever came of it.",
                &SEND_SECONDS_BUCKETS,
                &["sink"],
            ),
            sink_dead: gauges(
                &registry,
                "sink_dead_total",
                "Events that are dead now: dead letters, and what was let go of. Goes down when one is resolved.",
                &["sink"],
            ),
            sink_dead_letters: gauges(
                &registry,
                "sink_dead_letters",
                "Dead letters that are kept; at 10000 what is refused waits and holds up the sink.",
                &["sink"],
            ),
            dead_letters_to_mirror: gauge(
                &registry,
                "dead_letters_to_mirror",
                "Dead letters that [dead_letters] queue_url has not got.",
            ),
            dead_letters_not_mirrored: counter(
                &registry,
                "dead_letters_not_mirrored_total",
                "Dead letters that [dead_letters] queue_url refuses.",
            ),
            card_sync: CardSyncMetrics::new(&registry),
            sink_discarded: counters(
                &registry,
                "sink_discarded_total",
                "Events given up on purpose.",
                &["sink"],
            ),
            sink_pending: gauges(&registry, "sink_pending", "Events still to be delivered.", &["sink"]),
            sink_oldest_seconds: gauges(
                &registry,
                "sink_oldest_seconds",
                "Age of the oldest pending event.",
                &["sink"],
            ),
            sink_state: gauges(
                &registry,
                "sink_state",
                "1 for the state the sink is in.",
                &["sink", "state"],
            ),
            sink_held: gauges(
                &registry,
                "sink_held",
                "1 while an operator has to mend something for the sink, 0 while what fails passes by itself.",
                &["sink"],
            ),
            replayed: counters(
                &registry,
                "replayed_total",
                "Events sent to the sink again by replays; not in sink_delivered_total.",
                &["sink"],
            ),
            replay_refused: counters(
                &registry,
                "replay_refused_total",
                "Replayed events that the service called invalid.",
                &["sink"],
            ),
            replays_running: gauge(&registry, "replays_running", "Replays that go on."),
            tls_not_after: gauges(
                &registry,
                "tls_not_after_timestamp_seconds",
                "When the server's certificate ends.",
                &[],
            ),
            index_segments: gauge(
                &registry,
                "index_segments",
                "Sealed segments of the log that have a file in the index.",
            ),
            index_behind_records: gauge(
                &registry,
                "index_behind_records",
                "Events that are not in the index yet; histories scan them.",
            ),
            feeds: gauge(&registry, "feeds", "Live feeds that are open."),
            feed_dropped: counter(
                &registry,
                "feed_dropped_total",
                "Live feeds that ended because their reader did not keep up.",
            ),
            cards_of_unknown_groups: gauge(
                &registry,
                "cards_of_unknown_groups",
                "Cards that name a group which the configuration does not have, as of the start or the last reload.",
            ),
            provider_keys: gauge(
                &registry,
                "provider_keys",
                "Keys by which the tokens of the OpenID provider are checked.",
            ),
            provider_keys_timestamp_seconds: gauge(
                &registry,
                "provider_keys_timestamp_seconds",
                "When the OpenID provider last showed its keys.",
            ),
            provider_key_failures: counter(
                &registry,
                "provider_key_failures_total",
                "Looks at the provider's keys that failed.",
            ),
            auth_failures: counters(
                &registry,
                "auth_failures_total",
                "Missing or bad credentials.",
                &["kind"],
            ),
            traces: TraceMetrics::new(&registry),
            http_requests: counters(
                &registry,
                "http_requests_total",
                "Answered requests.",
                &["route", "status"],
            ),
            registry,
        };
        let build_info =
            gauges(&families.registry, "build_info", "Always 1; the version is a label.", &["version"]);
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self(Arc::new(families))
    }

    /// Notes how a reload went, at `unix_seconds`. The start counts as one.
    pub fn reloaded(&self, is_success: bool, unix_seconds: i64) {
        self.config_last_reload_successful.set(i64::from(is_success));
        if is_success {
            self.config_last_reload_success_timestamp_seconds.set(unix_seconds);
        }
    }

    /// The Prometheus text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_the_prefix_and_its_unit() {
        let metrics = Metrics::new();
        metrics.set_inside("hq", 3);
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains("turnstiled_inside{building=\"hq\"} 3"), "{text}");
        assert!(text.contains("turnstiled_build_info{version="), "{text}");
        assert!(
            text.lines().filter(|line| !line.starts_with('#')).all(|line| line.starts_with("turnstiled_"))
        );
    }
}
