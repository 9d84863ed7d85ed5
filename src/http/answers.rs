//! Around every request: its trace, its count in the metrics, and its error as a problem document.

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderValue},
    },
    middleware::Next,
    web::Data,
};

use super::{
    Services,
    error::ApiError,
    query,
    trace::{PROBES, RequestTrace, RequestTracing, method_of},
};
use crate::trace::current;

/// Beside a request that was a HEAD and is routed as the GET that it asks about.
#[derive(Clone, Copy, Debug)]
pub struct HeadOnly;

/// The middleware.
///
/// # Errors
/// None of its own: what fails inside becomes an answer.
pub async fn answer(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let services = request.app_data::<Data<Services>>().cloned();
    let untraced = RequestTracing::default();
    let tracing = services.as_ref().map_or(&untraced, |services| &services.tracing);
    let trace = tracing.begin(&request);
    if request.method() == Method::HEAD {
        // Routed as the GET that it asks about; the connection knows that no body is to be sent.
        request.head_mut().method = Method::GET;
        request.extensions_mut().insert(HeadOnly);
    }
    request.extensions_mut().insert(trace);
    let refused = services.as_ref().and_then(|services| must_be_meant(&request, services).err());
    let refused = refused.or_else(|| query::must_be_known(&request).err());
    let mut response = match refused {
        Some(refusal) => request.error_response(refusal).map_into_right_body(),
        None => current::within(Some(trace.context), next.call(request)).await?.map_into_left_body(),
    };
    // Answers to people and devices are of this moment, and some are personal.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let problem = problem_of(&response);
    if let (Some(services), Some(problem)) = (&services, &problem) {
        note(services, &trace, problem, &route, response.request());
    }
    let mut response = match &problem {
        None => response.map_into_left_body(),
        Some(problem) => {
            let (request, _) = response.into_parts();
            let rendered = problem.render(&trace.context.trace_id_hex());
            ServiceResponse::new(request, rendered).map_into_right_body()
        }
    };
    if let Some(services) = &services {
        let status = response.status();
        services.metrics.http_requests.with_label_values(&[route.as_str(), status.as_str()]).inc();
    }
    tracing.end(&trace, &route, problem.as_ref().map(ApiError::kind), &mut response);
    Ok(response)
}

/// Whoever looks after the process knows its address and no name.
const ASKED_BY_ADDRESS: [&str; 2] = ["/healthz", "/readyz"];

fn must_be_meant(request: &ServiceRequest, services: &Services) -> Result<(), ApiError> {
    if ASKED_BY_ADDRESS.contains(&request.path()) {
        return Ok(());
    }
    services.access.rules().must_be_meant(request)
}

/// In the log, as far as it concerns someone: who looks after the process sees the answer himself, every few seconds.
fn note(services: &Services, trace: &RequestTrace, problem: &ApiError, route: &str, request: &HttpRequest) {
    if PROBES.contains(&route) {
        return;
    }
    let _trace = current::enter(Some(trace.context));
    let address = request.peer_addr().map(|peer| peer.ip());
    services.refusals.note(problem, method_of(request), route, address);
}

/// Our own errors as they are; the server's own (an overlong body, a broken request) by their status.
fn problem_of(response: &ServiceResponse<impl MessageBody>) -> Option<ApiError> {
    let error = response.response().error()?;
    if let Some(own) = error.as_error::<ApiError>() {
        return Some(own.clone());
    }
    Some(match response.status() {
        StatusCode::NOT_FOUND => ApiError::NotFound("there is nothing here".to_owned()),
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::TooLarge("the body is larger than this resource takes".to_owned())
        }
        status if status.is_client_error() => {
            ApiError::Malformed(format!("the request cannot be read: {error}"))
        }
        _ => ApiError::Internal,
    })
}
