//! `turnstiled replay`: begins a replay in a running daemon, or attaches to it, and watches it to its end.

mod report;
mod troubles;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value};

use self::{
    report::{Objects, Report},
    troubles::Troubles,
};
use super::{
    CommandError, Verdict,
    client::{Api, Daemon, NoAnswer},
};
use crate::{
    app::block_on,
    domain::{
        ids::{BuildingId, CardId, ReplayName},
        pattern::Pattern,
        replay::{STATE, WAL},
        time::Timestamp,
    },
};

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
    #[command(flatten)]
    daemon: Daemon,
}

fn parse<T: TryFrom<String>>(text: &str) -> Result<T, T::Error> {
    T::try_from(text.to_owned())
}

pub(super) fn run(
    replay: Replay,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<Verdict, CommandError> {
    let order = replay.order()?;
    let api = replay.daemon.api("replays")?;
    block_on(async {
        let report = begin(&api, &order, replay.again, err).await?;
        let report = watch(&api, report, err).await?;
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

async fn begin(api: &Api, order: &Value, again: bool, err: &mut impl Write) -> Result<Report, CommandError> {
    let (status, report) = post(api, order).await?;
    if status == StatusCode::CREATED {
        return Ok(report);
    }
    if report.state == "running" {
        writeln!(err, "attached to {}, which began at {}", report.name, report.created_at)?;
        return Ok(report);
    }
    // what sends nothing may be done again without asking
    if again || report.dry_run || report.to == STATE {
        api.ask(api.request(Method::DELETE, &[&report.name])?).await?;
        return Ok(post(api, order).await?.1);
    }
    let ended = report.finished_at.as_deref().unwrap_or_default();
    writeln!(err, "{} was over at {ended}; --again sends the events once more", report.name)?;
    Ok(report)
}

async fn post(api: &Api, order: &Value) -> Result<(StatusCode, Report), CommandError> {
    let (status, body) = api.ask(api.request(Method::POST, &[])?.body(order.to_string())).await?;
    Ok((status, serde_json::from_value(body)?))
}

async fn watch(api: &Api, mut report: Report, err: &mut impl Write) -> Result<Report, CommandError> {
    let bar = ProgressBar::new(report.total.unwrap_or(0));
    bar.set_style(ProgressStyle::with_template(if report.total.is_some() { BAR } else { OBJECTS_BAR })?);
    let mut seen = Instant::now();
    let mut troubles = Troubles::default();
    while report.state == "running" {
        match report.objects {
            Some(Objects { done, total }) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            None => bar.set_position(report.scanned),
        }
        bar.set_message(report.progress());
        if let Some(line) = troubles.line(&report, Instant::now()) {
            bar.suspend(|| writeln!(err, "{line}"))?;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        match api.ask(api.request(Method::GET, &[&report.name])?).await {
            Ok((_, body)) => {
                report = serde_json::from_value(body)?;
                seen = Instant::now();
            }
            Err(NoAnswer::Away(why)) if seen.elapsed() < RESTART_LIMIT => {
                bar.set_message(format!("no answer: {why}"));
            }
            Err(NoAnswer::Away(why)) => {
                bar.abandon();
                let text = "the replay goes on when the daemon runs; the same command attaches to it again";
                return Err(format!("the daemon does not answer: {why}; {text}").into());
            }
            Err(refused) => return Err(refused.into()),
        }
    }
    bar.finish_and_clear();
    Ok(report)
}
