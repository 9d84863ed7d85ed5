//! `[telemetry]`: where traces go, which, and whose headers they are passed on by.

use super::{aws_names, reader::TableReader, unique::Unique, value::Value};
use crate::domain::trace::Propagator;

/// The validated section.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryConfig {
    /// The collector; `None`: nothing is exported.
    pub otlp_endpoint: Option<String>,
    /// How it is spoken to.
    pub otlp_protocol: OtlpProtocol,
    /// How much of the traces is recorded that no caller has decided about, 0 to 1. Denied entries and errors always are.
    pub sample_ratio: f64,
    /// Each once.
    pub propagators: Vec<Propagator>,
    /// Whether spans name cards and employees.
    pub annotate_ids: bool,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    Http,
}

/// As in OpenTelemetry's `OTEL_EXPORTER_OTLP_PROTOCOL`.
const PROTOCOLS: [(&str, OtlpProtocol); 2] =
    [("grpc", OtlpProtocol::Grpc), ("http/protobuf", OtlpProtocol::Http)];
/// As in OpenTelemetry's `OTEL_PROPAGATORS`.
const PROPAGATORS: [(&str, Propagator); 2] =
    [("xray", Propagator::XRay), ("tracecontext", Propagator::TraceContext)];

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_protocol: OtlpProtocol::Grpc,
            sample_ratio: 1.0,
            propagators: PROPAGATORS.map(|(_, propagator)| propagator).to_vec(),
            annotate_ids: false,
        }
    }
}

pub(super) fn read(mut table: TableReader<'_>) -> TelemetryConfig {
    let endpoint = table.optional("otlp_endpoint");
    let otlp_endpoint = endpoint.and_then(|value| value.parsed(aws_names::url, ENDPOINT_HINT));
    let mut telemetry = TelemetryConfig { otlp_endpoint, ..TelemetryConfig::default() };
    if let Some(protocol) = table.optional("otlp_protocol").and_then(|value| value.choice(&PROTOCOLS)) {
        telemetry.otlp_protocol = protocol;
    }
    if let Some(ratio) = table.optional("sample_ratio").and_then(|value| value.ratio()) {
        telemetry.sample_ratio = ratio;
    }
    if let Some(propagators) = table.optional("propagators").and_then(|value| read_propagators(&value)) {
        telemetry.propagators = propagators;
    }
    if let Some(annotate_ids) = table.optional("annotate_ids").and_then(|value| value.boolean()) {
        telemetry.annotate_ids = annotate_ids;
    }
    table.finish();
    telemetry
}

const ENDPOINT_HINT: &str = "write the collector's address, such as \"http://127.0.0.1:4317\"";

fn read_propagators(value: &Value<'_>) -> Option<Vec<Propagator>> {
    let mut once = Unique::new("propagator");
    let list = value.list(PROPAGATORS.len())?;
    let read = |entry: &Value<'_>| {
        let propagator = entry.choice(&PROPAGATORS)?;
        once.take(entry, entry.string()?).map(|_| propagator)
    };
    Some(list.iter().filter_map(read).collect())
}
