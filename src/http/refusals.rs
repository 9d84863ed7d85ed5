//! What the log says of requests that are not done: one bounded line each, that names no value, id or path as it was sent.
//! Missing and bad credentials have lines of their own (`auth/attempts.rs`).

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use actix_web::ResponseError;

use super::{error::ApiError, log_lines::LogLines};

/// The most wrong fields that one line names; the answer names more.
const MAX_LOGGED_FIELDS: usize = 10;
/// In place of a name that is the caller's own.
const UNKNOWN_FIELD: &str = "(unknown)";

/// Writes the lines of a running daemon. Each kind is bounded by itself: a gate that sends nonsense hides no failure.
#[derive(Debug)]
pub struct Refusals {
    begun: Instant,
    broken: Mutex<LogLines>,
    forbidden: Mutex<LogLines>,
    failed: Mutex<LogLines>,
}

impl Default for Refusals {
    fn default() -> Self {
        let [broken, forbidden, failed] = Default::default();
        Self { begun: Instant::now(), broken, forbidden, failed }
    }
}

impl Refusals {
    /// Notes why a request was not done. `route` and `method` are of the table of routes.
    pub(super) fn note(&self, problem: &ApiError, method: &str, route: &str, address: Option<IpAddr>) {
        let (kind, status) = (problem.kind(), problem.status_code().as_u16());
        match problem {
            ApiError::Unauthenticated(_) | ApiError::TooManyFailures { .. } => {}
            ApiError::Forbidden(_) => {
                if let Some(not_logged) = self.take(&self.forbidden) {
                    let address = address.map(tracing::field::display);
                    tracing::warn!(
                        address,
                        method,
                        route,
                        status,
                        problem = kind,
                        not_logged,
                        "refused: not allowed with these credentials"
                    );
                }
            }
            ApiError::Internal => {
                if let Some(not_logged) = self.take(&self.failed) {
                    tracing::error!(
                        method,
                        route,
                        status,
                        problem = kind,
                        not_logged,
                        "a request failed: a fault of the program, please report it"
                    );
                }
            }
            _ if status >= 500 => {
                if let Some(not_logged) = self.take(&self.failed) {
                    tracing::warn!(
                        method,
                        route,
                        status,
                        problem = kind,
                        not_logged,
                        "a valid request cannot be done now"
                    );
                }
            }
            _ => {
                if let Some(not_logged) = self.take(&self.broken) {
                    let fields = fields(problem);
                    tracing::info!(
                        method,
                        route,
                        status,
                        problem = kind,
                        fields,
                        not_logged,
                        "refused: the request cannot be accepted"
                    );
                }
            }
        }
    }

    fn take(&self, lines: &Mutex<LogLines>) -> Option<u64> {
        lines.lock().unwrap_or_else(PoisonError::into_inner).take(self.begun.elapsed())
    }
}

/// The wrong fields, by the names that the API gives them.
fn fields(problem: &ApiError) -> Option<String> {
    let ApiError::Invalid(errors) = problem else { return None };
    let names = errors.iter().take(MAX_LOGGED_FIELDS);
    let names = names.map(|error| if error.is_as_sent() { UNKNOWN_FIELD } else { error.field.as_str() });
    Some(names.collect::<Vec<_>>().join(" "))
}
