//! For load balancers, Prometheus and readers of the API: open to everyone, nothing personal in it.

use std::time::SystemTime;

use actix_web::{HttpResponse, web::Data};
use serde_json::json;

use super::{Services, error::ApiError};
use crate::domain::time::Timestamp;

/// The OpenAPI document, also printed by `turnstiled openapi`.
pub const OPENAPI: &str = include_str!("openapi.json");

/// `GET /healthz`: the process serves.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "live" }))
}

/// `GET /readyz`: the log is open and the state rebuilt (else nothing would be served), and the clock is not
/// behind the last event. AWS being away does not matter here.
///
/// # Errors
/// 503 while the clock is behind.
pub async fn ready(services: Data<Services>) -> Result<HttpResponse, ApiError> {
    let now = now();
    if now < services.started_after {
        return Err(ApiError::Unavailable(format!(
            "the server's clock says {now}, the last event is of {}; set the clock",
            services.started_after
        )));
    }
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}

/// `GET /metrics`
pub async fn metrics(services: Data<Services>) -> HttpResponse {
    services.sinks.publish(&services.metrics, now());
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(services.metrics.render())
}

/// `GET /openapi.json`
pub async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}

/// The wall clock.
pub(super) fn now() -> Timestamp {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX))
}
