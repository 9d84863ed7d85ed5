//! Forgive and reset: the security desk takes one person out, or everyone.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde_json::json;

use super::{
    Services,
    auth::person::{Person, Role},
    body::Body,
    error::ApiError,
    fields::{Fields, path_id, reason},
    origin,
    swipes::sequence,
};
use crate::{
    actors::building::forgive::{Forgive, ResetPresence},
    domain::ids::EmployeeId,
};

/// `POST /v1/buildings/{building}/presence/{employee_id}/forgive`
///
/// # Errors
/// As the contract has them; 404 for someone who is not inside.
pub async fn forgive(
    services: Data<Services>,
    request: HttpRequest,
    path: Path<(String, String)>,
    person: Person,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let (building, employee) = path.into_inner();
    let building = services.building(&building)?;
    person.must_be(&[Role::Security], Some(&building.id))?;
    let employee: EmployeeId = path_id("employee_id", employee)?;
    let reason = read_reason(&body)?;
    let origin = origin(person.as_actor(), &request);
    let (was, answer) = building.ask(|reply| Forgive { employee, reason, origin, reply }).await??;
    Ok(HttpResponse::Ok().json(json!({
        "building": was.building, "employee_id": was.employee_id, "card_id": was.card_id, "gate": was.gate,
        "since": was.since, "event_id": answer.event_id, "sequence": sequence(answer.sequence),
    })))
}

/// `POST /v1/buildings/{building}/presence/reset`
///
/// # Errors
/// As the contract has them.
pub async fn reset(
    services: Data<Services>,
    request: HttpRequest,
    building: Path<String>,
    person: Person,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let building = services.building(&building)?;
    person.must_be(&[Role::Security], Some(&building.id))?;
    let reason = read_reason(&body)?;
    let origin = origin(person.as_actor(), &request);
    let (people, answer) = building.ask(|reply| ResetPresence { reason, origin, reply }).await??;
    Ok(HttpResponse::Ok().json(
        json!({ "people": people, "event_id": answer.event_id, "sequence": sequence(answer.sequence) }),
    ))
}

fn read_reason(body: &[u8]) -> Result<String, ApiError> {
    let mut fields = Fields::of_body(body, false)?;
    let reason = fields.required("reason", reason);
    fields.finish(reason).map_err(ApiError::Invalid)
}
