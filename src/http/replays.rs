//! Replays: events that are sent again.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Path},
};
use serde_json::{Value, json};

use super::{
    Services, ask,
    auth::person::{Person, Role},
    body::Body,
    error::ApiError,
    fields::{Fields, boolean, short_text, text},
    origin,
};
use crate::{
    actors::{
        admin::RecordAdmin,
        replay::{
            board::ReplayReport,
            manager::{BeginReplay, DeleteReplay, ReplaysError},
            record::{RECORD_BYTES, ReplayRecord},
        },
    },
    domain::{
        event::{Body as EventBody, Replay, ReplayAction},
        ids::{BuildingId, CardId, ReplayName},
        pattern::Pattern,
        replay::ReplayOrder,
        time::Timestamp,
    },
};

/// The longest source, in characters: the longest path.
const MAX_FROM_CHARS: usize = 4_096;
/// The longest target, in characters.
const MAX_TO_CHARS: usize = 256;

/// `GET /v1/replays`
///
/// # Errors
/// As the contract has them.
pub async fn list(services: Data<Services>, person: Person) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Admin], None)?;
    let items = services.replays.board.reports();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": null })))
}

/// `GET /v1/replays/{name}`
///
/// # Errors
/// As the contract has them.
pub async fn get(
    services: Data<Services>,
    name: Path<String>,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Admin], None)?;
    Ok(HttpResponse::Ok().json(find(&services, &name)?))
}

/// `POST /v1/replays`: 201 for a new one; 200 for one that is there already with the same order, over or not.
///
/// # Errors
/// As the contract has them; 409 if the name is another's, or as many run as may.
pub async fn begin(
    services: Data<Services>,
    request: HttpRequest,
    person: Person,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Admin], None)?;
    let (name, order) = read_order(&body)?;
    if let Some(before) = services.replays.board.get(name.as_str()) {
        return match before.order == order {
            true => Ok(HttpResponse::Ok().json(before)),
            false => Err(ReplaysError::NameIsTaken(name).into()),
        };
    }
    let record = prepare(&services, name, order, person.as_actor()).await?;
    if !services.disk.has_room_for_state(RECORD_BYTES) {
        return Err(ReplaysError::DiskFull.into());
    }
    let (name, order) = (record.name.clone(), record.order.clone());
    note(&services, &request, &person, ReplayAction::Start, name, order).await?;
    let report = ask(&services.replays.manager, |reply| BeginReplay { record, reply }).await??;
    tracing::info!(replay = %report.name, "a replay begins");
    Ok(HttpResponse::Created().json(report))
}

/// `DELETE /v1/replays/{name}`: ends it, or forgets one that is over.
///
/// # Errors
/// As the contract has them.
pub async fn delete(
    services: Data<Services>,
    request: HttpRequest,
    name: Path<String>,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Admin], None)?;
    let ReplayReport { name, order, .. } = find(&services, &name)?;
    note(&services, &request, &person, ReplayAction::Delete, name.clone(), order).await?;
    ask(&services.replays.manager, |reply| DeleteReplay { name, reply }).await??;
    Ok(HttpResponse::NoContent().finish())
}

fn find(services: &Services, name: &str) -> Result<ReplayReport, ApiError> {
    let missing = || ApiError::NotFound(format!("there is no replay {:?}", super::cut(name)));
    services.replays.board.get(name).ok_or_else(missing)
}

/// On a thread of its own: the log is read.
async fn prepare(
    services: &Data<Services>,
    name: ReplayName,
    order: ReplayOrder,
    by: String,
) -> Result<ReplayRecord, ApiError> {
    let places = services.replays.places.clone();
    let prepared = web::block(move || places.prepare(name, order, by)).await;
    let prepared =
        prepared.map_err(|_| ApiError::Unavailable("there is no thread to prepare on".to_owned()))?;
    prepared.map_err(|refused| match refused.field() {
        Some(field) => ApiError::field(field, refused.to_string()),
        None => {
            tracing::error!(error = %refused, "the log cannot be read for a replay; run `turnstiled wal verify`");
            ApiError::Unavailable(format!("the log cannot be read: {refused}"))
        }
    })
}

/// Before the act: what was sent again has a reason, even if the server ends in between.
async fn note(
    services: &Services,
    request: &HttpRequest,
    person: &Person,
    action: ReplayAction,
    replay: ReplayName,
    order: ReplayOrder,
) -> Result<(), ApiError> {
    let origin = origin(person.as_actor(), request);
    let body = EventBody::Replay(Box::new(Replay { action, replay, order }));
    Ok(ask(&services.admin, |reply| RecordAdmin { body, origin, reply }).await??)
}

fn read_order(body: &[u8]) -> Result<(ReplayName, ReplayOrder), ApiError> {
    let mut fields = Fields::of_body(body, false)?;
    let name = fields.optional("name", text::<ReplayName>);
    let from = fields.required("from", short_text(MAX_FROM_CHARS));
    let to = fields.required("to", short_text(MAX_TO_CHARS));
    let order = ReplayOrder {
        from: from.clone().unwrap_or_default(),
        to: to.clone().unwrap_or_default(),
        since: fields.optional("since", text::<Timestamp>),
        until: fields.optional("until", text::<Timestamp>),
        building: fields.optional("building", text::<BuildingId>),
        types: fields.optional("type", text::<Pattern>),
        card: fields.optional("card", text::<CardId>),
        rate: fields.optional("rate", rate),
        dry_run: fields.optional("dry_run", boolean).unwrap_or_default(),
    };
    let order = fields.finish(from.and(to).map(|_| order)).map_err(ApiError::Invalid)?;
    let name = match name {
        Some(name) => name,
        None => order.default_name().map_err(|error| ApiError::Malformed(error.to_string()))?,
    };
    Ok((name, order))
}

fn rate(value: Value) -> Result<std::num::NonZeroU32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number
        .and_then(std::num::NonZeroU32::new)
        .ok_or_else(|| "must be a number of events a second, at least 1".to_owned())
}
