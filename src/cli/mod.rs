//! The commands: one file each. Data goes to stdout, everything else to stderr; `main` makes the exit code.

pub mod check;
mod client;
pub mod demo;
mod dlq;
mod keys;
mod package;
mod replay;
mod run;
pub mod test_routes;
mod token;
mod wal;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{Config, ConfigErrors},
    http::health::OPENAPI,
    telemetry::{self, LogFormat},
};

/// An event server for buildings: turnstiles ask it, its log remembers, AWS hears of everything.
#[derive(Debug, Parser)]
#[command(name = "turnstiled", version, about)]
pub struct Arguments {
    /// How log lines on stderr look; RUST_LOG says which
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// Which configuration a command works with.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// The configuration; without it routes.toml in the working directory, else the built-in default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or SIGINT; SIGHUP reloads routes, sinks and gates
    Run(ConfigFile),
    /// Show the whole job: a rush hour in two buildings on this machine, nothing needed
    Demo(demo::Demo),
    /// Validate a configuration and print where each type of event goes
    Check(ConfigFile),
    /// Run the [[tests]] of a configuration
    TestRoutes(ConfigFile),
    /// API keys of turnstiles and panels
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Make a token for a person, alone on stdout (with jwt = { local = true })
    Token(token::Token),
    /// Dead letters of a running daemon: what a service called invalid
    Dlq(dlq::Dlq),
    /// Send events again through a running daemon: from its log or an archive to a sink
    Replay(replay::Replay),
    /// Look at the log of a stopped daemon
    #[command(subcommand)]
    Wal(wal::Wal),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    /// Print completions of a shell, such as for ~/.local/share/bash-completion/completions/turnstiled
    Completions(package::Completions),
    /// Write a man page of each command into a directory
    Man(package::Man),
}

/// How a command ended, if it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done, nothing found: exit code 0.
    Passed,
    /// A finding, or a refused configuration: exit code 1.
    Failed,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::SUCCESS,
            Verdict::Failed => Self::FAILURE,
        }
    }
}

/// What a command may fail with; `main` prints it.
pub type CommandError = Box<dyn std::error::Error>;

/// `1 finding`, `2 findings`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Runs one command.
///
/// # Errors
/// What it failed with, in words for the operator.
pub fn run(arguments: Arguments) -> Result<Verdict, CommandError> {
    let default_level = match arguments.command {
        // its progress and its summary say what there is to say
        Command::Demo(_) => "warn",
        _ => "info",
    };
    telemetry::init(arguments.log_format, default_level);
    // Not locked: the stdout sink of a daemon writes there, too.
    let (mut out, mut err) = (io::stdout(), io::stderr());
    match arguments.command {
        Command::Run(file) => run::run(&file),
        Command::Demo(demo) => demo::run(&demo, &mut out),
        Command::Check(file) => Ok(check::run(file.config.as_deref(), &mut out, &mut err)?),
        Command::TestRoutes(file) => Ok(test_routes::run(file.config.as_deref(), &mut out, &mut err)?),
        Command::Keys(keys) => keys::run(keys, &mut out),
        Command::Token(token) => token::run(&token, &mut out),
        Command::Dlq(dlq) => dlq::run(dlq, &mut out),
        Command::Replay(replay) => replay::run(replay, &mut out, &mut err),
        Command::Wal(wal) => wal::run(wal, &mut out),
        Command::Openapi => {
            out.write_all(OPENAPI.as_bytes())?;
            Ok(Verdict::Passed)
        }
        Command::Completions(completions) => package::complete(&completions, &mut out),
        Command::Man(man) => package::man(&man),
    }
}

impl ConfigFile {
    /// The configuration; its warnings go to the log.
    fn load(&self) -> Result<Config, ConfigErrors> {
        let config = Config::load_or_embedded(self.config.as_deref())?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}
