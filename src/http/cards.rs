//! Cards: what the card office does with them.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    Services, ask,
    auth::person::{Person, Role},
    body::Body,
    error::ApiError,
    fields::{FieldError, Fields, boolean, path_id, short_text, text, texts},
    origin,
};
use crate::{
    actors::{
        building::FindPeople,
        directory::{CardQuery, ChangeCard, Changed, FindCard, ReadCards},
    },
    domain::{
        card::{Card, CardDetails, GateRight, MAX_GROUPS, MAX_NAME_CHARS, MAX_RIGHTS, Status},
        card_search::CardSearch,
        directory::{CardCommand, Expected},
        ids::{BuildingId, CardId, EmployeeId, GroupId},
        time::Timestamp,
    },
};

/// The longest `note`, in characters.
const MAX_NOTE_CHARS: usize = 1_000;
/// Cards in one page unless `limit` says so.
const DEFAULT_PAGE: usize = 100;
/// The most cards in one page.
const MAX_PAGE: usize = 1_000;

/// `PUT /v1/cards/{card_id}`
///
/// # Errors
/// As the contract has them.
pub async fn put(
    services: Data<Services>,
    request: HttpRequest,
    card_id: Path<String>,
    person: Person,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Hr], None)?;
    let card_id: CardId = path_id("card_id", card_id.into_inner())?;
    let expected = if_match(&request)?;
    let details = read_details(Fields::of_body(&body, false)?).map_err(ApiError::Invalid)?;
    check_names(&services, &details)?;
    let command = CardCommand::Put { details, expected };
    let changed = change(&services, &request, &person, card_id, command, None).await?;
    Ok(card_response(&changed))
}

/// `POST /v1/cards/{card_id}/{action}`
///
/// # Errors
/// As the contract has them.
pub async fn act(
    services: Data<Services>,
    request: HttpRequest,
    path: Path<(String, String)>,
    person: Person,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Hr, Role::Security], None)?;
    let (card_id, action) = path.into_inner();
    let command = match action.as_str() {
        "suspend" => CardCommand::Suspend,
        "reinstate" => CardCommand::Reinstate,
        "revoke" => CardCommand::Revoke,
        "report-lost" => CardCommand::ReportLost,
        _ => {
            return Err(ApiError::NotFound(
                "a card can be suspended, reinstated, revoked or reported lost".to_owned(),
            ));
        }
    };
    let card_id: CardId = path_id("card_id", card_id)?;
    let mut fields = Fields::of_body(&body, true)?;
    let note = fields.optional("note", short_text(MAX_NOTE_CHARS));
    let note = fields.finish(Some(note)).map_err(ApiError::Invalid)?;
    let changed = change(&services, &request, &person, card_id, command, note).await?;
    Ok(card_response(&changed))
}

/// `GET /v1/cards/{card_id}`
///
/// # Errors
/// As the contract has them.
pub async fn get(
    services: Data<Services>,
    card_id: Path<String>,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Hr, Role::Auditor], None)?;
    let card_id: CardId = path_id("card_id", card_id.into_inner())?;
    let card = ask(&services.directory, |reply| FindCard { card_id: card_id.clone(), reply }).await??;
    let card = card.ok_or_else(|| ApiError::NotFound(format!("no card {card_id} is registered")))?;
    let shown = with_presence(&services, std::slice::from_ref(&card)).await?.pop();
    Ok(HttpResponse::Ok().insert_header(etag(&card)).json(shown))
}

/// `GET /v1/cards`
///
/// # Errors
/// As the contract has them.
pub async fn list(
    services: Data<Services>,
    request: HttpRequest,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Hr, Role::Auditor], None)?;
    let query = read_query(request.query_string())?;
    let page = ask(&services.directory, |reply| ReadCards { query, reply }).await??;
    let next_cursor = page.next.map(|card_id| URL_SAFE_NO_PAD.encode(card_id.as_str()));
    let items = with_presence(&services, &page.cards).await?;
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": next_cursor })))
}

async fn change(
    services: &Services,
    request: &HttpRequest,
    person: &Person,
    card_id: CardId,
    command: CardCommand,
    note: Option<String>,
) -> Result<Changed, ApiError> {
    let origin = origin(person.as_actor(), request);
    Ok(ask(&services.directory, |reply| ChangeCard { card_id, command, note, origin, reply }).await??)
}

/// Each card with where its holder is.
async fn with_presence(services: &Services, cards: &[Card]) -> Result<Vec<Value>, ApiError> {
    let mut places = vec![Vec::new(); cards.len()];
    for building in services.buildings.values() {
        let employees = cards.iter().map(|card| card.details.employee_id.clone()).collect();
        let found = building.ask(|reply| FindPeople { employees, reply }).await??;
        for (places, inside) in places.iter_mut().zip(found) {
            places.extend(inside.map(
                |inside| json!({ "building": building.id, "since": inside.since, "gate": inside.gate }),
            ));
        }
    }
    let shown = cards.iter().zip(places).map(|(card, places)| {
        let mut shown = serde_json::to_value(card).unwrap_or_default();
        if let Value::Object(fields) = &mut shown {
            fields.insert("presence".to_owned(), Value::Array(places));
        }
        shown
    });
    Ok(shown.collect())
}

fn card_response(changed: &Changed) -> HttpResponse {
    let mut response = if changed.is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    response.insert_header(etag(&changed.card)).json(&changed.card)
}

fn etag(card: &Card) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{}\"", card.made_version()))
}

/// `If-Match: "3"`, of another server's version `"3-hq-1"`, with or without quotes; `*` is any version, but the card has to be there (RFC 9110).
fn if_match(request: &HttpRequest) -> Result<Option<Expected>, ApiError> {
    let Some(value) = request.headers().get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Some(Expected::Registered));
    }
    let version = text.trim_matches('"').parse();
    version
        .map(|version| Some(Expected::Version(version)))
        .map_err(|_| ApiError::Malformed("If-Match must be a card's ETag, such as \"3\"".to_owned()))
}

fn read_details(mut fields: Fields) -> Result<CardDetails, Vec<FieldError>> {
    let employee_id = fields.required("employee_id", text::<EmployeeId>);
    let holder_name = fields.optional("holder_name", short_text(MAX_NAME_CHARS));
    let buildings = fields.optional("buildings", texts(MAX_RIGHTS));
    let gates = fields.optional("gates", texts(MAX_RIGHTS));
    let valid_from = fields.optional("valid_from", text::<Timestamp>);
    let valid_until = fields.optional("valid_until", text::<Timestamp>);
    let anti_passback_exempt = fields.optional("anti_passback_exempt", boolean).unwrap_or_default();
    let responder = fields.optional("responder", boolean).unwrap_or_default();
    let groups = fields.optional("groups", texts(MAX_GROUPS));
    if valid_from.zip(valid_until).is_some_and(|(from, until)| from >= until) {
        fields.error("valid_until", "must be after valid_from".to_owned());
    }
    fields.finish(employee_id.map(|employee_id| CardDetails {
        employee_id,
        holder_name: holder_name.map(Into::into),
        buildings: buildings.map(Vec::into_boxed_slice),
        gates: gates.map(Vec::into_boxed_slice),
        groups: groups.map(Vec::into_boxed_slice),
        valid_from,
        valid_until,
        anti_passback_exempt,
        responder,
    }))
}

fn check_names(services: &Services, details: &CardDetails) -> Result<(), ApiError> {
    let CardDetails { buildings, gates, groups, .. } = details;
    let errors = unknown_names(
        services,
        buildings.as_deref().unwrap_or_default(),
        gates.as_deref().unwrap_or_default(),
        groups.as_deref().unwrap_or_default(),
    );
    if errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid(errors)) }
}

/// A right to a building, gate or group that this server does not have is a slip of the pen.
pub(super) fn unknown_names(
    services: &Services,
    buildings: &[BuildingId],
    gates: &[GateRight],
    groups: &[GroupId],
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut note = |field: &str, detail: String| errors.push(FieldError::new(field, detail));
    for id in buildings {
        if !services.buildings.contains_key(id) {
            note("buildings", format!("this server has no building {id}"));
        }
    }
    for right in gates {
        let in_building = |building: &super::BuildingServices| {
            right.building.as_ref().is_none_or(|only| *only == building.id) && building.has_gate(&right.gate)
        };
        if !services.buildings.values().any(in_building) {
            note("gates", format!("this server has no gate {}", String::from(right.clone())));
        }
    }
    for group in groups.iter().filter(|group| !services.groups.has(group)) {
        note("groups", format!("this server has no group {group}"));
    }
    errors
}

fn read_query(query: &str) -> Result<CardQuery, ApiError> {
    let mut fields = Fields::of_query(query)?;
    let status = fields.optional("status", |value| {
        serde_json::from_value::<Status>(value)
            .map_err(|_| "must be active, suspended, lost or revoked".to_owned())
    });
    let limit = fields.optional("limit", |value| {
        let limit = value.as_str().and_then(|text| text.parse().ok());
        limit.filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| format!("must be 1 to {MAX_PAGE}"))
    });
    let after = fields.optional("cursor", |value| {
        let decoded = value.as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        text.and_then(|text| CardId::parse(&text).ok())
            .ok_or_else(|| "is not a cursor of this list".to_owned())
    });
    let search = fields.optional("q", |value| {
        let text = short_text(MAX_NAME_CHARS)(value)?;
        if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(CardSearch::new(text.trim())) }
    });
    let query = CardQuery {
        search,
        employee_id: fields.optional("employee_id", text::<EmployeeId>),
        status,
        after,
        limit: limit.unwrap_or(DEFAULT_PAGE),
    };
    fields.finish(Some(query)).map_err(ApiError::Invalid)
}
