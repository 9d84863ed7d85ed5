//! The HTTP client of commands that speak to a daemon.

use std::{env, time::Duration};

use clap::Args;
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde_json::Value;

use super::CommandError;
use crate::https_client::{self, with_cause};

/// How long an answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the token is looked for, so that it need not stand on the command line, where every user of the machine sees it.
const TOKEN_VARIABLE: &str = "TURNSTILED_TOKEN";

/// Which daemon, and who asks.
#[derive(Debug, Args)]
pub(super) struct Daemon {
    /// Where the daemon listens
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// A token with the role admin; without it that in TURNSTILED_TOKEN
    #[arg(long, global = true)]
    token: Option<String>,
}

/// A part of a daemon's API.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    url: Url,
    token: String,
    part: &'static str,
}

/// Why there is no answer that can be used.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The daemon cannot be reached, or is too busy; it may be restarting.
    Away(String),
    /// It says no.
    Refused(String),
}

/// A client that speaks to the daemon alone, whatever proxies the environment names.
pub(super) fn new() -> Result<Client, CommandError> {
    let client = https_client::builder().map_err(|error| error.to_string())?;
    Ok(client.no_proxy().timeout(REQUEST_TIMEOUT).build().map_err(|error| with_cause(&error))?)
}

/// A service's words, without what a terminal would take for orders.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

impl Daemon {
    /// Its resources `/v1/{part}` and below.
    pub(super) fn api(self, part: &'static str) -> Result<Api, CommandError> {
        let Self { url, token } = self;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{url} is no http:// or https:// URL").into());
        }
        let token = token.or_else(|| env::var(TOKEN_VARIABLE).ok());
        let token = token.ok_or_else(|| format!("no token: give --token, or set {TOKEN_VARIABLE}"))?;
        Ok(Api { client: new()?, url, token: token.trim().to_owned(), part })
    }
}

impl Api {
    /// A request to a resource below the part.
    pub(super) fn request(&self, method: Method, below: &[&str]) -> Result<RequestBuilder, NoAnswer> {
        self.request_with(method, below, &[])
    }

    /// The same with those parameters that have a value.
    pub(super) fn request_with(
        &self,
        method: Method,
        below: &[&str],
        query: &[(&str, Option<&str>)],
    ) -> Result<RequestBuilder, NoAnswer> {
        let mut url = self.url.clone();
        let mut path = url
            .path_segments_mut()
            .map_err(|()| NoAnswer::Refused(format!("{} cannot be a base", self.url)))?;
        path.pop_if_empty().extend(["v1", self.part]).extend(below);
        drop(path);
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let request = self.client.request(method, url).bearer_auth(&self.token);
        Ok(request.header("content-type", "application/json"))
    }

    /// The status and the JSON of the answer; null if there is none.
    pub(super) async fn ask(&self, request: RequestBuilder) -> Result<(StatusCode, Value), NoAnswer> {
        let away = |error| NoAnswer::Away(with_cause(&error));
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(away)?;
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok((status, json));
        }
        let detail = format!("{status}: {}", visible(&detail(&json)));
        Err(if status == StatusCode::SERVICE_UNAVAILABLE {
            NoAnswer::Away(detail)
        } else {
            NoAnswer::Refused(detail)
        })
    }
}

/// What a problem document says, every field of it.
fn detail(problem: &Value) -> String {
    let detail = problem.get("detail").and_then(Value::as_str);
    let mut text = detail.unwrap_or("it is not turnstiled that answers").to_owned();
    for error in problem.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let [field, what] =
            ["field", "detail"].map(|name| error.get(name).and_then(Value::as_str).unwrap_or_default());
        text.push_str(&format!("; {field} {what}"));
    }
    text
}

impl From<NoAnswer> for CommandError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Away(why) => format!("the daemon does not answer: {why}").into(),
            NoAnswer::Refused(why) => why.into(),
        }
    }
}
