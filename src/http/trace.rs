//! The request's place in a trace: taken from the caller's headers or begun here, and passed on with the answer.

use std::time::SystemTime;

use actix_web::{
    HttpMessage, HttpRequest,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue},
    },
    web::Data,
};

use super::Services;
use crate::{
    domain::trace::{Caller, Propagator, SpanId, TraceContext},
    trace::{
        Tracer, ids,
        record::{self, Times},
    },
};

/// Asked every few seconds by whoever looks after the process: no traces, and no lines of the log.
pub(super) const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// OpenTelemetry's name for what is no method of HTTP.
const OTHER_METHOD: &str = "_OTHER";

/// How requests are traced.
#[derive(Clone, Debug, Default)]
pub struct RequestTracing {
    /// Who records.
    pub tracer: Tracer,
    /// Whose headers count. Of several that are there the last one's does, as in OpenTelemetry.
    pub propagators: Vec<Propagator>,
}

/// One request's span.
#[derive(Clone, Copy, Debug)]
pub struct RequestTrace {
    /// The span that its events name. Without a collector it is the caller's, if there is one.
    pub context: TraceContext,
    parent: Option<SpanId>,
    began: Option<SystemTime>,
}

/// Beside a request whose trace is recorded whatever the ratio says.
#[derive(Clone, Copy, Debug)]
struct Kept;

impl RequestTracing {
    /// The span of a request that has just arrived.
    #[must_use]
    pub fn begin(&self, request: &ServiceRequest) -> RequestTrace {
        let headers = request.headers();
        let caller = self.propagators.iter().rev().find_map(|propagator| read(*propagator, headers));
        let (parent, sampled) = caller.map_or((None, None), |caller| (caller.span_id, caller.is_sampled));
        let trace_id = caller.map_or_else(ids::new_trace_id, |caller| caller.trace_id);
        let is_on = self.tracer.is_on();
        let is_sampled = if is_on { self.tracer.samples(&trace_id, sampled) } else { sampled == Some(true) };
        let span_id = parent.filter(|_| !is_on).unwrap_or_else(ids::new_span_id);
        let context = TraceContext { trace_id, span_id, is_sampled };
        RequestTrace { context, parent, began: is_on.then(SystemTime::now) }
    }

    /// Records the span of an answered request, as far as it is kept, and names it to the caller.
    /// `problem` is the kind of its problem, if it was not done.
    pub fn end<B>(
        &self,
        trace: &RequestTrace,
        route: &str,
        problem: Option<&str>,
        response: &mut ServiceResponse<B>,
    ) {
        let Some(began) = trace.began else { return };
        if PROBES.contains(&route) {
            return;
        }
        let status = response.status().as_u16();
        let request = response.request();
        let is_kept = || match status {
            500.. => true,
            400.. => self.tracer.keeps_refusal(),
            _ => request.extensions().get::<Kept>().is_some(),
        };
        let context = TraceContext { is_sampled: trace.context.is_sampled || is_kept(), ..trace.context };
        if context.is_sampled {
            self.tracer.record(record::request(&record::Request {
                context,
                parent: trace.parent,
                method: method_of(request),
                route,
                building: known_building(request),
                status,
                problem,
                times: Times { from: began, to: SystemTime::now() },
            }));
        }
        for propagator in &self.propagators {
            let (name, value) = header(*propagator, &context);
            // an id is hex digits
            if let Ok(value) = value {
                response.headers_mut().insert(name, value);
            }
        }
    }
}

impl RequestTrace {
    /// The span that the middleware began for this request.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Option<TraceContext> {
        request.extensions().get::<Self>().map(|trace| trace.context)
    }
}

/// Records this request's trace whatever the ratio says.
pub fn keep(request: &HttpRequest) {
    request.extensions_mut().insert(Kept);
}

/// Of the methods that HTTP has; any other is whatever someone sent.
pub(super) fn method_of(request: &HttpRequest) -> &str {
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
        Method::HEAD,
    ];
    if known.contains(request.method()) { request.method().as_str() } else { OTHER_METHOD }
}

/// The building of the path, if the server has it: else it is whatever someone sent.
fn known_building(request: &HttpRequest) -> Option<&str> {
    let services = request.app_data::<Data<Services>>()?;
    request.match_info().get("building").filter(|id| services.buildings.contains_key(*id))
}

fn read(propagator: Propagator, headers: &HeaderMap) -> Option<Caller> {
    let mut values = headers.get_all(propagator.header());
    // of two none is the caller's own
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    match propagator {
        Propagator::XRay => Caller::from_xray(value),
        Propagator::TraceContext => Caller::from_traceparent(value),
    }
}

fn header(
    propagator: Propagator,
    context: &TraceContext,
) -> (HeaderName, Result<HeaderValue, InvalidHeaderValue>) {
    // once an answer: a name is looked through when it is made
    static XRAY: HeaderName = HeaderName::from_static(Propagator::XRay.header());
    static TRACE_CONTEXT: HeaderName = HeaderName::from_static(Propagator::TraceContext.header());
    match propagator {
        Propagator::XRay => (XRAY.clone(), HeaderValue::from_bytes(&context.xray_bytes())),
        Propagator::TraceContext => {
            (TRACE_CONTEXT.clone(), HeaderValue::from_bytes(&context.traceparent_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const XRAY: (&str, &str) = ("X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793");
    const W3C: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

    fn begun(headers: &[(&'static str, &'static str)]) -> RequestTrace {
        let propagators = vec![Propagator::XRay, Propagator::TraceContext];
        let tracing = RequestTracing { tracer: Tracer::off(), propagators };
        let request =
            headers.iter().fold(TestRequest::default(), |request, header| request.append_header(*header));
        tracing.begin(&request.to_srv_request())
    }

    #[test]
    fn the_callers_trace_goes_on() {
        assert_eq!(begun(&[W3C]).context.traceparent(), W3C.1);
        assert_eq!(begun(&[XRAY, W3C]).context.traceparent(), W3C.1);
        let root = begun(&[XRAY]);
        assert_eq!((root.context.xray().starts_with(XRAY.1), root.parent), (true, None));
        assert_ne!(root.context.span_id, [0; 8]);
        assert!(begun(&[XRAY, ("traceparent", "00-x")]).context.xray().starts_with(XRAY.1));
        assert!(!begun(&[W3C, W3C]).context.traceparent().starts_with(&W3C.1[..35]), "said twice");
        assert_ne!(begun(&[]).context.trace_id, begun(&[]).context.trace_id);
        assert!(!begun(&[]).context.is_sampled, "nobody has recorded it");
    }
}
