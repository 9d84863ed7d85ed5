//! The HTTP client of commands that speak to a daemon.

use std::{error::Error as _, time::Duration};

use reqwest::Client;

/// How long an answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that speaks to the daemon alone, whatever proxies the environment names.
pub(super) fn new() -> Result<Client, reqwest::Error> {
    Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build()
}

/// An error and everything that led to it.
pub(super) fn with_cause(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
