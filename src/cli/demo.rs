//! `turnstiled demo`
use std::{net::SocketAddr, time::Duration};

use clap::Args;

use super::{CommandError, Verdict};

/// How big a demonstration.
#[derive(Debug, Args)]
pub struct Demo {
    /// How many people come and go
    #[arg(long, default_value_t = 500)]
    employees: u32,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

pub(super) fn run(_: &Demo) -> Result<Verdict, CommandError> {
    Ok(Verdict::Passed)
}
