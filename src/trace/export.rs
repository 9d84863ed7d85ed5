//! The thread that sends spans to a collector by OTLP.
//!
//! While the collector is away each batch is tried again and again for [`EXPORT_TIMEOUT`], then dropped and counted; what comes meanwhile
//! waits in the queue, whose limit is [`super::MAX_QUEUED_SPANS`].

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::{
    runtime,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Settings, record::SERVICE};
use crate::{https_client, metrics::Metrics};

/// Spans of one request to the collector.
const MAX_BATCH_SPANS: usize = 512;
/// How long a batch is gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How long this thread sleeps after it has taken spans. To be woken for each one would cost those who record, at 500 traced
/// requests a second measurably. The queue has room for 400,000 spans a second.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a batch is tried: OTLP's default.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);
/// How long a stop waits for a collector to take what is queued.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Where OTLP over HTTP has traces, below the collector's address.
const HTTP_PATH: &str = "/v1/traces";

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    #[default]
    Grpc,
    /// OTLP over HTTP, in protobuf.
    Http,
}

/// Sends what is queued until it is stopped.
#[derive(Debug)]
pub struct Exporter {
    pub(super) settings: Settings,
    pub(super) spans: mpsc::Receiver<SpanData>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Metrics,
    pub(super) is_failing: bool,
}

impl Exporter {
    /// Blocks; to be run on a thread of its own. When it is stopped it sends what is queued, as far as the collector takes
    /// it in time.
    pub fn run(self) {
        match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.run_until_stopped()),
            Err(error) => tracing::error!(%error, "traces cannot be exported"),
        }
    }

    async fn run_until_stopped(mut self) {
        let to = match open(&self.settings) {
            Ok(to) => to,
            Err(error) => return tracing::error!(error, "traces cannot be exported; see [telemetry]"),
        };
        let mut stop = self.stop.clone();
        let late = async {
            // an error: whoever stops it is gone
            let _ = stop.wait_for(|is_stopped| *is_stopped).await;
            sleep(FLUSH_TIMEOUT).await;
        };
        tokio::select! {
            () = self.export_all(&to) => {}
            () = late => tracing::warn!("the collector did not take the last traces in time; they are lost"),
        }
    }

    /// Until it is stopped and the queue is empty.
    async fn export_all(&mut self, to: &SpanExporter) {
        loop {
            let mut batch = Vec::new();
            self.gather(&mut batch).await;
            if batch.is_empty() {
                return;
            }
            self.export(to, batch).await;
        }
    }

    /// From the first span on for [`GATHER`], unless the batch is full; empty only when it is stopped.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) {
        let mut due = None;
        while batch.len() < MAX_BATCH_SPANS {
            let room = MAX_BATCH_SPANS.saturating_sub(batch.len());
            tokio::select! {
                more = self.spans.recv_many(batch, room) => match more {
                    0 => return,
                    _ => {
                        due.get_or_insert_with(|| Instant::now() + GATHER);
                        if batch.len() < MAX_BATCH_SPANS && !self.spans.is_closed() {
                            sleep(PAUSE).await;
                        }
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return,
                // what is queued is still received
                _ = self.stop.wait_for(|is_stopped| *is_stopped), if !self.spans.is_closed() => self.spans.close(),
            }
        }
    }

    async fn export(&mut self, to: &SpanExporter, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        // its own time-out ends between two attempts
        let exported = timeout(EXPORT_TIMEOUT * 2, to.export(batch)).await;
        let error = match exported {
            Ok(Ok(())) => {
                self.metrics.traces.exported.inc_by(spans);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the collector takes traces again");
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        self.metrics.traces.not_exported(spans);
        if !std::mem::replace(&mut self.is_failing, true) {
            let endpoint = &self.settings.endpoint;
            tracing::warn!(
                endpoint,
                error,
                "the collector takes no traces; until it does they are dropped and counted"
            );
        }
    }
}

fn open(settings: &Settings) -> Result<SpanExporter, String> {
    let mut exporter = match settings.protocol {
        Protocol::Grpc => {
            let builder = SpanExporter::builder().with_tonic();
            let builder = builder.with_timeout(EXPORT_TIMEOUT).with_retry_policy(until_the_timeout());
            let builder = match settings.endpoint.starts_with("https://") {
                true => builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots()),
                false => builder,
            };
            builder.with_endpoint(&settings.endpoint).build().map_err(|error| error.to_string())?
        }
        Protocol::Http => {
            let client = https_client::builder().map_err(|error| error.to_string())?;
            let client = client.timeout(EXPORT_TIMEOUT).build().map_err(|error| error.to_string())?;
            SpanExporter::builder()
                .with_http()
                .with_http_client(client)
                .with_endpoint(http_endpoint(&settings.endpoint))
                .with_timeout(EXPORT_TIMEOUT)
                .with_retry_policy(until_the_timeout())
                .build()
                .map_err(|error| error.to_string())?
        }
    };
    exporter.set_resource(
        &Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", SERVICE),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", settings.server.clone()),
            ])
            .build(),
    );
    Ok(exporter)
}

/// The exporter's own three attempts are over in a second, and a collector takes longer to start anew.
fn until_the_timeout() -> RetryPolicy {
    RetryPolicy::recommended().with_max_retries(usize::MAX).with_max_delay(MAX_RETRY_DELAY)
}

fn http_endpoint(endpoint: &str) -> String {
    if endpoint.ends_with(HTTP_PATH) {
        return endpoint.to_owned();
    }
    format!("{}{HTTP_PATH}", endpoint.trim_end_matches('/'))
}
