//! The one mapping from what went wrong to what HTTP says: RFC 9457 problem details.

use std::time::Duration;

use actix_web::{HttpResponse, ResponseError, http::StatusCode, http::header};
use serde::Serialize;
use thiserror::Error;

use super::fields::FieldError;
use crate::{
    actors::{
        building::{SwipeError, forgive::ForgiveError, modes::AccountError, passages::PassageError},
        delivery::letters::DiscardError,
        device_events::DeviceEventError,
        directory::ChangeError,
        feeds::NoFeed,
        places::NoPlace,
        replay::manager::ReplaysError,
    },
    domain::{
        building::{modes::AccountRefusal, passages::PassageRefusal},
        directory::CardRefusal,
        import::{Report, RowError},
    },
};

/// When to come again after a 503, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// The most field errors that one answer names.
pub(super) const MAX_FIELD_ERRORS: usize = 100;

/// Why a request got no 2xx.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ApiError {
    /// 400: not JSON, or a header that cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// 401: no or wrong credentials.
    #[error("{0}")]
    Unauthenticated(String),
    /// 403: known, but not allowed here.
    #[error("{0}")]
    Forbidden(String),
    /// 404: no such thing.
    #[error("{0}")]
    NotFound(String),
    /// 405: not with this method.
    #[error("this resource answers {0}")]
    MethodNotAllowed(String),
    /// 408: the body did not come in time. The connection is closed.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// 409: it contradicts what was said before.
    #[error("{0}")]
    Conflict(String),
    /// 410: it was there once.
    #[error("{0}")]
    Gone(String),
    /// 412: changed meanwhile.
    #[error("{0}")]
    Changed(String),
    /// 413: too large.
    #[error("{0}")]
    TooLarge(String),
    /// 421: meant for another server.
    #[error("this server has other names; [server] hosts says which")]
    Misdirected,
    /// 422: JSON, but not what the model says; every field is named.
    #[error("{} of the request cannot be accepted", plural(.0.len()))]
    Invalid(Vec<FieldError>),
    /// 429: more often than is allowed. Nothing was recorded.
    #[error("{detail}; try again in {retry_after_seconds} s")]
    TooFast {
        /// What was too often.
        detail: &'static str,
        /// When to come again.
        retry_after_seconds: u64,
    },
    /// 429: an address has failed too often with missing or bad credentials.
    #[error(
        "too many attempts with missing or bad credentials came from this address; try again in {retry_after_seconds} s"
    )]
    TooManyFailures {
        /// When to come again.
        retry_after_seconds: u64,
    },
    /// 422: rows of an import, each with its line; nothing of it was done.
    #[error("{}; nothing was imported", bad_rows(.0))]
    RowsRefused(Box<Report>),
    /// 503: the log takes nothing now. Safe to try again with the same `swipe_id`.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    /// 503: something else that it needs is not to be had now; it may be tried again.
    #[error("{0}")]
    Unavailable(String),
    /// 503: a fault of the program.
    #[error("the request could not be served; try again")]
    Internal,
}

/// In which it surely works again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn plural(fields: usize) -> String {
    if fields == 1 { "1 field".to_owned() } else { format!("{fields} fields") }
}

fn bad_rows(report: &Report) -> String {
    match report.rejected {
        0 => "the header cannot be accepted".to_owned(),
        rejected => format!("{rejected} of {} rows cannot be accepted", report.rows),
    }
}

impl ApiError {
    /// 422 for one field.
    #[must_use]
    pub fn field(field: &str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, detail)])
    }

    /// 429 for `wait`, in whole seconds, which is when it surely works again.
    #[must_use]
    pub fn too_fast(detail: &'static str, wait: Duration) -> Self {
        Self::TooFast { detail, retry_after_seconds: whole_seconds(wait) }
    }

    /// 429 after failures, for `wait`.
    #[must_use]
    pub fn too_many_failures(wait: Duration) -> Self {
        Self::TooManyFailures { retry_after_seconds: whole_seconds(wait) }
    }

    /// What kind of problem it is, in a word: `error.type` of the request's span and `problem` of its line in the log.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::TooSlow => "too_slow",
            Self::Conflict(_) => "conflict",
            Self::Gone(_) => "gone",
            Self::Changed(_) => "changed",
            Self::TooLarge(_) => "too_large",
            Self::Misdirected => "misdirected",
            Self::Invalid(_) => "invalid",
            Self::RowsRefused(_) => "rows_refused",
            Self::TooFast { .. } => "too_fast",
            Self::TooManyFailures { .. } => "too_many_failures",
            Self::NoPlace(NoPlace::Overloaded) => "overloaded",
            Self::NoPlace(NoPlace::Stopping) => "stopping",
            Self::NoPlace(NoPlace::DiskFull) => "disk_full",
            Self::NoPlace(NoPlace::DiskExhausted) => "disk_exhausted",
            Self::Unavailable(_) => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// What a dropped reply means: the commit failed and the process is about to stop.
    #[must_use]
    pub fn not_committed() -> Self {
        NoPlace::Stopping.into()
    }

    /// The problem document.
    #[must_use]
    pub fn render(&self, trace_id: &str) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        match self {
            Self::NoPlace(_) | Self::Unavailable(_) | Self::Internal => {
                response.insert_header((header::RETRY_AFTER, RETRY_AFTER_SECONDS));
            }
            Self::TooFast { retry_after_seconds, .. } | Self::TooManyFailures { retry_after_seconds } => {
                response.insert_header((header::RETRY_AFTER, *retry_after_seconds));
            }
            Self::MethodNotAllowed(allow) => {
                response.insert_header((header::ALLOW, allow.as_str()));
            }
            Self::Unauthenticated(_) => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Self::TooSlow => {
                response.force_close();
            }
            _ => {}
        }
        let errors = match self {
            Self::Invalid(errors) => errors.get(..MAX_FIELD_ERRORS).unwrap_or(errors),
            _ => &[],
        };
        let problem = Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("error"),
            status: status.as_u16(),
            detail: &self.to_string(),
            errors,
            import: match self {
                Self::RowsRefused(report) => Some(RefusedRows::of(report)),
                _ => None,
            },
            trace_id,
        };
        response
            .content_type("application/problem+json")
            .body(serde_json::to_vec(&problem).unwrap_or_default())
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(flatten)]
    import: Option<RefusedRows<'a>>,
    trace_id: &'a str,
}

#[derive(Serialize)]
struct RefusedRows<'a> {
    rows: u64,
    rejected: u64,
    errors: &'a [RowError],
    errors_left_off: u64,
}

impl<'a> RefusedRows<'a> {
    fn of(report: &'a Report) -> Self {
        let Report { rows, rejected, errors, errors_left_off, .. } = report;
        Self { rows: *rows, rejected: *rejected, errors, errors_left_off: *errors_left_off }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Gone(_) => StatusCode::GONE,
            Self::Changed(_) => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Invalid(_) | Self::RowsRefused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooFast { .. } | Self::TooManyFailures { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NoPlace(_) | Self::Unavailable(_) | Self::Internal => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<NoFeed> for ApiError {
    fn from(error: NoFeed) -> Self {
        match error {
            NoFeed::TooMany => Self::Unavailable(error.to_string()),
            NoFeed::OtherLog(..) | NoFeed::NotYet(_) | NoFeed::TooOld(_) => Self::Gone(error.to_string()),
        }
    }
}

impl From<DiscardError> for ApiError {
    fn from(error: DiscardError) -> Self {
        match error {
            DiscardError::NotThere => Self::NotFound(error.to_string()),
            DiscardError::OnItsWay => Self::Conflict(error.to_string()),
            DiscardError::DiskFull | DiscardError::Waits | DiscardError::Unreadable => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

impl From<ReplaysError> for ApiError {
    fn from(error: ReplaysError) -> Self {
        match error {
            ReplaysError::NameIsTaken(_) | ReplaysError::TooMany | ReplaysError::Refused(_) => {
                Self::Conflict(error.to_string())
            }
            ReplaysError::NotThere(_) => Self::NotFound(error.to_string()),
            ReplaysError::DiskFull => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<SwipeError> for ApiError {
    fn from(error: SwipeError) -> Self {
        match error {
            SwipeError::SwipeReused => Self::Conflict(error.to_string()),
            SwipeError::NoPlace(error) => error.into(),
        }
    }
}

impl From<DeviceEventError> for ApiError {
    fn from(error: DeviceEventError) -> Self {
        match error {
            DeviceEventError::Reused => Self::Conflict(error.to_string()),
            DeviceEventError::NoPlace(error) => error.into(),
        }
    }
}

impl From<ForgiveError> for ApiError {
    fn from(error: ForgiveError) -> Self {
        match error {
            ForgiveError::NotInside { .. } => Self::NotFound(error.to_string()),
            ForgiveError::NoPlace(error) => error.into(),
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::NoPlace(error) => error.into(),
            AccountError::Refused(AccountRefusal::NoRoster) => Self::Conflict(error.to_string()),
            AccountError::Refused(AccountRefusal::NotOnRoster(_)) => Self::NotFound(error.to_string()),
        }
    }
}

impl From<PassageError> for ApiError {
    fn from(error: PassageError) -> Self {
        match error {
            PassageError::NoPlace(error) => error.into(),
            PassageError::Refused(refusal) => match refusal {
                PassageRefusal::Unknown(_) => Self::NotFound(refusal.to_string()),
                PassageRefusal::OtherGate { .. } => Self::Forbidden(refusal.to_string()),
                PassageRefusal::OtherOutcome(_) | PassageRefusal::TooLate(_) => {
                    Self::Conflict(refusal.to_string())
                }
            },
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NoPlace(error) => error.into(),
            ChangeError::Refused(refusal) => match &refusal {
                CardRefusal::Unknown(_) => Self::NotFound(refusal.to_string()),
                CardRefusal::Changed { .. } => Self::Changed(refusal.to_string()),
                CardRefusal::OtherEmployee { .. } => Self::field("employee_id", refusal.to_string()),
                CardRefusal::Conflict { .. } | CardRefusal::LastVersion { .. } => {
                    Self::Conflict(refusal.to_string())
                }
            },
        }
    }
}

/// A mailbox that takes nothing more: 503, and nothing was recorded.
impl<T> From<actix::prelude::SendError<T>> for ApiError {
    fn from(error: actix::prelude::SendError<T>) -> Self {
        match error {
            actix::prelude::SendError::Full(_) => NoPlace::Overloaded.into(),
            actix::prelude::SendError::Closed(_) => NoPlace::Stopping.into(),
        }
    }
}
