//! `entries`, `exits` and `exits/batch`: what the turnstiles say.

use std::time::Instant;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    BuildingServices, Services,
    auth::{KnownDevice, device_keys::Device},
    body::Body,
    error::ApiError,
    fields::{FieldError, Fields, text, uuid},
    origin, plain_swipe, trace,
};
use crate::{
    actors::building::{DecideSwipe, RecordBatch, SwipeError},
    domain::{
        building::Swipe,
        event::Decision,
        ids::{CardId, GateId},
        reason::Reason,
        swipes::{Answer, Direction},
        time::Timestamp,
    },
};

/// The most exits, or entries that a gate decided alone, in one batch (contract, section 3).
pub const MAX_BATCH_SWIPES: usize = 1_000;

/// The answer to an entry.
#[derive(Serialize)]
struct EntryAnswer {
    decision: &'static str,
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bacnet_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    violation: Option<Reason>,
    event_id: Uuid,
    sequence: String,
    decided_at: Timestamp,
}

/// The answer to an exit, and to what else is only recorded.
#[derive(Serialize)]
pub(super) struct ExitAnswer {
    event_id: Uuid,
    sequence: String,
}

/// The answer to a batch, in its order.
#[derive(Serialize)]
struct BatchAnswer {
    results: Vec<BatchResult>,
}

/// One swipe of a batch: its event, or the problem it would have had alone.
#[derive(Serialize)]
#[serde(untagged)]
enum BatchResult {
    Recorded(ExitAnswer),
    Refused { status: u16, detail: String },
}

/// `POST /v1/buildings/{building}/entries`
///
/// # Errors
/// As the contract has them; a denied card is a 200.
pub async fn enter(
    services: Data<Services>,
    request: HttpRequest,
    building: Path<String>,
    device: KnownDevice,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let answer = swipe(&services, &request, &building, &device, &body, Direction::Entry).await?;
    let (decision, reason, violation) = match answer.decision {
        Some(Decision::Granted { violation }) => ("granted", None, violation.then_some(Reason::AntiPassback)),
        Some(Decision::Denied(reason)) => {
            trace::keep(&request);
            ("denied", Some(reason), None)
        }
        None => return Err(ApiError::not_committed()),
    };
    Ok(HttpResponse::Ok().json(EntryAnswer {
        decision,
        reason,
        bacnet_code: reason.map(Reason::bacnet_code),
        violation,
        event_id: answer.event_id,
        sequence: sequence(answer.sequence),
        decided_at: answer.decided_at,
    }))
}

/// `POST /v1/buildings/{building}/exits`
///
/// # Errors
/// As the contract has them; no card is ever denied.
pub async fn exit(
    services: Data<Services>,
    request: HttpRequest,
    building: Path<String>,
    device: KnownDevice,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let answer = swipe(&services, &request, &building, &device, &body, Direction::Exit).await?;
    Ok(HttpResponse::Accepted().json(exit_answer(&answer)))
}

async fn swipe(
    services: &Services,
    request: &HttpRequest,
    building: &str,
    device: &Device,
    body: &[u8],
    direction: Direction,
) -> Result<Answer, ApiError> {
    let arrived = Instant::now();
    let building = services.building(building)?;
    device.must_be_gate_of(&building.id)?;
    let swipe = read_swipe(body, direction)?;
    check_gate(building, device, &swipe.gate)?;
    let origin = origin(device.as_actor(), request);
    let answer =
        services.busy_poll.wait_for(building.ask(|reply| DecideSwipe { swipe, origin, reply })).await??;
    services.metrics.decision_seconds.observe(arrived.elapsed().as_secs_f64());
    Ok(answer)
}

/// `POST /v1/buildings/{building}/exits/batch`
///
/// # Errors
/// As the contract has them. Either the whole batch is well formed or none of it is recorded.
pub async fn exit_batch(
    services: Data<Services>,
    request: HttpRequest,
    building: Path<String>,
    device: KnownDevice,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let building = services.building(&building)?;
    device.must_be_gate_of(&building.id)?;
    let swipes = read_batch(&body)?;
    record_batch(building, &request, &device, swipes).await
}

/// Records a batch, and answers with what became of each swipe.
pub(super) async fn record_batch(
    building: &BuildingServices,
    request: &HttpRequest,
    device: &Device,
    swipes: Vec<Swipe>,
) -> Result<HttpResponse, ApiError> {
    for swipe in &swipes {
        check_gate(building, device, &swipe.gate)?;
    }
    let origin = origin(device.as_actor(), request);
    let answers = Vec::with_capacity(swipes.len());
    let swipes = swipes.into_iter();
    let answers = building.ask(|reply| RecordBatch { swipes, origin, answers, reply }).await?;
    if let Some(Err(SwipeError::NoPlace(error))) = answers.first() {
        return Err((*error).into());
    }
    let results = answers.iter().map(batch_result).collect();
    Ok(HttpResponse::Accepted().json(BatchAnswer { results }))
}

fn batch_result(answer: &Result<Answer, SwipeError>) -> BatchResult {
    match answer {
        Ok(answer) => BatchResult::Recorded(exit_answer(answer)),
        Err(error) => {
            let problem = ApiError::from(*error);
            let status = actix_web::ResponseError::status_code(&problem).as_u16();
            BatchResult::Refused { status, detail: problem.to_string() }
        }
    }
}

pub(super) fn exit_answer(answer: &Answer) -> ExitAnswer {
    ExitAnswer { event_id: answer.event_id, sequence: sequence(answer.sequence) }
}

/// As in events: 20 digits, so that text sorts like numbers.
pub(super) fn sequence(sequence: u64) -> String {
    format!("{sequence:020}")
}

pub(super) fn check_gate(
    building: &BuildingServices,
    device: &Device,
    gate: &GateId,
) -> Result<(), ApiError> {
    if !building.has_gate(gate) {
        return Err(ApiError::NotFound(format!("building {} has no gate {gate}", building.id)));
    }
    device.must_serve(gate)
}

fn read_swipe(body: &[u8], direction: Direction) -> Result<Swipe, ApiError> {
    if let Some(swipe) = plain_swipe::swipe(body, direction) {
        return Ok(swipe);
    }
    read_fields(Fields::of_body(body, false)?, direction).map_err(ApiError::Invalid)
}

pub(super) fn read_fields(mut fields: Fields, direction: Direction) -> Result<Swipe, Vec<FieldError>> {
    let card_id = fields.required("card_id", text::<CardId>);
    let gate = fields.required("gate_id", text::<GateId>);
    let swipe_id = fields.optional("swipe_id", uuid);
    let occurred_at = fields.optional("occurred_at", text::<Timestamp>);
    let swipe =
        card_id.zip(gate).map(|(card_id, gate)| Swipe { direction, gate, card_id, swipe_id, occurred_at });
    fields.finish(swipe)
}

fn read_batch(body: &[u8]) -> Result<Vec<Swipe>, ApiError> {
    match plain_swipe::exits(body) {
        Some(exits) if (1..=MAX_BATCH_SWIPES).contains(&exits.len()) => Ok(exits),
        _ => read_list(body, "exits", |fields| read_fields(fields, Direction::Exit)),
    }
}

/// The swipes that a body lists under `name`; of those that are wrong, all of them.
pub(super) fn read_list(
    body: &[u8],
    name: &str,
    read: impl Fn(Fields) -> Result<Swipe, Vec<FieldError>>,
) -> Result<Vec<Swipe>, ApiError> {
    let mut fields = Fields::of_body(body, false)?;
    let items = fields.required(name, |value| match value {
        Value::Array(items) if (1..=MAX_BATCH_SWIPES).contains(&items.len()) => Ok(items),
        Value::Array(items) => {
            Err(format!("must have 1 to {MAX_BATCH_SWIPES} elements, has {}", items.len()))
        }
        _ => Err("must be a list".to_owned()),
    });
    let items = fields.finish(items).map_err(ApiError::Invalid)?;
    let (mut swipes, mut errors) = (Vec::with_capacity(items.len()), Vec::new());
    for (index, item) in items.into_iter().enumerate() {
        let swipe =
            Fields::of_value(item, format!("{name}[{index}]")).map_err(|error| vec![error]).and_then(&read);
        match swipe {
            Ok(swipe) => swipes.push(swipe),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(swipes) } else { Err(ApiError::Invalid(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_exit_of_a_batch_is_named() {
        let body = br#"{"exits": [{"card_id": "C1", "gate_id": "n"}, {"gate_id": "n"}, 7]}"#;
        let Err(ApiError::Invalid(errors)) = read_batch(body) else { panic!("must be refused") };
        let names: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(names, ["exits[1].card_id", "exits[2]"]);
        assert!(matches!(read_batch(br#"{"exits": []}"#), Err(ApiError::Invalid(_))));
    }
}
