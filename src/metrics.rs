//! What `/metrics` shows. Names are the contract's (section 6); units are in the names.

mod building;
mod card_sync;
mod events;
mod queues;
mod register;
mod series;
mod traces;

use std::sync::Arc;

pub use prometheus::Histogram;
use prometheus::{
    Encoder, Gauge, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, TextEncoder,
};

pub use self::{
    card_sync::CardSyncMetrics,
    queues::{Depth, QueueMetrics, Waits},
    register::Registered,
    traces::TraceMetrics,
};
use self::{events::EventCounters, register::Registrar};

/// Buckets in seconds of a commit, and of a decision, which is a commit and little else: 20 µs on a disk that keeps what it
/// has at a loss of power, 150 µs to 2 ms on others, 100 ms and more on a bad day. Close where they mostly are.
const SECONDS_BUCKETS: [f64; 18] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_15, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002, 0.003, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
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
    registrar: Registrar,
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
    /// In how many seconds [`Self::log_bytes`] reaches the limit, by what it lost in the last hours; infinite if it does not.
    pub log_full_seconds: Gauge,
    /// How full the disk is: 0 normal, 1 alarm, 2 sinks are detached, 3 entries are refused.
    pub disk_step: IntGauge,
    /// The last event in the newest snapshot of the state.
    pub snapshot_sequence: IntGauge,
    /// When it was taken, in seconds since 1970, also by an earlier run; 0 if there is none.
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
    /// What waits in memory.
    pub queues: QueueMetrics,
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
        let mut make = Registrar::default();
        let build_info = make.gauges("build_info", "Always 1; the version is a label.", &["version"]);
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self(Arc::new(Families {
            events: EventCounters::new(&mut make),
            inside: make.gauges("inside", "People known inside.", &["building"]),
            building_mode: make.gauges("building_mode",
                "1 for the mode the building is in.",
                &["building", "mode"],
            ),
            muster_missing: make.gauges("muster_missing",
                "People of the roster that nobody has seen outside; 0 without a roster.",
                &["building"],
            ),
            decision_seconds: make.histogram("decision_seconds",
                "From a request's arrival to its durable answer.",
                &SECONDS_BUCKETS,
            ),
            commit_seconds: make.histogram("commit_seconds",
                "One write and one sync of the log.",
                &SECONDS_BUCKETS,
            ),
            commit_records: make.histogram("commit_records",
                "Records in one commit.",
                &RECORDS_BUCKETS,
            ),
            log_bytes: make.gauge("log_bytes", "What the log takes on the disk."),
            log_set_aside_bytes: make.gauge("log_set_aside_bytes",
                "What of log_bytes is damaged, no longer of the log, and kept in log/set-aside to be looked at.",
            ),
            log_limit_bytes: make.gauge("log_limit_bytes", "At so many bytes entries are refused."),
            log_full_seconds: make.seconds(
                "log_full_seconds",
                "Until log_bytes reaches log_limit_bytes, if what is left goes on as in the last six hours.",
            ),
            disk_step: make.gauge("disk_step",
                "How full the disk is: 0 normal, 1 alarm, 2 sinks are detached, 3 entries are refused.",
            ),
            snapshot_sequence: make.gauge("snapshot_sequence",
                "The last event in the newest snapshot.",
            ),
            snapshot_timestamp_seconds: make.gauge("snapshot_timestamp_seconds",
                "When the newest snapshot was taken.",
            ),
            log_sequence: make.gauge("log_sequence", "The last durable sequence."),
            log_damaged_segments: make.gauge("log_damaged_segments",
                "Sealed segments of the log found damaged.",
            ),
            scrubbed_bytes: make.counter("scrubbed_bytes_total",
                "Bytes of sealed segments looked through for damage.",
            ),
            config_last_reload_successful: make.gauge("config_last_reload_successful",
                "1 if the last reload of the configuration was taken, 0 if it was refused.",
            ),
            config_last_reload_success_timestamp_seconds: make.gauge("config_last_reload_success_timestamp_seconds",
                "When the configuration was last taken, at the start or by a reload.",
            ),
            route_events: make.counters("route_events_total",
                "Events that took the route since the start.",
                &["route"],
            ),
            sink_accepted: make.counters("sink_accepted_total", "Events led to the sink.", &["sink"]),
            sink_delivered: make.counters("sink_delivered_total", "Events the service has.", &["sink"]),
            sink_retried: make.counters("sink_retried_total", "Sends to be done again.", &["sink"]),
            sink_send_seconds: make.histograms(
                "sink_send_seconds",
                "One send to the sink, whatever came of it.",
                &SEND_SECONDS_BUCKETS,
                &["sink"],
            ),
            sink_dead: make.gauges("sink_dead_total",
                "Events that are dead now: dead letters, and what was let go of. Goes down when one is resolved.",
                &["sink"],
            ),
            sink_dead_letters: make.gauges("sink_dead_letters",
                "Dead letters that are kept; at 10000 what is refused waits and holds up the sink.",
                &["sink"],
            ),
            dead_letters_to_mirror: make.gauge("dead_letters_to_mirror",
                "Dead letters that [dead_letters] queue_url has not got.",
            ),
            dead_letters_not_mirrored: make.counter("dead_letters_not_mirrored_total",
                "Dead letters that [dead_letters] queue_url refuses.",
            ),
            card_sync: CardSyncMetrics::new(&mut make),
            sink_discarded: make.counters("sink_discarded_total",
                "Events given up on purpose.",
                &["sink"],
            ),
            sink_pending: make.gauges("sink_pending", "Events still to be delivered.", &["sink"]),
            sink_oldest_seconds: make.gauges("sink_oldest_seconds",
                "Age of the oldest pending event.",
                &["sink"],
            ),
            sink_state: make.gauges("sink_state",
                "1 for the state the sink is in.",
                &["sink", "state"],
            ),
            sink_held: make.gauges("sink_held",
                "1 while an operator has to mend something for the sink, 0 while what fails passes by itself.",
                &["sink"],
            ),
            replayed: make.counters("replayed_total",
                "Events sent to the sink again by replays; not in sink_delivered_total.",
                &["sink"],
            ),
            replay_refused: make.counters("replay_refused_total",
                "Replayed events that the service called invalid.",
                &["sink"],
            ),
            replays_running: make.gauge("replays_running", "Replays that go on."),
            tls_not_after: make.gauges("tls_not_after_timestamp_seconds",
                "When the server's certificate ends.",
                &[],
            ),
            index_segments: make.gauge("index_segments",
                "Sealed segments of the log that have a file in the index.",
            ),
            index_behind_records: make.gauge("index_behind_records",
                "Events that are not in the index yet; histories scan them.",
            ),
            feeds: make.gauge("feeds", "Live feeds that are open."),
            feed_dropped: make.counter("feed_dropped_total",
                "Live feeds that ended because their reader did not keep up.",
            ),
            cards_of_unknown_groups: make.gauge("cards_of_unknown_groups",
                "Cards that name a group which the configuration does not have, as of the start or the last reload.",
            ),
            provider_keys: make.gauge("provider_keys",
                "Keys by which the tokens of the OpenID provider are checked.",
            ),
            provider_keys_timestamp_seconds: make.gauge("provider_keys_timestamp_seconds",
                "When the OpenID provider last showed its keys.",
            ),
            provider_key_failures: make.counter("provider_key_failures_total",
                "Looks at the provider's keys that failed.",
            ),
            auth_failures: make.counters("auth_failures_total",
                "Missing or bad credentials.",
                &["kind"],
            ),
            traces: TraceMetrics::new(&mut make),
            http_requests: make.counters("http_requests_total",
                "Answered requests.",
                &["route", "status"],
            ),
            queues: QueueMetrics::new(&mut make),
            registrar: make,
        }))
    }

    /// Notes how a reload went, at `unix_seconds`. The start counts as one.
    pub fn reloaded(&self, is_success: bool, unix_seconds: i64) {
        self.config_last_reload_successful.set(i64::from(is_success));
        if is_success {
            self.config_last_reload_success_timestamp_seconds.set(unix_seconds);
        }
    }

    /// Every metric, also those that have no series yet.
    #[must_use]
    pub fn registered(&self) -> &[Registered] {
        &self.registrar.all
    }

    /// The Prometheus text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registrar.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
