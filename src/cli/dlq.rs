//! `turnstiled dlq`: dead letters, over the HTTP API of a running daemon.

use std::{env, fmt, io::Write};

use clap::{Args, Subcommand};
use reqwest::{Client, Method, RequestBuilder, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CommandError, Verdict, client};
use crate::app::block_on;

/// Where the token is looked for, so that it need not stand on the command line, where every user of the machine sees it.
const TOKEN_VARIABLE: &str = "TURNSTILED_TOKEN";
/// Ids in one request; more are several requests.
const MAX_REDRIVE_IDS: usize = 100;

/// What to do with dead letters.
#[derive(Debug, Args)]
pub(super) struct Dlq {
    #[command(subcommand)]
    act: Act,
    /// Where the daemon listens
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// A token with the role admin; without it that in TURNSTILED_TOKEN
    #[arg(long, global = true)]
    token: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// List dead letters, one a line: id, state, attempts, first and last time, code, text, with tabs between them
    List {
        /// Only those of this sink
        #[arg(long)]
        sink: Option<String>,
    },
    /// Show one with its event, as JSON
    Show {
        /// Such as exits:00000000000000000042
        id: String,
    },
    /// Send dead letters to their sinks again
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Redrive {
        /// These
        #[arg(group = "which")]
        ids: Vec<String>,
        /// All of this sink
        #[arg(long, group = "which")]
        sink: Option<String>,
        /// All of every sink
        #[arg(long, group = "which")]
        all: bool,
    },
    /// Throw one away: its sink never gets that event
    Discard {
        /// Such as exits:00000000000000000042
        id: String,
        /// Why; it is recorded with who did it
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Letter>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Letter {
    id: String,
    code: String,
    text: String,
    attempts: u32,
    first_at: String,
    last_at: String,
    redriving: bool,
}

#[derive(Debug, Deserialize)]
struct Redriven {
    letters: u64,
}

#[derive(Debug)]
struct Api {
    client: Client,
    url: Url,
    token: String,
}

pub(super) fn run(dlq: Dlq, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let Dlq { act, url, token } = dlq;
    if url.scheme() != "http" {
        return Err(format!("{url} is no http:// URL; this version speaks no TLS").into());
    }
    let token = token.or_else(|| env::var(TOKEN_VARIABLE).ok());
    let token = token.ok_or_else(|| format!("no token: give --token, or set {TOKEN_VARIABLE}"))?;
    let api = Api { client: client::new()?, url, token: token.trim().to_owned() };
    block_on(async {
        match act {
            Act::List { sink } => api.list(sink.as_deref(), out).await?,
            Act::Show { id } => {
                let letter = api.ask(api.request(Method::GET, &[&id])?).await?;
                writeln!(out, "{letter:#}")?;
            }
            Act::Redrive { ids, sink, .. } => api.redrive(&ids, sink, out).await?,
            Act::Discard { id, reason } => {
                let request =
                    api.request(Method::DELETE, &[&id])?.body(json!({ "reason": reason }).to_string());
                api.ask(request).await?;
                writeln!(out, "discarded {id}")?;
            }
        }
        Ok(Verdict::Passed)
    })
}

impl Api {
    /// A request to `/v1/dead-letters` and below.
    fn request(&self, method: Method, below: &[&str]) -> Result<RequestBuilder, CommandError> {
        let mut url = self.url.clone();
        let mut path = url.path_segments_mut().map_err(|()| format!("{} cannot be a base", self.url))?;
        path.pop_if_empty().extend(["v1", "dead-letters"]).extend(below);
        drop(path);
        Ok(self
            .client
            .request(method, url)
            .bearer_auth(&self.token)
            .header("content-type", "application/json"))
    }

    /// The answer's JSON; null if there is none.
    async fn ask(&self, request: RequestBuilder) -> Result<Value, CommandError> {
        let answer = request.send().await.map_err(|error| client::with_cause(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| client::with_cause(&error))?;
        if !status.is_success() {
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            let detail = problem.get("detail").and_then(Value::as_str);
            let detail = detail.unwrap_or("it is not turnstiled that answers");
            return Err(format!("{status}: {}", visible(detail)).into());
        }
        if body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&body)?) }
    }

    async fn list(&self, sink: Option<&str>, out: &mut impl Write) -> Result<(), CommandError> {
        let mut cursor = None;
        loop {
            let query = [("sink", sink), ("cursor", cursor.as_deref())];
            let query: Vec<_> = query.into_iter().filter(|(_, value)| value.is_some()).collect();
            let mut url = self.request(Method::GET, &[])?.build()?;
            for (name, value) in query {
                url.url_mut().query_pairs_mut().append_pair(name, value.unwrap_or_default());
            }
            let page = self.ask(RequestBuilder::from_parts(self.client.clone(), url)).await?;
            let Page { items, next_cursor } = serde_json::from_value(page)?;
            for letter in items {
                writeln!(out, "{letter}")?;
            }
            cursor = next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn redrive(
        &self,
        ids: &[String],
        sink: Option<String>,
        out: &mut impl Write,
    ) -> Result<(), CommandError> {
        let bodies: Vec<Value> = match sink {
            Some(sink) => vec![json!({ "sink": sink })],
            None if ids.is_empty() => vec![json!({})],
            None => ids.chunks(MAX_REDRIVE_IDS).map(|ids| json!({ "ids": ids })).collect(),
        };
        for body in bodies {
            let answer = self.ask(self.request(Method::POST, &["redrive"])?.body(body.to_string())).await?;
            let Redriven { letters } = serde_json::from_value(answer)?;
            writeln!(out, "{letters} on their way")?;
        }
        Ok(())
    }
}

/// One line, its fields apart by tabs: what a service wrote comes last.
impl fmt::Display for Letter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, code, text, attempts, first_at, last_at, redriving } = self;
        let state = if *redriving { "redriving" } else { "dead" };
        let (code, text) = (visible(code), visible(text));
        write!(out, "{id}\t{state}\t{attempts}\t{first_at}\t{last_at}\t{code}\t{text}")
    }
}

/// A service's words, without what a terminal would take for orders.
fn visible(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
