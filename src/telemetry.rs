//! Where the daemon's own log goes: stderr, for people or for machines. Data goes to stdout. A line about a request or an
//! event carries the id of its trace.

mod lines;

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter,
    fmt::{self, format::JsonFields},
};

use self::lines::{TracedFields, TracedJson};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What is not logged unless `RUST_LOG` names it: the web server's own greetings, and its line for each connection that does not
/// speak HTTP, of which anyone on the LAN can make thousands a second.
const QUIET: &str = "actix_server=warn,actix_http=off";

/// Begins to log to stderr. `RUST_LOG` says what; without it, or with an empty one, everything from
/// `default_level` on.
pub fn init(format: LogFormat, default_level: &str) {
    let chosen = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let chosen = if chosen.trim().is_empty() { default_level } else { &chosen };
    // what cannot be read is left out, with a line on stderr
    let filter = EnvFilter::new(format!("{QUIET},{chosen}"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let begun = match format {
        LogFormat::Human => {
            let lines = lines.with_ansi(io::stderr().is_terminal()).with_target(false);
            lines.fmt_fields(TracedFields).try_init()
        }
        LogFormat::Json => {
            let json = TracedJson(fmt::format().json().flatten_event(true));
            lines.fmt_fields(JsonFields::new()).event_format(json).try_init()
        }
    };
    // A second call in one process, as in tests, keeps the first.
    drop(begun);
}
