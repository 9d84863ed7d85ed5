//! The auditor's view: the events of a card or a person. Each query is recorded before its first page is answered.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Bytes, Data, Path},
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{
    Services, ask,
    auth::person::{Person, Role},
    cursor::CursorKey,
    error::ApiError,
    fields::{Fields, path_id, short_text, text},
    origin,
};
use crate::{
    actors::{admin::RecordAdmin, replay::prepare::ArchiveBucket},
    domain::{
        concern::Subject,
        event::{AuditRead, Body},
        ids::BuildingId,
        pattern::Pattern,
        scope::Scope,
        time::Timestamp,
    },
    index::{
        Index,
        history::{HistoryError, HistoryQuery, Page},
    },
};

/// Events in one page unless `limit` says so.
const DEFAULT_PAGE: usize = 50;
/// The most events in one page.
const MAX_PAGE: usize = 200;
/// Queries that read the log at once; one more is answered 503.
const MAX_QUERIES: usize = 4;
/// The longest cursor, in characters.
const MAX_CURSOR_CHARS: usize = 100;
/// Where the table of the archive is declared.
const TABLE_FILE: &str = "deploy/athena.sql";

/// What histories are answered from.
#[derive(Debug)]
pub struct HistoryServices {
    index: Index,
    cursors: CursorKey,
    places: Arc<Semaphore>,
}

#[derive(Serialize)]
struct Answer<'a> {
    items: Vec<&'a RawValue>,
    next_cursor: Option<String>,
    reaches_back_to: Option<Timestamp>,
    beyond: Option<Beyond>,
}

/// Where to look for what the log no longer has.
#[derive(Serialize)]
struct Beyond {
    before: Option<Timestamp>,
    table: &'static str,
    query: String,
    archives: Vec<ArchiveBucket>,
}

impl HistoryServices {
    /// Answers from this index.
    ///
    /// # Errors
    /// The kernel has no random bytes to give.
    pub fn new(index: Index) -> Result<Self, getrandom::Error> {
        Ok(Self { index, cursors: CursorKey::new()?, places: Arc::new(Semaphore::new(MAX_QUERIES)) })
    }
}

/// `GET /v1/cards/{card_id}/events`. A card that nobody has registered has a history, too, once it was before a reader.
///
/// # Errors
/// As the contract has them.
pub async fn of_card(
    services: Data<Services>,
    request: HttpRequest,
    card_id: Path<String>,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    let scope = person.scope(&[Role::Auditor])?;
    let card = path_id("card_id", card_id.into_inner())?;
    answer(&services, &request, &person, scope, Subject::Card(card)).await
}

/// `GET /v1/employees/{employee_id}/events`
///
/// # Errors
/// As the contract has them.
pub async fn of_employee(
    services: Data<Services>,
    request: HttpRequest,
    employee_id: Path<String>,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    let scope = person.scope(&[Role::Auditor])?;
    let employee = path_id("employee_id", employee_id.into_inner())?;
    answer(&services, &request, &person, scope, Subject::Employee(employee)).await
}

async fn answer(
    services: &Data<Services>,
    request: &HttpRequest,
    person: &Person,
    scope: Scope,
    subject: Subject,
) -> Result<HttpResponse, ApiError> {
    let Asked { from, to, types, cursor, limit } = read_query(request.query_string())?;
    let query = HistoryQuery { subject, from, to, types, scope };
    let identity = identity(person, &query);
    let history = &services.history;
    let below = match &cursor {
        Some(cursor) => Some(history.cursors.open(cursor, &identity).ok_or_else(|| {
            ApiError::field(
                "cursor",
                "is not a cursor of this query, or of before the last start; begin without it",
            )
        })?),
        None => None,
    };
    let _permit = history.places.try_acquire().map_err(|_| {
        ApiError::Unavailable(format!(
            "{MAX_QUERIES} histories are being read, which is the limit; try again"
        ))
    })?;
    if cursor.is_none() {
        let (body, origin) = (Body::AuditRead(read_of(&query)), origin(person.as_actor(), request));
        ask(&services.admin, |reply| RecordAdmin { body, origin, reply }).await??;
    }
    let (index, asked) = (history.index.clone(), query.clone());
    let page = spawn_blocking(move || index.history(&asked, below, limit)).await;
    let page = page.map_err(|error| unreadable(&error))?.map_err(|error: HistoryError| unreadable(&error))?;
    let Page { events, next, reaches_back_to, is_cut } = page;
    let beyond = is_cut.then(|| Beyond {
        before: reaches_back_to,
        table: TABLE_FILE,
        query: athena_query(&query, reaches_back_to),
        archives: services.replays.places.buckets(),
    });
    Ok(HttpResponse::Ok().json(Answer {
        items: events.iter().map(raw).collect::<Result<_, _>>()?,
        next_cursor: next.map(|next| history.cursors.seal(next, &identity)),
        reaches_back_to,
        beyond,
    }))
}

fn raw(event: &Bytes) -> Result<&RawValue, ApiError> {
    serde_json::from_slice(event).map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn std::fmt::Display) -> ApiError {
    tracing::error!(%error, "a history cannot be read; run `turnstiled wal verify`");
    ApiError::Unavailable("the log cannot be read here; the server's own log says why".to_owned())
}

fn read_of(query: &HistoryQuery) -> AuditRead {
    let what = match query.subject {
        Subject::Card(_) => "card.events",
        Subject::Employee(_) => "employee.events",
    };
    AuditRead {
        building: query.scope.only().cloned(),
        what: what.to_owned(),
        subject: Some(query.subject.to_string()),
        from: query.from,
        to: query.to,
        types: query.types.clone().map(String::from),
    }
}

/// What a cursor is bound to: who asks, and what, but for the size of the page.
fn identity(person: &Person, query: &HistoryQuery) -> Vec<u8> {
    let HistoryQuery { subject, from, to, types, scope } = query;
    let buildings = match scope {
        Scope::Everywhere => None,
        Scope::Buildings(some) => Some(some.iter().map(BuildingId::as_str).collect::<Vec<_>>()),
    };
    let text = (person.as_actor(), subject.to_string(), from, to, types, buildings);
    // plain values: there is nothing in it that cannot be written
    serde_json::to_vec(&text).unwrap_or_default()
}

/// The same question to the archive. Ids have no quotes.
fn athena_query(query: &HistoryQuery, before: Option<Timestamp>) -> String {
    let column = match &query.subject {
        Subject::Card(card) => format!("card_id = '{card}'"),
        Subject::Employee(employee) => format!("employee_id = '{employee}'"),
    };
    let day = |moment: Timestamp| moment.to_string().chars().take(10).collect::<String>();
    let time = |moment: Timestamp| moment.to_string().replace('T', " ").replace('Z', "");
    let mut sql = format!("SELECT event FROM turnstiled_events WHERE {column}");
    if let Some(from) = query.from {
        let days = format!(" AND dt >= '{}' AND time >= TIMESTAMP '{}'", day(from), time(from));
        sql.push_str(&days);
    }
    if let Some(before) = before {
        let days = format!(" AND dt <= '{}' AND time <= TIMESTAMP '{}'", day(before), time(before));
        sql.push_str(&days);
    }
    if let Scope::Buildings(some) = &query.scope {
        let some: Vec<String> = some.iter().map(|building| format!("'{building}'")).collect();
        sql.push_str(&format!(" AND building IN ({})", some.join(", ")));
    }
    sql.push_str(" ORDER BY time DESC, sequence DESC");
    sql
}

struct Asked {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    types: Option<Pattern>,
    cursor: Option<String>,
    limit: usize,
}

fn read_query(query: &str) -> Result<Asked, ApiError> {
    let mut fields = Fields::of_query(query)?;
    let from = fields.optional("from", text::<Timestamp>);
    let to = fields.optional("to", text::<Timestamp>);
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        fields.error("to", "must be after from".to_owned());
    }
    let types = fields.optional("type", text::<Pattern>);
    let cursor = fields.optional("cursor", short_text(MAX_CURSOR_CHARS));
    let limit = fields.optional("limit", |value| {
        let limit = value.as_str().and_then(|text| text.parse().ok());
        limit.filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| format!("must be 1 to {MAX_PAGE}"))
    });
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    fields.finish(Some(Asked { from, to, types, cursor, limit })).map_err(ApiError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::CardId;

    #[test]
    fn a_query_is_read_and_wrong_ones_are_named() {
        let asked = read_query("from=2026-11-20T00:00:00Z&type=access.**&limit=200").unwrap();
        assert_eq!((asked.limit, asked.to, asked.types.is_some()), (200, None, true));
        assert_eq!(read_query("").unwrap().limit, DEFAULT_PAGE);
        let backwards = "from=2026-11-20T00:00:00Z&to=2026-11-20T00:00:00Z";
        for bad in ["limit=0", "limit=201", "type=a..b", "from=yesterday", "colour=red", backwards] {
            assert!(matches!(read_query(bad), Err(ApiError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn the_archive_is_asked_the_same() {
        let moment = |text: &str| Some(text.parse().unwrap());
        let query = HistoryQuery {
            subject: Subject::Card(CardId::parse("04A2").unwrap()),
            from: moment("2026-01-02T03:04:05.678Z"),
            to: None,
            types: None,
            scope: Scope::building(BuildingId::parse("hq").unwrap()),
        };
        assert_eq!(
            athena_query(&query, moment("2026-10-01T00:00:00Z")),
            "SELECT event FROM turnstiled_events WHERE card_id = '04A2' AND dt >= '2026-01-02' \
             AND time >= TIMESTAMP '2026-01-02 03:04:05.678' AND dt <= '2026-10-01' \
             AND time <= TIMESTAMP '2026-10-01 00:00:00.000' AND building IN ('hq') \
             ORDER BY time DESC, sequence DESC"
        );
    }
}
