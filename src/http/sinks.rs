//! How delivery is doing: sinks and dead letters.

use std::time::Instant;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Query},
};
use serde_json::json;

use super::{
    Services,
    auth::person::{Person, Role},
    error::ApiError,
};
use crate::clock;

/// A write that forgets a sink, generously.
const FORGET_BYTES: u64 = 4 * 1_024;

/// Dead letters in one page.
const PAGE_LETTERS: usize = 100;

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

/// `GET /v1/dead-letters?sink=&cursor=`
///
/// # Errors
/// As the contract has them.
pub async fn dead_letters(
    services: Data<Services>,
    request: HttpRequest,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Admin], None)?;
    let pairs = Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|error| ApiError::Malformed(format!("the query cannot be read: {error}")))?;
    let (mut sink, mut cursor) = (None, None);
    for (name, value) in pairs.into_inner() {
        match name.as_str() {
            "sink" if services.sinks.has(&value) => sink = Some(value),
            "sink" => return Err(ApiError::NotFound(format!("there is no sink {:?}", super::cut(&value)))),
            "cursor" if value.contains(':') => cursor = Some(value),
            "cursor" => return Err(ApiError::field("cursor", "is not a cursor of this list")),
            _ => return Err(ApiError::field(&super::cut(&name), "is not a parameter of this request")),
        }
    }
    let states = services.dead_letters.clone();
    // On a thread of its own: a read waits for a cursor that is being written.
    let found = web::block(move || {
        let found = states.dead_letters(sink.as_deref(), cursor.as_deref(), PAGE_LETTERS + 1);
        found.inspect_err(|error| tracing::error!(%error, "dead letters cannot be read"))
    });
    let Ok(Ok(mut letters)) = found.await else {
        return Err(ApiError::Unavailable(
            "dead letters cannot be read; the server's log says why".to_owned(),
        ));
    };
    let is_more = letters.len() > PAGE_LETTERS;
    letters.truncate(PAGE_LETTERS);
    let next_cursor = letters.last().filter(|_| is_more).map(|letter| letter.id.clone());
    Ok(HttpResponse::Ok().json(json!({ "items": letters, "next_cursor": next_cursor })))
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
    if services.sinks.has(&name) {
        return Err(ApiError::Conflict(format!(
            "the configuration names the sink {name}; remove it there and restart, then forget it"
        )));
    }
    if !services.disk.has_room_for_state(FORGET_BYTES) {
        return Err(ApiError::Unavailable(
            "the server's disk is full: the cursor is not forgotten; free some space where data_dir is, then try again"
                .to_owned(),
        ));
    }
    let (states, forgotten) = (services.dead_letters.clone(), name.clone());
    let found = web::block(move || {
        states.forget(&forgotten).inspect_err(|error| tracing::error!(%error, "a sink cannot be forgotten"))
    });
    match found.await {
        Ok(Ok(true)) => {
            tracing::info!(sink = name, by = person.as_actor(), "the cursor of this sink is forgotten");
            Ok(HttpResponse::NoContent().finish())
        }
        Ok(Ok(false)) => Err(ApiError::NotFound(format!("there is no sink {:?}", super::cut(&name)))),
        Ok(Err(_)) | Err(_) => {
            Err(ApiError::Unavailable("the cursor cannot be forgotten; the server's log says why".to_owned()))
        }
    }
}
