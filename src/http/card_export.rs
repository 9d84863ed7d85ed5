//! `GET /v1/cards/export`: all cards as CSV, a page at a time as the reader takes them.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data},
};
use futures_util::stream;

use super::{
    Services, ask,
    auth::person::{Person, Role},
    card_csv::{card_line, header_line},
    error::ApiError,
    origin,
};
use crate::{
    actors::{
        admin::RecordAdmin,
        directory::{CardQuery, ReadCards},
        places::NoPlace,
    },
    domain::{
        event::{AuditRead, Body},
        ids::CardId,
    },
};

/// Cards of one piece. Memory holds one piece an export.
const PIECE_CARDS: usize = 500;

/// How long to wait when the log is busy, and how often: gates come first.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// After so many attempts at one piece the export breaks off.
const MAX_ATTEMPTS: usize = 50;

/// How far an export is.
enum Next {
    Header,
    After(Option<CardId>),
    Done,
}

/// `GET /v1/cards/export`. Who exports is recorded before the answer begins; each piece is committed state of its moment.
///
/// # Errors
/// As the contract has them.
pub async fn export(
    services: Data<Services>,
    request: HttpRequest,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Hr], None)?;
    let body = Body::AuditRead(AuditRead { what: "cards.export".to_owned(), ..AuditRead::default() });
    let origin = origin(person.as_actor(), &request);
    ask(&services.admin, |reply| RecordAdmin { body, origin, reply }).await??;
    let pieces = stream::try_unfold((services, Next::Header), |(services, next)| async move {
        let (piece, next) = match next {
            Next::Header => (header_line(), Next::After(None)),
            Next::After(after) => read_piece(&services, after).await?,
            Next::Done => return Ok::<_, ApiError>(None),
        };
        Ok(Some((Bytes::from(piece), (services, next))))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"cards.csv\""))
        .streaming(pieces))
}

async fn read_piece(services: &Services, after: Option<CardId>) -> Result<(String, Next), ApiError> {
    let query = CardQuery { after, limit: PIECE_CARDS, ..CardQuery::default() };
    let mut attempts = 0;
    let page = loop {
        let query = query.clone();
        match ask(&services.directory, |reply| ReadCards { query, reply }).await? {
            Err(NoPlace::Overloaded) if attempts < MAX_ATTEMPTS => {
                attempts += 1;
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            page => break page?,
        }
    };
    let next = if page.next.is_some() { Next::After(page.next) } else { Next::Done };
    Ok((page.cards.iter().map(card_line).collect(), next))
}
