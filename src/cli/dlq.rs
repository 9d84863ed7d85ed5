//! `turnstiled dlq`: dead letters, over the HTTP API of a running daemon.

use std::{fmt, io::Write};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    CommandError, Verdict,
    client::{Api, Daemon, visible},
};
use crate::app::block_on;

/// Ids in one request; more are several requests.
const MAX_REDRIVE_IDS: usize = 100;

/// What to do with dead letters.
#[derive(Debug, Args)]
pub(super) struct Dlq {
    #[command(subcommand)]
    act: Act,
    #[command(flatten)]
    daemon: Daemon,
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

pub(super) fn run(dlq: Dlq, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let api = dlq.daemon.api("dead-letters")?;
    block_on(async {
        match dlq.act {
            Act::List { sink } => list(&api, sink.as_deref(), out).await?,
            Act::Show { id } => {
                let (_, letter) = api.ask(api.request(Method::GET, &[&id])?).await?;
                writeln!(out, "{letter:#}")?;
            }
            Act::Redrive { ids, sink, .. } => redrive(&api, &ids, sink, out).await?,
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

async fn list(api: &Api, sink: Option<&str>, out: &mut impl Write) -> Result<(), CommandError> {
    let mut cursor: Option<String> = None;
    loop {
        let query = [("sink", sink), ("cursor", cursor.as_deref())];
        let (_, page) = api.ask(api.request_with(Method::GET, &[], &query)?).await?;
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
    api: &Api,
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
        let (_, answer) = api.ask(api.request(Method::POST, &["redrive"])?.body(body.to_string())).await?;
        let Redriven { letters } = serde_json::from_value(answer)?;
        writeln!(out, "{letters} on their way")?;
    }
    Ok(())
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
