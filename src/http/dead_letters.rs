//! Dead letters: what a service called invalid, and what is to become of it.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Path, Query},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::sync::oneshot;

use super::{
    Services, ask,
    auth::person::{Person, Role},
    body::Body,
    error::ApiError,
    fields::{Fields, short_text, texts},
    origin,
};
use crate::{
    actors::{
        admin::RecordAdmin,
        dead_letters::{DeadLetter, MARK_BYTES, parse_id},
        delivery::letters::{DiscardError, DiscardLetter, Redrive},
        sink_state::{SinkStateError, SinkStates},
    },
    domain::event::{self, Body as EventBody},
};

/// Dead letters in one page.
const PAGE_LETTERS: usize = 100;
/// Dead letters that one request may name, so that its event holds their ids.
const MAX_REDRIVE_IDS: usize = 100;
/// The longest `reason`, in characters.
const MAX_REASON_CHARS: usize = 1_000;
/// How much of a service's error code an event holds, in characters.
const MAX_CODE_CHARS: usize = 100;
/// What throwing a letter away takes of the store, generously, in bytes.
const DISCARD_BYTES: u64 = 4 * 1_024;

/// Which dead letters go back to their sinks.
#[derive(Debug)]
enum Chosen {
    All,
    OfSink(String),
    Ids(Vec<String>),
}

/// `GET /v1/dead-letters?sink=&cursor=`
///
/// # Errors
/// As the contract has them.
pub async fn list(
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
            "sink" => sink = Some(value),
            "cursor" => cursor = Some(read_cursor(&value)?),
            _ => return Err(ApiError::field(&super::cut(&name), "is not a parameter of this request")),
        }
    }
    let is_configured = sink.as_ref().is_none_or(|sink| services.sinks.has(sink));
    let filter = sink.clone();
    let mut letters = read(&services, move |states| {
        // the letters of a sink that the configuration no longer names are still there
        let is_known = is_configured
            || sink.as_ref().is_none_or(|sink| states.progress(sink).is_ok_and(|found| found.is_some()));
        let letters = states.dead_letters(sink.as_deref(), cursor.as_deref(), PAGE_LETTERS + 1)?;
        Ok((is_known || !letters.is_empty()).then_some(letters))
    })
    .await?
    .ok_or_else(|| {
        ApiError::NotFound(format!(
            "there is no sink {:?}",
            super::cut(filter.as_deref().unwrap_or_default())
        ))
    })?;
    let is_more = letters.len() > PAGE_LETTERS;
    letters.truncate(PAGE_LETTERS);
    let next_cursor = letters.last().filter(|_| is_more).map(|letter| URL_SAFE_NO_PAD.encode(&letter.id));
    Ok(HttpResponse::Ok().json(json!({ "items": letters, "next_cursor": next_cursor })))
}

/// `GET /v1/dead-letters/{id}`
///
/// # Errors
/// As the contract has them.
pub async fn get(
    services: Data<Services>,
    id: Path<String>,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Admin], None)?;
    Ok(HttpResponse::Ok().json(find(&services, &id).await?))
}

/// `POST /v1/dead-letters/redrive`: marks dead letters durably, and wakes their sinks.
///
/// # Errors
/// As the contract has them; 409 if nobody delivers to the sink.
pub async fn redrive(
    services: Data<Services>,
    request: HttpRequest,
    person: Person,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Admin], None)?;
    let chosen = read_choice(&body)?;
    let by_sink = resolve(&services, &chosen).await?;
    let letters: u64 = by_sink.values().map(|sequences| sequences.len() as u64).sum();
    if letters == 0 {
        return Ok(HttpResponse::Accepted().json(json!({ "letters": 0 })));
    }
    if !services.disk.has_room_for_state(letters.saturating_mul(MARK_BYTES)) {
        return Err(DiscardError::DiskFull.into());
    }
    let (sink, ids) = match chosen {
        Chosen::All => (None, Vec::new()),
        Chosen::OfSink(sink) => (Some(sink), Vec::new()),
        Chosen::Ids(ids) => (None, ids),
    };
    let act = EventBody::Redrive(event::Redrive { sink, ids, letters });
    record(&services, &request, &person, act).await?;
    let sinks: Vec<String> = by_sink.keys().cloned().collect();
    read(&services, move |states| by_sink.iter().try_for_each(|(sink, letters)| states.mark(sink, letters)))
        .await?;
    for sink in sinks {
        if let Some(delivery) = services.deliveries.get(&sink) {
            // an error: the process stops, or another delivery begins, and the marks are durable
            let _ = delivery.actor.send(Redrive).await;
        }
    }
    Ok(HttpResponse::Accepted().json(json!({ "letters": letters })))
}

/// `DELETE /v1/dead-letters/{id}` with a reason: its sink never gets that event.
///
/// # Errors
/// As the contract has them; 409 while it is on its way back to its sink.
pub async fn discard(
    services: Data<Services>,
    request: HttpRequest,
    id: Path<String>,
    person: Person,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Admin], None)?;
    let mut fields = Fields::of_body(&body, true)?;
    let reason = fields.required("reason", |value| {
        let reason = short_text(MAX_REASON_CHARS)(value)?;
        if reason.trim().is_empty() { Err("must say why".to_owned()) } else { Ok(reason) }
    });
    let reason = fields.finish(reason).map_err(ApiError::Invalid)?;
    let letter = find(&services, &id).await?;
    let is_configured = services.deliveries.has(&letter.sink);
    if letter.redriving && is_configured {
        return Err(DiscardError::OnItsWay.into());
    }
    if !services.disk.has_room_for_state(DISCARD_BYTES) {
        return Err(DiscardError::DiskFull.into());
    }
    let act = EventBody::Discard(event::Discard {
        dead_letter: letter.id.clone(),
        sink: letter.sink.clone(),
        event_sequence: letter.sequence.clone(),
        event_id: letter.event_id.clone(),
        code: letter.code.chars().take(MAX_CODE_CHARS).collect(),
        reason,
    });
    // before the act: what is gone has a reason, even if the server ends in between
    record(&services, &request, &person, act).await?;
    let Some((sink, sequence)) = parse_id(&letter.id) else { return Err(DiscardError::NotThere.into()) };
    match services.deliveries.get(sink) {
        Some(delivery) => {
            let (reply, answer) = oneshot::channel();
            // waits for a place: the event of it is recorded already
            let sent = delivery.actor.send(DiscardLetter { sequence, reply }).await;
            sent.map_err(|_| ApiError::not_committed())?;
            answer.await.map_err(|_| ApiError::not_committed())??;
        }
        None => {
            let sink = sink.to_owned();
            if !read(&services, move |states| states.discard_of_former(&sink, sequence)).await? {
                return Err(DiscardError::NotThere.into());
            }
        }
    }
    tracing::info!(dead_letter = letter.id, "a dead letter is discarded");
    Ok(HttpResponse::NoContent().finish())
}

fn read_cursor(text: &str) -> Result<String, ApiError> {
    let id = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    id.filter(|id| parse_id(id).is_some())
        .ok_or_else(|| ApiError::field("cursor", "is not a cursor of this list"))
}

fn read_choice(body: &[u8]) -> Result<Chosen, ApiError> {
    let mut fields = Fields::of_body(body, true)?;
    // nothing means all, so what somebody left empty by mistake must not
    let sink = fields.optional_not_null("sink", super::fields::text::<String>);
    let ids = fields.optional_not_null("ids", texts::<String>(MAX_REDRIVE_IDS));
    let chosen = match (sink, ids) {
        (Some(_), Some(_)) => {
            fields.error("ids", "cannot go together with sink".to_owned());
            None
        }
        (Some(sink), None) => Some(Chosen::OfSink(sink)),
        (None, Some(ids)) => Some(Chosen::Ids(ids)),
        (None, None) => Some(Chosen::All),
    };
    fields.finish(chosen).map_err(ApiError::Invalid)
}

/// The letters that are meant, by sink: all of them are there, and somebody delivers to their sinks.
async fn resolve(services: &Data<Services>, chosen: &Chosen) -> Result<BTreeMap<String, Vec<u64>>, ApiError> {
    let sinks: Vec<String> = match chosen {
        Chosen::All => services.deliveries.sinks(),
        Chosen::OfSink(sink) if services.deliveries.has(sink) => vec![sink.clone()],
        Chosen::OfSink(sink) => return Err(not_delivered_to(sink)),
        Chosen::Ids(ids) => return resolve_ids(services, ids).await,
    };
    read(services, move |states| {
        let sequences = |sink: String| Ok((sink.clone(), states.letter_sequences(&sink)?));
        sinks.into_iter().map(sequences).collect()
    })
    .await
}

async fn resolve_ids(
    services: &Data<Services>,
    ids: &[String],
) -> Result<BTreeMap<String, Vec<u64>>, ApiError> {
    let mut by_sink: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for id in ids {
        let letter = find(services, id).await?;
        let Some((sink, sequence)) = parse_id(&letter.id) else { continue };
        if !services.deliveries.has(sink) {
            return Err(not_delivered_to(sink));
        }
        by_sink.entry(sink.to_owned()).or_default().push(sequence);
    }
    for sequences in by_sink.values_mut() {
        sequences.sort_unstable();
        sequences.dedup();
    }
    Ok(by_sink)
}

fn not_delivered_to(sink: &str) -> ApiError {
    ApiError::Conflict(format!(
        "the configuration names no sink {:?}: nobody delivers to it",
        super::cut(sink)
    ))
}

async fn find(services: &Data<Services>, id: &str) -> Result<DeadLetter, ApiError> {
    let missing = || {
        ApiError::NotFound(format!("there is no dead letter {:?}", id.chars().take(100).collect::<String>()))
    };
    let (sink, sequence) = parse_id(id).ok_or_else(missing)?;
    let sink = sink.to_owned();
    read(services, move |states| states.dead_letter(&sink, sequence)).await?.ok_or_else(missing)
}

async fn record(
    services: &Services,
    request: &HttpRequest,
    person: &Person,
    body: EventBody,
) -> Result<(), ApiError> {
    let origin = origin(person.as_actor(), request);
    Ok(ask(&services.admin, |reply| RecordAdmin { body, origin, reply }).await??)
}

/// Reads or writes on a thread of its own: it waits for a cursor that is being written.
async fn read<T: Send + 'static>(
    services: &Data<Services>,
    read: impl FnOnce(&SinkStates) -> Result<T, SinkStateError> + Send + 'static,
) -> Result<T, ApiError> {
    let states = services.dead_letters.clone();
    let found = web::block(move || {
        read(&states).inspect_err(|error| tracing::error!(%error, "dead letters cannot be read or marked"))
    });
    match found.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(_)) | Err(_) => {
            Err(ApiError::Unavailable("dead letters cannot be read; the server's log says why".to_owned()))
        }
    }
}
