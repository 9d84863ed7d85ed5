//! How the sinks are doing.

use std::time::Instant;

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde_json::json;

use super::{
    Services,
    auth::person::{Person, Role},
    error::ApiError,
};
use crate::{actors::sink_state::SinkStateError, clock};

/// A write that forgets a sink, generously.
const FORGET_BYTES: u64 = 4 * 1_024;

/// `GET /v1/sinks`
///
/// # Errors
/// 401; 403 without any role; 503 if there is no thread to look at the sinks on.
pub async fn list(services: Data<Services>, person: Person) -> Result<HttpResponse, ApiError> {
    person.must_have_a_role()?;
    // On a thread of its own: the log may be read.
    let looked = web::block(move || {
        services.sinks.refresh(Instant::now());
        services.sinks.reports(clock::wall())
    });
    let items =
        looked.await.map_err(|_| ApiError::Unavailable("the sinks cannot be looked at".to_owned()))?;
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": null })))
}

/// `DELETE /v1/sinks/{name}/cursor`: forgets a sink that the configuration no longer names, for which the log would
/// keep events for ever.
///
/// # Errors
/// As the contract has them; 409 if the configuration names the sink; 503 on a full disk, where a write that fails
/// would cost the server.
pub async fn forget(
    services: Data<Services>,
    name: web::Path<String>,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Admin], None)?;
    let name = name.into_inner();
    let in_use = |name: &str| {
        let text =
            format!("the configuration names the sink {name}; remove it there and reload, then forget it");
        Err(ApiError::Conflict(text))
    };
    if services.sinks.has(&name) {
        return in_use(&name);
    }
    if !services.disk.has_room_for_state(FORGET_BYTES) {
        return Err(ApiError::Unavailable(
            "the server's disk is full: the cursor is not forgotten; free some space where data_dir is, then try again"
                .to_owned(),
        ));
    }
    let (states, forgotten) = (services.dead_letters.clone(), name.clone());
    let found = web::block(move || states.forget(&forgotten));
    match found.await {
        Ok(Ok(true)) => {
            tracing::info!(sink = name, by = person.as_actor(), "the cursor of this sink is forgotten");
            Ok(HttpResponse::NoContent().finish())
        }
        Ok(Ok(false)) => Err(ApiError::NotFound(format!("there is no sink {:?}", super::cut(&name)))),
        Ok(Err(SinkStateError::InUse(_))) => in_use(&name),
        Ok(Err(error)) => {
            tracing::error!(%error, "a sink cannot be forgotten");
            Err(ApiError::Unavailable("the cursor cannot be forgotten; the server's log says why".to_owned()))
        }
        Err(_) => Err(ApiError::Unavailable("there is no thread to forget the cursor on".to_owned())),
    }
}
