//! `turnstiled demo`: a whole site for a few seconds. The daemon is the real one, the turnstiles are real
//! HTTP clients; the people are made up, and what the daemon says about them is checked.
//!
//! `people` and `day` say who does what when, `clock` when that is; `walk` does it at a `turnstile`, `load`
//! drives everyone and counts `takings`; `model` and `audit` check; `summary` tells.

mod audit;
mod chance;
mod clock;
mod day;
mod files;
mod http;
mod load;
mod model;
mod office;
mod people;
mod progress;
mod setting;
mod summary;
mod takings;
mod turnstile;
mod walk;

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};

use self::{
    clock::DayClock,
    load::{Done, Job},
    people::staff,
    setting::Setting,
    summary::Summary,
};
use super::{CommandError, Verdict};
use crate::{
    app::{App, block_on},
    config::{duration::parse_duration, server::is_exposed},
};

/// The fewest employees: one of each kind.
const MIN_EMPLOYEES: i64 = people::CAST_SIZE as i64;
/// The most employees: a card is registered for each before the load begins.
const MAX_EMPLOYEES: i64 = 20_000;
/// The slowest and the fastest clock.
const SPEED: std::ops::RangeInclusive<f64> = 0.01..=100.0;
/// The longest load.
const MAX_LENGTH: Duration = Duration::from_secs(3_600);

/// How big a demonstration.
#[derive(Debug, Args)]
pub struct Demo {
    /// How many people come and go
    #[arg(long, value_name = "N", default_value_t = 2_000,
          value_parser = clap::value_parser!(u32).range(MIN_EMPLOYEES..=MAX_EMPLOYEES))]
    employees: u32,
    /// How fast the simulated clock runs: so many working days go by in the time of --for
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// How long people come and go
    #[arg(long = "for", value_name = "TIME", default_value = "20s", value_parser = length)]
    length: Duration,
    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Listen on an address that is not loopback: keys and tokens go over it unencrypted
    #[arg(long)]
    allow_plain_http: bool,
    /// Go on serving afterwards, until Ctrl-C, and show a key and a token to try it with
    #[arg(long)]
    keep: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().map_err(|error| error.to_string())?;
    if SPEED.contains(&speed) {
        Ok(speed)
    } else {
        Err(format!("must be {} to {}", SPEED.start(), SPEED.end()))
    }
}

fn length(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text).map_err(|error| error.to_string())?;
    if length.is_zero() || length > MAX_LENGTH {
        Err("must be longer than 0s and at most 1h".to_owned())
    } else {
        Ok(length)
    }
}

/// Runs the demo; the summary goes to `out`, progress to stderr.
///
/// # Errors
/// If the demo cannot be carried through. A demo that found something wrong is [`Verdict::Failed`].
pub fn run(demo: &Demo, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    if is_exposed(demo.listen) && !demo.allow_plain_http {
        let problem = "is not loopback, and the demo speaks plain HTTP: say --allow-plain-http, too";
        return Err(format!("--listen {} {problem}", demo.listen).into());
    }
    let setting = Setting::make(demo.employees, demo.listen)?;
    block_on(demo.show(setting, out))
}

impl Demo {
    async fn show(&self, mut setting: Setting, out: &mut dyn Write) -> Result<Verdict, CommandError> {
        let mut interrupts = Interrupts::listen()?;
        let (app, _) = App::start(setting.config.clone()).await?;
        setting.keep();
        let people = staff(self.employees);
        let clock = DayClock::new(self.length, self.speed);
        let stop = Arc::new(watch::Sender::new(false));
        let job = Job {
            address: app.address(),
            token: setting.token.clone(),
            places: setting.places.clone(),
            people: people.clone(),
            clock,
            length: self.length,
            stop: Arc::clone(&stop),
        };
        let carried_out = carry_out(job, &stop, &mut interrupts).await;
        let (mut done, is_interrupted) =
            carried_out.map_err(|error| format!("{error}; the files are in {}", setting.dir().display()))?;
        let days = clock.days(done.elapsed.min(self.length));
        let files = files::of_sinks(&setting, &mut done.audit)?;
        let summary = Summary { setting: &setting, done: &done, files: &files, people: people.len(), days };
        summary.write(out)?;
        if self.keep && !is_interrupted {
            summary.write_next_online(app.address(), &people, out)?;
            interrupts.next().await;
        }
        app.stop().await;
        summary.write_next_offline(out)?;
        Ok(if summary.is_clean() { Verdict::Passed } else { Verdict::Failed })
    }
}

/// The load on a thread of its own; an interrupt ends it early.
async fn carry_out(
    job: Job,
    stop: &watch::Sender<bool>,
    interrupts: &mut Interrupts,
) -> Result<(Done, bool), CommandError> {
    let (reply, mut done) = oneshot::channel();
    std::thread::Builder::new().name("demo".to_owned()).spawn(move || {
        // nobody waits any more only if the demo has ended
        drop(reply.send(load::run(job)));
    })?;
    let mut is_interrupted = false;
    loop {
        tokio::select! {
            done = &mut done => {
                let done = done.map_err(|_| "the load ended without a result")?;
                return Ok((done?, is_interrupted));
            }
            () = interrupts.next() => {
                is_interrupted = true;
                stop.send_replace(true);
            }
        }
    }
}

/// SIGINT and SIGTERM.
struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn listen() -> std::io::Result<Self> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
