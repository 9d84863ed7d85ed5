//! `POST /v1/cards/import`: a file of cards, looked at as a whole before anything of it is done.

use std::{time::Duration, vec::IntoIter};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data, Payload},
};
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Services, ask,
    auth::person::{Person, Role},
    card_csv::reader::RowReader,
    cards::unknown_names,
    error::ApiError,
    fields::{Fields, text},
    origin,
};
use crate::{
    actors::{
        directory::import::{ImportRows, MAX_PIECE_ROWS, SomeImported},
        places::NoPlace,
        recorder::Origin,
    },
    domain::import::{CardPatch, Cell, ImportRow, Report, RowError},
};

/// The largest file (contract, section 3).
pub const MAX_IMPORT_BYTES: usize = 16 << 20;
/// Imports at once; one more is answered 503. Each holds its file.
pub const MAX_IMPORTS: usize = 2;
/// How long a client may take to send the file.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait when the log is busy, and how often: gates come first.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// After so many attempts at one piece the import is given up.
const MAX_ATTEMPTS: usize = 50;

/// Places for imports.
#[derive(Debug)]
pub struct ImportPlaces(Semaphore);

impl Default for ImportPlaces {
    fn default() -> Self {
        Self(Semaphore::new(MAX_IMPORTS))
    }
}

struct Options {
    dry_run: bool,
    partial: bool,
    time_zone: TimeZone,
}

#[derive(Serialize)]
struct Answer {
    dry_run: bool,
    #[serde(flatten)]
    report: Report,
}

/// `POST /v1/cards/import`
///
/// # Errors
/// As the contract has them; 422 with every bad row unless `partial` or `dry_run` is true.
pub async fn import(
    services: Data<Services>,
    request: HttpRequest,
    person: Person,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    person.must_be(&[Role::Hr], None)?;
    let Options { dry_run, partial, time_zone } = read_options(request.query_string())?;
    let _place = services.imports.0.try_acquire().map_err(|_| {
        ApiError::Unavailable(format!("{MAX_IMPORTS} imports are under way; try again when they are over"))
    })?;
    let body = read_body(&request, payload).await?;
    let file = File { services: &services, body, time_zone };
    let looked_at = file.run(None).await?;
    let is_refused = looked_at.rejected > 0 && !partial;
    if dry_run {
        return Ok(HttpResponse::Ok().json(Answer { dry_run, report: looked_at }));
    }
    if is_refused {
        return Err(ApiError::RowsRefused(Box::new(looked_at)));
    }
    let done = file.run(Some(origin(person.as_actor(), &request))).await?;
    Ok(HttpResponse::Ok().json(Answer { dry_run, report: done }))
}

/// A file that is read twice: to look at it, and to carry it out.
struct File<'a> {
    services: &'a Services,
    body: Bytes,
    time_zone: TimeZone,
}

impl File<'_> {
    async fn run(&self, apply_for: Option<Origin>) -> Result<Report, ApiError> {
        let mut reader =
            RowReader::open(self.body.clone(), self.time_zone.clone()).map_err(|errors| refused(&errors))?;
        let mut report = Report::default();
        loop {
            let some = reader.some(MAX_PIECE_ROWS).map_err(|error| ApiError::TooLarge(error.to_string()))?;
            if some.is_empty() {
                report.errors.sort_by_key(|error| error.line);
                return Ok(report);
            }
            let mut rows = Vec::new();
            for row in some {
                match row {
                    Ok(row) => rows.push(self.with_unknown_names(row)),
                    Err(errors) => report.reject(&errors),
                }
            }
            self.send(rows.into_iter(), apply_for.as_ref(), &mut report).await?;
        }
    }

    /// One piece, in as many messages as it takes.
    async fn send(
        &self,
        mut rows: IntoIter<ImportRow>,
        apply_for: Option<&Origin>,
        report: &mut Report,
    ) -> Result<(), ApiError> {
        let mut attempts = 0;
        while let Some(first) = rows.as_slice().first() {
            let (line, again) = (first.line, rows.clone());
            let sent = ask(&self.services.directory, |reply| ImportRows {
                rows,
                apply_for: apply_for.cloned(),
                reply,
            });
            let is_begun = apply_for.is_some();
            let error = match sent.await {
                Ok(Ok(SomeImported { report: of_some, left })) => {
                    report.add(&of_some);
                    rows = left;
                    continue;
                }
                Ok(Err(NoPlace::Overloaded)) if attempts < MAX_ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                    rows = again;
                    continue;
                }
                Ok(Err(NoPlace::DiskFull | NoPlace::DiskExhausted)) if is_begun => {
                    stopped_at(line, "the server's disk is full")
                }
                Ok(Err(_)) | Err(_) if is_begun => stopped_at(line, "the server is busy, or restarting"),
                Ok(Err(error)) => error.into(),
                Err(error) => error,
            };
            return Err(error);
        }
        Ok(())
    }

    fn with_unknown_names(&self, row: ImportRow) -> ImportRow {
        let CardPatch { buildings, gates, groups, .. } = &row.patch;
        let unknown = unknown_names(self.services, listed(buildings), listed(gates), listed(groups));
        let unknown = unknown.into_iter().map(|error| RowError {
            line: row.line,
            field: error.field,
            detail: error.detail,
        });
        ImportRow { unknown: unknown.collect(), ..row }
    }
}

fn listed<T>(cell: &Cell<Box<[T]>>) -> &[T] {
    match cell {
        Cell::Value(list) => list,
        Cell::Unsaid | Cell::Empty => &[],
    }
}

/// Nothing of it can be read.
fn refused(errors: &[RowError]) -> ApiError {
    let mut report = Report::default();
    report.reject(errors);
    report.rows = 0;
    report.rejected = 0;
    ApiError::RowsRefused(Box::new(report))
}

fn stopped_at(line: u64, why: &str) -> ApiError {
    ApiError::Unavailable(format!(
        "{why}: the rows before line {line} are imported, those from there on may not be; import the same file again to go on"
    ))
}

async fn read_body(request: &HttpRequest, payload: Payload) -> Result<Bytes, ApiError> {
    let too_large = || {
        let mib = MAX_IMPORT_BYTES >> 20;
        ApiError::TooLarge(format!("a file has at most {mib} MiB: import it in parts, each with the header"))
    };
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced: Option<usize> = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > MAX_IMPORT_BYTES) {
        return Err(too_large());
    }
    let read = timeout(BODY_TIMEOUT, payload.to_bytes_limited(MAX_IMPORT_BYTES)).await;
    let read = read.map_err(|_| ApiError::TooSlow)?.map_err(|_| too_large())?;
    read.map_err(|error| ApiError::Malformed(format!("the file cannot be read: {error}")))
}

fn read_options(query: &str) -> Result<Options, ApiError> {
    let mut fields = Fields::of_query(query)?;
    let mut flag = |name| fields.optional(name, flag_of).unwrap_or_default();
    let (dry_run, partial) = (flag("dry_run"), flag("partial"));
    let time_zone = fields.optional("tz", |value| {
        let name: String = text(value)?;
        TimeZone::get(&name).map_err(|_| "is no IANA time zone, such as Europe/Berlin".to_owned())
    });
    let time_zone = time_zone.unwrap_or(TimeZone::UTC);
    fields.finish(Some(Options { dry_run, partial, time_zone })).map_err(ApiError::Invalid)
}

fn flag_of(value: Value) -> Result<bool, String> {
    match value.as_str() {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}
