//! Metrics of each kind, made and registered at once, and the list of what was registered.

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

/// A metric as it was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its whole name.
    pub name: String,
    /// As in a line of `# TYPE`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: Vec<String>,
}

/// Makes and registers metrics. What it keeps of them is more than the registry shows: there a family without series is
/// absent.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    pub(super) registry: Registry,
    pub(super) all: Vec<Registered>,
}

impl Registrar {
    pub(super) fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register("counter", IntCounterVec::new(options(name, help), labels))
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register("gauge", IntGaugeVec::new(options(name, help), labels))
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> IntGauge {
        self.register("gauge", IntGauge::with_opts(options(name, help)))
    }

    /// A gauge that is no whole number.
    pub(super) fn seconds(&mut self, name: &str, help: &str) -> Gauge {
        self.register("gauge", Gauge::with_opts(options(name, help)))
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> IntCounter {
        self.register("counter", IntCounter::with_opts(options(name, help)))
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::from(options(name, help)).buckets(buckets.to_vec());
        self.register("histogram", Histogram::with_opts(options))
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> HistogramVec {
        let options = HistogramOpts::from(options(name, help)).buckets(buckets.to_vec());
        self.register("histogram", HistogramVec::new(options, labels))
    }

    fn register<C: Collector + Clone + 'static>(
        &mut self,
        kind: &'static str,
        made: prometheus::Result<C>,
    ) -> C {
        #[expect(
            clippy::expect_used,
            reason = "names and buckets are constants; a test makes every metric once"
        )]
        let collector = made.expect("metric names and labels are valid");
        self.all.extend(collector.desc().into_iter().map(|described| Registered {
            name: described.fq_name.clone(),
            kind,
            labels: described.variable_labels.clone(),
        }));
        #[expect(clippy::expect_used, reason = "each name is registered once, in one place")]
        self.registry.register(Box::new(collector.clone())).expect("metric names are unique");
        collector
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("turnstiled_{name}"), help)
}
