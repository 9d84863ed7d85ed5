//! `[auth]`: where device keys lie and who issues people's tokens.

use std::path::{Path, PathBuf};

use super::{
    limits::{DEFAULT_DATA_DIR, DEFAULT_DEVICES_FILE, DEFAULT_ROLES_CLAIM, MAX_AUDIENCES, MAX_CLAIM_BYTES},
    reader::TableReader,
    server::ServerConfig,
    value::Value,
};
use crate::domain::provider::{KeySource, Provider, TrustedUrl};

/// The validated section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// The file of device keys; `devices.toml` in the data dir unless it is given.
    pub devices: PathBuf,
    /// Who issues people's tokens; `None`: nobody, and the people's endpoints refuse everyone.
    pub jwt: Option<JwtConfig>,
}

/// Who issues people's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtConfig {
    /// This server itself, by `turnstiled token`.
    Local,
    /// An OpenID provider.
    OpenId(Provider),
}

/// `server` is `None` if its section is wrong.
pub(super) fn read(mut table: TableReader<'_>, server: Option<&ServerConfig>) -> Option<AuthConfig> {
    let devices = match table.optional("devices") {
        Some(value) => value.path(),
        None => {
            let data_dir = server.map_or(Path::new(DEFAULT_DATA_DIR), |server| &server.data_dir);
            Some(data_dir.join(DEFAULT_DEVICES_FILE))
        }
    };
    let is_local_allowed = table.optional("allow_local_issuer").and_then(|value| value.boolean());
    let jwt = table.optional("jwt");
    let issuer = jwt.as_ref().and_then(|value| value.table()).and_then(read_jwt);
    let exposed = server.and_then(ServerConfig::exposed);
    if let (Some(jwt), Some(JwtConfig::Local), Some(address)) = (jwt, &issuer, exposed)
        && is_local_allowed != Some(true)
    {
        let problem = format!(
            "the local issuer, whose tokens anyone with access to data_dir can make, on {address}, which is not loopback"
        );
        let hint = "use an OpenID provider, or say `allow_local_issuer = true`";
        jwt.error(problem, Some(hint.to_owned()));
    }
    table.finish();
    Some(AuthConfig { devices: devices?, jwt: issuer })
}

fn read_jwt(mut table: TableReader<'_>) -> Option<JwtConfig> {
    let local = table.optional("local");
    let issuer = table.optional("issuer");
    let audience = table.optional("audience");
    let roles_claim = table.optional("roles_claim");
    let jwks_url = table.optional("jwks_url");
    let jwks_file = table.optional("jwks_file");
    let place = table.place().clone();
    let document = table.document;
    table.finish();
    let is_local = local.as_ref().and_then(Value::boolean).unwrap_or(false);
    let others = [&issuer, &audience, &roles_claim, &jwks_url, &jwks_file];
    if is_local {
        for value in others.into_iter().flatten() {
            value.error("is for a provider, and local = true is this server's own issuer: choose one", None);
        }
        return Some(JwtConfig::Local);
    }
    if others.iter().all(|value| value.is_none()) {
        return None;
    }
    let missing = |key: &str| document.error(&place, format!("{key} is required for a provider"), None);
    if issuer.is_none() {
        missing("issuer");
    }
    if audience.is_none() {
        missing("audience");
    }
    let keys = read_keys(jwks_url.as_ref(), jwks_file.as_ref());
    let roles_claim = match roles_claim {
        Some(value) => value.parsed(claim, ""),
        None => Some(DEFAULT_ROLES_CLAIM.to_owned()),
    };
    let issuer = issuer.and_then(|value| value.parsed(str::parse::<TrustedUrl>, ""));
    let audience = audience.and_then(|value| read_audience(&value));
    Some(JwtConfig::OpenId(Provider {
        issuer: issuer?,
        audience: audience?,
        roles_claim: roles_claim?,
        keys: keys?,
    }))
}

fn read_keys(url: Option<&Value<'_>>, file: Option<&Value<'_>>) -> Option<KeySource> {
    match (url, file) {
        (None, None) => Some(KeySource::Discovery),
        (Some(url), None) => url.parsed(str::parse::<TrustedUrl>, "").map(KeySource::Url),
        (None, Some(file)) => file.path().map(KeySource::File),
        (Some(_), Some(file)) => {
            file.error("is given beside jwks_url: choose one", None);
            None
        }
    }
}

fn read_audience(value: &Value<'_>) -> Option<Vec<String>> {
    if !value.is_list() {
        return value.parsed(claim, "").map(|audience| vec![audience]);
    }
    let list = value.list(MAX_AUDIENCES)?;
    if list.is_empty() {
        value.error("is empty: no token would be for this server", None);
    }
    let read: Vec<_> = list.iter().map(|item| item.parsed(claim, "")).collect();
    read.into_iter().collect()
}

fn claim(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_CLAIM_BYTES {
        return Err(format!("is not of 1 to {MAX_CLAIM_BYTES} bytes"));
    }
    Ok(text.to_owned())
}
