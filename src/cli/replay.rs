//! `turnstiled replay`: begins a replay in a running daemon, or attaches to it, and watches it to its end.

use std::{
    env,
    io::Write,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CommandError, Verdict, client};
use crate::{
    app::block_on,
    domain::{
        ids::{BuildingId, CardId, ReplayName},
        pattern::Pattern,
        replay::WAL,
        time::Timestamp,
    },
};

/// Where the token is looked for, so that it need not stand on the command line, where every user of the machine sees it.
const TOKEN_VARIABLE: &str = "TURNSTILED_TOKEN";
/// How often to look how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a daemon that is being restarted is waited for.
const RESTART_LIMIT: Duration = Duration::from_secs(60);
/// How the bar looks.
const BAR: &str = "{elapsed_precise} {bar:40} {pos}/{len} looked at, {msg}";
/// How it looks for an archive, of which nobody knows how many events it has.
const OBJECTS_BAR: &str = "{elapsed_precise} {bar:40} {pos}/{len} objects, {msg}";

/// Which events, and where to.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// wal for the daemon's own log, s3://BUCKET/PREFIX, or a directory of the daemon's machine
    #[arg(long, value_name = "wal|s3://B/P|DIR")]
    from: String,
    /// A sink, or state
    #[arg(long, value_name = "SINK|state")]
    to: String,
    /// Events of this moment and later ones, such as 2026-11-20T08:00:00Z
    #[arg(long, value_name = "T")]
    since: Option<Timestamp>,
    /// Events before this moment
    #[arg(long, value_name = "T")]
    until: Option<Timestamp>,
    /// Events of this building
    #[arg(long, value_name = "B", value_parser = parse::<BuildingId>)]
    building: Option<BuildingId>,
    /// Events of these types, such as access.exit.* or card.**
    #[arg(long = "type", value_name = "GLOB")]
    types: Option<Pattern>,
    /// Events of this card
    #[arg(long, value_name = "C", value_parser = parse::<CardId>)]
    card: Option<CardId>,
    /// Events a second at most
    #[arg(long, value_name = "N")]
    rate: Option<std::num::NonZeroU32>,
    /// Send nothing, count what would be sent
    #[arg(long)]
    dry_run: bool,
    /// What it is called; without it a name that is always the same for the same replay
    #[arg(long, value_parser = parse::<ReplayName>)]
    name: Option<ReplayName>,
    /// Begin anew if the same replay is over already, instead of showing how it ended
    #[arg(long)]
    again: bool,
    /// Where the daemon listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// A token with the role admin; without it that in TURNSTILED_TOKEN
    #[arg(long)]
    token: Option<String>,
}

/// How a replay stands, as far as this shows it.
#[derive(Debug, Deserialize)]
struct Report {
    name: String,
    state: String,
    to: String,
    dry_run: bool,
    created_at: String,
    finished_at: Option<String>,
    matched: u64,
    delivered: u64,
    refused: u64,
    scanned: u64,
    total: Option<u64>,
    objects: Option<Objects>,
    others: u64,
    unreadable: u64,
    problems: Vec<String>,
    range: Option<Range>,
    trimmed: Option<Range>,
    refusals: Vec<Refusal>,
    last_error: Option<LastError>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Objects {
    done: u64,
    total: u64,
}

#[derive(Debug, Deserialize)]
struct Range {
    first: String,
    last: String,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    event_id: String,
    code: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct LastError {
    code: String,
    text: String,
}

#[derive(Debug)]
struct Api {
    client: Client,
    url: Url,
    token: String,
}

/// Why there is no answer that can be used.
#[derive(Debug)]
enum NoAnswer {
    /// The daemon cannot be reached; it may be restarting.
    Away(String),
    /// It says no.
    Refused(String),
}

fn parse<T: TryFrom<String>>(text: &str) -> Result<T, T::Error> {
    T::try_from(text.to_owned())
}

pub(super) fn run(
    replay: &Replay,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<Verdict, CommandError> {
    if replay.url.scheme() != "http" {
        return Err(format!("{} is no http:// URL; this version speaks no TLS", replay.url).into());
    }
    let token = replay.token.clone().or_else(|| env::var(TOKEN_VARIABLE).ok());
    let token = token.ok_or_else(|| format!("no token: give --token, or set {TOKEN_VARIABLE}"))?;
    let api = Api { client: client::new()?, url: replay.url.clone(), token: token.trim().to_owned() };
    let order = replay.order()?;
    block_on(async {
        let report = api.begin(&order, replay.again, err).await?;
        let report = api.watch(report).await?;
        report.conclude(replay.since.is_none(), out, err)
    })
}

impl Replay {
    fn order(&self) -> Result<Value, CommandError> {
        let mut order = Map::new();
        let from = match self.from.as_str() {
            from if from == WAL || from.starts_with("s3://") => from.to_owned(),
            // the daemon has another working directory
            dir => std::path::absolute(dir)?.display().to_string(),
        };
        order.insert("from".to_owned(), from.into());
        order.insert("to".to_owned(), self.to.clone().into());
        let texts = [
            ("name", self.name.as_ref().map(ToString::to_string)),
            ("since", self.since.map(|since| since.to_string())),
            ("until", self.until.map(|until| until.to_string())),
            ("building", self.building.as_ref().map(ToString::to_string)),
            ("type", self.types.as_ref().map(ToString::to_string)),
            ("card", self.card.as_ref().map(ToString::to_string)),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                order.insert(name.to_owned(), text.into());
            }
        }
        if let Some(rate) = self.rate {
            order.insert("rate".to_owned(), rate.get().into());
        }
        order.insert("dry_run".to_owned(), self.dry_run.into());
        Ok(order.into())
    }
}

impl Api {
    async fn begin(&self, order: &Value, again: bool, err: &mut impl Write) -> Result<Report, CommandError> {
        let (status, report) = self.post(order).await?;
        if status == StatusCode::CREATED {
            return Ok(report);
        }
        if report.state == "running" {
            writeln!(err, "attached to {}, which began at {}", report.name, report.created_at)?;
            return Ok(report);
        }
        // what sends nothing may be done again without asking
        if again || report.dry_run {
            self.ask(Method::DELETE, &[&report.name], None).await?;
            return Ok(self.post(order).await?.1);
        }
        let ended = report.finished_at.as_deref().unwrap_or_default();
        writeln!(err, "{} was over at {ended}; --again sends the events once more", report.name)?;
        Ok(report)
    }

    async fn post(&self, order: &Value) -> Result<(StatusCode, Report), CommandError> {
        let (status, body) = self.ask(Method::POST, &[], Some(order)).await?;
        Ok((status, serde_json::from_value(body)?))
    }

    async fn watch(&self, mut report: Report) -> Result<Report, CommandError> {
        let bar = ProgressBar::new(report.total.unwrap_or(0));
        bar.set_style(ProgressStyle::with_template(if report.total.is_some() { BAR } else { OBJECTS_BAR })?);
        let mut seen = Instant::now();
        while report.state == "running" {
            match report.objects {
                Some(Objects { done, total }) => {
                    bar.set_length(total);
                    bar.set_position(done);
                }
                None => bar.set_position(report.scanned),
            }
            bar.set_message(report.progress());
            tokio::time::sleep(LOOK_EVERY).await;
            match self.ask(Method::GET, &[&report.name], None).await {
                Ok((_, body)) => {
                    report = serde_json::from_value(body)?;
                    seen = Instant::now();
                }
                Err(NoAnswer::Away(why)) if seen.elapsed() < RESTART_LIMIT => {
                    bar.set_message(format!("no answer: {why}"));
                }
                Err(NoAnswer::Away(why)) => {
                    bar.abandon();
                    let text =
                        "the replay goes on when the daemon runs; the same command attaches to it again";
                    return Err(format!("the daemon does not answer: {why}; {text}").into());
                }
                Err(refused) => return Err(refused.into()),
            }
        }
        bar.finish_and_clear();
        Ok(report)
    }

    /// The status and the JSON of an answer; no JSON is null.
    async fn ask(
        &self,
        method: Method,
        below: &[&str],
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), NoAnswer> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| NoAnswer::Refused(format!("{} is no base of a URL", self.url)))?
            .pop_if_empty()
            .extend(["v1", "replays"])
            .extend(below);
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let text = answer.text().await.map_err(away)?;
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok((status, json));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Err(NoAnswer::Away(detail(&json, status)));
        }
        Err(NoAnswer::Refused(detail(&json, status)))
    }
}

fn away(error: reqwest::Error) -> NoAnswer {
    NoAnswer::Away(client::with_cause(&error))
}

/// What a problem document says, every field of it.
fn detail(problem: &Value, status: StatusCode) -> String {
    let mut text = problem["detail"].as_str().map_or_else(|| status.to_string(), str::to_owned);
    for error in problem["errors"].as_array().into_iter().flatten() {
        let (field, what) = (error["field"].as_str(), error["detail"].as_str());
        text.push_str(&format!("; {} {}", field.unwrap_or_default(), what.unwrap_or_default()));
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

impl Report {
    fn progress(&self) -> String {
        let done = match self.dry_run {
            true => format!("{} would be sent", self.matched),
            false => format!("{} delivered, {} refused", self.delivered, self.refused),
        };
        match &self.last_error {
            Some(LastError { code, .. }) => format!("{done}; last error: {code}"),
            None => done,
        }
    }

    /// Says how it ended. It failed if anything that was asked for was not sent.
    fn conclude(
        &self,
        may_be_cut: bool,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> Result<Verdict, CommandError> {
        let begin = self.range.as_ref().filter(|_| may_be_cut).map(|range| range.first.as_str());
        if let Some(first) = begin.filter(|first| first.parse::<u64>().is_ok_and(|first| first > 1)) {
            writeln!(err, "the log begins with sequence {first}; what came before is in the archive")?;
        }
        if let Some(Range { first, last }) = &self.trimmed {
            writeln!(
                err,
                "sequences {first} to {last} are no longer in the log; replay them from the archive"
            )?;
        }
        if self.others > 0 {
            writeln!(err, "{} events of other servers are not replayed", self.others)?;
        }
        for problem in &self.problems {
            writeln!(err, "{problem}")?;
        }
        let unnamed = self.unreadable.saturating_sub(self.problems.len() as u64);
        if unnamed > 0 {
            writeln!(err, "and {unnamed} more lines that are no events")?;
        }
        for Refusal { event_id, code, text } in &self.refusals {
            writeln!(err, "refused: {event_id}: {code}: {text}")?;
        }
        if self.state == "failed" {
            let why = self.last_error.as_ref().map_or("", |error| error.text.as_str());
            writeln!(err, "the replay failed: {why}")?;
        }
        match self.dry_run {
            true => {
                writeln!(out, "{} of {} events would be sent to {}", self.matched, self.scanned, self.to)?
            }
            false => writeln!(
                out,
                "{} of {} events delivered to {}, {} refused",
                self.delivered, self.scanned, self.to, self.refused
            )?,
        }
        let is_whole =
            self.state == "done" && self.refused == 0 && self.unreadable == 0 && self.trimmed.is_none();
        Ok(if is_whole { Verdict::Passed } else { Verdict::Failed })
    }
}
