//! `passages`: a gate says what came of an entry that it was granted.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Services,
    auth::KnownDevice,
    body::Body,
    error::ApiError,
    fields::{Fields, text, uuid},
    origin,
    swipes::exit_answer,
};
use crate::{actors::building::passages::EndPassage, domain::event::Outcome};

/// `POST /v1/buildings/{building}/passages`
///
/// # Errors
/// As the contract has them; 404 for an event that is no grant of which more is to be said, 409 for what contradicts what
/// was said before or comes too late.
pub async fn end(
    services: Data<Services>,
    request: HttpRequest,
    building: Path<String>,
    device: KnownDevice,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let building = services.building(&building)?;
    device.must_be_gate_of(&building.id)?;
    let (granted, outcome) = read(&body)?;
    let (origin, device_gate) = (origin(device.as_actor(), &request), device.gate.clone());
    let message = |reply| EndPassage { granted, outcome, device_gate, origin, reply };
    let answer = services.busy_poll.wait_for(building.ask(message)).await??;
    Ok(HttpResponse::Accepted().json(exit_answer(&answer)))
}

fn read(body: &[u8]) -> Result<(Uuid, Outcome), ApiError> {
    let mut fields = Fields::of_body(body, false)?;
    let event_id = fields.required("event_id", uuid);
    let outcome = fields.required("outcome", outcome);
    fields.finish(event_id.zip(outcome)).map_err(ApiError::Invalid)
}

fn outcome(value: Value) -> Result<Outcome, String> {
    match text::<String>(value)?.as_str() {
        "entered" => Ok(Outcome::Entered),
        "no_entry" => Ok(Outcome::NoEntry),
        _ => Err("must be entered or no_entry".to_owned()),
    }
}
