//! What a building is in: the security desk's and the fire panel's word, and how it stands.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde_json::json;

use super::{
    Services,
    auth::{
        caller::Caller,
        person::{Person, Role},
    },
    body::Body,
    error::ApiError,
    fields::{Fields, reason, text},
    origin,
    swipes::sequence,
};
use crate::{
    actors::building::modes::{ChangeMode, LookAtBuilding},
    domain::mode::Mode,
};

/// `POST /v1/buildings/{building}/mode`
///
/// # Errors
/// As the contract has them.
pub async fn change(
    services: Data<Services>,
    request: HttpRequest,
    building: Path<String>,
    caller: Caller,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let building = services.building(&building)?;
    match &caller {
        Caller::Device(device) => device.must_be_panel_of(&building.id)?,
        Caller::Person(person) => person.must_be(&[Role::Security], Some(&building.id))?,
    }
    let mut fields = Fields::of_body(&body, false)?;
    let (mode, reason) = (fields.required("mode", text::<Mode>), fields.required("reason", reason));
    let (mode, reason) = fields.finish(mode.zip(reason)).map_err(ApiError::Invalid)?;
    let origin = origin(caller.as_actor(), &request);
    let changed = building.ask(|reply| ChangeMode { mode, reason, origin, reply }).await??;
    Ok(HttpResponse::Ok().json(json!({
        "building": building.id, "mode": changed.mode, "since": changed.since, "previous": changed.previous,
        "event_id": changed.answer.as_ref().map(|answer| answer.event_id),
        "sequence": changed.answer.as_ref().map(|answer| sequence(answer.sequence)),
    })))
}

/// `GET /v1/buildings/{building}`
///
/// # Errors
/// As the contract has them.
pub async fn get(
    services: Data<Services>,
    building: Path<String>,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    person.must_have_a_role()?;
    let building = services.building(&building)?;
    let now = building.ask(|reply| LookAtBuilding { reply }).await??;
    Ok(HttpResponse::Ok().json(json!({
        "id": building.id, "mode": now.mode, "since": now.since, "inside": now.inside,
        "max_occupancy": now.max_occupancy, "missing": now.missing,
    })))
}
