//! `entries/recorded`: what gates decided alone while the server was away.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde_json::Value;

use super::{
    Services,
    auth::KnownDevice,
    body::Body,
    error::ApiError,
    fields::{FieldError, Fields, text, uuid},
    swipes::{read_list, record_batch},
};
use crate::domain::{
    building::Swipe,
    event::GateDecision,
    ids::{CardId, GateId},
    swipes::Direction,
    time::Timestamp,
};

/// `POST /v1/buildings/{building}/entries/recorded`
///
/// # Errors
/// As the contract has them. Either the whole batch is well formed or none of it is recorded.
pub async fn record(
    services: Data<Services>,
    request: HttpRequest,
    building: Path<String>,
    device: KnownDevice,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let building = services.building(&building)?;
    device.must_be_gate_of(&building.id)?;
    let swipes = read_list(&body, "entries", read_entry)?;
    record_batch(building, &request, &device, swipes).await
}

fn read_entry(mut fields: Fields) -> Result<Swipe, Vec<FieldError>> {
    let card_id = fields.required("card_id", text::<CardId>);
    let gate = fields.required("gate_id", text::<GateId>);
    let swipe_id = fields.optional("swipe_id", uuid);
    let occurred_at = fields.required("occurred_at", text::<Timestamp>);
    let direction = Direction::Recorded(fields.optional("decision", decision).unwrap_or_default());
    let swipe = card_id.zip(gate).zip(occurred_at).map(|((card_id, gate), occurred_at)| Swipe {
        direction,
        gate,
        card_id,
        swipe_id,
        occurred_at: Some(occurred_at),
    });
    fields.finish(swipe)
}

fn decision(value: Value) -> Result<GateDecision, String> {
    match text::<String>(value)?.as_str() {
        "granted" => Ok(GateDecision::Granted),
        "denied" => Ok(GateDecision::Denied),
        _ => Err("must be granted or denied".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_entry_is_named() {
        let body = br#"{"entries": [
            {"card_id": "C1", "gate_id": "n", "occurred_at": "2026-11-20T08:00:00Z"},
            {"card_id": "C1", "gate_id": "n"},
            {"card_id": "C1", "gate_id": "n", "occurred_at": "2026-11-20T08:00:00Z", "decision": "maybe"}]}"#;
        let Err(ApiError::Invalid(errors)) = read_list(body, "entries", read_entry) else {
            panic!("must be refused")
        };
        let names: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(names, ["entries[1].occurred_at", "entries[2].decision"]);
    }
}
