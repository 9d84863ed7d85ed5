//! `events`: what devices say that are no turnstiles, by the schemas of their types.

use std::sync::{Arc, PoisonError, RwLock};

use actix::Addr;
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde_json::Value;

use super::{
    Services, ask,
    auth::KnownDevice,
    body::Body,
    cut,
    error::{ApiError, MAX_FIELD_ERRORS},
    fields::{FieldError, Fields, text, uuid},
    origin,
    swipes::{check_gate, exit_answer},
};
use crate::{
    actors::device_events::{DeviceEventsActor, RecordDeviceEvent},
    domain::{
        device_event::{DeviceEvent, MAX_DATA_BYTES, MAX_DATA_DEPTH, SERVER_MEMBERS},
        device_schema::{DeviceSchemas, Violation, depth},
        ids::{BuildingId, CardId, GateId},
        time::Timestamp,
        whole_numbers,
    },
};

/// What devices may say, and who records it.
#[derive(Debug)]
pub struct DeviceEventServices {
    /// A reload changes them.
    schemas: RwLock<Arc<DeviceSchemas>>,
    actor: Addr<DeviceEventsActor>,
}

impl DeviceEventServices {
    /// With these types.
    #[must_use]
    pub fn new(schemas: DeviceSchemas, actor: Addr<DeviceEventsActor>) -> Self {
        Self { schemas: RwLock::new(Arc::new(schemas)), actor }
    }

    /// These are the types from now on.
    pub fn set_schemas(&self, schemas: DeviceSchemas) {
        *self.schemas.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(schemas);
    }

    fn schemas(&self) -> Arc<DeviceSchemas> {
        Arc::clone(&self.schemas.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `POST /v1/buildings/{building}/events`
///
/// # Errors
/// As the contract has them.
pub(super) async fn record(
    services: Data<Services>,
    request: HttpRequest,
    building: Path<String>,
    device: KnownDevice,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let building = services.building(&building)?;
    device.must_be_gate_of(&building.id)?;
    let schemas = services.device_events.schemas();
    let (mut event, undeclared) = read(&body, &building.id, &schemas)?;
    if let Some(gate) = &event.gate {
        check_gate(building, &device, gate)?;
    } else {
        event.gate.clone_from(&device.gate);
    }
    let origin = origin(device.as_actor(), &request);
    let actor = &services.device_events.actor;
    let is_declared = undeclared.is_empty();
    let answer = ask(actor, |reply| RecordDeviceEvent { event, is_declared, origin, reply }).await??;
    let answer = answer.ok_or(ApiError::Invalid(undeclared))?;
    Ok(HttpResponse::Accepted().json(exit_answer(&answer)))
}

/// What was sent, and what of it is not as declared. That may have been otherwise when it was sent first.
fn read(
    body: &[u8],
    building: &BuildingId,
    schemas: &DeviceSchemas,
) -> Result<(DeviceEvent, Vec<FieldError>), ApiError> {
    let mut fields = Fields::of_body(body, false)?;
    let event_type = fields.required("type", text::<String>);
    let gate = fields.optional("gate_id", text::<GateId>);
    let card_id = fields.optional("card_id", text::<CardId>);
    let swipe_id = fields.optional("swipe_id", uuid);
    let occurred_at = fields.optional("occurred_at", text::<Timestamp>);
    let data = fields.required("data", check_data);
    // the body, then `data`, then as deep as data may nest
    let too_large = whole_numbers::too_large(body, MAX_DATA_DEPTH + 2, MAX_FIELD_ERRORS);
    for pointer in too_large.iter().filter(|pointer| pointer.starts_with("/data/")) {
        fields.error(&cut(pointer), "is a whole number that no 64 bits hold: send it as a string".to_owned());
    }
    let undeclared = event_type.as_ref().map(|name| {
        let data = data.as_ref().map(|(data, _)| data);
        undeclared(name, data, schemas)
    });
    let undeclared = undeclared.unwrap_or_default();
    let event = event_type.zip(data).map(|(event_type, (_, data))| DeviceEvent {
        event_type,
        building: building.clone(),
        gate,
        card_id,
        employee_id: None,
        swipe_id,
        occurred_at,
        data,
    });
    match fields.finish(event) {
        Ok(event) => Ok((event, undeclared)),
        Err(mut errors) => {
            errors.extend(undeclared);
            Err(ApiError::Invalid(errors))
        }
    }
}

fn undeclared(event_type: &str, data: Option<&Value>, schemas: &DeviceSchemas) -> Vec<FieldError> {
    let Some(schema) = schemas.get(event_type) else {
        let detail = format!("{:?} is not declared in [[event_types]] of this server", cut(event_type));
        return vec![FieldError::new("type", detail)];
    };
    let violations = data.map(|data| schema.violations(data, MAX_FIELD_ERRORS)).unwrap_or_default();
    let error = |Violation { pointer, detail }| FieldError::as_sent(format!("/data{pointer}"), detail);
    violations.into_iter().map(error).collect()
}

/// An object, and its text without spaces: what is recorded is what was checked.
fn check_data(data: Value) -> Result<(Value, String), String> {
    let Value::Object(members) = &data else { return Err("must be an object".to_owned()) };
    if let Some(name) = SERVER_MEMBERS.iter().find(|name| members.contains_key(**name)) {
        return Err(format!("may not have a member {name:?}: the server sets it, from beside `data`"));
    }
    if depth(&data) > MAX_DATA_DEPTH {
        return Err(format!("nests deeper than {MAX_DATA_DEPTH}"));
    }
    let text = serde_json::to_string(&data).map_err(|error| error.to_string())?;
    if text.len() > MAX_DATA_BYTES {
        return Err(format!(
            "has {} bytes without spaces, at most {MAX_DATA_BYTES} are possible",
            text.len()
        ));
    }
    Ok((data, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::device_schema::DeviceSchema;
    use serde_json::json;

    fn schemas() -> DeviceSchemas {
        let schema = json!({ "required": ["slot"], "properties": { "slot": { "type": "integer" } } });
        let schema = DeviceSchema::compile(&schema.to_string()).unwrap();
        DeviceSchemas::from([("device.vending.sale".to_owned(), schema)])
    }

    fn fields(body: &Value) -> Vec<String> {
        fields_of(body.to_string().as_bytes())
    }

    fn fields_of(body: &[u8]) -> Vec<String> {
        match read(body, &BuildingId::parse("hq").unwrap(), &schemas()) {
            Ok((_, errors)) | Err(ApiError::Invalid(errors)) => {
                errors.into_iter().map(|error| error.field).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let sale = "device.vending.sale";
        assert!(fields(&json!({ "type": sale, "data": { "slot": 1 } })).is_empty());
        let body = json!({ "type": sale, "card_id": "a b", "extra": 1, "data": { "slot": "x" } });
        assert_eq!(fields(&body), ["card_id", "extra", "/data/slot"]);
        assert_eq!(fields(&json!({ "type": sale, "data": {} })), ["/data"]);
        assert_eq!(fields(&json!({ "type": "device.lift", "data": {} })), ["type"]);
        assert_eq!(fields(&json!({})), ["type", "data"]);
        assert_eq!(fields(&json!({ "type": sale, "data": { "slot": 1, "by": "me" } })), ["data"]);
        let deep = (0..MAX_DATA_DEPTH).fold(json!({}), |inner, _| json!({ "slot": inner }));
        assert_eq!(fields(&json!({ "type": sale, "data": deep })), ["data"]);
        let number = br#"{"type": "device.vending.sale", "data": {"slot": 18446744073709551617, "a": [-9223372036854775809]}}"#;
        assert_eq!(fields_of(number), ["/data/slot", "/data/a/0"]);
        let large = json!({ "slot": 1, "note": "x".repeat(MAX_DATA_BYTES) });
        assert_eq!(fields(&json!({ "type": sale, "data": large })), ["data"]);
    }

    #[test]
    fn what_is_recorded_is_what_was_checked() {
        let body = br#"{"type": "device.vending.sale", "data": {"slot": "x", "slot": 2, "a": [1,
            1e3]}}"#;
        let (event, undeclared) = read(body, &BuildingId::parse("hq").unwrap(), &schemas()).unwrap();
        assert!(undeclared.is_empty());
        assert_eq!(event.data, r#"{"slot":2,"a":[1,1000.0]}"#);
    }
}
