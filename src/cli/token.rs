//! `turnstiled token`: a person's token from the local issuer.

use std::{io::Write, time::Duration};

use clap::Args;

use super::{CommandError, ConfigFile, Verdict};
use crate::{
    config::{auth::JwtConfig, duration::parse_duration},
    data_dir::create_private_dir,
    domain::ids::BuildingId,
    http::auth::{local_issuer::LocalIssuer, person::Grant},
};

/// The longest life of a token. Longer needs an identity provider.
const MAX_TTL: Duration = Duration::from_secs(31 * 24 * 3_600);

/// For whom, and for how long.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// Roles, separated by commas: hr, auditor, security, admin, each possibly for one building, such as
    /// security@hq
    #[arg(long, value_delimiter = ',', required = true)]
    role: Vec<Grant>,
    /// Whose token it is; part of every event that it causes
    #[arg(long, default_value = "local")]
    subject: String,
    /// How long it counts, such as 8h; at most 31d
    #[arg(long, default_value = "8h", value_parser = ttl)]
    ttl: Duration,
    #[command(flatten)]
    file: ConfigFile,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).map_err(|error| error.to_string())?;
    if ttl.is_zero() || ttl > MAX_TTL {
        Err("must be longer than 0s and at most 31d".to_owned())
    } else {
        Ok(ttl)
    }
}

pub(super) fn run(token: &Token, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let config = token.file.load()?;
    if config.auth.jwt != Some(JwtConfig::Local) {
        return Err(
            "[auth] jwt is not { local = true }: this server takes no tokens of its own making".into()
        );
    }
    let known =
        |building: &BuildingId| config.buildings.iter().any(|known| known.rules.building == *building);
    if let Some(building) =
        token.role.iter().filter_map(|grant| grant.building.as_ref()).find(|id| !known(id))
    {
        return Err(format!("no building {:?} in the configuration", building.as_str()).into());
    }
    let bad = |c: char| c.is_control() || c.is_whitespace();
    if token.subject.is_empty() || token.subject.len() > 128 || token.subject.contains(bad) {
        return Err("--subject must be 1 to 128 characters without spaces".into());
    }
    create_private_dir(&config.server.data_dir)?;
    let issuer = LocalIssuer::open(&config.server.data_dir, &config.server.id)?;
    writeln!(out, "{}", issuer.issue(&token.subject, &token.role, token.ttl)?)?;
    Ok(Verdict::Passed)
}
