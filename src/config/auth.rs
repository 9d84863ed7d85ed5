//! `[auth]`: where device keys lie and who issues people's tokens.

use std::path::{Path, PathBuf};

use super::{
    limits::{DEFAULT_DATA_DIR, DEFAULT_DEVICES_FILE},
    reader::TableReader,
    server::ServerConfig,
};

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
    let issuer = jwt.as_ref().and_then(|value| value.table("auth.jwt")).and_then(read_jwt);
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
    let local = table.optional("local").and_then(|value| value.boolean());
    table.finish();
    local.filter(|local| *local).map(|_| JwtConfig::Local)
}
