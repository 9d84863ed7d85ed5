//! For load balancers, Prometheus and readers of the API: open to everyone, nothing personal in it.

use std::{
    sync::{Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Instant,
};

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde_json::json;

use super::{Services, error::ApiError};
use crate::{clock, domain::time::Timestamp};

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
/// 503 while the clock is behind, and once a commit has failed.
pub async fn ready(services: Data<Services>) -> Result<HttpResponse, ApiError> {
    if services.end_of_log.is_stopped.load(Relaxed) {
        return Err(ApiError::not_committed());
    }
    let (now, last) =
        (clock::wall(), Timestamp::from_millis(services.end_of_log.last_event_millis.load(Relaxed)));
    if now < last {
        return Err(ApiError::Unavailable(format!(
            "the server's clock says {now}, the last event is of {last}; set the clock"
        )));
    }
    // not unready: exits are recorded, and no other server could take the gates
    let disk = services.disk.standing().map(|standing| standing.step.to_string());
    Ok(HttpResponse::Ok().json(json!({ "status": "ready", "disk": disk })))
}

/// `GET /metrics`
///
/// # Errors
/// 503 if there is no thread to look at the sinks on.
pub async fn metrics(services: Data<Services>) -> Result<HttpResponse, ApiError> {
    // One at a time: the sinks' counters are brought up to date and shown in one step.
    static SCRAPE: Mutex<()> = Mutex::new(());
    // On a thread of its own: the log may be read, and before anyone waits for the lock.
    let rendered = web::block(move || {
        services.sinks.refresh(Instant::now());
        let _one_at_a_time = SCRAPE.lock().unwrap_or_else(PoisonError::into_inner);
        services.sinks.publish(&services.metrics, clock::wall());
        let running = i64::try_from(services.replays.board.running()).unwrap_or(i64::MAX);
        services.metrics.replays_running.set(running);
        services.tracing.tracer.show_queue();
        services.metrics.render()
    });
    let text = rendered.await.map_err(|_| ApiError::Unavailable("the metrics cannot be made".to_owned()))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text))
}

/// `GET /openapi.json`
pub async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}
