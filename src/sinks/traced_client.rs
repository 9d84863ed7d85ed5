//! Calls of AWS services that say in which trace they are made: `X-Amzn-Trace-Id`, which services and X-Ray read.

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};

use crate::{domain::trace::Propagator, trace::current};

/// A client that names the trace its caller works for.
#[derive(Debug)]
pub(super) struct TracedClient(pub(super) SharedHttpClient);

#[derive(Debug)]
struct TracedConnector(SharedHttpConnector);

impl HttpClient for TracedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(TracedConnector(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for TracedConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        if let Some(trace) = current::trace() {
            // the request is signed already, and SigV4 leaves this header out
            request.headers_mut().insert(Propagator::XRay.header(), trace.xray());
        }
        self.0.call(request)
    }
}
