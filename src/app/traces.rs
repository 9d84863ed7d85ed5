//! The collector's side: what the configuration says of traces, and the thread that exports them.

use std::{io, thread::JoinHandle};

use tokio::sync::watch;

use super::background;
use crate::{
    config::{
        Config,
        telemetry::{OtlpProtocol, TelemetryConfig},
    },
    http::trace::RequestTracing,
    metrics::Metrics,
    trace::{self, Protocol, Settings, Tracer},
};

/// Who records traces, and who exports them.
#[derive(Debug)]
pub(super) struct TraceSide {
    pub(super) tracer: Tracer,
    exporting: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl TraceSide {
    /// Without a collector there is nothing to start.
    pub(super) fn start(config: &Config, metrics: &Metrics) -> io::Result<Self> {
        let Some(settings) = settings(&config.telemetry, &config.server.id) else {
            return Ok(Self { tracer: Tracer::off(), exporting: None });
        };
        let (tracer, exporter, stop) = trace::start(settings, metrics);
        let thread = background::spawn("traces", move || exporter.run())?;
        Ok(Self { tracer, exporting: Some((stop, thread)) })
    }

    pub(super) fn of_requests(&self, config: &Config) -> RequestTracing {
        RequestTracing { tracer: self.tracer.clone(), propagators: config.telemetry.propagators.clone() }
    }

    /// What is queued goes to the collector, as far as it takes it in time.
    pub(super) async fn stop(self) {
        let Some((stop, thread)) = self.exporting else { return };
        // an error: the thread has ended, and has said so
        let _ = stop.send(true);
        let ended = tokio::task::spawn_blocking(|| thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the thread of traces did not end as it should");
        }
    }
}

fn settings(telemetry: &TelemetryConfig, server: &str) -> Option<Settings> {
    Some(Settings {
        endpoint: telemetry.otlp_endpoint.clone()?,
        protocol: match telemetry.otlp_protocol {
            OtlpProtocol::Grpc => Protocol::Grpc,
            OtlpProtocol::Http => Protocol::Http,
        },
        sample_ratio: telemetry.sample_ratio,
        annotate_ids: telemetry.annotate_ids,
        server: server.to_owned(),
    })
}
