//! Metrics of each kind, made and registered at once.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

fn full_name(name: &str) -> String {
    format!("turnstiled_{name}")
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    #[expect(clippy::expect_used, reason = "names and buckets are constants; a test makes every metric once")]
    let collector = made.expect("metric names and labels are valid");
    #[expect(clippy::expect_used, reason = "each name is registered once, in one place")]
    registry.register(Box::new(collector.clone())).expect("metric names are unique");
    collector
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(full_name(name), help), labels))
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(full_name(name), help), labels))
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(full_name(name), help))
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(full_name(name), help))
}

pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(full_name(name), help).buckets(buckets.to_vec());
    register(registry, Histogram::with_opts(options))
}

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> HistogramVec {
    let options = HistogramOpts::new(full_name(name), help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(options, labels))
}
